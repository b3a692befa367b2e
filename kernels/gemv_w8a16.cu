// Products of 1 to 8 rows by fp32 multiply-add, with int8 weights.
#include "gemv_groups.cuh"

GEMV_GROUPS(w8a16, Int8)
