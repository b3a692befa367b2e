// Products of a few rows with int4 weights by FMA, see gemv.cuh: each weight is its code times its scale, exactly.
#include "gemv.cuh"

// PRECOND: as for GEMV; x, norm and weights multiples of 16, scales of 2; inner and w_stride multiples of the group, x_stride
// of 16 bytes.
// BLOCKS: on a multiprocessor, so that no variant spills: 8 to 16 warps with 2 KB of weights under way each.
#define GEMV_Q4(name, T, Out, ROWS, BLOCKS)                                                        \
    extern "C" __global__ void __launch_bounds__(HIRED_GEMV_THREADS, BLOCKS) gemv_##name(ScaledGemvParams p) \
    {                                                                                              \
        gemv<T, Out, Int4Reader, ROWS>(p);                                                         \
    }
#define GEMV_GATE_Q4(name, T, ROWS, BLOCKS)                                                        \
    extern "C" __global__ void __launch_bounds__(HIRED_GEMV_THREADS, BLOCKS) gemv_gate_##name(ScaledGemvParams p) \
    {                                                                                              \
        gemv_gate<T, Int4Reader, ROWS>(p);                                                         \
    }

GEMV_Q4(rows1_q4_f32, float, float, 1, 4)
GEMV_Q4(rows2_q4_f32, float, float, 2, 3)
GEMV_Q4(rows4_q4_f32, float, float, 4, 3)
GEMV_Q4(rows8_q4_f32, float, float, 8, 2)

GEMV_Q4(rows1_q4_f16, Half, Half, 1, 4)
GEMV_Q4(rows2_q4_f16, Half, Half, 2, 4)
GEMV_Q4(rows4_q4_f16, Half, Half, 4, 3)
GEMV_Q4(rows8_q4_f16, Half, Half, 8, 2)

// Logits leave as fp32, see gemv.cu.
GEMV_Q4(logits_rows1_q4_f16, Half, float, 1, 4)
GEMV_Q4(logits_rows2_q4_f16, Half, float, 2, 4)
GEMV_Q4(logits_rows4_q4_f16, Half, float, 4, 3)
GEMV_Q4(logits_rows8_q4_f16, Half, float, 8, 2)

GEMV_GATE_Q4(rows1_q4_f32, float, 1, 4)
GEMV_GATE_Q4(rows2_q4_f32, float, 2, 4)
GEMV_GATE_Q4(rows4_q4_f32, float, 4, 3)
GEMV_GATE_Q4(rows8_q4_f32, float, 8, 2)

GEMV_GATE_Q4(rows1_q4_f16, Half, 1, 4)
GEMV_GATE_Q4(rows2_q4_f16, Half, 2, 4)
GEMV_GATE_Q4(rows4_q4_f16, Half, 4, 3)
GEMV_GATE_Q4(rows8_q4_f16, Half, 8, 2)
