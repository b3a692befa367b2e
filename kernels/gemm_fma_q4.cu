// Matrix products, in fp32, with int4 weights.
#include "gemm_fma_groups.cuh"

GEMM_FMA_GROUPS(q4, Int4)
