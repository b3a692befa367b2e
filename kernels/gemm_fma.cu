// Matrix products by fp32 multiply-add: in f32 on every GPU, and in fp16 on GPUs without tensor cores, where fp16
// arithmetic runs at 1/64 of the fp32 rate. gemm.cuh has the formula; host side: src/ops/cuda/matmul/gemm.rs.
//
// For sm_61 ptxas compiles a step of 16 of the large fp16 tile to 1161 instructions: 1024 FFMA, 64 LDS, 16 conversions,
// 16 STS, 2 LDG and some more. 98 of them issue together with another, and 116 wait for a register bank, so the kernel
// can reach 87% of the GPU's fp32 rate.
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
