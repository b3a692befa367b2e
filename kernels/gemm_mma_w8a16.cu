// Matrix products of fp16 on tensor cores with int8 weights.
#include "gemm_mma_groups.cuh"

GEMM_MMA_GROUPS(w8a16, Int8)
