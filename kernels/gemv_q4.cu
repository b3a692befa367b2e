// Products of a few rows with int4 weights.
#include "gemv_groups.cuh"

GEMV_GROUPS(q4, Int4)
