// Turns faults inside a kernel into failed launches: signals of the processor, and the checks that
// -fsanitize=undefined inserts into the kernels. Those are answered here and not by libubsan, so
// that no library has to be preloaded.
#include <signal.h>
#include <ucontext.h>

#include <cstdio>

#include "block.h"

namespace emu {
namespace {

constexpr int SIGNALS[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
struct sigaction previous[65];

struct {
    int signal;
    void* address;
} fault;

// Stack on which a faulted thread ends, since its own may have overflowed.
alignas(16) char last_stack[64 << 10];

void after_fault()
{
    const Fiber& f = block.current->fiber;
    const char* a = static_cast<const char*>(fault.address);
    if (fault.signal == SIGFPE) fail(719, "an integer was divided by zero");
    if (fault.signal == SIGILL)
        fail(715, "an illegal instruction, or a path the compiler found undefined");
    if (a < f.low && a >= f.low - 4096)
        fail(719, "the thread's stack of %zu bytes overflowed", f.size);
    const char* end = block.dynamic + block.launch->dynamic_shared;
    if (a >= end && a < end + 8192) {
        fail(700, "an access at byte %td of %u bytes of dynamic shared memory", a - block.dynamic,
             block.launch->dynamic_shared);
    }
    fail(700, "an access to address %p, where nothing is allocated", fault.address);
}

void handler(int signal, siginfo_t* info, void* context)
{
    if (block.current) {
        // Returning from the signal "calls" after_fault on the last stack, still as this thread.
        fault = {signal, info->si_addr};
        auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
        registers[REG_RSP] = reinterpret_cast<greg_t>(last_stack + sizeof last_stack - 8);
        registers[REG_RIP] = reinterpret_cast<greg_t>(&after_fault);
        return;
    }
    struct sigaction& before = previous[signal];
    if (before.sa_flags & SA_SIGINFO) {
        before.sa_sigaction(signal, info, context);
    } else if (before.sa_handler == SIG_DFL || before.sa_handler == SIG_IGN) {
        sigaction(signal, &before,
                  nullptr); // the instruction faults again, now without this handler
    } else {
        before.sa_handler(signal);
    }
}

} // namespace

void catch_faults()
{
    static bool done;
    if (done) return;
    done = true;
    struct sigaction action = {};
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    for (int signal : SIGNALS) sigaction(signal, &action, &previous[signal]);
}

} // namespace emu

// Records that the compiler passes; every one starts with the place.
namespace {

struct Place {
    const char* file;
    uint32_t line, column;
};
struct TypeMismatch {
    Place place;
    const void* type;
    unsigned char log_alignment, kind;
};

[[noreturn]] void undefined(const Place& place, const char* what)
{
    emu::fail(719, "%s (%s:%u)", what, emu::base_name(place.file), place.line);
}

} // namespace

extern "C" {

__attribute__((visibility("hidden"))) void __ubsan_handle_type_mismatch_v1_abort(TypeMismatch* data,
                                                                                 uintptr_t p)
{
    uintptr_t alignment = uintptr_t(1) << data->log_alignment;
    char what[96];
    if (p && p % alignment) {
        snprintf(what, sizeof what, "misaligned access: address %#zx, alignment %zu", p, alignment);
    } else {
        snprintf(what, sizeof what,
                 p ? "access beyond the end of an object" : "access to a null pointer");
    }
    undefined(data->place, what);
}

#define UNDEFINED(NAME, WHAT)                                                      \
    __attribute__((visibility("hidden"))) void __ubsan_handle_##NAME(Place* place) \
    {                                                                              \
        undefined(*place, WHAT);                                                   \
    }
UNDEFINED(out_of_bounds_abort, "index out of the bounds of an array")
UNDEFINED(shift_out_of_bounds_abort, "shift by too many bits")
UNDEFINED(add_overflow_abort, "signed overflow of +")
UNDEFINED(sub_overflow_abort, "signed overflow of -")
UNDEFINED(mul_overflow_abort, "signed overflow of *")
UNDEFINED(negate_overflow_abort, "signed overflow of -")
UNDEFINED(divrem_overflow_abort, "division by zero or overflow of /")
UNDEFINED(pointer_overflow_abort, "pointer arithmetic leaves the address space")
UNDEFINED(load_invalid_value_abort, "a bool or enum holds no value of its type")
UNDEFINED(builtin_unreachable, "unreachable code was reached")
UNDEFINED(missing_return, "a function ended without a value")
UNDEFINED(invalid_builtin_abort, "a bit count of zero")
UNDEFINED(nonnull_arg_abort, "null where it is not allowed")
UNDEFINED(vla_bound_not_positive_abort, "an array of no elements")
#undef UNDEFINED
}
