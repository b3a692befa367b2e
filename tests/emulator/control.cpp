// Configuration of the emulator: by environment variables, and by the functions of control.h.
#include "control.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "driver.h"

namespace emu {
namespace {

// Published figures of a GPU of each architecture.
constexpr Card CARDS[] = {
    {61, "emulated sm_61 (as Tesla P40)", 30, 1531000, 3615000, 384, 3 << 20, 98304, 49152, 2048},
    {70, "emulated sm_70 (as Tesla V100)", 80, 1530000, 877000, 4096, 6 << 20, 98304, 98304, 2048},
    {75, "emulated sm_75 (as T4)", 40, 1590000, 5001000, 256, 4 << 20, 65536, 65536, 1024},
    {80, "emulated sm_80 (as A100)", 108, 1410000, 1215000, 5120, 40 << 20, 167936, 166912, 2048},
    {86, "emulated sm_86 (as RTX 3090)", 82, 1695000, 9751000, 384, 6 << 20, 102400, 101376, 1536},
    {89, "emulated sm_89 (as L4)", 58, 2040000, 6251000, 192, 48 << 20, 102400, 101376, 1536},
    {90, "emulated sm_90 (as H200)", 132, 1980000, 3201000, 6144, 50 << 20, 233472, 232448, 2048},
};

uint64_t size_of(const char* text)
{
    char* end;
    uint64_t n = strtoull(text, &end, 10);
    switch (*end) {
        case 'K':
            return n << 10;
        case 'M':
            return n << 20;
        case 'G':
            return n << 30;
        default:
            return n;
    }
}

} // namespace

void read_environment()
{
    State& s = state();
    auto get = [](const char* name) -> const char* {
        const char* value = getenv(name);
        return value && *value ? value : nullptr;
    };
    const char* sm = get("HIRED_EMULATOR_SM");
    s.card = nullptr;
    for (const Card& card : CARDS) {
        if (card.sm == (sm ? strtoul(sm, nullptr, 10) : 80)) s.card = &card;
    }
    if (!s.card && strcmp(sm, "none")) {
        report(std::string("HIRED_EMULATOR_SM=") + sm + ": 61, 70, 75, 80, 86, 89, 90 or none");
    }
    s.settings.strict = s.card && s.card->sm < 70;
    if (const char* v = get("HIRED_EMULATOR_STRICT")) s.settings.strict = *v == '1';
    if (const char* v = get("HIRED_EMULATOR_SCHEDULE")) {
        const char* names[] = {"lockstep", "ahead", "reversed"};
        int schedule = 3;
        for (int i = 0; i < 3; ++i) {
            if (!strcmp(v, names[i])) schedule = i;
        }
        emu_schedule(schedule, strtoull(v, nullptr, 10));
    }
    if (const char* v = get("HIRED_EMULATOR_POISON")) s.settings.poison = strtoul(v, nullptr, 16);
    if (const char* v = get("HIRED_EMULATOR_LAZY")) s.lazy = *v == '1';
    if (const char* v = get("HIRED_EMULATOR_PAGEABLE")) s.pageable_late = !strcmp(v, "late");
    if (const char* v = get("HIRED_EMULATOR_POOLS")) s.pools = *v == '1';
    if (const char* v = get("HIRED_EMULATOR_TRACE")) s.trace = *v == '1';
    if (const char* v = get("HIRED_EMULATOR_MEMORY")) s.memory = size_of(v);
    if (const char* v = get("HIRED_EMULATOR_DRIVER")) s.version = atoi(v);
    if (const char* v = get("HIRED_EMULATOR_TIMEOUT")) s.timeout = strtoul(v, nullptr, 10);
    if (const char* v = get("HIRED_EMULATOR_COVERAGE")) s.coverage = v;
    if (const char* v = get("HIRED_EMULATOR_FAIL_FILE")) s.fail_file = v;
    if (const char* v = get("HIRED_EMULATOR_FAIL")) {
        if (emu_fail(v))
            report(std::string("HIRED_EMULATOR_FAIL=") + v +
                   ": want NAME:N=ERR or any:N=ERR, with ! to lose the context");
    }
}

} // namespace emu

using namespace emu;

EMU_EXPORT void emu_stats(EmuStats* out)
{
    std::lock_guard<std::recursive_mutex> guard(driver_lock());
    *out = state().stats;
}
EMU_EXPORT uint64_t emu_calls(const char* name)
{
    std::lock_guard<std::recursive_mutex> guard(driver_lock());
    auto found = state().calls.find(name);
    return found == state().calls.end() ? 0 : found->second;
}
EMU_EXPORT int emu_fail(const char* what)
{
    std::lock_guard<std::recursive_mutex> guard(driver_lock());
    state().failure = {};
    if (!what || !*what) return 0;
    char name[64];
    char bang = 0;
    unsigned long long n;
    int code;
    if (sscanf(what, "%63[A-Za-z0-9_]:%llu=%d%c", name, &n, &code, &bang) < 3 || n == 0 ||
        (bang && bang != '!'))
        return 1;
    state().failure = {name, n, code, bang == '!'};
    return 0;
}
EMU_EXPORT void emu_schedule(int schedule, uint64_t seed)
{
    std::lock_guard<std::recursive_mutex> guard(driver_lock());
    state().settings.schedule = Schedule(schedule & 3);
    state().settings.seed = seed;
}
EMU_EXPORT void emu_poison(uint8_t byte)
{
    std::lock_guard<std::recursive_mutex> guard(driver_lock());
    state().settings.poison = byte;
}
EMU_EXPORT void emu_lazy(int on)
{
    std::lock_guard<std::recursive_mutex> guard(driver_lock());
    if (!on) drain_all();
    state().lazy = on;
}
EMU_EXPORT const char* emu_report(void) { return state().report.c_str(); }
EMU_EXPORT void emu_reset(void)
{
    std::lock_guard<std::recursive_mutex> guard(driver_lock());
    State& s = state();
    memory_reset();
    s.streams.clear();
    s.events.clear();
    s.graphs.clear();
    s.execs.clear();
    s.modules.clear();
    s.calls.clear();
    s.null_stream = std::make_shared<Stream>();
    s.thread_stream = std::make_shared<Stream>();
    s.stats = {};
    s.sticky = 0;
    s.failure = {};
    s.report.clear();
    context_current = false;
}
