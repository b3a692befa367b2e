// State of the emulated driver. One lock, taken by every entry point, guards all of it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "control.h"
#include "library.h"

namespace emu {

// Values of CUresult.
enum Result : int {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    NO_BINARY_FOR_GPU = 209,
    INVALID_PTX = 218,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    ILLEGAL_ADDRESS = 700,
    LAUNCH_OUT_OF_RESOURCES = 701,
    MISALIGNED_ADDRESS = 716,
    LAUNCH_FAILED = 719,
    NOT_SUPPORTED = 801,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901,
    CAPTURE_UNMATCHED = 903,
    CAPTURE_ISOLATION = 905,
};

struct Card {
    unsigned sm;
    const char* name;
    int processors, clock_khz, memory_clock_khz, bus_bits, l2_bytes;
    int shared_per_processor, shared_opt_in, threads_per_processor;
};

// ---- image.cpp ----

struct KernelImage {
    std::vector<unsigned> sizes; // bytes of each parameter
    unsigned static_shared = 0, registers = 0, max_threads = 0;
};

struct Image {
    unsigned arch = 0;
    bool ptx = false;
    std::map<std::string, KernelImage> kernels; // none: a PTX text that only names its target
};

// Parses a cubin or a PTX text. `why` is set on failure.
Result read_image(const void* bytes, Image& image, std::string& why);

// ---- memory.cpp ----

Result device_allocate(size_t bytes, uint64_t* out);
Result device_free(uint64_t address);
// Whether the whole range lies in one live block.
bool device_holds(uint64_t address, size_t bytes);
// Checks the bytes around every block and the marked ones; returns false with a report if one was
// written.
bool check_guards();
void* pinned_allocate(size_t bytes);
bool pinned_free(void* p);
bool is_pinned(const void* p);
const char* heap_begin();
constexpr size_t HEAP_BYTES = size_t(256) << 30;
void memory_reset();

// ---- stream.cpp ----

struct Stream;

struct Event {
    uint64_t recorded = 0, done = 0; // records requested, and records that have run
    std::shared_ptr<Stream> stream;  // of the latest record
    double milliseconds = 0;
};

struct Op {
    std::function<Result()> run;
    std::shared_ptr<Event> event; // an event to record or to wait for, instead of `run`
    uint64_t version = 0;         // number of the record; in a graph it is set at launch
    bool waits = false;
};

struct Graph {
    std::vector<Op> ops;
};

struct Stream {
    bool blocking = true; // whether it synchronizes with the null stream
    std::deque<Op> queue;
    std::shared_ptr<Graph> capture;
    bool invalidated = false;
};

// Adds work to a stream, or to the graph that it captures, and runs it unless the emulator is lazy.
Result enqueue(const std::shared_ptr<Stream>& stream, Op op);
Result drain(Stream& stream);
Result drain_all();
bool any_capture();
// The stream of a handle: 0 and 1 are the null stream, 2 is the thread's own, others were made by
// cuStreamCreate. Null for an unknown handle.
std::shared_ptr<Stream> find_stream(void* handle);

// ---- driver.cpp, module.cpp, control.cpp ----

struct Module {
    Image image;
    const Library* library;
    std::map<std::string, std::unique_ptr<struct Function>> functions;
};

struct Function {
    const Kernel* kernel;
    KernelImage image;
    const Library* library;
    int dynamic_limit; // raised by cuFuncSetAttribute
};

struct Failure {
    std::string name;
    uint64_t countdown = 0;
    int code = 0;
    bool sticky = false;
};

struct State {
    bool initialised = false;
    const Card* card = nullptr; // null: no GPU
    Settings settings;
    bool lazy = false, pageable_late = false, pools = true, trace = false;
    uint64_t memory = uint64_t(4) << 30;
    int version = 12020;
    unsigned timeout = 120;
    std::string coverage; // a file name, or ""
    std::string fail_file; // likewise
    Failure failure;

    int sticky = 0; // the error with which the context was lost
    std::string report;
    EmuStats stats{};
    std::map<std::string, uint64_t> calls;

    std::map<void*, std::shared_ptr<Stream>> streams;
    std::map<void*, std::shared_ptr<Event>> events;
    std::map<void*, std::shared_ptr<Graph>> graphs, execs;
    std::map<void*, std::unique_ptr<Module>> modules;
    std::shared_ptr<Stream> null_stream = std::make_shared<Stream>();
    std::shared_ptr<Stream> thread_stream = std::make_shared<Stream>();
};

State& state();
extern thread_local bool context_current;
std::recursive_mutex& driver_lock();
// Keeps the line for emu_report and prints it.
void report(const std::string& line);
void read_environment();
const Library* open_library(unsigned arch, std::string& why);
// Records for HIRED_EMULATOR_COVERAGE that this kernel has run without a failure.
void note_coverage(const Library& library, const Kernel& kernel, const Settings& settings);
// Ends the process if a launch takes longer than the limit.
void watch_launch(bool begins, const char* kernel);

enum class Needs { Nothing, Driver, Context };
// Common work around every entry point. `frees`: the entry point frees something, and does so even
// when the context is lost.
Result entry(const char* name, Needs needs, bool frees, const std::function<Result()>& work);

#define EMU_EXPORT extern "C" __attribute__((visibility("default")))
#define EMU_ENTRY(NAME, NEEDS, PARAMETERS, ...)                                               \
    EMU_EXPORT int NAME PARAMETERS                                                            \
    {                                                                                         \
        return emu::entry(#NAME, emu::Needs::NEEDS, false, [&]() -> emu::Result __VA_ARGS__); \
    }
#define EMU_FREE(NAME, PARAMETERS, ...)                                                        \
    EMU_EXPORT int NAME PARAMETERS                                                             \
    {                                                                                          \
        return emu::entry(#NAME, emu::Needs::Context, true, [&]() -> emu::Result __VA_ARGS__); \
    }

} // namespace emu
