// Matrix products by mma.m16n8k8, for Turing's tensor cores. Newer GPUs use gemm_mma16.cu.
#include "gemm_mma.cuh"

constexpr bool HAS_ONLY_K8 = ptx::HAS_MMA_K8 && !ptx::HAS_MMA_K16;

GEMM_MMA(gemm_mma8_128x128_f16, HAS_ONLY_K8, (gemm_mma_plain<Half, Half, LANES<Half>, 128, 128, false>), 2)
GEMM_MMA(gemm_mma8_64x128_f16, HAS_ONLY_K8, (gemm_mma_plain<Half, Half, LANES<Half>, 64, 128, false>), 2)
GEMM_MMA(gemm_mma8_64x64_f16, HAS_ONLY_K8, (gemm_mma_plain<Half, Half, LANES<Half>, 64, 64, false>), 4)
GEMM_MMA(gemm_mma8_guarded_f16, HAS_ONLY_K8, (gemm_mma_plain<Half, Half, 1, 64, 64, true>), 4)
