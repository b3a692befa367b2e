// Matrix products, in fp32, with int4 weights that have zero points.
#include "gemm_fma_groups.cuh"

GEMM_FMA_GROUPS(awq, Awq)
