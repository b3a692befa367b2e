// Matrix products of int8 factors by dp4a, four multiply-adds per instruction: 47 TOPS on a P40, whose fp32
// multiply-adds reach 11.8. The 32-bit integer sums are exact, so a row has the same bits with every tile and every
// kernel for such products. Host side: src/ops/cuda/matmul/gemm.rs.
#include "gemm_threads.cuh"

// 16 codes of a row: four words, each of which is one number in shared memory.
struct CodeVector {
    typedef int8_t Stored;
    typedef int32_t Number;
    static constexpr int N = 4;
    static constexpr int SPAN = 16;

    const int8_t* row;
    uint4 held;

    template <typename Tile, typename At>
    __device__ static CodeVector of(const ScaledGemmParams& params, const Tile& tile, At at)
    {
        return {plain_row<int8_t>(params.product, tile, at), {}};
    }

    __device__ void read(uint32_t k, uint32_t inner)
    {
        held = fetch<false>(row, k, inner);
    }

    __device__ void widen(int32_t (&x)[N]) const
    {
        x[0] = held.x, x[1] = held.y, x[2] = held.z, x[3] = held.w;
    }
};

// GPUs with tensor cores use gemm_mma8_q8.cu and gemm_mma16_q8.cu instead.
// PRECOND: as for GEMM_FMA; x, weights, scales, biases, outs and sums multiples of 16; inner and the strides of x and of
// the weights multiples of 16. guarded: cols and strides of out any.
#define GEMM_DP4A(tile, dtype, T, OUTS, GUARDED, ROWS, COLS, HIGH, WIDE, THREADS, BLOCKS)          \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)                                  \
        gemm_dp4a_##tile##_q8_##dtype(ScaledGemmParams p)                                          \
    {                                                                                              \
        if constexpr (!ptx::HAS_MMA_S8_K16) {                                                      \
            gemm_by_threads<CodeVector, CodeVector, T, OUTS, ROWS, COLS, HIGH, WIDE>(p, Int8Sums{p.scales}); \
        } else {                                                                                   \
            __trap();                                                                              \
        }                                                                                          \
    }

GEMM_TILES_BY_THREADS(GEMM_DP4A, f32, float)
GEMM_TILES_BY_THREADS(GEMM_DP4A, f16, Half)
