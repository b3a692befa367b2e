// Matrix products by fp32 multiply-add: the parity mode everywhere, and fp16 storage on cards without tensor
// cores, where fp16 arithmetic runs at 1/64 of the fp32 rate.
//
// For sm_61 ptxas makes of a step of 16 of the large tile in fp16 1161 instructions, 1024 of them FFMA, beside 64 LDS,
// 16 conversions, 16 STS and 2 LDG. 98 issue together with another, 116 wait for a bank of registers: 87% of the card's
// fp32 rate is what this can reach there.
#include "gemm_threads.cuh"

template <typename T, int ROWS, int COLS, int HIGH, int WIDE, bool GUARDED>
__device__ void gemm_fma(const GemmParams& p)
{
    typedef FloatVector<T, GUARDED> Vector;
    constexpr int WARP_COLS = 4 * WIDE;
    gemm_by_threads<Vector, Vector, T, GUARDED ? 1 : LANES<T>, ROWS, COLS, HIGH, WIDE>(
        p, [&](const Tile<ROWS, COLS>& tile, uint32_t i) { return Vector{tile.template x_row<T>(p, i), {}}; },
        [&](const Tile<ROWS, COLS>& tile, uint32_t i) { return Vector{tile.template w_row<WARP_COLS, T>(p, i), {}}; },
        FloatSums{});
}

// PRECOND: grid (tiles of rows in a group, tiles of columns of each weight (gate: of both together), groups * parts),
// tiles of ROWS by COLS; 1-D block of THREADS; rows, cols[0], inner and parts at least 1; gate: cols[1] = cols[0].
// Large: x, weights, biases, outs and sums multiples of 16; cols, inner and all strides whole vectors of 16 bytes.
// guarded: any.
#define GEMM_FMA(tile, dtype, T, ROWS, COLS, HIGH, WIDE, GUARDED, THREADS, BLOCKS)                 \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) gemm_fma_##tile##_##dtype(GemmParams p) \
    {                                                                                              \
        if constexpr (HAS_##dtype) {                                                               \
            gemm_fma<T, ROWS, COLS, HIGH, WIDE, GUARDED>(p);                                       \
        } else {                                                                                   \
            __trap();                                                                              \
        }                                                                                          \
    }

constexpr bool HAS_f32 = true;
// Cards with tensor cores take these.
constexpr bool HAS_f16 = !ptx::HAS_MMA_K8;

GEMM_FMA(128x128, f32, float, 128, 128, 8, 8, false, 256, 2)
GEMM_FMA(64x64, f32, float, 64, 64, 4, 8, false, 128, 4)
GEMM_FMA(guarded, f32, float, 64, 64, 4, 8, true, 128, 4)
GEMM_FMA(128x128, f16, Half, 128, 128, 8, 8, false, 256, 2)
GEMM_FMA(64x64, f16, Half, 64, 64, 4, 8, false, 128, 4)
GEMM_FMA(guarded, f16, Half, 64, 64, 4, 8, true, 128, 4)
