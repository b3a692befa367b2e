#include "fiber.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>

#ifdef EMU_ASAN
extern "C" {
void __sanitizer_start_switch_fiber(void** fake, const void* bottom, size_t size);
void __sanitizer_finish_switch_fiber(void* fake, const void** bottom, size_t* size);
void __asan_unpoison_memory_region(const volatile void* address, size_t size);
}
#endif

#ifndef __x86_64__
#error "the emulator switches stacks in x86-64 assembly: write emu_switch for this processor"
#endif

// Saves the callee-saved registers, swaps stack pointers, restores. The floating-point control
// words are the same in every fiber, and no vector register survives a call in this ABI.
extern "C" void emu_switch(void** save, void* load);
asm(R"(
    .text
    .globl emu_switch
    .hidden emu_switch
    .type emu_switch, @function
emu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size emu_switch, .-emu_switch
)");

namespace emu {
namespace {

#ifdef EMU_ASAN
constexpr size_t STACK = 256 << 10; // red zones swell frames
const void* scheduler_low;
size_t scheduler_size;
bool from_scheduler; // whether the scheduler or a fiber ran before
#else
constexpr size_t STACK = 64 << 10;
#endif
constexpr size_t PAGE = 4096;

void* scheduler_sp;

// Stacks are whole pages apart. Without an offset the frequently used ends of all of them would
// share a few cache sets.
size_t stagger(unsigned index) { return index % 32 * 128; }

} // namespace

void fiber_create(Fiber& fiber, unsigned index)
{
    (void)index;
    void* map =
        mmap(nullptr, STACK + PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED ||
        mprotect(static_cast<char*>(map) + PAGE, STACK, PROT_READ | PROT_WRITE)) {
        perror("emulator: no memory for a thread's stack");
        abort();
    }
    fiber.low = static_cast<char*>(map) + PAGE;
    fiber.size = STACK;
}

void fiber_start(Fiber& fiber, unsigned index, void (*entry)())
{
#ifdef EMU_ASAN
    fiber.fake = nullptr;
#endif
    // As if `entry` had been called: aligned to 16 before a return address, which is never used.
    void** top = reinterpret_cast<void**>(fiber.low + fiber.size - stagger(index) - 64);
    *--top = nullptr;
    *--top = reinterpret_cast<void*>(entry);
    for (int i = 0; i < 6; ++i) *--top = nullptr;
    fiber.sp = top;
}

void fiber_abandon(Fiber& fiber)
{
#ifdef EMU_ASAN
    __asan_unpoison_memory_region(fiber.low, fiber.size);
#else
    (void)fiber;
#endif
}

void fiber_resume(Fiber& fiber)
{
#ifdef EMU_ASAN
    void* fake = nullptr;
    from_scheduler = true;
    __sanitizer_start_switch_fiber(&fake, fiber.low, fiber.size);
    emu_switch(&scheduler_sp, fiber.sp);
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
    emu_switch(&scheduler_sp, fiber.sp);
#endif
}

void fiber_entered(Fiber& fiber)
{
#ifdef EMU_ASAN
    const void* low;
    size_t size;
    __sanitizer_finish_switch_fiber(fiber.fake, &low, &size);
    if (from_scheduler) scheduler_low = low, scheduler_size = size;
#else
    (void)fiber;
#endif
}

void fiber_yield(Fiber& fiber)
{
#ifdef EMU_ASAN
    __sanitizer_start_switch_fiber(&fiber.fake, scheduler_low, scheduler_size);
#endif
    emu_switch(&fiber.sp, scheduler_sp);
    fiber_entered(fiber);
}

void fiber_switch(Fiber& fiber, Fiber& next)
{
#ifdef EMU_ASAN
    from_scheduler = false;
    __sanitizer_start_switch_fiber(&fiber.fake, next.low, next.size);
#endif
    emu_switch(&fiber.sp, next.sp);
    fiber_entered(fiber);
}

void fiber_leave(Fiber& fiber)
{
#ifdef EMU_ASAN
    __sanitizer_start_switch_fiber(nullptr, scheduler_low, scheduler_size);
#endif
    emu_switch(&fiber.sp, scheduler_sp);
    abort();
}

} // namespace emu
