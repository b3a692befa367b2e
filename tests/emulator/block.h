// The state of the one block that runs, shared by the scheduler, the fault handler and the race
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
    unsigned exist, ready, left; // sets of lanes; those that do not exist have left
    unsigned waiting;            // lanes in a collective
    // Lanes that came to one collective with one mask from one place: the usual case, checked at
    // once.
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
    unsigned turn, round; // the warp whose turn it is, its lanes still to run in this turn
    unsigned favoured;    // the warp that runs ahead
    uint64_t random;
    uint32_t serial;       // of this block, over all launches
    uint32_t first_serial; // of this launch
    char* dynamic;
    Thread* current; // null outside kernels
};

extern Block block;

inline Thread& current() { return *block.current; }

// Of a path in a report.
inline const char* base_name(const char* file)
{
    const char* slash = strrchr(file, '/');
    return slash ? slash + 1 : file;
}

inline bool same_place(Site a, Site b)
{
    return a.line == b.line && (a.file == b.file || !strcmp(a.file, b.file));
}

// First and last of the kernels' objects at link time: between them lies every static __shared__
// array.
extern "C" char emu_shared_begin[], emu_shared_end[];

// Notes the first failure of a launch; the thread, if there is one, goes on.
void fail_block(int code, const char* format, ...) __attribute__((format(printf, 2, 3)));
// The thread has left the kernel: a collective that lacked only it runs.
void leave(Thread& thread);
// Runs whoever's turn it is; returns when it is this thread's again.
void pass_turn(Thread& thread);
// Turns a fault inside a kernel into a failed launch.
void catch_faults();

// Before a launch, before each of its blocks, and after: what lies around shared memory must be as
// it was.
bool open_shared();
void poison_shared();
void check_shared_margins();

// Forgets the copies under way: a block starts.
void start_copies();

// The race detector's view of synchronisation.
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
