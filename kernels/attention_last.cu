// Attention of a prompt's last row in one layer, for FastV: for each head, exp(scale * q . k - max) over all keys, and
// the sum of that; retain.cu divides and adds the heads. Launched by FastvOps::retain with a block for each head;
// limited by reading the keys once.
#include "attention.cuh"
#include "query.cuh"

// One head.
template <typename T, int N>
__device__ void last_row(const LastRowParams& p)
{
    const uint32_t head = blockIdx.x;
    const PagedKeys<T> keys(p.cache, p.pages, p.kv_heads, head / (p.heads / p.kv_heads), p.head_dim, 0);
    const auto key = [&](uint32_t i) { return keys.keys + keys.offset(i); };
    query_weights<N>(static_cast<const T*>(p.q) + head * p.head_dim, p.head_dim, p.keys, p.scale, key,
        p.weights + static_cast<size_t>(head) * p.keys, p.sums + head);
}

// PRECOND: grid of heads; 1-D block of at least 128 threads, whole warps, at most 256; head_dim even, at most 128;
// pages hold all keys. vector: cache a multiple of 16, head_dim whole vectors. guarded: any.
#define LAST(name, T, N)                                                                                   \
    extern "C" __global__ void __launch_bounds__(HIRED_ROW_THREADS) attention_last_##name(LastRowParams p) \
    {                                                                                                      \
        last_row<T, N>(p);                                                                                 \
    }
LAST(vector_f32, float, LANES<float>)
LAST(vector_f16, Half, LANES<Half>)
LAST(guarded_f32, float, 1)
LAST(guarded_f16, Half, 1)
