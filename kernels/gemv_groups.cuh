// Products of 1 to 8 rows by FMA, see gemv.cuh, with weights whose codes share scales in groups. Each weight is the
// exact number of its code.
#pragma once

#include "gemv.cuh"

// PRECOND: as for GEMV; x, norm, weights and scales multiples of 16; inner and w_stride multiples of the group, x_stride of 16
// bytes.
// BLOCKS: blocks per multiprocessor, chosen so that no variant spills: 8 to 16 warps with 2 KB of weights in flight
// each.
#define GEMV_GROUP(name, Codes, T, Out, ROWS, BLOCKS)                                              \
    extern "C" __global__ void __launch_bounds__(HIRED_GEMV_THREADS, BLOCKS) gemv_##name(ScaledGemvParams p) \
    {                                                                                              \
        gemv<Out, Sums<T, GroupReader<Codes>, ROWS>>(p);                                      \
    }
#define GEMV_GATE_GROUP(name, Codes, T, ROWS, BLOCKS)                                              \
    extern "C" __global__ void __launch_bounds__(HIRED_GEMV_THREADS, BLOCKS) gemv_gate_##name(ScaledGemvParams p) \
    {                                                                                              \
        gemv_gate<T, Sums<T, GroupReader<Codes>, ROWS>>(p);                                   \
    }

// All kernels of a format. Logits are stored as fp32, see gemv.cu.
#define GEMV_GROUPS(format, Codes)                                                                 \
    GEMV_GROUP(rows1_##format##_f32, Codes, float, float, 1, 4)                                    \
    GEMV_GROUP(rows2_##format##_f32, Codes, float, float, 2, 3)                                    \
    GEMV_GROUP(rows4_##format##_f32, Codes, float, float, 4, 3)                                    \
    GEMV_GROUP(rows8_##format##_f32, Codes, float, float, 8, 2)                                    \
    GEMV_GROUP(rows1_##format##_f16, Codes, Half, Half, 1, 4)                                      \
    GEMV_GROUP(rows2_##format##_f16, Codes, Half, Half, 2, 4)                                      \
    GEMV_GROUP(rows4_##format##_f16, Codes, Half, Half, 4, 3)                                      \
    GEMV_GROUP(rows8_##format##_f16, Codes, Half, Half, 8, 2)                                      \
    GEMV_GROUP(logits_rows1_##format##_f16, Codes, Half, float, 1, 4)                              \
    GEMV_GROUP(logits_rows2_##format##_f16, Codes, Half, float, 2, 4)                              \
    GEMV_GROUP(logits_rows4_##format##_f16, Codes, Half, float, 4, 3)                              \
    GEMV_GROUP(logits_rows8_##format##_f16, Codes, Half, float, 8, 2)                              \
    GEMV_GATE_GROUP(rows1_##format##_f32, Codes, float, 1, 4)                                      \
    GEMV_GATE_GROUP(rows2_##format##_f32, Codes, float, 2, 4)                                      \
    GEMV_GATE_GROUP(rows4_##format##_f32, Codes, float, 4, 3)                                      \
    GEMV_GATE_GROUP(rows8_##format##_f32, Codes, float, 8, 2)                                      \
    GEMV_GATE_GROUP(rows1_##format##_f16, Codes, Half, 1, 4)                                       \
    GEMV_GATE_GROUP(rows2_##format##_f16, Codes, Half, 2, 4)                                       \
    GEMV_GATE_GROUP(rows4_##format##_f16, Codes, Half, 4, 3)                                       \
    GEMV_GATE_GROUP(rows8_##format##_f16, Codes, Half, 8, 2)
