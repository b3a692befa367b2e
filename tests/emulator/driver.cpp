// Initialisation, the device, its context, and the common part of all entry points.
#include "driver.h"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

namespace emu {

thread_local bool context_current;
namespace {

// Takes the failure that another process has asked for, if there is one.
void ask_file(const std::string& file)
{
    FILE* asked = fopen(file.c_str(), "r");
    if (!asked) return;
    char what[128] = "";
    if (!fgets(what, sizeof what, asked)) what[0] = 0;
    fclose(asked);
    unlink(file.c_str());
    if (emu_fail(what)) report(file + ": " + what + " is not understood");
}

// The error that this call must return by emu_fail, or 0.
int injected(const char* name)
{
    const std::string& file = state().fail_file;
    if (!file.empty()) ask_file(file);
    Failure& f = state().failure;
    if (!f.countdown || (f.name != "any" && f.name != name) || --f.countdown) return 0;
    if (f.sticky) state().sticky = f.code;
    if (!file.empty()) {
        if (FILE* told = fopen((file + ".failed").c_str(), "w")) {
            fputs(name, told);
            fclose(told);
        }
    }
    return f.code;
}

} // namespace

State& state()
{
    static State* s =
        new State; // lives until the process ends: fibers and destructors elsewhere may still call
    return *s;
}

std::recursive_mutex& driver_lock()
{
    static std::recursive_mutex* lock = new std::recursive_mutex;
    return *lock;
}

void report(const std::string& line)
{
    state().report = line;
    fprintf(stderr, "emulator: %s\n", line.c_str());
}

Result entry(const char* name, Needs needs, bool frees, const std::function<Result()>& work)
{
    std::lock_guard<std::recursive_mutex> guard(driver_lock());
    State& s = state();
    ++s.stats.calls;
    ++s.calls[name];
    Result r = SUCCESS;
    if (int code = injected(name)) {
        r = Result(code);
    } else if (needs != Needs::Nothing && !s.initialised) {
        r = NOT_INITIALIZED;
    } else if (needs == Needs::Context && !context_current) {
        r = INVALID_CONTEXT;
    } else if (needs == Needs::Context && s.sticky && !frees) {
        r = Result(s.sticky);
    } else {
        r = work();
        if (frees && s.sticky) r = Result(s.sticky);
    }
    if (s.trace)
        fprintf(stderr, "emulator: call %llu, %s: %d\n",
                static_cast<unsigned long long>(s.stats.calls), name, r);
    return r;
}

void watch_launch(bool begins, const char* kernel)
{
    using clock = std::chrono::steady_clock;
    static std::atomic<clock::rep> deadline{0};
    static std::atomic<const char*> running{""};
    running = kernel;
    auto limit = std::chrono::seconds(state().timeout);
    deadline = begins ? (clock::now() + limit).time_since_epoch().count() : 0;
    static bool watching = [] {
        std::thread([] {
            for (;;) {
                std::this_thread::sleep_for(std::chrono::milliseconds(200));
                auto at = deadline.load();
                if (at && clock::now().time_since_epoch().count() > at) {
                    fprintf(stderr,
                            "emulator: kernel %s ran longer than HIRED_EMULATOR_TIMEOUT allows: "
                            "the process ends here\n",
                            running.load());
                    _exit(124);
                }
            }
        }).detach();
        return true;
    }();
    (void)watching;
}

} // namespace emu

using namespace emu;

EMU_ENTRY(cuInit, Nothing, (unsigned flags), {
    if (flags) return INVALID_VALUE;
    State& s = state();
    if (!s.initialised) {
        read_environment();
        s.initialised = true;
    }
    return s.card ? SUCCESS : NO_DEVICE;
})
EMU_ENTRY(cuDriverGetVersion, Nothing, (int* out), {
    // Can be called before cuInit.
    const char* version = getenv("HIRED_EMULATOR_DRIVER");
    *out = version && *version ? atoi(version) : state().version;
    return SUCCESS;
})
EMU_ENTRY(cuDeviceGetCount, Driver, (int* out), {
    *out = state().card != nullptr;
    return SUCCESS;
})
EMU_ENTRY(cuDeviceGet, Driver, (int* out, int ordinal), {
    *out = 0;
    return ordinal == 0 && state().card ? SUCCESS : INVALID_DEVICE;
})
EMU_ENTRY(cuDeviceGetName, Driver, (char* out, int length, int device), {
    if (device || !state().card || length <= 0) return INVALID_DEVICE;
    snprintf(out, length, "%s", state().card->name);
    return SUCCESS;
})
static Result uuid(char* out, int device)
{
    if (device || !state().card) return INVALID_DEVICE;
    memset(out, 0, 16);
    snprintf(out, 16, "emulated sm_%u", state().card->sm);
    return SUCCESS;
}
EMU_ENTRY(cuDeviceGetUuid, Driver, (char* out, int device), { return uuid(out, device); })
EMU_ENTRY(cuDeviceGetUuid_v2, Driver, (char* out, int device), { return uuid(out, device); })
EMU_ENTRY(cuDeviceTotalMem_v2, Driver, (size_t * out, int device), {
    if (device || !state().card) return INVALID_DEVICE;
    *out = state().memory;
    return SUCCESS;
})
EMU_ENTRY(cuDeviceGetAttribute, Driver, (int* out, int attribute, int device), {
    if (device || !state().card) return INVALID_DEVICE;
    const Card& c = *state().card;
    const std::map<int, int> attributes = {
        {1, 1024},
        {2, 1024},
        {3, 1024},
        {4, 64}, // threads of a block, and its x, y and z
        {5, 0x7fffffff},
        {6, 65535},
        {7, 65535}, // y and z of a grid
        {8, 49152},
        {9, 65536},
        {10, 32},
        {12, 65536}, // registers of a block
        {13, c.clock_khz},
        {16, c.processors},
        {18, 0},
        {19, 1},
        {20, 0},
        {31, 1},
        {36, c.memory_clock_khz},
        {37, c.bus_bits},
        {38, c.l2_bytes},
        {39, c.threads_per_processor},
        {40, 2},
        {41, 1},
        {75, int(c.sm / 10)},
        {76, int(c.sm % 10)},
        {81, c.shared_per_processor},
        {82, 65536},
        {83, 0},
        {95, 0},
        {97, c.shared_opt_in},
        {106, c.sm == 75   ? 16
              : c.sm == 86 ? 16
              : c.sm == 89 ? 24
                           : 32}, // blocks of a multiprocessor
        {111, c.sm >= 80 ? 1024 : 0},
        {115, state().pools}, // reserved shared memory, memory pools
    };
    auto found = attributes.find(attribute);
    if (found == attributes.end()) return INVALID_VALUE;
    *out = found->second;
    return SUCCESS;
})

static char primary_context; // its address is the handle

EMU_ENTRY(cuDevicePrimaryCtxRetain, Driver, (void** out, int device), {
    if (device || !state().card) return INVALID_DEVICE;
    ++state().stats.contexts;
    *out = &primary_context;
    return SUCCESS;
})
EMU_ENTRY(cuDevicePrimaryCtxRelease_v2, Driver, (int device), {
    State& s = state();
    if (device || !s.stats.contexts) return INVALID_CONTEXT;
    if (--s.stats.contexts == 0) s.sticky = 0;
    return SUCCESS;
})
EMU_ENTRY(cuCtxGetCurrent, Driver, (void** out), {
    *out = context_current ? &primary_context : nullptr;
    return SUCCESS;
})
EMU_ENTRY(cuCtxSetCurrent, Driver, (void* context), {
    if (context && (context != &primary_context || !state().stats.contexts)) return INVALID_CONTEXT;
    context_current = context != nullptr;
    return SUCCESS;
})
EMU_ENTRY(cuCtxGetStreamPriorityRange, Context, (int* least, int* greatest), {
    if (least) *least = 0;
    if (greatest) *greatest = 0;
    return SUCCESS;
})

static const char* error_name(int code)
{
    static const std::map<int, const char*> names = {{0, "CUDA_SUCCESS"},
                                                     {1, "CUDA_ERROR_INVALID_VALUE"},
                                                     {2, "CUDA_ERROR_OUT_OF_MEMORY"},
                                                     {3, "CUDA_ERROR_NOT_INITIALIZED"},
                                                     {100, "CUDA_ERROR_NO_DEVICE"},
                                                     {101, "CUDA_ERROR_INVALID_DEVICE"},
                                                     {200, "CUDA_ERROR_INVALID_IMAGE"},
                                                     {201, "CUDA_ERROR_INVALID_CONTEXT"},
                                                     {209, "CUDA_ERROR_NO_BINARY_FOR_GPU"},
                                                     {218, "CUDA_ERROR_INVALID_PTX"},
                                                     {400, "CUDA_ERROR_INVALID_HANDLE"},
                                                     {500, "CUDA_ERROR_NOT_FOUND"},
                                                     {600, "CUDA_ERROR_NOT_READY"},
                                                     {700, "CUDA_ERROR_ILLEGAL_ADDRESS"},
                                                     {701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"},
                                                     {702, "CUDA_ERROR_LAUNCH_TIMEOUT"},
                                                     {715, "CUDA_ERROR_ILLEGAL_INSTRUCTION"},
                                                     {716, "CUDA_ERROR_MISALIGNED_ADDRESS"},
                                                     {719, "CUDA_ERROR_LAUNCH_FAILED"},
                                                     {801, "CUDA_ERROR_NOT_SUPPORTED"},
                                                     {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"},
                                                     {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"},
                                                     {903, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED"},
                                                     {905, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION"},
                                                     {999, "CUDA_ERROR_UNKNOWN"}};
    auto found = names.find(code);
    return found == names.end() ? nullptr : found->second;
}
// Not counted as calls: they only describe an error that has happened.
EMU_EXPORT int cuGetErrorName(int code, const char** out)
{
    *out = error_name(code);
    return *out ? SUCCESS : INVALID_VALUE;
}
EMU_EXPORT int cuGetErrorString(int code, const char** out) { return cuGetErrorName(code, out); }
