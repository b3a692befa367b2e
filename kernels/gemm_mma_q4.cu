// Matrix products of fp16 on tensor cores with int4 weights.
#include "gemm_mma_groups.cuh"

GEMM_MMA_GROUPS(q4, Int4)
