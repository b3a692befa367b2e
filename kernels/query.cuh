// Softmax weights of one query over many keys, for the scores that selections rank by. fp32 and expf in every format.
#pragma once

#include "prelude.cuh"

// Computes the weights of one head's query, exp(scale * q . k - max), a key per thread, and (by thread 0) their sum;
// the weights are not divided by it. key(i): address of key i.
// PRECOND: 1-D block of whole warps, at least as many threads as `width`; width at most HIRED_HEAD_DIM and whole vectors
// of N; keys aligned for them.
template <int N, typename T, typename Key>
__device__ inline void query_weights(const T* query, uint32_t width, uint32_t keys, float scale, Key key, float* weights,
    float* sum_out)
{
    __shared__ __align__(16) float q[HIRED_HEAD_DIM];
    if (threadIdx.x < width) q[threadIdx.x] = to_float(query[threadIdx.x]);
    __syncthreads();

    float top = -INFINITY;
    for (uint32_t i = threadIdx.x; i < keys; i += blockDim.x) {
        const T* from = key(i);
        float score = 0.0f;
#pragma unroll 4
        for (uint32_t d = 0; d < width; d += N) {
            float x[N];
            load(from + d, x);
#pragma unroll
            for (int lane = 0; lane < N; lane++) score += x[lane] * q[d + lane];
        }
        score *= scale;
        weights[i] = score;
        top = fmaxf(top, score);
    }
    top = block_max(top);
    float sum = 0.0f;
    for (uint32_t i = threadIdx.x; i < keys; i += blockDim.x) {
        const float weight = expf(weights[i] - top);
        weights[i] = weight;
        sum += weight;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) *sum_out = sum;
}
