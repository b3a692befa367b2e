// Matrix products of int8 factors by mma.m16n8k32, with tiles loaded by cp.async: Ampere and newer. The integer sums
// are exact, as in gemm_dp4a.cu.
#include "gemm_mma.cuh"

GEMM_MMA_Q8(gemm_mma16_128x128_q8_f32, ptx::HAS_MMA_S8_K32, (gemm_mma_async<int8_t, float, 128, 128, 3>), 2)
GEMM_MMA_Q8(gemm_mma16_64x128_q8_f32, ptx::HAS_MMA_S8_K32, (gemm_mma_async<int8_t, float, 64, 128, 3>), 3)
GEMM_MMA_Q8(gemm_mma16_64x64_q8_f32, ptx::HAS_MMA_S8_K32, (gemm_mma_async<int8_t, float, 64, 64, 4>), 4)
GEMM_MMA_Q8(gemm_mma16_guarded_q8_f32, ptx::HAS_MMA_S8_K32, (gemm_mma_plain<int8_t, float, 1, 64, 64, false>), 4)

GEMM_MMA_Q8(gemm_mma16_128x128_q8_f16, ptx::HAS_MMA_S8_K32, (gemm_mma_async<int8_t, Half, 128, 128, 3>), 2)
GEMM_MMA_Q8(gemm_mma16_64x128_q8_f16, ptx::HAS_MMA_S8_K32, (gemm_mma_async<int8_t, Half, 64, 128, 3>), 3)
GEMM_MMA_Q8(gemm_mma16_64x64_q8_f16, ptx::HAS_MMA_S8_K32, (gemm_mma_async<int8_t, Half, 64, 64, 4>), 4)
GEMM_MMA_Q8(gemm_mma16_guarded_q8_f16, ptx::HAS_MMA_S8_K32, (gemm_mma_plain<int8_t, Half, 1, 64, 64, false>), 4)
