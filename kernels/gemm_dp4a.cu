// Matrix products of int8 factors by dp4a, four products and sums an instruction: 47 TOPS on a P40, whose fp32
// multiply-adds make 11.8. The sums are 32-bit integers and exact: a row has the same bits by every tile and by every
// other kernel of such products.
#include "gemm_threads.cuh"
#include "scales.cuh"

// 16 codes of a row: four words, each of which is a number of shared memory.
struct CodeVector {
    typedef int32_t Number;
    static constexpr int N = 4;
    static constexpr int SPAN = 16;

    const int8_t* row;
    uint4 held;

    __device__ void read(uint32_t k, uint32_t inner)
    {
        held = fetch<false>(row, k, inner);
    }

    __device__ void widen(int32_t (&x)[N]) const
    {
        x[0] = held.x, x[1] = held.y, x[2] = held.z, x[3] = held.w;
    }
};

template <typename T, int OUTS, int ROWS, int COLS, int HIGH, int WIDE>
__device__ void gemm_dp4a(const ScaledGemmParams& params)
{
    const GemmParams& p = params.product;
    constexpr int WARP_COLS = 4 * WIDE;
    gemm_by_threads<CodeVector, CodeVector, T, OUTS, ROWS, COLS, HIGH, WIDE>(
        p, [&](const Tile<ROWS, COLS>& tile, uint32_t i) { return CodeVector{tile.template x_row<int8_t>(p, i), {}}; },
        [&](const Tile<ROWS, COLS>& tile, uint32_t i) {
            return CodeVector{tile.template w_row<WARP_COLS, int8_t>(p, i), {}};
        },
        Int8Sums{params.scales});
}

// PRECOND: as for GEMM_FMA; x, weights, scales, biases, outs and sums multiples of 16; inner and the strides of x and of
// the weights multiples of 16. guarded: cols and strides of out any.
#define GEMM_DP4A(tile, dtype, T, OUTS, ROWS, COLS, HIGH, WIDE, THREADS, BLOCKS)                   \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)                                  \
        gemm_dp4a_##tile##_q8_##dtype(ScaledGemmParams p)                                          \
    {                                                                                              \
        gemm_dp4a<T, OUTS, ROWS, COLS, HIGH, WIDE>(p);                                             \
    }

GEMM_DP4A(128x128, f32, float, LANES<float>, 128, 128, 8, 8, 256, 2)
GEMM_DP4A(64x64, f32, float, LANES<float>, 64, 64, 4, 8, 128, 4)
GEMM_DP4A(guarded, f32, float, 1, 64, 64, 4, 8, 128, 4)
GEMM_DP4A(128x128, f16, Half, LANES<Half>, 128, 128, 8, 8, 256, 2)
GEMM_DP4A(64x64, f16, Half, LANES<Half>, 64, 64, 4, 8, 128, 4)
GEMM_DP4A(guarded, f16, Half, 1, 64, 64, 4, 8, 128, 4)
