// State of the block that is running, shared by the scheduler, the fault handler and the race
// detector.
#pragma once
#include <cstring>

#include "fiber.h"
#include "library.h"
#include "schedule.h"

namespace emu {

enum class Waits : uint8_t { Nothing, Warp, Block, Left };

struct Thread {
    Fiber fiber;
    Index3 index;
    unsigned warp, lane;
    Waits waits;
    bool orders_memory;
    const char* what;
    Site site;
    unsigned mask, barrier;
    Combine combine;
    void* args;
};

struct Warp {
    Thread* threads;
    unsigned exist, ready, left; // sets of lanes; lanes that do not exist count as left
    unsigned waiting;            // lanes in a collective
    // Lanes that came to the same collective with the same mask from the same place: the usual
    // case, checked in one step.
    unsigned group, group_mask;
    Combine group_combine;
    Site group_site;
};

struct Barrier {
    unsigned arrived, wanted, predicates, result;
    Site site;
};

struct Block {
    const Launch* launch;
    const Settings* settings;
    Outcome* outcome;
    Thread threads[1024];
    Warp warps[32];
    Barrier barriers[16];
    unsigned thread_count, warp_count, left;
    unsigned ready;       // warps with a lane that can run
    unsigned turn, round; // the warp whose turn it is, and its lanes still to run in this turn
    unsigned favoured;    // the warp that runs ahead
    uint64_t random;
    uint32_t serial;       // of this block, over all launches
    uint32_t first_serial; // of this launch
    char* dynamic;
    Thread* current; // null outside kernels
};

extern Block block;

inline Thread& current() { return *block.current; }

// The file name in a path, for reports.
inline const char* base_name(const char* file)
{
    const char* slash = strrchr(file, '/');
    return slash ? slash + 1 : file;
}

inline bool same_place(Site a, Site b)
{
    return a.line == b.line && (a.file == b.file || !strcmp(a.file, b.file));
}

// Placed first and last among the kernels' objects by the linker: all static __shared__ arrays lie
// between them.
extern "C" char emu_shared_begin[], emu_shared_end[];

// Records the first failure of a launch. The thread that failed, if any, continues.
void fail_block(int code, const char* format, ...) __attribute__((format(printf, 2, 3)));
// The thread has left the kernel. Runs a collective that waited only for this thread.
void leave(Thread& thread);
// Runs the thread whose turn it is; returns when it is this thread's turn again.
void pass_turn(Thread& thread);
// Installs handlers that turn a fault inside a kernel into a failed launch.
void catch_faults();

// Called before a launch, before each of its blocks, and after it. check_shared_margins checks that
// the memory around shared memory is unchanged.
bool open_shared();
void poison_shared();
void check_shared_margins();

// Forgets pending copies when a block starts.
void start_copies();

// Synchronisation events for the race detector.
#ifdef EMU_RACES
void start_races();
void order_lanes(Warp& warp, unsigned lanes);
void order_block(Thread& thread);
#else
inline void start_races() {}
inline void order_lanes(Warp&, unsigned) {}
inline void order_block(Thread&) {}
#endif

} // namespace emu
