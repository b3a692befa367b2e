// Scores from the heads of CLS attention: what every kernel that reads scores begins with.
#pragma once

#include "prelude.cuh"

// A partition's scores: its heads, each divided by the sum of its weights, added in their order. The class token's own
// weight is left out. Never -0, for the sum begins with 0. Returns the row of scores.out that the block has written and
// all its threads may read.
// PRECOND: 1-D block, all of whose threads arrive; no other block sums this partition.
__device__ inline const float* sum_heads(const SelectScores& scores, uint32_t partition, uint32_t patches)
{
    const uint32_t keys = patches + 1;
    const size_t row = static_cast<size_t>(partition) * scores.heads;
    const float* weights = scores.weights + row * keys + 1;
    float* out = scores.out + static_cast<size_t>(partition) * patches;
    for (uint32_t patch = threadIdx.x; patch < patches; patch += blockDim.x) {
        float total = 0.0f;
        for (uint32_t head = 0; head < scores.heads; head++)
            total += __fdividef(weights[static_cast<size_t>(head) * keys + patch], scores.sums[row + head]);
        out[patch] = total;
    }
    __syncthreads();
    return out;
}
