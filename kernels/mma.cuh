// Products on tensor cores, by what the architecture has.
#pragma once

#include "ptx.cuh"

// d += a * b, 16 columns of a and rows of b: one mma.m16n8k16, or two mma.m16n8k8 of half the columns each.
__device__ inline void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
    if constexpr (ptx::HAS_MMA_K16) {
        ptx::mma_m16n8k16(d, a, b);
    } else {
        const uint32_t low[2] = {a[0], a[1]}, high[2] = {a[2], a[3]};
        ptx::mma_m16n8k8(d, low, b[0]);
        ptx::mma_m16n8k8(d, high, b[1]);
    }
}
