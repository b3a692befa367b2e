// Attention of a partition's class token (or of another query that represents the partition) to its patches: for each
// head, exp(scale * q . k - max) over all keys of the partition, and the sum of that. The kernels that read scores
// divide and reduce the heads (scores.cuh). Launched by AttentionOps::cls_scores with a block for each head of each
// partition; limited by reading the keys once.
#include "query.cuh"

// One head of one partition.
template <typename T, int N>
__device__ void cls_weights(const ClsScoresParams& p)
{
    const uint32_t head = blockIdx.x, partition = blockIdx.y, column = head * p.head_dim;
    const uint32_t keys = p.keys, prefix = keys - p.patches;
    const size_t row = static_cast<size_t>(partition) * p.heads + head;
    const T* k = static_cast<const T*>(p.k) + static_cast<size_t>(partition) * keys * p.k_stride + column;
    const auto key = [&](uint32_t i) { return k + static_cast<size_t>(i) * p.k_stride; };
    query_weights<N>(static_cast<const T*>(p.q) + static_cast<size_t>(partition) * p.q_stride + column, p.head_dim, keys,
        p.scale, key, p.weights + row * (p.patches + 1) + 1 - prefix, p.sums + row);
}

// PRECOND: grid of (heads, partitions); 1-D block of at least 128 threads, whole warps, at most 256; head_dim even,
// at most 128. vector: k a multiple of 16, k_stride and head_dim whole vectors. guarded: any.
#define CLS(name, T, N)                                                                                    \
    extern "C" __global__ void __launch_bounds__(HIRED_ROW_THREADS) attention_cls_##name(ClsScoresParams p) \
    {                                                                                                      \
        cls_weights<T, N>(p);                                                                              \
    }
CLS(vector_f32, float, LANES<float>)
CLS(vector_f16, Half, LANES<Half>)
CLS(guarded_f32, float, 1)
CLS(guarded_f16, Half, 1)
