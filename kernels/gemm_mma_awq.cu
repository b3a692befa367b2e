// Matrix products of fp16 on tensor cores with int4 weights that have zero points.
#include "gemm_mma_groups.cuh"

GEMM_MMA_GROUPS(awq, Awq)
