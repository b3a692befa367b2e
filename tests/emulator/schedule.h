// The scheduler's interface for kernels: every CUDA function that waits for other threads ends
// here.
#pragma once
#include <cstdint>

namespace emu {

struct Index3 {
    unsigned x, y, z;
};

// A place in a kernel's source.
struct Site {
    const char* file;
    int line;
};
#define EMU_HERE \
    ::emu::Site { __builtin_FILE(), __builtin_LINE() }
// The caller's place, as parameters. (As members of one default argument g++ 12 gives the callee's
// place.)
#define EMU_CALLER const char *emu_file = __builtin_FILE(), int emu_line = __builtin_LINE()
#define EMU_SITE \
    ::emu::Site { emu_file, emu_line }

// The computation of a collective. It runs once, when every lane of `mask` that has not left the
// kernel has arrived. `args[lane]` is that lane's argument, null for a lane outside of `present`.
using Combine = void (*)(unsigned mask, unsigned present, void* const args[32]);

// Waits for the lanes of `mask`. `orders_memory`: lanes see each other's earlier writes afterwards
// (only __syncwarp does that).
void collective(const char* what, unsigned mask, Combine combine, void* args, Site site,
                bool orders_memory = false);

// Waits at barrier `id` for the whole block, or for `threads` of its threads if that is not 0.
// Returns for how many of them `predicate` was not 0.
unsigned barrier(unsigned id, unsigned threads, int predicate, Site site);

// Lets other threads run, for loops that wait for one of them.
void yield();
// Whether asynchronous copies complete late (only when waited for) or at once.
bool copies_land_late();
// The launch's dynamic shared memory, with exactly the size that it requested.
void* dynamic_shared();
unsigned dynamic_shared_bytes();
unsigned lane_id();
// The byte that fills uninitialised memory, and that reading from a missing lane returns.
unsigned char poison_byte();
// Lanes of this warp that could run with this one: those that neither wait nor have left.
unsigned active_lanes();

// Ends the launch with a CUresult error and a description.
[[noreturn]] void fail(int code, const char* format, ...) __attribute__((format(printf, 2, 3)));

// Ends the launch unless `bytes` at `p` lie in shared memory.
void check_shared(const void* p, unsigned bytes, const char* what);

// cp.async: a copy to shared memory that completes at once or, by the schedule, when its group is
// waited for. Reads `bytes` of `size` and zeroes the rest.
void copy_async(void* to, const void* from, unsigned size, unsigned bytes);
void copy_commit();
void copy_wait(unsigned pending);

// For the race detector: accesses that the compiler does not report, and fences.
#ifdef EMU_RACES
void touch(const void* address, unsigned bytes, bool write, bool atomic);
void fence();
#else
inline void touch(const void*, unsigned, bool, bool) {}
inline void fence() {}
#endif

} // namespace emu
