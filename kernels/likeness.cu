// Inputs of the methods that compare rows: unit rows, whose products are cosines, and the class token's attention
// computed as one head. Both in f64, so that the choices equal the CPU's except for near ties: the cosines themselves
// are products in f32. class_attention is limited by f64 and conversions, some 0.3 ms on a P40. Host side:
// src/ops/cuda/select/similarity.rs.
#include "rank.cuh"
#include "scores.cuh"

// Averages a row over its heads and divides it by its length. A row that is not finite raises a flag and becomes zeros,
// which are similar to nothing.
template <typename T>
__device__ void unit_row(const UnitRowsParams& p)
{
    const uint32_t row = p.rows != nullptr ? p.rows[blockIdx.x] : blockIdx.x;
    const T* x = static_cast<const T*>(p.x) + row * static_cast<size_t>(p.x_stride);
    float* out = p.out + blockIdx.x * static_cast<size_t>(p.width);
    double squares[1] = {};
    for (uint32_t j = threadIdx.x; j < p.width; j += blockDim.x) {
        float sum = to_float(x[j]);
        for (uint32_t head = 1; head < p.heads; head++) sum += to_float(x[head * p.width + j]);
        if (p.heads > 1) sum /= static_cast<float>(p.heads);
        out[j] = sum;
        squares[0] += static_cast<double>(sum) * sum;
    }
    block_sums(squares);
    const bool is_row = squares[0] <= 1.7976931348623157e308;
    raise(p.flags, HIRED_WRONG_ROWS, !is_row && threadIdx.x == 0);
    const double inverse = is_row && squares[0] > 0.0 ? 1.0 / sqrt(squares[0]) : 0.0;
    // Every thread scales the numbers that it has written.
    for (uint32_t j = threadIdx.x; j < p.width; j += blockDim.x)
        out[j] = is_row ? static_cast<float>(out[j] * inverse) : 0.0f;
}

// Softmax of the class token's query over all keys of its partition; a warp computes the score of a key.
template <typename T>
__device__ void class_attention(const ClassAttentionParams& p)
{
    const uint32_t partition = blockIdx.x, lane = threadIdx.x % WARP;
    const uint32_t keys = p.patch_count + 1;
    const T* q = static_cast<const T*>(p.q) + partition * static_cast<size_t>(p.q_stride);
    const T* k = static_cast<const T*>(p.k) + partition * static_cast<size_t>(keys) * p.k_stride;
    double* logits = p.logits + partition * static_cast<size_t>(keys);
    uint64_t most = 0; // as a key, whose order is that of the numbers
    for (uint32_t key = threadIdx.x / WARP; key < keys; key += blockDim.x / WARP) {
        const T* row = k + key * static_cast<size_t>(p.k_stride);
        double sum = 0.0;
        for (uint32_t j = lane; j < p.width; j += WARP) sum += static_cast<double>(to_float(q[j])) * to_float(row[j]);
#pragma unroll
        for (int step = WARP / 2; step > 0; step /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, step);
        sum *= p.scale;
        if (lane == 0) logits[key] = sum;
        const uint64_t bits = static_cast<uint64_t>(__double_as_longlong(sum));
        most = max(most, bits >> 63 != 0 ? ~bits : bits | uint64_t(1) << 63);
    }
    most = block_max_key(most);
    const double greatest = __longlong_as_double(static_cast<long long>(most >> 63 != 0 ? most & ~(uint64_t(1) << 63) : ~most));
    double total[1] = {};
    for (uint32_t key = threadIdx.x; key < keys; key += blockDim.x) total[0] += exp(logits[key] - greatest);
    block_sums(total);
    const bool is_sum = total[0] >= 1.0 && total[0] <= keys;
    raise(p.flags, HIRED_WRONG_ROWS, !is_sum && threadIdx.x == 0);
    const double inverse = is_sum ? 1.0 / total[0] : 0.0;
    float* out = p.out + partition * static_cast<size_t>(p.patch_count);
    for (uint32_t patch = threadIdx.x; patch < p.patch_count; patch += blockDim.x)
        out[patch] = is_sum ? static_cast<float>(exp(logits[1 + patch] - greatest) * inverse) : 0.0f;
}

// PRECOND of unit_rows: grid of rows; 1-D block of whole warps, at most 256 threads; the indices name rows of x, of
// heads * width numbers each.
// PRECOND of class_attention: grid of partitions; 1-D block of whole warps, at most 256 threads.
#define LIKENESS(dtype, T)                                                                         \
    extern "C" __global__ void __launch_bounds__(HIRED_SELECT_THREADS) unit_rows_##dtype(UnitRowsParams p) \
    {                                                                                              \
        unit_row<T>(p);                                                                            \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(HIRED_SELECT_THREADS) class_attention_##dtype(ClassAttentionParams p) \
    {                                                                                              \
        class_attention<T>(p);                                                                     \
    }

LIKENESS(f32, float)
LIKENESS(f16, Half)
