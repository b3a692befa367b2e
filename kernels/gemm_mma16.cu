// Matrix products by mma.m16n8k16, with tiles loaded by cp.async: Ampere and newer.
#include "gemm_mma.cuh"

// Three stages of the large tile are 48 KB, which a block may use without an attribute; two blocks fit on every GPU.
GEMM_MMA(gemm_mma16_128x128_f16, ptx::HAS_MMA_K16, (gemm_mma_async<Half, Half, 128, 128, 3>), 2)
GEMM_MMA(gemm_mma16_64x128_f16, ptx::HAS_MMA_K16, (gemm_mma_async<Half, Half, 64, 128, 3>), 3)
GEMM_MMA(gemm_mma16_64x64_f16, ptx::HAS_MMA_K16, (gemm_mma_async<Half, Half, 64, 64, 4>), 4)
GEMM_MMA(gemm_mma16_guarded_f16, ptx::HAS_MMA_K16, (gemm_mma_plain<Half, Half, 1, 64, 64, true>), 4)
