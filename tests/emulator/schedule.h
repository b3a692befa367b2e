// The scheduler as a kernel sees it: every word of CUDA that waits for other threads ends here.
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
// The caller's place as parameters. (As members of one default argument g++ 12 gives the callee's.)
#define EMU_CALLER const char *emu_file = __builtin_FILE(), int emu_line = __builtin_LINE()
#define EMU_SITE \
    ::emu::Site { emu_file, emu_line }

// What a warp computes together. Runs once, when every lane of `mask` that has not left the kernel
// has come; `args[lane]` is what that lane brought, null for a lane outside `present`.
using Combine = void (*)(unsigned mask, unsigned present, void* const args[32]);

// Waits for the lanes of `mask`. `orders_memory`: lanes see each other's earlier writes afterwards
// (__syncwarp only).
void collective(const char* what, unsigned mask, Combine combine, void* args, Site site,
                bool orders_memory = false);

// Waits for the whole block, or for `threads` of it when that is not 0, at barrier `id`.
// Returns how many of those who came brought `predicate` != 0.
unsigned barrier(unsigned id, unsigned threads, int predicate, Site site);

// Lets other threads run: in a loop that waits for one of them.
void yield();
// Whether asynchronous copies land late (only when waited for) or at once.
bool copies_land_late();
// The launch's dynamic shared memory, of exactly the size it asked for.
void* dynamic_shared();
unsigned dynamic_shared_bytes();
unsigned lane_id();
// What uninitialised memory is filled with, and what reading a lane that is not there gives.
unsigned char poison_byte();
// Lanes of this warp that could run with this one: those not waiting and not gone.
unsigned active_lanes();

// Ends the launch with an error of CUresult and says why.
[[noreturn]] void fail(int code, const char* format, ...) __attribute__((format(printf, 2, 3)));

// Ends the launch unless `bytes` at `p` lie in shared memory.
void check_shared(const void* p, unsigned bytes, const char* what);

// cp.async: a copy into shared memory that lands at once or, by the schedule, when its group is
// waited for. Reads `bytes` of `size`, zeroes the rest.
void copy_async(void* to, const void* from, unsigned size, unsigned bytes);
void copy_commit();
void copy_wait(unsigned pending);

// For the race detector: an access that the compiler does not report, and a fence.
#ifdef EMU_RACES
void touch(const void* address, unsigned bytes, bool write, bool atomic);
void fence();
#else
inline void touch(const void*, unsigned, bool, bool) {}
inline void fence() {}
#endif

} // namespace emu
