// Ranking by one block: the highest of many keys, ties to the lower index, for any number of keys.
//
// There is no sort and there are no atomics: the key at a given rank is found bit by bit, two bits at a time, from sums
// over all keys. Weights are integers, so sums do not depend on the order.
//
// PRECOND of every function: 1-D block of whole warps, at most 1024 threads, all of which call it.
#pragma once

#include "prelude.cuh"

// A key whose order as an unsigned number is the order of the float: -0 below 0.
__device__ inline uint32_t key_of(float x)
{
    const uint32_t bits = __float_as_uint(x);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// Sums over the block; every thread gets them.
template <typename Sum, int N>
__device__ inline void block_sums(Sum (&x)[N])
{
    __shared__ Sum sums[N][WARP];
    const uint32_t lane = threadIdx.x % WARP;
#pragma unroll
    for (int i = 0; i < N; i++) {
#pragma unroll
        for (int step = WARP / 2; step > 0; step /= 2) x[i] += __shfl_xor_sync(ALL_LANES, x[i], step);
        if (lane == 0) sums[i][threadIdx.x / WARP] = x[i];
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < N; i++) {
        x[i] = lane < blockDim.x / WARP ? sums[i][lane] : 0;
#pragma unroll
        for (int step = WARP / 2; step > 0; step /= 2) x[i] += __shfl_xor_sync(ALL_LANES, x[i], step);
    }
    // The next call must not overwrite what a slow warp still reads.
    __syncthreads();
}

// Maximum over the block; every thread gets it.
__device__ inline uint64_t block_max_key(uint64_t x)
{
    __shared__ uint64_t largest[WARP];
    const uint32_t lane = threadIdx.x % WARP;
#pragma unroll
    for (int step = WARP / 2; step > 0; step /= 2) x = max(x, __shfl_xor_sync(ALL_LANES, x, step));
    if (lane == 0) largest[threadIdx.x / WARP] = x;
    __syncthreads();
    x = lane < blockDim.x / WARP ? largest[lane] : 0;
#pragma unroll
    for (int step = WARP / 2; step > 0; step /= 2) x = max(x, __shfl_xor_sync(ALL_LANES, x, step));
    __syncthreads();
    return x;
}

// The number of threads before this one with `yes`, counted from `start`; then `start` grows by their total.
__device__ inline uint32_t block_rank(bool yes, uint32_t& start)
{
    __shared__ uint32_t counts[WARP];
    const uint32_t lane = threadIdx.x % WARP;
    const uint32_t warp = threadIdx.x / WARP;
    const uint32_t votes = __ballot_sync(ALL_LANES, yes);
    if (lane == 0) counts[warp] = __popc(votes);
    __syncthreads();
    uint32_t before = start + __popc(votes & ((1u << lane) - 1));
    for (uint32_t i = 0; i < blockDim.x / WARP; i++) {
        before += i < warp ? counts[i] : 0;
        start += counts[i];
    }
    __syncthreads();
    return before;
}

// The first part of a ranking: all indices with a key above `key`, and the first `ties` of those with this key.
struct Prefix {
    uint32_t key;
    uint32_t ties;
};

// Calls f(i, its key) for this thread's share of the indices below count whose key is at least `least`. Four keys are
// read at a time: with single reads, each of a vocabulary's 32 rounds would wait for memory.
template <typename Key, typename F>
__device__ void each_from(uint32_t least, uint32_t count, Key key, F f)
{
    constexpr uint32_t KEYS = 4;
    for (uint32_t first = threadIdx.x; first < count; first += KEYS * blockDim.x) {
        uint32_t keys[KEYS];
#pragma unroll
        for (uint32_t n = 0; n < KEYS; n++) keys[n] = key(min(first + n * blockDim.x, count - 1));
#pragma unroll
        for (uint32_t n = 0; n < KEYS; n++) {
            const uint32_t i = first + n * blockDim.x;
            if (i < count && keys[n] >= least) f(i, keys[n]);
        }
    }
}

// The shortest prefix whose weights add up to `goal`. Equal keys must have equal weights; indices of weight 0 are not
// ranked.
// PRECOND: 1 <= goal <= the sum of all weights, which Sum holds.
template <typename Sum, typename Key, typename Weight>
__device__ Prefix shortest_prefix(uint32_t count, Key key, Weight weight, Sum goal)
{
    // The largest key such that it and all above it reach the goal.
    uint32_t found = 0;
    for (int shift = 30; shift >= 0; shift -= 2) {
        Sum sums[3] = {};
        each_from(found, count, key, [&](uint32_t i, uint32_t at) {
            const Sum w = weight(i);
            const uint32_t digit = min((at - found) >> shift, 3u);
#pragma unroll
            for (uint32_t d = 0; d < 3; d++) sums[d] += digit > d ? w : 0;
        });
        block_sums(sums);
#pragma unroll
        for (int d = 0; d < 3; d++) found += sums[d] >= goal ? 1u << shift : 0;
    }
    Sum above[1] = {};
    uint64_t each = 0;
    each_from(found, count, key, [&](uint32_t i, uint32_t at) {
        const Sum w = weight(i);
        if (at > found)
            above[0] += w;
        else
            each = max(each, static_cast<uint64_t>(w));
    });
    block_sums(above);
    const Sum one = static_cast<Sum>(block_max_key(each));
    // Not 0, unless the goal cannot be reached.
    const Sum step = one > 0 ? one : 1;
    return Prefix{found, static_cast<uint32_t>((goal - above[0] + step - 1) / step)};
}

// Calls f(i, whether i is in the prefix, whether it is its last) for every index below count, with all threads of the
// block together, so that f may use barriers. Beyond count it is called with false.
template <typename Key, typename Weight, typename F>
__device__ void each_of_prefix(uint32_t count, Key key, Weight weight, Prefix prefix, F f)
{
    uint32_t ties = 0;
    for (uint32_t first = 0; first < count; first += blockDim.x) {
        const uint32_t i = first + threadIdx.x;
        const bool stands = i < count && weight(i) > 0;
        const uint32_t at = stands ? key(i) : 0;
        const bool is_tie = stands && at == prefix.key;
        const uint32_t tie = block_rank(is_tie, ties);
        f(i, (stands && at > prefix.key) || (is_tie && tie < prefix.ties), is_tie && tie + 1 == prefix.ties);
    }
}
