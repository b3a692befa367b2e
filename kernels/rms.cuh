// The scale of an RMSNorm.
#pragma once

#include "prelude.cuh"

// The factor of a row with this sum of squares, 1 / sqrt(mean of squares + eps). In fp16 it is NaN if only a number
// that was limited to the largest fp16 can have produced the sum: a residual beyond fp16 must not lead to an answer.
// (The residual of a real model reaches some 3000 in a few of its columns.)
template <typename T>
__device__ inline float rms_scale(float square, float inverse_width, float eps)
{
    constexpr float LARGEST = 65504.0f;
    const float scale = rsqrtf(fmaf(square, inverse_width, eps));
    return sizeof(T) == 2 && square >= LARGEST * LARGEST ? NAN : scale;
}
