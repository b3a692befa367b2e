// The factor of an RMSNorm.
#pragma once

#include "prelude.cuh"

// What a row is multiplied with whose numbers have these squares in all. NaN where only a number that was cut to fp16's
// largest can have made the sum: a residual that leaves fp16 must not end in an answer. (The residual of a real model
// reaches some 3000 in a few of its columns.)
template <typename T>
__device__ inline float rms_scale(float square, float inverse_width, float eps)
{
    constexpr float LARGEST = 65504.0f;
    const float scale = rsqrtf(fmaf(square, inverse_width, eps));
    return sizeof(T) == 2 && square >= LARGEST * LARGEST ? NAN : scale;
}
