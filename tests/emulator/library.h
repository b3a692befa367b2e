// The interface between a library of emulated kernels and the driver: the kernels' names and
// parameters, and one function that runs a launch. There is one library for each code path, because
// the architecture is fixed when a kernel is compiled.
#pragma once
#include <cstddef>
#include <cstdint>

namespace emu {

struct Kernel {
    const char* name;
    unsigned parameters;
    const unsigned* sizes;             // bytes of each parameter
    void (*call)(void* const* params); // runs one thread of it
    unsigned max_threads;              // from __launch_bounds__; 0: not stated
};

// The kernels of one .cu file.
struct Unit {
    const Kernel* kernels;
    unsigned count;
};

// The order in which threads run between two points where they wait for each other.
enum class Schedule {
    LockStep, // warps take turns; lanes ascending
    Ahead,    // one warp runs as far as it can before the others; a different one in each block
    Reversed, // blocks, warps and lanes from the last to the first
    Seeded,   // any thread that can run, chosen by the seed; blocks shuffled
};

struct Settings {
    Schedule schedule = Schedule::LockStep;
    uint64_t seed = 0;
    uint8_t poison = 0xff; // fills shared memory before each block
    bool strict = false; // lanes named in a mask must meet at one call site (no independent thread
                         // scheduling)
};

struct Launch {
    const Kernel* kernel;
    unsigned grid[3], block[3];
    unsigned dynamic_shared;
    void* const* params;
    const char* heap; // device memory, for the race detector
    size_t heap_bytes;
};

struct Outcome {
    int code = 0;         // a CUresult
    char text[1024] = {}; // description of the failure, with its place
};

struct Library {
    unsigned layout; // sizeof(Launch) at build time, by which a stale library is refused
    unsigned arch;   // __CUDA_ARCH__ / 10
    const char* checks; // the kind of build: plain, asan or races
    const Unit* const* units;
    unsigned count;
    void (*run)(const Launch&, const Settings&, Outcome&);
};

} // namespace emu
