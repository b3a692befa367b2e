// The functions between layers, in fp32. Epilogues of matrix products use them too.
#pragma once

#include "prelude.cuh"

__device__ inline float silu(float x)
{
    return x / (1.0f + expf(-x));
}

// f of `activation`, one of HIRED_IDENTITY … HIRED_SILU: the same for all threads, so no warp is divided.
__device__ inline float activate(uint32_t activation, float x)
{
    switch (activation) {
    case HIRED_QUICK_GELU: return x / (1.0f + expf(-1.702f * x));
    case HIRED_GELU: return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
    case HIRED_SILU: return silu(x);
    default: return x;
    }
}
