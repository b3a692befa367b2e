// Synchronisation of threads: the collectives of a warp and the barriers of a block.
#include <cstring>

#include "block.h"

namespace emu {
namespace {

void set_ready(Thread& t)
{
    Warp& w = block.warps[t.warp];
    t.waits = Waits::Nothing;
    w.waiting &= ~(1u << t.lane);
    w.group &= ~(1u << t.lane);
    w.ready |= 1u << t.lane;
    block.ready |= 1u << t.warp;
}

void set_waiting(Thread& t, Waits waits, const char* what, Site site)
{
    Warp& w = block.warps[t.warp];
    t.waits = waits;
    t.what = what;
    t.site = site;
    w.ready &= ~(1u << t.lane);
    if (waits == Waits::Warp) w.waiting |= 1u << t.lane;
    if (!w.ready) block.ready &= ~(1u << t.warp);
}

// Whether all lanes that `t` waits for have arrived.
bool complete(const Thread& t)
{
    const Warp& w = block.warps[t.warp];
    return !(t.mask & ~w.left & ~w.waiting);
}

// Runs the collective in which `t` waits, after all its lanes have arrived.
void run_collective(Thread& t)
{
    Warp& w = block.warps[t.warp];
    unsigned present = t.mask & ~w.left;
    void* args[32];
    if (present != ~0u) memset(args, 0, sizeof args);
    for (unsigned m = present; m; m &= m - 1) {
        unsigned lane = __builtin_ctz(m);
        Thread& other = w.threads[lane];
        if (other.mask != t.mask) return;
        args[lane] = other.args;
    }
    t.combine(t.mask, present, args);
    if (t.orders_memory) order_lanes(w, present);
    for (unsigned m = present; m; m &= m - 1) w.threads[__builtin_ctz(m)].waits = Waits::Nothing;
    w.waiting &= ~present;
    w.group &= ~present;
    w.ready |= present;
    block.ready |= 1u << t.warp;
}

// Lanes that wait together must wait in the same collective.
void check_same_collective(Thread& t, const char* what, unsigned mask, Combine combine, Site site)
{
    Warp& w = block.warps[t.warp];
    const char* file = base_name(site.file);
    if (!(mask >> t.lane & 1)) {
        fail(719, "lane %u calls %s (%s:%d) with mask %08x, which does not name it", t.lane, what,
             file, site.line, mask);
    }
    for (unsigned m = mask & w.waiting; m; m &= m - 1) {
        Thread& o = w.threads[__builtin_ctz(m)];
        if (o.mask != mask || o.combine != combine) {
            fail(719,
                 "lane %u calls %s with mask %08x (%s:%d) while lane %u, which that mask names, "
                 "calls %s with mask %08x (%s:%d)",
                 t.lane, what, mask, file, site.line, o.lane, o.what, o.mask,
                 base_name(o.site.file), o.site.line);
        }
        if (block.settings->strict && !same_place(o.site, site)) {
            fail(719,
                 "lanes %u and %u meet in %s from two places (%s:%d and %s:%d): a card without "
                 "independent thread scheduling cannot",
                 t.lane, o.lane, what, file, site.line, base_name(o.site.file), o.site.line);
        }
    }
}

} // namespace

void leave(Thread& t)
{
    Warp& w = block.warps[t.warp];
    w.left |= 1u << t.lane;
    set_waiting(t, Waits::Left, "", Site{"", 0});
    ++block.left;
    for (unsigned m = w.exist & ~w.left; m; m &= m - 1) {
        Thread& other = w.threads[__builtin_ctz(m)];
        if (other.waits == Waits::Warp && (other.mask >> t.lane & 1) && complete(other))
            run_collective(other);
    }
}

void collective(const char* what, unsigned mask, Combine combine, void* args, Site site,
                bool orders_memory)
{
    Thread& t = current();
    Warp& w = block.warps[t.warp];
    const unsigned company = mask & w.waiting, me = 1u << t.lane;
    const bool usual = (mask & me) && company && !(company & ~w.group) && w.group_mask == mask &&
                       w.group_combine == combine && w.group_site.file == site.file &&
                       w.group_site.line == site.line;
    if (!usual) {
        check_same_collective(t, what, mask, combine, site);
        w.group = company;
        w.group_mask = mask;
        w.group_combine = combine;
        w.group_site = site;
    }
    w.group |= me;
    t.mask = mask;
    t.combine = combine;
    t.args = args;
    t.orders_memory = orders_memory;
    set_waiting(t, Waits::Warp, what, site);
    if (complete(t)) run_collective(t);
    pass_turn(t);
}

unsigned barrier(unsigned id, unsigned threads, int predicate, Site site)
{
    Thread& t = current();
    if (id >= 16)
        fail(719, "barrier %u: a block has 16 of them (%s:%d)", id, base_name(site.file),
             site.line);
    unsigned wanted = threads ? threads : block.thread_count;
    Barrier& b = block.barriers[id];
    if (b.arrived == 0) {
        b = {0, wanted, 0, b.result, site};
    } else if (b.wanted != wanted || !same_place(b.site, site)) {
        fail(719, "divergent barrier: this thread comes to %s:%d while %u threads wait at %s:%d",
             base_name(site.file), site.line, b.arrived, base_name(b.site.file), b.site.line);
    }
    b.predicates += predicate != 0;
    ++b.arrived;
    t.barrier = id;
    set_waiting(t, Waits::Block, "__syncthreads", site);
    if (b.arrived == b.wanted) {
        b.arrived = 0;
        b.result = b.predicates;
        for (unsigned i = 0; i < block.thread_count; ++i) {
            Thread& o = block.threads[i];
            if (o.waits == Waits::Block && o.barrier == id) set_ready(o), order_block(o);
        }
    }
    pass_turn(t);
    return b.result;
}

} // namespace emu
