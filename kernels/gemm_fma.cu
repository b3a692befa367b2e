// Matrix products by fp32 multiply-add: the parity mode everywhere, and fp16 storage on cards without tensor
// cores, where fp16 arithmetic runs at 1/64 of the fp32 rate.
//
// For sm_61 ptxas makes of a step of 16 of the large tile in fp16 1161 instructions, 1024 of them FFMA, beside 64 LDS,
// 16 conversions, 16 STS and 2 LDG. 98 issue together with another, 116 wait for a bank of registers: 87% of the card's
// fp32 rate is what this can reach there.
#include "gemm_threads.cuh"

// PRECOND: grid (tiles of rows in a group, tiles of columns of each weight (gate: of both together), groups * parts),
// tiles of ROWS by COLS; 1-D block of THREADS; rows, cols[0], inner and parts at least 1; gate: cols[1] = cols[0].
// Large: x, weights, biases, outs and sums multiples of 16; cols, inner and all strides whole vectors of 16 bytes.
// guarded: any.
#define GEMM_FMA(tile, dtype, T, OUTS, GUARDED, ROWS, COLS, HIGH, WIDE, THREADS, BLOCKS)           \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) gemm_fma_##tile##_##dtype(GemmParams p) \
    {                                                                                              \
        if constexpr (IS_BY_THREADS<T>) {                                                          \
            typedef FloatVector<T, GUARDED> Vector;                                                \
            gemm_by_threads<Vector, Vector, T, OUTS, ROWS, COLS, HIGH, WIDE>(p, FloatSums{});      \
        } else {                                                                                   \
            __trap();                                                                              \
        }                                                                                          \
    }

GEMM_TILES_BY_THREADS(GEMM_FMA, f32, float)
GEMM_TILES_BY_THREADS(GEMM_FMA, f16, Half)
