// Merges the splits of a decode step's attention (attention_decode.cu) into one row. The last block of a key/value head
// to finish does it, in the order of the splits.
#pragma once

#include "attention.cuh"

constexpr uint32_t THREADS = HIRED_ATTENTION_THREADS;
constexpr uint32_t WARPS = THREADS / WARP;
static_assert(HIRED_HEAD_DIM <= HIRED_ATTENTION_THREADS, "a thread for each number of a head");

// A block's place: a split of the keys of one key/value head of one sequence.
struct Place {
    uint32_t sequence;
    uint32_t kv_head;
    uint32_t split;
    uint32_t splits; // splits that have keys; the last one has the row's own
    uint32_t group;  // query heads of a key/value head
    uint32_t parts;  // blocks that share a split

    // Index of a head's results for a split in the scratch.
    __device__ size_t row(const DecodeParams& p, uint32_t head, uint32_t split) const
    {
        return (static_cast<size_t>(sequence) * p.heads + head) * p.splits + split;
    }
};

// Loads N numbers that other blocks of this launch wrote, bypassing L1, which may hold older values.
template <int N>
__device__ void load_fresh(const float* from, float (&to)[N])
{
    if constexpr (N == 4) {
        const float4 x = __ldcg(reinterpret_cast<const float4*>(from));
        to[0] = x.x, to[1] = x.y, to[2] = x.z, to[3] = x.w;
    } else if constexpr (N == 2) {
        const float2 x = __ldcg(reinterpret_cast<const float2*>(from));
        to[0] = x.x, to[1] = x.y;
    } else {
        to[0] = __ldcg(from);
    }
}

// Merges all heads of a key/value head; the warps share them. N: numbers of a load.
template <typename T, int D, int N, int G>
__device__ void merge(const DecodeParams& p, const Place& place, float (&mixed)[WARPS][G][D])
{
    constexpr int C = D / N / WARP;
    __shared__ float sums[WARPS][G];
    const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const float2* weights = reinterpret_cast<const float2*>(p.weights);
    T* out = static_cast<T*>(p.out) + static_cast<size_t>(place.sequence) * p.out_stride;

    for (uint32_t member = 0; member < place.group; member += G) {
        const uint32_t first_head = place.kv_head * place.group + member;
        const uint32_t heads = min(place.group - member, static_cast<uint32_t>(G));
        // A missing head uses the results of the first one.
        auto row = [&](int g, uint32_t split) { return place.row(p, first_head + (g < heads ? g : 0), split); };
        float top[G], sum[G] = {}, total[G][C][N] = {};
#pragma unroll
        for (int g = 0; g < G; g++) top[g] = -INFINITY;
        for (uint32_t s = lane; s < place.splits; s += WARP) {
#pragma unroll
            for (int g = 0; g < G; g++) top[g] = fmaxf(top[g], __ldcg(weights + row(g, s)).x);
        }
#pragma unroll
        for (int g = 0; g < G; g++) top[g] = warp_max(top[g]);
#pragma unroll(G == 1 ? 4 : 1)
        for (uint32_t s = warp; s < place.splits; s += WARPS) {
#pragma unroll
            for (int g = 0; g < G; g++) {
                const float2 weight = __ldcg(weights + row(g, s));
                const float factor = Weight<T>::power(weight.x - top[g]);
                sum[g] += factor * weight.y;
#pragma unroll
                for (int c = 0; c < C; c++) {
                    const uint32_t column = (c * WARP + lane) * N;
                    if (column >= p.head_dim) continue;
                    float x[N];
                    load_fresh(p.mixed + row(g, s) * p.head_dim + column, x);
#pragma unroll
                    for (int n = 0; n < N; n++) total[g][c][n] += factor * x[n];
                }
            }
        }
#pragma unroll
        for (int g = 0; g < G; g++) {
            if (lane == 0) sums[warp][g] = sum[g];
#pragma unroll
            for (int c = 0; c < C; c++)
#pragma unroll
                for (int n = 0; n < N; n++) mixed[warp][g][(c * WARP + lane) * N + n] = total[g][c][n];
        }
        __syncthreads();
        for (uint32_t g = 0; g < heads && threadIdx.x < p.head_dim; g++) {
            float total = 0.0f, sum = 0.0f;
#pragma unroll
            for (uint32_t w = 0; w < WARPS; w++) total += mixed[w][g][threadIdx.x], sum += sums[w][g];
            out[(first_head + g) * p.head_dim + threadIdx.x] = from_float<T>(total * __fdividef(1.0f, sum));
        }
        __syncthreads();
    }
}
