// What the last row of a prompt attends to in one layer, head by head; retain.cu sums the heads.
//
// These numbers decide which rows go on: fp32 and expf in every format.
#include "attention.cuh"

// One head, a key a thread: weights not yet divided by their sum, and the sum.
template <typename T, int N>
__device__ void last_row(const LastRowParams& p)
{
    __shared__ __align__(16) float q[HIRED_HEAD_DIM];
    const uint32_t head = blockIdx.x;
    if (threadIdx.x < p.head_dim) q[threadIdx.x] = to_float(static_cast<const T*>(p.q)[head * p.head_dim + threadIdx.x]);
    __syncthreads();

    const PagedKeys<T> keys(p.cache, p.pages, p.kv_heads, head / (p.heads / p.kv_heads), p.head_dim, 0);
    float* weights = p.weights + static_cast<size_t>(head) * p.keys;
    float top = -INFINITY;
    for (uint32_t key = threadIdx.x; key < p.keys; key += blockDim.x) {
        const T* from = keys.keys + keys.offset(key);
        float score = 0.0f;
#pragma unroll 4
        for (uint32_t d = 0; d < p.head_dim; d += N) {
            float x[N];
            load(from + d, x);
#pragma unroll
            for (int i = 0; i < N; i++) score += x[i] * q[d + i];
        }
        score *= p.scale;
        weights[key] = score;
        top = fmaxf(top, score);
    }
    top = block_max(top);
    float sum = 0.0f;
    for (uint32_t key = threadIdx.x; key < p.keys; key += blockDim.x) {
        const float weight = expf(weights[key] - top);
        weights[key] = weight;
        sum += weight;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) p.sums[head] = sum;
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
