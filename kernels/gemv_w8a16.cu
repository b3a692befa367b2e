// Products of a few rows, in floating point, with int8 weights.
#include "gemv_groups.cuh"

GEMV_GROUPS(w8a16, Int8)
