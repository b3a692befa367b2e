// Matrix products of int8 factors by mma.m8n8k16, for Turing's tensor cores. Newer GPUs use gemm_mma16_q8.cu. The
// integer sums are exact, as in gemm_dp4a.cu.
#include "gemm_mma.cuh"

constexpr bool HAS_ONLY_K16 = ptx::HAS_MMA_S8_K16 && !ptx::HAS_MMA_S8_K32;

template <typename Out, int OUTS, int ROWS, int COLS, typename Scaled>
__device__ void gemm(const GemmParams& p, Scaled scaled)
{
    gemm_mma_plain<int8_t, Out, OUTS, ROWS, COLS, false>(p, scaled);
}

GEMM_MMA_Q8(gemm_mma8_128x128_q8_f32, HAS_ONLY_K16, (gemm<float, LANES<float>, 128, 128>), 2)
GEMM_MMA_Q8(gemm_mma8_64x128_q8_f32, HAS_ONLY_K16, (gemm<float, LANES<float>, 64, 128>), 2)
GEMM_MMA_Q8(gemm_mma8_64x64_q8_f32, HAS_ONLY_K16, (gemm<float, LANES<float>, 64, 64>), 4)
GEMM_MMA_Q8(gemm_mma8_guarded_q8_f32, HAS_ONLY_K16, (gemm<float, 1, 64, 64>), 4)

GEMM_MMA_Q8(gemm_mma8_128x128_q8_f16, HAS_ONLY_K16, (gemm<Half, LANES<Half>, 128, 128>), 2)
GEMM_MMA_Q8(gemm_mma8_64x128_q8_f16, HAS_ONLY_K16, (gemm<Half, LANES<Half>, 64, 128>), 2)
GEMM_MMA_Q8(gemm_mma8_64x64_q8_f16, HAS_ONLY_K16, (gemm<Half, LANES<Half>, 64, 64>), 4)
GEMM_MMA_Q8(gemm_mma8_guarded_q8_f16, HAS_ONLY_K16, (gemm<Half, 1, 64, 64>), 4)
