// Asynchronous copies to shared memory. CUDA does not promise whether they complete at once or
// late. A missing wait shows under schedules that complete them late, and a buffer that is
// overwritten too early shows under those that complete them at once.
#include <cstring>
#include <vector>

#include "block.h"

namespace emu {
namespace {

struct Copy {
    void* to;
    const void* from;
    unsigned size, bytes, group;
};

struct Queue {
    std::vector<Copy> copies;
    unsigned groups = 0; // number of groups closed so far
};

Queue queues[1024];

void land(const Copy& c)
{
    memcpy(c.to, c.from, c.bytes);
    memset(static_cast<char*>(c.to) + c.bytes, 0, c.size - c.bytes);
    touch(c.to, c.size, true, false);
}

Queue& mine() { return queues[block.current - block.threads]; }

} // namespace

void start_copies()
{
    for (unsigned i = 0; i < block.thread_count; ++i) {
        queues[i].copies.clear();
        queues[i].groups = 0;
    }
}

void copy_async(void* to, const void* from, unsigned size, unsigned bytes)
{
    auto misaligned = [&](const void* p) { return reinterpret_cast<uintptr_t>(p) % size != 0; };
    if (misaligned(to) || (bytes && misaligned(from)))
        fail(716, "cp.async: %p to %p, not aligned to %u", from, to, size);
    if (bytes > size) fail(719, "cp.async: reads %u bytes of %u", bytes, size);
    check_shared(to, size, "cp.async");
    touch(to, size, true, false);
    touch(from, bytes, false, false);
    Copy copy{to, from, size, bytes, mine().groups};
    if (copies_land_late()) {
        mine().copies.push_back(copy);
    } else {
        land(copy);
    }
}

void copy_commit() { ++mine().groups; }

void copy_wait(unsigned pending)
{
    Queue& q = mine();
    size_t done = 0;
    while (done < q.copies.size() && q.copies[done].group + pending < q.groups)
        land(q.copies[done++]);
    q.copies.erase(q.copies.begin(), q.copies.begin() + done);
}

} // namespace emu
