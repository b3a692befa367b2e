// Device memory: one reserved range of addresses. Each block has its own pages between inaccessible
// ones, and ends as near to the next inaccessible page as the alignment of 256 allows. Addresses
// are never reused, so that a stale pointer faults.
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "driver.h"

#ifdef EMU_ASAN
extern "C" void __asan_poison_memory_region(const volatile void* address, size_t size);
extern "C" void __asan_unpoison_memory_region(const volatile void* address, size_t size);
#else
static void __asan_poison_memory_region(const volatile void*, size_t) {}
static void __asan_unpoison_memory_region(const volatile void*, size_t) {}
#endif

namespace emu {
namespace {

constexpr size_t PAGE = 4096, ALIGN = 256;

// The value of bytes that belong to no buffer. It depends on the poison, so that a result computed
// from them differs between poisons.
unsigned char canary_of(unsigned char poison) { return poison ^ 0x3a; }

struct DeviceBlock {
    char *pages, *begin, *end, *pages_end; // inaccessible | canary | begin … end | canary | inaccessible
    unsigned char canary;
};

struct Mark {
    size_t bytes;
    unsigned char canary;
};

std::map<uint64_t, DeviceBlock> blocks; // by address
std::map<uint64_t, Mark> marks;         // emu_guard
std::map<const void*, size_t> pinned;
char *heap, *heap_next;

// Volatile, so that the compiler does not use memset, which AddressSanitizer would check against
// poisoned bytes.
void fill_canary(char* from, char* to, unsigned char canary)
{
    for (volatile char* p = from; p < to; ++p) *p = static_cast<char>(canary);
}

const char* broken(const char* from, const char* to, unsigned char canary)
{
    for (; from < to; ++from) {
        if (static_cast<unsigned char>(*from) != canary) return from;
    }
    return nullptr;
}

bool check_block(const DeviceBlock& b)
{
    const char* before = broken(b.pages, b.begin, b.canary);
    const char* after = broken(b.end, b.pages_end, b.canary);
    if (!before && !after) return true;
    char line[160];
    if (after) {
        snprintf(line, sizeof line, "a write %td bytes behind a block of %td bytes at %p",
                 after - b.end, b.end - b.begin, static_cast<void*>(b.begin));
    } else {
        snprintf(line, sizeof line, "a write %td bytes before a block of %td bytes at %p",
                 b.begin - before, b.end - b.begin, static_cast<void*>(b.begin));
    }
    report(line);
    fill_canary(b.pages, b.begin, b.canary);
    fill_canary(b.end, b.pages_end, b.canary);
    return false;
}

bool check_mark(uint64_t address, const Mark& mark)
{
    size_t bytes = mark.bytes;
    char* p = reinterpret_cast<char*>(address);
    const char* at = broken(p, p + bytes, mark.canary);
    if (!at) return true;
    char line[160];
    snprintf(line, sizeof line, "a write %td bytes into a guarded gap of %zu bytes at %p", at - p,
             bytes, static_cast<void*>(p));
    report(line);
    fill_canary(p, p + bytes, mark.canary);
    return false;
}

} // namespace

const char* heap_begin()
{
    if (!heap) {
        void* map = mmap(nullptr, HEAP_BYTES, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (map == MAP_FAILED) {
            perror("emulator: no address space for device memory");
            abort();
        }
        heap = heap_next = static_cast<char*>(map);
    }
    return heap;
}

Result device_allocate(size_t bytes, uint64_t* out)
{
    State& s = state();
    if (bytes == 0) return INVALID_VALUE;
    heap_begin();
    if (bytes > s.memory || s.stats.device_bytes > s.memory - bytes) return OUT_OF_MEMORY;
    size_t rounded = (bytes + ALIGN - 1) / ALIGN * ALIGN, span = (rounded + PAGE - 1) / PAGE * PAGE;
    if (span + 2 * PAGE > size_t(heap + HEAP_BYTES - heap_next)) return OUT_OF_MEMORY;
    char* pages = heap_next + PAGE;
    if (mprotect(pages, span, PROT_READ | PROT_WRITE)) return OUT_OF_MEMORY;
    heap_next = pages + span;
    DeviceBlock b{pages, pages + span - rounded, pages + span - rounded + bytes, pages + span,
                  canary_of(s.settings.poison)};
    memset(b.begin, s.settings.poison, bytes);
    fill_canary(b.pages, b.begin, b.canary);
    fill_canary(b.end, b.pages_end, b.canary);
    __asan_poison_memory_region(b.pages, b.begin - b.pages);
    __asan_poison_memory_region(b.end, b.pages_end - b.end);
    *out = reinterpret_cast<uint64_t>(b.begin);
    blocks[*out] = b;
    s.stats.device_bytes += bytes;
    ++s.stats.device_blocks;
    if (s.stats.device_bytes > s.stats.device_peak) s.stats.device_peak = s.stats.device_bytes;
    return SUCCESS;
}

Result device_free(uint64_t address)
{
    if (!address) return SUCCESS;
    auto found = blocks.find(address);
    if (found == blocks.end()) return INVALID_VALUE;
    DeviceBlock b = found->second;
    bool whole = check_block(b);
    for (auto m = marks.lower_bound(address);
         m != marks.end() && m->first < address + (b.end - b.begin); m = marks.erase(m)) {
        whole &= check_mark(m->first, m->second);
    }
    __asan_unpoison_memory_region(b.pages, b.pages_end - b.pages);
    // Returns the memory to the system, and makes the pages inaccessible for good.
    madvise(b.pages, b.pages_end - b.pages, MADV_DONTNEED);
    mprotect(b.pages, b.pages_end - b.pages, PROT_NONE);
    State& s = state();
    s.stats.device_bytes -= b.end - b.begin;
    --s.stats.device_blocks;
    blocks.erase(found);
    return whole ? SUCCESS : LAUNCH_FAILED;
}

bool device_holds(uint64_t address, size_t bytes)
{
    auto after = blocks.upper_bound(address);
    if (after == blocks.begin()) return false;
    const DeviceBlock& b = std::prev(after)->second;
    uint64_t end = reinterpret_cast<uint64_t>(b.end);
    return address <= end && bytes <= end - address;
}

bool check_guards()
{
    bool whole = true;
    for (const auto& [address, b] : blocks) whole &= check_block(b);
    for (const auto& [address, mark] : marks) whole &= check_mark(address, mark);
    return whole;
}

// Pinned memory is large and is allocated and freed again and again. It lies between inaccessible
// pages and becomes inaccessible when it is freed, so that a stale pointer faults. It is kept for
// reuse, since getting pages from the system costs more than using them.
static std::multimap<size_t, char*> closed;

static char* take_pages(size_t bytes)
{
    auto found = closed.find(bytes);
    char* p = nullptr;
    if (found != closed.end()) {
        p = found->second;
        closed.erase(found);
    } else {
        void* map = mmap(nullptr, bytes + 2 * PAGE, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (map == MAP_FAILED) return nullptr;
        p = static_cast<char*>(map) + PAGE;
    }
    return mprotect(p, bytes, PROT_READ | PROT_WRITE) ? nullptr : p;
}

static void give_pages(char* p, size_t bytes)
{
    mprotect(p, bytes, PROT_NONE);
    closed.emplace(bytes, p);
}

static size_t whole_pages(size_t bytes) { return (bytes + PAGE - 1) / PAGE * PAGE; }

void* pinned_allocate(size_t bytes)
{
    char* p = bytes ? take_pages(whole_pages(bytes)) : nullptr;
    if (!p) return nullptr;
    memset(p, state().settings.poison, bytes);
    __asan_poison_memory_region(p + bytes, whole_pages(bytes) - bytes);
    pinned[p] = bytes;
    state().stats.pinned_bytes += bytes;
    return p;
}

bool pinned_free(void* p)
{
    auto found = pinned.find(p);
    if (found == pinned.end()) return false;
    state().stats.pinned_bytes -= found->second;
    const size_t bytes = whole_pages(found->second);
    __asan_unpoison_memory_region(p, bytes);
    give_pages(static_cast<char*>(p), bytes);
    pinned.erase(found);
    return true;
}

bool is_pinned(const void* p)
{
    auto after = pinned.upper_bound(p);
    if (after == pinned.begin()) return false;
    auto block = std::prev(after);
    return p < static_cast<const char*>(block->first) + block->second;
}

void memory_reset()
{
    while (!blocks.empty()) device_free(blocks.begin()->first);
    while (!pinned.empty()) pinned_free(const_cast<void*>(pinned.begin()->first));
    marks.clear();
}

} // namespace emu

EMU_EXPORT void emu_guard(uint64_t address, size_t bytes, int on)
{
    using namespace emu;
    std::lock_guard<std::recursive_mutex> guard(driver_lock());
    char* p = reinterpret_cast<char*>(address);
    if (on) {
        if (bytes == 0 || !device_holds(address, bytes))
            return report("emu_guard: not inside one block of device memory");
        Mark mark{bytes, canary_of(state().settings.poison)};
        fill_canary(p, p + bytes, mark.canary);
        marks[address] = mark;
        __asan_poison_memory_region(p, bytes);
    } else if (auto found = marks.find(address); found != marks.end()) {
        __asan_unpoison_memory_region(p, found->second.bytes);
        if (!check_mark(address, found->second) && !state().sticky) state().sticky = LAUNCH_FAILED;
        memset(p, state().settings.poison, found->second.bytes);
        marks.erase(found);
    }
}
