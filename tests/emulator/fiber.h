// Fibers: a stack and a saved stack pointer for each CUDA thread, switched by hand. This file knows
// nothing of CUDA, so both the scheduler and its callers can include it.
#pragma once
#include <cstddef>

namespace emu {

// A stack that runs one function at a time. Stacks are kept for the life of the library.
struct Fiber {
    char* low = nullptr; // lowest usable byte; the page below is inaccessible
    size_t size = 0;
    void* sp = nullptr;
#ifdef EMU_ASAN
    void* fake = nullptr;
#endif
};

// Maps a stack for `fiber`. `index` staggers the stacks over the sets of the cache.
void fiber_create(Fiber& fiber, unsigned index);
// Makes the next resume start `entry` on an empty stack. `entry` never returns: it ends with
// fiber_leave.
void fiber_start(Fiber& fiber, unsigned index, void (*entry)());
// Removes the AddressSanitizer red zones of a fiber that will not be resumed.
void fiber_abandon(Fiber& fiber);
// Runs the fiber until it yields or leaves. Called from the scheduler.
void fiber_resume(Fiber& fiber);
// Must be called first in `entry`: tells AddressSanitizer about the stack.
void fiber_entered(Fiber& fiber);
// Returns to the scheduler; comes back when the fiber is resumed.
void fiber_yield(Fiber& fiber);
// Runs `next` instead of `fiber`, which continues when another fiber or the scheduler runs it
// again. This takes half the time of the way through the scheduler, and its return address is
// predicted better.
void fiber_switch(Fiber& fiber, Fiber& next);
// Returns to the scheduler for good.
[[noreturn]] void fiber_leave(Fiber& fiber);

} // namespace emu
