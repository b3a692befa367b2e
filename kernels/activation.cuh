// The activation functions, in fp32, for activation.cu and the epilogues of matrix products.
#pragma once

#include "prelude.cuh"

// x / divisor for divisors of at least 1, to 2 units in the last place. An exact division is a function call, which
// costs registers. This one gives 0 for divisors beyond 2^126, where the quotient is negligible.
__device__ inline float over(float x, float divisor)
{
    return __fdividef(x, divisor);
}

__device__ inline float silu(float x)
{
    return over(x, 1.0f + expf(-x));
}

// x = f(x) for f of `activation`, one of HIRED_IDENTITY … HIRED_GELU_TANH. It is the same for all threads, so no warp
// diverges.
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
        // 1 + tanh(u) = 2 / (1 + e^-2u), u = sqrt(2 / pi) (x + 0.044715 x^3): avoids the cancellation where tanh is
        // near -1.
#pragma unroll
        for (int i = 0; i < N; i++) {
            const float twice = -1.59576912160573f * (x[i] + 0.044715f * x[i] * x[i] * x[i]);
            x[i] = over(x[i], 1.0f + expf(twice));
        }
        break;
    }
}
