// Products of 1 to 8 rows by fp32 multiply-add, with int4 weights.
#include "gemv_groups.cuh"

GEMV_GROUPS(q4, Int4)
