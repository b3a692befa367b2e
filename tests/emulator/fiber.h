// Fibers: one stack and one saved stack pointer per CUDA thread, switched by hand.
// Knows nothing of CUDA, so that both the scheduler and its callers can include it.
#pragma once
#include <cstddef>

namespace emu {

// A stack that runs one function at a time. Stacks are kept for the life of the library.
struct Fiber {
    char* low = nullptr; // lowest usable byte; the page below is closed
    size_t size = 0;
    void* sp = nullptr;
#ifdef EMU_ASAN
    void* fake = nullptr;
#endif
};

// Maps a stack for `fiber`; `index` staggers the stacks over the cache's sets.
void fiber_create(Fiber& fiber, unsigned index);
// Makes the next resume start `entry` on an empty stack. `entry` never returns: it ends with
// fiber_leave.
void fiber_start(Fiber& fiber, unsigned index, void (*entry)());
// A fiber that will not be resumed leaves the red zones of its frames behind: takes them off.
void fiber_abandon(Fiber& fiber);
// Runs the fiber until it yields or leaves. Called from the scheduler.
void fiber_resume(Fiber& fiber);
// First thing in `entry`: tells AddressSanitizer where it is.
void fiber_entered(Fiber& fiber);
// Back to the scheduler; returns when the fiber is resumed.
void fiber_yield(Fiber& fiber);
// Runs `next` in place of `fiber`, which goes on when somebody runs it again. Half the work of going
// by the scheduler, and the processor foresees where it returns to: mostly the same call.
void fiber_switch(Fiber& fiber, Fiber& next);
// Back to the scheduler for good.
[[noreturn]] void fiber_leave(Fiber& fiber);

} // namespace emu
