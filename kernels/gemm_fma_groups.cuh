// Matrix products by fp32 multiply-add, see gemm_fma.cu, with weights whose codes share scales in groups. Each weight
// is the exact number of its code.
#pragma once

#include "gemm_groups.cuh"
#include "gemm_threads.cuh"

// Two blocks of the largest fp16 tile fit on a multiprocessor, except on sm_70: there ptxas needs one register more
// than that allows, and would spill it.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ == 700
#define GROUP_TILES_IN_FP16 1
#else
#define GROUP_TILES_IN_FP16 2
#endif

// PRECOND: as for GEMM_FMA; x, weights, scales, biases, outs and sums multiples of 16; inner (of each part) and the weights'
// stride multiples of the group, x's stride whole vectors. guarded: cols and strides of out any.
#define GEMM_FMA_GROUP(name, Codes, T, OUTS, ROWS, COLS, HIGH, WIDE, THREADS, BLOCKS)              \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) gemm_fma_##name(ScaledGemmParams p) \
    {                                                                                              \
        if constexpr (IS_BY_THREADS<T>) {                                                          \
            typedef FloatVector<T, false> X;                                                       \
            typedef GroupVector<Codes, LANES<T>> W;                                                \
            gemm_by_threads<X, W, T, OUTS, ROWS, COLS, HIGH, WIDE>(p, FloatSums{});                \
        } else {                                                                                   \
            __trap();                                                                              \
        }                                                                                          \
    }

// All kernels of a format.
#define GEMM_FMA_GROUPS(format, Codes)                                                             \
    GEMM_FMA_GROUP(128x128_##format##_f32, Codes, float, LANES<float>, 128, 128, 8, 8, 256, 2)     \
    GEMM_FMA_GROUP(64x64_##format##_f32, Codes, float, LANES<float>, 64, 64, 4, 8, 128, 4)         \
    GEMM_FMA_GROUP(guarded_##format##_f32, Codes, float, 1, 64, 64, 4, 8, 128, 4)                  \
    GEMM_FMA_GROUP(128x128_##format##_f16, Codes, Half, LANES<Half>, 128, 128, 8, 8, 256,          \
                   GROUP_TILES_IN_FP16)                                                            \
    GEMM_FMA_GROUP(64x64_##format##_f16, Codes, Half, LANES<Half>, 64, 64, 4, 8, 128, 4)           \
    GEMM_FMA_GROUP(guarded_##format##_f16, Codes, Half, 1, 64, 64, 4, 8, 128, 4)
