// Quantization of rows of activations to int8: codes rne(y · (127 / a)) and the scale a / 127, where a is the largest |y|
// of the row. (docs/quantization.md has the rule.)
//
// A row of zeros has scale 0. A row that is not finite has scale NaN, which makes all its products NaN, so that the
// fault is found where it would be found without integers.
#pragma once

#include "abi_codes.h"
#include "prelude.cuh"

// Codes per memory access.
constexpr int LANE_CODES = 8;

// The code of a number; arbitrary for one that is not finite.
__device__ inline uint32_t code(float y, float factor)
{
    // Clamped first, since numbers outside of the range and NaN have no integer.
    return static_cast<uint32_t>(__float2int_rn(fminf(fmaxf(__fmul_rn(y, factor), -127.0f), 127.0f))) & 0xFF;
}

__device__ inline uint2 codes_of(const float (&x)[LANE_CODES], float factor)
{
    uint32_t words[2] = {};
#pragma unroll
    for (int i = 0; i < LANE_CODES; i++) words[i / 4] |= code(x[i], factor) << i % 4 * 8;
    return make_uint2(words[0], words[1]);
}

template <int N>
__device__ inline float largest(float so_far, const float (&x)[N])
{
    // fmaxf ignores NaN, so NaN is looked for separately.
#pragma unroll
    for (int i = 0; i < N; i++) so_far = fabsf(x[i]) < INFINITY ? fmaxf(so_far, fabsf(x[i])) : INFINITY;
    return so_far;
}

// Factor from the numbers of a row to its codes; `most` is the largest magnitude.
__device__ inline float code_factor(float most)
{
    return most > 0.0f ? __fdiv_rn(127.0f, most) : 0.0f;
}

// Scale of a row: its products are multiplied by it.
__device__ inline float code_scale(float most)
{
    return most < INFINITY ? __fdiv_rn(most, 127.0f) : NAN;
}

// Loads eight numbers that other blocks of this launch have written, from L2: the L1 cache may hold stale data.
__device__ inline void load_written(const Half* from, float (&to)[LANE_CODES])
{
    const uint4 x = __ldcg(reinterpret_cast<const uint4*>(from));
    const uint32_t words[4] = {x.x, x.y, x.z, x.w};
    unpack(words, to, Half{});
}

__device__ inline void load_written(const float* from, float (&to)[LANE_CODES])
{
#pragma unroll
    for (int i = 0; i < LANE_CODES; i += 4) {
        const float4 x = __ldcg(reinterpret_cast<const float4*>(from + i));
        to[i] = x.x, to[i + 1] = x.y, to[i + 2] = x.z, to[i + 3] = x.w;
    }
}

// Quantizes a row that other blocks of this launch have written; reads it twice, from L2.
// PRECOND: all threads of a 1-D block of whole warps; row and codes multiples of 16, cols of 16.
template <typename T>
__device__ void round_written_row(const T* row, uint32_t cols, int8_t* codes, float* scale)
{
    const uint32_t step = blockDim.x * LANE_CODES;
    float so_far = 0.0f;
#pragma unroll 4
    for (uint32_t i = threadIdx.x * LANE_CODES; i < cols; i += step) {
        float x[LANE_CODES];
        load_written(row + i, x);
        so_far = largest(so_far, x);
    }
    const float most = block_max(so_far);
    const float factor = code_factor(most);
#pragma unroll 4
    for (uint32_t i = threadIdx.x * LANE_CODES; i < cols; i += step) {
        float x[LANE_CODES];
        load_written(row + i, x);
        *reinterpret_cast<uint2*>(codes + i) = codes_of(x, factor);
    }
    if (threadIdx.x == 0) *scale = code_scale(most);
}

// Returns whether this block is the last of `blocks` to call it, and then resets the counter to 0. The last block sees
// everything that the others wrote before their call. All threads of a block must call it together.
__device__ inline bool is_last_block(uint32_t* done, uint32_t blocks)
{
    __shared__ bool is_last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) is_last = atomicInc(done, blocks - 1) == blocks - 1;
    __syncthreads();
    const bool last = is_last;
    if (last) __threadfence();
    return last;
}
