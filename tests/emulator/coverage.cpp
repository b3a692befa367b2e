// Records which kernels ran without a failure, with code path, schedule and kind of build, in a
// file that many processes append to. So a run of all tests can be compared with an earlier one.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <set>
#include <tuple>

#include "driver.h"

namespace emu {
namespace {

std::string name_of(const Settings& settings)
{
    switch (settings.schedule) {
        case Schedule::LockStep:
            return "lockstep";
        case Schedule::Ahead:
            return "ahead";
        case Schedule::Reversed:
            return "reversed";
        default:
            return "seed" + std::to_string(settings.seed);
    }
}

} // namespace

void note_coverage(const Library& library, const Kernel& kernel, const Settings& settings)
{
    const std::string& file = state().coverage;
    if (file.empty()) return;
    const uint64_t seed = settings.schedule == Schedule::Seeded ? settings.seed : 0;
    static std::set<std::tuple<const Kernel*, Schedule, uint64_t>> noted;
    if (!noted.emplace(&kernel, settings.schedule, seed).second) return;
    const std::string line = std::string(kernel.name) + " " + std::to_string(library.arch) + " " +
                             library.checks + "/" + name_of(settings) + "\n";
    // One write to a file opened for appending, so that lines of parallel processes do not mix.
    const int out = open(file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (out < 0 || write(out, line.data(), line.size()) != ssize_t(line.size())) {
        perror(("emulator: HIRED_EMULATOR_COVERAGE=" + file).c_str());
        abort();
    }
    close(out);
}

} // namespace emu
