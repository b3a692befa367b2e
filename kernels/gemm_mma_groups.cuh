// Matrix products of fp16 on tensor cores, from Turing on, with weights whose codes share scales in groups. The weights
// are converted to fp16, each rounded once.
#pragma once

#include "gemm_groups.cuh"
#include "gemm_mma.cuh"

// PRECOND: as for GEMM_FMA_GROUP; 1-D block of 128.
#define GEMM_MMA_GROUP(name, Codes, OUTS, ROWS, COLS, BLOCKS)                                      \
    extern "C" __global__ void __launch_bounds__(MMA_THREADS, BLOCKS) gemm_mma_##name(ScaledGemmParams p) \
    {                                                                                              \
        if constexpr (ptx::HAS_MMA_K8) {                                                           \
            typedef PlainVector<Half, false> X;                                                    \
            gemm_mma_staged<X, GroupVector<Codes, 8>, Half, OUTS, ROWS, COLS>(p, FloatSums{});     \
        } else {                                                                                   \
            __trap();                                                                              \
        }                                                                                          \
    }

// All kernels of a format.
#define GEMM_MMA_GROUPS(format, Codes)                                                             \
    GEMM_MMA_GROUP(128x128_##format##_f16, Codes, LANES<Half>, 128, 128, 2)                        \
    GEMM_MMA_GROUP(64x128_##format##_f16, Codes, LANES<Half>, 64, 128, 2)                          \
    GEMM_MMA_GROUP(64x64_##format##_f16, Codes, LANES<Half>, 64, 64, 4)                            \
    GEMM_MMA_GROUP(guarded_##format##_f16, Codes, 1, 64, 64, 4)
