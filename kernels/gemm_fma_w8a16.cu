// Matrix products, in fp32, with int8 weights.
#include "gemm_fma_groups.cuh"

GEMM_FMA_GROUPS(w8a16, Int8)
