// Scales of integer products.
#pragma once

#include "prelude.cuh"

// The parameters that launches with and without scales share.
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

// The scales of one of the weights. Without an array index: a variable index would put the parameters on the stack.
__device__ inline const void* scales_of(const FactorScales& scales, uint32_t which)
{
    return which == 0 ? scales.weights[0] : which == 1 ? scales.weights[1] : scales.weights[2];
}

// The number of a sum of products of codes. Each multiplication is rounded separately, so that every executor gets the
// same bits.
__device__ inline float scaled(int32_t sum, float of_weight, float of_row)
{
    return __fmul_rn(__fmul_rn(__int2float_rn(sum), of_weight), of_row);
}

// Converts integer sums, stored as bits, to numbers by the scales of their columns and of their row.
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
