// What integers stand for.
#pragma once

#include "prelude.cuh"

// The parameters that are the same with and without scales.
template <typename Params>
__device__ inline const Params& product(const Params& p)
{
    return p;
}

__device__ inline const GemmParams& product(const ScaledGemmParams& p)
{
    return p.product;
}

__device__ inline const GemvParams& product(const ScaledGemvParams& p)
{
    return p.product;
}

// One of the weights' scales. Written out: an index that varies would put the parameters on the stack.
__device__ inline const void* scales_of(const FactorScales& scales, uint32_t which)
{
    return which == 0 ? scales.weights[0] : which == 1 ? scales.weights[1] : scales.weights[2];
}

// A sum of products of codes. Each product is rounded by itself, so that every executor gets the same bits.
__device__ inline float scaled(int32_t sum, float of_weight, float of_row)
{
    return __fmul_rn(__fmul_rn(__int2float_rn(sum), of_weight), of_row);
}

// Where the bits of sums are integers: they become numbers by the scales of their columns and of their row.
struct Int8Sums {
    const FactorScales& scales;

    template <int N>
    __device__ void operator()(uint32_t which, uint32_t row, uint32_t at, float (&x)[N]) const
    {
        float of_weight[N];
        load(static_cast<const float*>(scales_of(scales, which)) + at, of_weight);
        const float of_row = scales.rows[row];
#pragma unroll
        for (int i = 0; i < N; i++) x[i] = scaled(__float_as_int(x[i]), of_weight[i], of_row);
    }
};
