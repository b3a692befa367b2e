// The race detector. Kernels compiled with -fsanitize=thread report every access; they are handled
// here and not by libtsan, which knows nothing of warps and barriers. Two accesses to the same
// bytes by different threads, of which one is a write and not both are atomic, must be ordered: by
// a barrier of the block, by __syncwarp, or between blocks by a fence and an atomic operation on
// both sides.
#ifdef EMU_RACES

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "block.h"

namespace emu {
namespace {

struct Access {
    uint32_t block, epoch, clock;
    uint16_t thread;
    uint8_t bytes; // which of the cell's two bytes
    bool atomic;
};

// The latest write and two of the reads since then, for each pair of bytes.
struct Cell {
    Access write, read[2];
};
constexpr size_t GRANULE = 2;

// Barriers that each thread has passed, and the last ones that it has seen of the other lanes of
// its warp.
uint32_t epochs[1024], clocks[1024][32];
bool fenced, acquired;      // of this block
std::vector<bool> released; // blocks of this launch, by serial
uint32_t released_first;

struct Range {
    const char* begin = nullptr;
    size_t bytes = 0;
    Cell* cells = nullptr;
};
Range dynamic_range, static_range, heap_range;

void cover(Range& range, const char* begin, size_t bytes)
{
    if (range.begin == begin && range.bytes == bytes) return;
    range = {begin, bytes, nullptr};
    void* map = mmap(nullptr, (bytes / GRANULE + 2) * sizeof(Cell), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) {
        perror("emulator: no address space for the race detector");
        abort();
    }
    range.cells = static_cast<Cell*>(map);
}

bool holds(const Range& r, const char* p) { return p >= r.begin && p < r.begin + r.bytes; }

bool ordered(const Access& before, uint32_t me, bool shared)
{
    if (before.block != block.serial) {
        if (shared || before.block < block.first_serial)
            return true; // an access of another block or launch
        return acquired && released[before.block - released_first];
    }
    if (before.thread == me || before.epoch < epochs[me]) return true;
    return before.thread / 32 == me / 32 && clocks[me][before.thread % 32] >= before.clock;
}

[[noreturn]] void report(const Access& before, bool before_writes, bool writes, const char* p,
                         const Range& range)
{
    const char* what = &range == &heap_range ? "device" : "shared";
    char where[48] = "";
    if (before.block != block.serial)
        snprintf(where, sizeof where, " of another block (number %u)",
                 before.block - block.first_serial);
    fail(719,
         "race on %s memory at %p: this thread %s what thread %u%s %s, with nothing that orders "
         "them",
         what, p, writes ? "writes" : "reads", before.thread, where,
         before_writes ? "wrote" : "read");
}

void access(const char* p, size_t size, bool write, bool atomic)
{
    if (!block.current || size == 0) return;
    const Range* range = nullptr;
    for (const Range* r : {&heap_range, &dynamic_range, &static_range}) {
        if (holds(*r, p)) range = r;
    }
    if (!range) return;
    const bool shared = range != &heap_range;
    const uint32_t me = block.current - block.threads;
    const size_t offset = p - range->begin,
                 end = offset + size < range->bytes ? offset + size : range->bytes;
    for (size_t at = offset; at < end;) {
        Cell& cell = range->cells[at / GRANULE];
        uint8_t bytes = 0;
        for (; at < end && &range->cells[at / GRANULE] == &cell; ++at) bytes |= 1 << at % GRANULE;
        auto clash = [&](const Access& a) {
            return (a.bytes & bytes) && !(a.atomic && atomic) && !ordered(a, me, shared);
        };
        if (clash(cell.write)) report(cell.write, true, write, p, *range);
        Access mine{block.serial, epochs[me], clocks[me][me % 32], uint16_t(me), bytes, atomic};
        if (write) {
            for (const Access& r : cell.read) {
                if (clash(r)) report(r, false, true, p, *range);
            }
            cell.write = mine;
        } else {
            // Keeps a read of another warp or block, beside the latest read.
            const Access& last = cell.read[0];
            if (last.block != mine.block || last.thread / 32 != mine.thread / 32)
                cell.read[1] = last;
            cell.read[0] = mine;
        }
    }
}

} // namespace

void start_races()
{
    cover(heap_range, block.launch->heap, block.launch->heap_bytes);
    cover(static_range, emu_shared_begin, emu_shared_end - emu_shared_begin);
    // Its end is fixed; its start depends on the launch.
    constexpr size_t MOST = 256 << 10;
    const char* end = block.dynamic + (block.launch->dynamic_shared + 15) / 16 * 16;
    cover(dynamic_range, end - MOST, MOST);
    if (block.serial == block.first_serial) {
        released.clear();
        released_first = block.serial;
    }
    released.push_back(false);
    fenced = acquired = false;
    memset(epochs, 0, sizeof epochs);
    memset(clocks, 0, sizeof clocks);
    for (uint32_t i = 0; i < block.thread_count; ++i) clocks[i][i % 32] = 1;
}

void order_lanes(Warp& warp, unsigned lanes)
{
    uint32_t joined[32] = {};
    uint32_t first = warp.threads - block.threads;
    for (unsigned m = lanes; m; m &= m - 1) {
        const uint32_t* mine = clocks[first + __builtin_ctz(m)];
        for (int i = 0; i < 32; ++i) joined[i] = mine[i] > joined[i] ? mine[i] : joined[i];
    }
    for (unsigned m = lanes; m; m &= m - 1) {
        unsigned lane = __builtin_ctz(m);
        memcpy(clocks[first + lane], joined, sizeof joined);
        ++clocks[first + lane][lane];
    }
}

void order_block(Thread& thread) { ++epochs[&thread - block.threads]; }

void touch(const void* address, unsigned bytes, bool write, bool atomic)
{
    if (atomic) {
        acquired = true;
        if (fenced) released[block.serial - released_first] = true;
    }
    access(static_cast<const char*>(address), bytes, write, atomic);
}

void fence() { fenced = true; }

} // namespace emu

#define HOOK extern "C" __attribute__((visibility("hidden"))) void
#define SIZED(N)                                                                      \
    HOOK __tsan_read##N(const char* p) { emu::access(p, N, false, false); }           \
    HOOK __tsan_write##N(const char* p) { emu::access(p, N, true, false); }           \
    HOOK __tsan_unaligned_read##N(const char* p) { emu::access(p, N, false, false); } \
    HOOK __tsan_unaligned_write##N(const char* p) { emu::access(p, N, true, false); }
SIZED(1)
SIZED(2)
SIZED(4)
SIZED(8)
SIZED(16)
HOOK __tsan_read_range(const char* p, size_t n) { emu::access(p, n, false, false); }
HOOK __tsan_write_range(const char* p, size_t n) { emu::access(p, n, true, false); }
HOOK __tsan_init() {}
HOOK __tsan_func_entry(void*) {}
HOOK __tsan_func_exit() {}

#endif
