// The functions between layers, in fp32. Epilogues of matrix products use them too.
#pragma once

#include "prelude.cuh"

// x over 1 or more, to 2 units in the last place. The exact division is a call, which costs registers; this
// one gives 0 where the divisor passes 2^126, and there the quotient is nothing beside any other number.
__device__ inline float over(float x, float divisor)
{
    return __fdividef(x, divisor);
}

__device__ inline float silu(float x)
{
    return over(x, 1.0f + expf(-x));
}

// x = f(x) for f of `activation`, one of HIRED_IDENTITY … HIRED_GELU_TANH: the same for all threads, so no warp is
// divided.
template <int N>
__device__ inline void activate(uint32_t activation, float (&x)[N])
{
    switch (activation) {
    case HIRED_QUICK_GELU:
#pragma unroll
        for (int i = 0; i < N; i++) x[i] = over(x[i], 1.0f + expf(-1.702f * x[i]));
        break;
    case HIRED_GELU:
#pragma unroll
        for (int i = 0; i < N; i++) x[i] = 0.5f * x[i] * (1.0f + erff(x[i] * 0.70710678118654752f));
        break;
    case HIRED_SILU:
#pragma unroll
        for (int i = 0; i < N; i++) x[i] = silu(x[i]);
        break;
    case HIRED_GELU_TANH:
        // 1 + tanh(u) = 2 / (1 + e^-2u), u = sqrt(2 / pi) (x + 0.044715 x^3): without what cancels where tanh is near -1.
#pragma unroll
        for (int i = 0; i < N; i++) {
            const float twice = -1.59576912160573f * (x[i] + 0.044715f * x[i] * x[i] * x[i]);
            x[i] = over(x[i], 1.0f + expf(twice));
        }
        break;
    }
}
