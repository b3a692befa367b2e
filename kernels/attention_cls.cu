// What each patch means to the class token: its attention, softmax over all keys of the partition, head by head. The
// kernels that read scores sum them (scores.cuh).
//
// These numbers decide which patches are kept: fp32 and expf in every format.
#include "prelude.cuh"

// One head of one partition, a key a thread: weights not yet divided by their sum, and the sum.
template <typename T, int N>
__device__ void cls_weights(const ClsScoresParams& p)
{
    __shared__ __align__(16) float q[HIRED_HEAD_DIM];
    const uint32_t head = blockIdx.x, partition = blockIdx.y, column = head * p.head_dim;
    const uint32_t keys = p.patches + 1;
    const size_t row = static_cast<size_t>(partition) * p.heads + head;
    if (threadIdx.x < p.head_dim)
        q[threadIdx.x] = to_float(static_cast<const T*>(p.q)[static_cast<size_t>(partition) * p.q_stride + column + threadIdx.x]);
    __syncthreads();

    const T* k = static_cast<const T*>(p.k) + static_cast<size_t>(partition) * keys * p.k_stride + column;
    float* weights = p.weights + row * keys;
    float top = -INFINITY;
    for (uint32_t key = threadIdx.x; key < keys; key += blockDim.x) {
        const T* from = k + static_cast<size_t>(key) * p.k_stride;
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
    for (uint32_t key = threadIdx.x; key < keys; key += blockDim.x) {
        const float weight = expf(weights[key] - top);
        weights[key] = weight;
        sum += weight;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) p.sums[row] = sum;
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
