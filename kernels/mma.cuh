// Products on tensor cores, by the instructions that the architecture has.
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

// d += a * b of int8 with exact sums, 32 columns of a and rows of b: one mma.m16n8k32, or four mma.m8n8k16 of half the
// rows and columns each.
__device__ inline void multiply(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
    if constexpr (ptx::HAS_MMA_S8_K32) {
        ptx::mma_m16n8k32(d, a, b);
    } else {
        int32_t upper[2] = {d[0], d[1]}, lower[2] = {d[2], d[3]};
        ptx::mma_m8n8k16(upper, a[0], b[0]);
        ptx::mma_m8n8k16(lower, a[1], b[0]);
        ptx::mma_m8n8k16(upper, a[2], b[1]);
        ptx::mma_m8n8k16(lower, a[3], b[1]);
        d[0] = upper[0], d[1] = upper[1], d[2] = lower[0], d[3] = lower[1];
    }
}
