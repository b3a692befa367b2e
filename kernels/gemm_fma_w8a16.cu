// Matrix products by fp32 multiply-add, with int8 weights.
#include "gemm_fma_groups.cuh"

GEMM_FMA_GROUPS(w8a16, Int8)
