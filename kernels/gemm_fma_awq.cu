// Matrix products by fp32 multiply-add, with int4 weights that have zero points.
#include "gemm_fma_groups.cuh"

GEMM_FMA_GROUPS(awq, Awq)
