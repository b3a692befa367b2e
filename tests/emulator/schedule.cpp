// Runs a launch, one block after another on one system thread; each thread of a block is a fiber.
#include "schedule.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "block.h"
#include "library.h"

// CUDA's built-in variables, set before a fiber runs.
__attribute__((visibility("hidden"))) emu::Index3 threadIdx, blockIdx, blockDim, gridDim;

namespace emu {

Block block;

namespace {

uint64_t draw()
{ // splitmix64
    uint64_t z = block.random += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

unsigned draw_bit(unsigned set)
{ // one of the bits of `set`
    for (unsigned skip = draw() % __builtin_popcount(set); skip; --skip) set &= set - 1;
    return __builtin_ctz(set);
}

void record(int code, const char* where, const char* format, va_list args)
{
    Outcome& out = *block.outcome;
    if (out.code) return; // later failures are consequences of the first
    out.code = code;
    int n =
        snprintf(out.text, sizeof out.text, "kernel %s, %s: ", block.launch->kernel->name, where);
    vsnprintf(out.text + n, sizeof out.text - n, format, args);
}

void entry()
{
    Thread& t = current();
    fiber_entered(t.fiber);
    block.launch->kernel->call(block.launch->params);
    leave(t);
    fiber_leave(t.fiber);
}

Thread& pick()
{
    const bool reversed = block.settings->schedule == Schedule::Reversed;
    switch (block.settings->schedule) {
        case Schedule::Seeded: {
            Warp& w = block.warps[draw_bit(block.ready)];
            return w.threads[draw_bit(w.ready)];
        }
        case Schedule::Ahead:
            if (block.ready >> block.favoured & 1) {
                Warp& w = block.warps[block.favoured];
                return w.threads[__builtin_ctz(w.ready)];
            }
            [[fallthrough]];
        default:
            // In a warp's turn, each lane that could run at its start runs once; then it is the
            // next warp's turn.
            for (;;) {
                Warp& w = block.warps[block.turn];
                if (unsigned lanes = block.round & w.ready) {
                    unsigned lane = reversed ? 31 - __builtin_clz(lanes) : __builtin_ctz(lanes);
                    block.round &= ~(1u << lane);
                    return w.threads[lane];
                }
                unsigned n = block.warp_count;
                do block.turn = (block.turn + (reversed ? n - 1 : 1)) % n;
                while (!(block.ready >> block.turn & 1));
                block.round = block.warps[block.turn].ready;
            }
    }
}

// No thread can run and some have not left: reports which threads wait for what.
void report_deadlock()
{
    char text[900];
    size_t n = 0;
    auto add = [&](const char* format, auto... args) {
        if (n < sizeof text) n += snprintf(text + n, sizeof text - n, format, args...);
    };
    add("deadlock");
    if (block.left) add("; %u threads have left the kernel", block.left);
    bool told[1024] = {};
    for (unsigned i = 0, lines = 0; i < block.thread_count && lines < 6; ++i) {
        Thread& t = block.threads[i];
        if (told[i] || t.waits == Waits::Left) continue;
        unsigned same = 0;
        for (unsigned j = i; j < block.thread_count; ++j) {
            Thread& o = block.threads[j];
            if (o.waits == t.waits && o.site.line == t.site.line && o.mask == t.mask)
                told[j] = true, ++same;
        }
        add("; %u threads, the first of them %u, wait at %s (%s:%d)", same, i, t.what,
            base_name(t.site.file), t.site.line);
        if (t.waits == Waits::Warp) add(" for the lanes of mask %08x", t.mask);
        ++lines;
    }
    block.current = nullptr;
    char where[64];
    snprintf(where, sizeof where, "block (%u, %u, %u)", blockIdx.x, blockIdx.y, blockIdx.z);
    auto record_text = [&](const char* format, ...) {
        va_list args;
        va_start(args, format);
        record(719, where, format, args);
        va_end(args);
    };
    record_text("%s", text);
}

void start_block(const Launch& launch)
{
    ++block.serial;
    block.ready = block.left = block.turn = 0;
    memset(block.barriers, 0, sizeof block.barriers);
    for (unsigned w = 0; w < block.warp_count; ++w) {
        unsigned lanes = block.thread_count - w * 32 < 32 ? block.thread_count - w * 32 : 32;
        unsigned exist = lanes == 32 ? ~0u : (1u << lanes) - 1;
        block.warps[w].threads = block.threads + w * 32;
        block.warps[w].exist = block.warps[w].ready = exist;
        block.warps[w].left = ~exist;
        block.warps[w].waiting = block.warps[w].group = 0;
        block.ready |= 1u << w;
    }
    block.round = block.warps[0].ready;
    for (unsigned i = 0; i < block.thread_count; ++i) {
        Thread& t = block.threads[i];
        if (!t.fiber.low) fiber_create(t.fiber, i);
        fiber_start(t.fiber, i, entry);
        t.index = {i % launch.block[0], i / launch.block[0] % launch.block[1],
                   i / launch.block[0] / launch.block[1]};
        t.warp = i / 32;
        t.lane = i % 32;
        t.waits = Waits::Nothing;
        t.mask = 0;
    }
    start_copies();
    start_races();
}

void run_block()
{
    while (block.left < block.thread_count) {
        if (!block.ready) return report_deadlock();
        Thread& t = pick();
        block.current = &t;
        threadIdx = t.index;
        fiber_resume(t.fiber);
        if (block.outcome->code) return; // abandons the rest of the block
    }
    block.current = nullptr;
}

// The order of the blocks, if it is not ascending. CUDA promises none.
uint64_t block_at(uint64_t i, uint64_t count, const Settings& settings, uint64_t step)
{
    switch (settings.schedule) {
        case Schedule::Reversed:
            return count - 1 - i;
        case Schedule::Seeded:
            return static_cast<uint64_t>((static_cast<__uint128_t>(i) * step + settings.seed) %
                                         count);
        default:
            return i;
    }
}

uint64_t coprime_step(uint64_t count, uint64_t random)
{
    uint64_t step = count > 2 ? random % count : 1;
    auto gcd = [](uint64_t a, uint64_t b) {
        while (b) {
            uint64_t r = a % b;
            a = b;
            b = r;
        }
        return a;
    };
    while (step == 0 || gcd(step, count) != 1) ++step;
    return step;
}

} // namespace

void fail_block(int code, const char* format, ...)
{
    char where[96];
    if (block.current) {
        snprintf(where, sizeof where, "block (%u, %u, %u), thread (%u, %u, %u)", blockIdx.x,
                 blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
    } else {
        snprintf(where, sizeof where, "block (%u, %u, %u)", blockIdx.x, blockIdx.y, blockIdx.z);
    }
    va_list args;
    va_start(args, format);
    record(code, where, format, args);
    va_end(args);
}

void fail(int code, const char* format, ...)
{
    char text[900];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fail_block(code, "%s", text);
    fiber_leave(current().fiber);
}

void pass_turn(Thread& t)
{
    // The scheduler ends a failed launch and reports a deadlock.
    if (!block.ready || block.outcome->code) return fiber_yield(t.fiber);
    Thread& next = pick();
    if (&next == &t) return;
    block.current = &next;
    threadIdx = next.index;
    fiber_switch(t.fiber, next.fiber);
}

void yield() { pass_turn(current()); }

bool copies_land_late()
{
    Schedule s = block.settings->schedule;
    return s == Schedule::LockStep || s == Schedule::Ahead;
}

unsigned lane_id() { return current().lane; }

unsigned char poison_byte() { return block.settings->poison; }
unsigned active_lanes() { return block.warps[current().warp].ready; }

void run(const Launch& launch, const Settings& settings, Outcome& outcome)
{
    static uint64_t launches;
    block.launch = &launch;
    block.settings = &settings;
    block.outcome = &outcome;
    block.random = settings.seed + ++launches;
    block.thread_count = launch.block[0] * launch.block[1] * launch.block[2];
    block.warp_count = (block.thread_count + 31) / 32;
    block.first_serial = block.serial + 1;
    if (!open_shared()) {
        outcome.code = 701;
        snprintf(outcome.text, sizeof outcome.text, "no room for %u bytes of shared memory",
                 launch.dynamic_shared);
        return;
    }
    catch_faults();
    blockDim = {launch.block[0], launch.block[1], launch.block[2]};
    gridDim = {launch.grid[0], launch.grid[1], launch.grid[2]};
    uint64_t count = uint64_t(launch.grid[0]) * launch.grid[1] * launch.grid[2];
    uint64_t step = coprime_step(count, draw());
    for (uint64_t i = 0; i < count && !outcome.code; ++i) {
        uint64_t at = block_at(i, count, settings, step);
        blockIdx = {unsigned(at % launch.grid[0]), unsigned(at / launch.grid[0] % launch.grid[1]),
                    unsigned(at / launch.grid[0] / launch.grid[1])};
        block.favoured = (at + launches) % block.warp_count;
        poison_shared();
        start_block(launch);
        run_block();
        if (!outcome.code) check_shared_margins();
    }
    block.current = nullptr;
    if (outcome.code) {
        for (unsigned i = 0; i < block.thread_count; ++i) fiber_abandon(block.threads[i].fiber);
    }
}

} // namespace emu
