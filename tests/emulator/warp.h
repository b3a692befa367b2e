// Collectives of a warp. Each lane brings its argument, and the last to arrive computes for all of
// them.
#pragma once
#include "schedule.h"

namespace emu {

template <typename T>
struct Shuffle {
    T value;
    int source; // the lane to read, or -1 for the lane's own value
    T result;
};

template <typename T>
void shuffle(unsigned mask, unsigned, void* const args[32])
{
    for (unsigned m = mask; m; m &= m - 1) {
        unsigned lane = __builtin_ctz(m);
        if (!args[lane]) continue;
        auto& mine = *static_cast<Shuffle<T>*>(args[lane]);
        if (mine.source < 0) {
            mine.result = mine.value;
        } else if ((mask >> mine.source & 1) && args[mine.source]) {
            mine.result = static_cast<Shuffle<T>*>(args[mine.source])->value;
        } else {
            memset(&mine.result, poison_byte(), sizeof(T));
        }
    }
}

template <typename T>
inline T shuffle_from(const char* what, unsigned mask, T value, int source, Site site)
{
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "CUDA shuffles 4 or 8 bytes");
    Shuffle<T> args{value, source, {}};
    collective(what, mask, shuffle<T>, &args, site);
    return args.result;
}

struct Vote {
    unsigned value, result;
};

template <typename F>
void vote(unsigned mask, void* const args[32], unsigned start, F f)
{
    unsigned result = start;
    for (unsigned m = mask; m; m &= m - 1) {
        unsigned lane = __builtin_ctz(m);
        if (args[lane]) result = f(result, static_cast<Vote*>(args[lane])->value, lane);
    }
    for (unsigned m = mask; m; m &= m - 1) {
        if (void* mine = args[__builtin_ctz(m)]) static_cast<Vote*>(mine)->result = result;
    }
}

inline void meet(unsigned, unsigned, void* const*) {}

inline void ballot(unsigned mask, unsigned, void* const args[32])
{
    vote(mask, args, 0,
         [](unsigned r, unsigned x, unsigned lane) { return r | unsigned(x != 0) << lane; });
}
inline void match(unsigned mask, unsigned, void* const args[32])
{
    for (unsigned m = mask; m; m &= m - 1) {
        auto* mine = static_cast<Vote*>(args[__builtin_ctz(m)]);
        if (!mine) continue;
        mine->result = 0;
        for (unsigned n = mask; n; n &= n - 1) {
            auto* other = static_cast<Vote*>(args[__builtin_ctz(n)]);
            if (other && other->value == mine->value) mine->result |= n & -n;
        }
    }
}
inline void reduce_add(unsigned mask, unsigned, void* const args[32])
{
    vote(mask, args, 0, [](unsigned r, unsigned x, unsigned) { return r + x; });
}
inline void reduce_min(unsigned mask, unsigned, void* const args[32])
{
    vote(mask, args, ~0u, [](unsigned r, unsigned x, unsigned) { return x < r ? x : r; });
}
inline void reduce_max(unsigned mask, unsigned, void* const args[32])
{
    vote(mask, args, 0, [](unsigned r, unsigned x, unsigned) { return x > r ? x : r; });
}

inline unsigned vote_with(const char* what, unsigned mask, Combine combine, unsigned value,
                          Site site)
{
    Vote args{value, 0};
    collective(what, mask, combine, &args, site);
    return args.result;
}

} // namespace emu

EMU_WORD void __syncwarp(unsigned mask = 0xffffffff, EMU_CALLER)
{
    emu::collective("__syncwarp", mask, emu::meet, nullptr, EMU_SITE, true);
}

// As the hardware does, within groups of `width` lanes; a source outside of the group means the
// lane itself.
template <typename T>
EMU_WORD T __shfl_sync(unsigned mask, T value, int source, int width = 32, EMU_CALLER)
{
    int lane = emu::lane_id();
    return emu::shuffle_from("__shfl_sync", mask, value, (lane & -width) + (source & (width - 1)),
                             EMU_SITE);
}
template <typename T>
EMU_WORD T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, EMU_CALLER)
{
    int lane = emu::lane_id(), source = lane - int(delta);
    return emu::shuffle_from("__shfl_up_sync", mask, value, source < (lane & -width) ? -1 : source,
                             EMU_SITE);
}
template <typename T>
EMU_WORD T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, EMU_CALLER)
{
    int lane = emu::lane_id(), source = lane + int(delta);
    return emu::shuffle_from("__shfl_down_sync", mask, value,
                             source > (lane | (width - 1)) ? -1 : source, EMU_SITE);
}
template <typename T>
EMU_WORD T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, EMU_CALLER)
{
    int lane = emu::lane_id(), source = lane ^ lanes;
    return emu::shuffle_from("__shfl_xor_sync", mask, value,
                             source > (lane | (width - 1)) ? -1 : source, EMU_SITE);
}

EMU_WORD unsigned __ballot_sync(unsigned mask, int predicate, EMU_CALLER)
{
    return emu::vote_with("__ballot_sync", mask, emu::ballot, predicate != 0, EMU_SITE);
}
EMU_WORD int __any_sync(unsigned mask, int predicate, EMU_CALLER)
{
    return emu::vote_with("__any_sync", mask, emu::ballot, predicate != 0, EMU_SITE) != 0;
}
EMU_WORD int __all_sync(unsigned mask, int predicate, EMU_CALLER)
{
    return emu::vote_with("__all_sync", mask, emu::ballot, predicate == 0, EMU_SITE) == 0;
}
EMU_WORD unsigned __match_any_sync(unsigned mask, unsigned value, EMU_CALLER)
{
    return emu::vote_with("__match_any_sync", mask, emu::match, value, EMU_SITE);
}
EMU_WORD unsigned __reduce_add_sync(unsigned mask, unsigned value, EMU_CALLER)
{
    return emu::vote_with("__reduce_add_sync", mask, emu::reduce_add, value, EMU_SITE);
}
EMU_WORD unsigned __reduce_min_sync(unsigned mask, unsigned value, EMU_CALLER)
{
    return emu::vote_with("__reduce_min_sync", mask, emu::reduce_min, value, EMU_SITE);
}
EMU_WORD unsigned __reduce_max_sync(unsigned mask, unsigned value, EMU_CALLER)
{
    return emu::vote_with("__reduce_max_sync", mask, emu::reduce_max, value, EMU_SITE);
}
