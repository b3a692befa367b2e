// Attention of the vision tower: softmax(scale * q K^T) V inside each partition, every query to every key. Limited by
// arithmetic. Host side: src/ops/cuda/attention/choose.rs, vision.
#include "attention_fma.cuh"
#include "attention_mma.cuh"

// The queries and keys of block (x, head, partition); false if the block has no queries.
template <typename T>
__device__ bool vision_block(const VisionAttentionParams& p, uint32_t rows, Queries<T>& queries, DenseKeys<T>& keys)
{
    const uint32_t head = blockIdx.y, partition = blockIdx.z;
    const uint32_t begin = p.offsets ? p.offsets[partition] * p.each : partition * p.tokens;
    const uint32_t end = p.offsets ? p.offsets[partition + 1] * p.each : begin + p.tokens;
    const uint32_t first = begin + blockIdx.x * rows;
    if (first >= end) return false;
    const uint32_t column = head * p.head_dim;
    const size_t kv = static_cast<size_t>(partition) * p.tokens * p.kv_stride + column;
    queries = {static_cast<const T*>(p.q) + static_cast<size_t>(first) * p.q_stride + column,
               static_cast<T*>(p.out) + static_cast<size_t>(first) * p.out_stride + column,
               p.q_stride,
               p.out_stride,
               end - first,
               p.head_dim};
    keys = {static_cast<const T*>(p.k) + kv, static_cast<const T*>(p.v) + kv, p.kv_stride, p.tokens};
    return true;
}

template <typename T, int D, int N>
__device__ void vision_fma(const VisionAttentionParams& p)
{
    Queries<T> queries;
    DenseKeys<T> keys;
    if (vision_block(p, FmaTile<T, D, N>::ROWS, queries, keys)) attend_fma<T, D, N>(queries, keys, p.scale);
}

template <int D>
__device__ void vision_mma(const VisionAttentionParams& p)
{
    if constexpr (ptx::HAS_MMA_K8) {
        Queries<Half> queries;
        DenseKeys<Half> keys;
        if (vision_block(p, MmaTile<D>::ROWS, queries, keys)) attend_mma<D>(queries, keys, p.scale);
    }
}

// PRECOND: grid of (the most queries of a partition by the tile's, heads, partitions); block of 128 threads;
// head_dim even, at most the number in the name; offsets ascending; stride of a row at least heads * head_dim.
// fma64: tile of 64 queries; fma128: of 32; mma64: of 128, mma128: of 64, for cards with mma;
// q, k, v and out multiples of 16, strides and head_dim whole vectors of 16 bytes.
// guarded: tile of 32; head_dim at most 128, any alignment.
#define VISION_FMA(name, T, D, N)                                                                          \
    extern "C" __global__ void __launch_bounds__(HIRED_ATTENTION_THREADS, (FmaTile<T, D, N>::BLOCKS))      \
        attention_vision_##name(VisionAttentionParams p)                                                   \
    {                                                                                                      \
        vision_fma<T, D, N>(p);                                                                            \
    }
VISION_FMA(fma64_f32, float, 64, LANES<float>)
VISION_FMA(fma64_f16, Half, 64, LANES<Half>)
VISION_FMA(fma128_f32, float, 128, LANES<float>)
VISION_FMA(fma128_f16, Half, 128, LANES<Half>)
VISION_FMA(guarded_f32, float, 128, 1)
VISION_FMA(guarded_f16, Half, 128, 1)

#define VISION_MMA(name, D)                                                                                \
    extern "C" __global__ void __launch_bounds__(HIRED_ATTENTION_THREADS, 2) attention_vision_##name(VisionAttentionParams p) \
    {                                                                                                      \
        vision_mma<D>(p);                                                                                  \
    }
VISION_MMA(mma64_f16, 64)
VISION_MMA(mma128_f16, 128)
