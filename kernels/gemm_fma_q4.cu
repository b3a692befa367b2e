// Matrix products by fp32 multiply-add, with int4 weights.
#include "gemm_fma_groups.cuh"

GEMM_FMA_GROUPS(q4, Int4)
