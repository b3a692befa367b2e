// Products of a few rows with int4 weights that have zero points.
#include "gemv_groups.cuh"

GEMV_GROUPS(awq, Awq)
