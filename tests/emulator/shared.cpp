// Shared memory: the static arrays of the kernels, found between two objects of the link, and the
// launch's dynamic part, which ends at an inaccessible page. Both are poisoned before each block.
#include <sys/mman.h>

#include <cstring>

#include "block.h"

#ifdef EMU_ASAN
extern "C" void __asan_poison_memory_region(const volatile void* address, size_t size);
extern "C" void __asan_unpoison_memory_region(const volatile void* address, size_t size);
#endif

namespace emu {
namespace {

char* shared_map; // dynamic shared memory ends where this mapping's inaccessible page starts
constexpr size_t SHARED_MAP = 256 << 10, PAGE = 4096;

bool map_shared()
{
    if (!shared_map) {
        void* map = mmap(nullptr, SHARED_MAP + PAGE, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (map == MAP_FAILED || mprotect(static_cast<char*>(map) + SHARED_MAP, PAGE, PROT_NONE))
            return false;
        shared_map = static_cast<char*>(map);
    }
    return true;
}

// The static shared arrays of all kernels are contiguous, and a launch uses few of them. Poisoning
// all of them for each block would cost more than running a small block, so the first block of a
// launch finds the range that it uses.
struct Stretch {
    char *begin, *end;
} used;

Stretch find_used(uint8_t poison)
{
    // Eight bytes at a time, since most of the arrays belong to other kernels.
    uint64_t word;
    memset(&word, poison, sizeof word);
    auto whole = [&](const char* p) {
        uint64_t there;
        memcpy(&there, p, sizeof there);
        return there == word;
    };
    char *a = emu_shared_begin, *b = emu_shared_end;
    while (b - a >= 8 && whole(a)) a += 8;
    while (b - a >= 8 && whole(b - 8)) b -= 8;
    while (a < b && static_cast<uint8_t>(*a) == poison) ++a;
    while (b > a && static_cast<uint8_t>(b[-1]) == poison) --b;
    return {a, b};
}

// Not memset, which AddressSanitizer would check against the red zones between the arrays.
void fill(char* p, uint8_t value, size_t n)
{
    asm volatile("rep stosb" : "+D"(p), "+c"(n) : "a"(value) : "memory");
}

// Value of the bytes between the end of dynamic shared memory and its inaccessible page, and of
// those before its start.
uint8_t canary() { return block.settings->poison ^ 0x3a; }
constexpr size_t MARGIN = 256;

void poison_dynamic(const Launch& launch, uint8_t poison)
{
    size_t rounded = (launch.dynamic_shared + 15) / 16 * 16;
    block.dynamic = shared_map + SHARED_MAP - rounded;
    fill(block.dynamic - MARGIN, canary(), MARGIN);
    fill(block.dynamic, poison, launch.dynamic_shared);
    fill(block.dynamic + launch.dynamic_shared, canary(), rounded - launch.dynamic_shared);
#ifdef EMU_ASAN
    __asan_poison_memory_region(shared_map, SHARED_MAP + PAGE);
    __asan_unpoison_memory_region(block.dynamic, launch.dynamic_shared);
#endif
}

} // namespace

bool open_shared()
{
    if (!map_shared() || block.launch->dynamic_shared + MARGIN > SHARED_MAP) return false;
    fill(emu_shared_begin, block.settings->poison, emu_shared_end - emu_shared_begin);
    used = {nullptr, nullptr};
    return true;
}

void poison_shared()
{
    const uint8_t poison = block.settings->poison;
    poison_dynamic(*block.launch, poison);
    if (block.serial == block.first_serial) used = find_used(poison); // the first block has run
    fill(used.begin, poison, used.end - used.begin);
}

void check_shared_margins()
{
    const Launch& launch = *block.launch;
    const char* end = shared_map + SHARED_MAP;
    for (const char* p = block.dynamic - MARGIN; p < end; ++p) {
        long offset = p - block.dynamic;
        if (offset >= 0 && offset < long(launch.dynamic_shared)) {
            p += launch.dynamic_shared - offset - 1;
        } else if (static_cast<uint8_t>(*p) != canary()) {
            fail_block(700, "a write at byte %ld of %u bytes of dynamic shared memory", offset,
                       launch.dynamic_shared);
            return;
        }
    }
}

void* dynamic_shared() { return block.dynamic; }
unsigned dynamic_shared_bytes() { return block.launch->dynamic_shared; }

void check_shared(const void* p, unsigned bytes, const char* what)
{
    const char* a = static_cast<const char*>(p);
    bool dynamic = a >= block.dynamic && a + bytes <= block.dynamic + block.launch->dynamic_shared;
    if (!dynamic && !(a >= emu_shared_begin && a + bytes <= emu_shared_end)) {
        fail(700, "%s: %u bytes at %p do not lie in shared memory", what, bytes, p);
    }
}

} // namespace emu
