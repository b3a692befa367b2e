// Which kernels ran to their end, of which code path, in which order and under which checks: a file
// that many processes add to, so that a run of all tests can be held against an earlier one.
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
    // One write to a file that is open for appending: lines of processes side by side do not mix.
    const int out = open(file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (out < 0 || write(out, line.data(), line.size()) != ssize_t(line.size())) {
        perror(("emulator: HIRED_EMULATOR_COVERAGE=" + file).c_str());
        abort();
    }
    close(out);
}

} // namespace emu
