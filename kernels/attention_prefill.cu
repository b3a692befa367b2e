// Causal attention of a span of rows (prefill) to its sequence's cache, which already holds the span's own keys:
// softmax(scale * q K^T) V, row i seeing slot + i + 1 keys. Limited by arithmetic. Host side:
// src/ops/cuda/attention/choose.rs, prefill.
#include "attention_fma.cuh"
#include "attention_mma.cuh"

// The queries of block (x, head). Blocks with the last queries, which see the most keys, start first, so that the grid
// ends evenly.
template <typename T>
__device__ Queries<T> prefill_queries(const PrefillParams& p, uint32_t rows, uint32_t& first)
{
    first = (gridDim.x - 1 - blockIdx.x) * rows;
    const uint32_t column = blockIdx.y * p.head_dim;
    return {static_cast<const T*>(p.q) + static_cast<size_t>(first) * p.q_stride + column,
            static_cast<T*>(p.out) + static_cast<size_t>(first) * p.out_stride + column,
            p.q_stride,
            p.out_stride,
            p.rows - first,
            p.head_dim};
}

template <typename T>
__device__ PagedKeys<T> prefill_keys(const PrefillParams& p, uint32_t first)
{
    const uint32_t kv_head = blockIdx.y / (p.heads / p.kv_heads);
    return PagedKeys<T>(p.cache, p.pages, p.kv_heads, kv_head, p.head_dim, p.slot + first);
}

template <typename T, int D, int N>
__device__ void prefill_fma(const PrefillParams& p)
{
    uint32_t first;
    const Queries<T> queries = prefill_queries<T>(p, FmaTile<T, D, N>::ROWS, first);
    attend_fma<T, D, N>(queries, prefill_keys<T>(p, first), p.scale);
}

template <int D>
__device__ void prefill_mma(const PrefillParams& p)
{
    if constexpr (ptx::HAS_MMA_K8) {
        uint32_t first;
        const Queries<Half> queries = prefill_queries<Half>(p, MmaTile<D>::ROWS, first);
        attend_mma<D>(queries, prefill_keys<Half>(p, first), p.scale);
    }
}

// PRECOND: grid of (rows by the tile's, rounded up; heads); block of 128 threads; head_dim even, at most the number
// in the name; pages hold slot + rows slots.
// fma64: tile of 64 queries; fma128: of 32; mma64: of 128, mma128: of 64, for cards with mma;
// q, cache and out multiples of 16, strides and head_dim whole vectors of 16 bytes.
// guarded: tile of 32; head_dim at most 128, any alignment.
#define PREFILL_FMA(name, T, D, N)                                                                         \
    extern "C" __global__ void __launch_bounds__(HIRED_ATTENTION_THREADS, (FmaTile<T, D, N>::BLOCKS))      \
        attention_prefill_##name(PrefillParams p)                                                          \
    {                                                                                                      \
        prefill_fma<T, D, N>(p);                                                                           \
    }
PREFILL_FMA(fma64_f32, float, 64, LANES<float>)
PREFILL_FMA(fma64_f16, Half, 64, LANES<Half>)
PREFILL_FMA(fma128_f32, float, 128, LANES<float>)
PREFILL_FMA(fma128_f16, Half, 128, LANES<Half>)
PREFILL_FMA(guarded_f32, float, 128, 1)
PREFILL_FMA(guarded_f16, Half, 128, 1)

#define PREFILL_MMA(name, D)                                                                               \
    extern "C" __global__ void __launch_bounds__(HIRED_ATTENTION_THREADS, 2) attention_prefill_##name(PrefillParams p) \
    {                                                                                                      \
        prefill_mma<D>(p);                                                                                 \
    }
PREFILL_MMA(mma64_f16, 64)
PREFILL_MMA(mma128_f16, 128)
