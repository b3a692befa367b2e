// Products of 1 to 8 rows by fp32 multiply-add, with int4 weights that have zero points.
#include "gemv_groups.cuh"

GEMV_GROUPS(awq, Awq)
