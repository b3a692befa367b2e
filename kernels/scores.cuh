// Scores of patches from the heads of attention, for every kernel that reads scores.
#pragma once

#include "prelude.cuh"

constexpr float LARGEST_FLOAT = 3.402823466e38f;

__device__ inline bool is_attention(float score)
{
    return score >= 0.0f && score <= LARGEST_FLOAT;
}

// Raises a flag of the launch if any thread has `asked`.
__device__ inline void raise(uint32_t* flags, uint32_t flag, bool asked)
{
    if (asked) atomicOr(flags, flag);
}

// A patch's score from its heads' attention, which `of` returns; reduced in the order of the heads. Never -0, for sums
// and maxima start with 0. A maximum keeps a NaN, so that it is detected.
template <typename Of>
__device__ inline float join_heads(uint32_t how, uint32_t heads, Of of)
{
    if (how >= HIRED_ONE_HEAD) return of(how - HIRED_ONE_HEAD) + 0.0f;
    float total = 0.0f;
    for (uint32_t head = 0; head < heads; head++) {
        const float x = of(head);
        if (how == HIRED_MAX_HEADS)
            total = x > total || x != x ? x : total;
        else
            total += x;
    }
    return how == HIRED_MEAN_HEADS ? __fdividef(total, static_cast<float>(heads)) : total;
}

// Computes a partition's scores: divides each head's weights by their sum and reduces the heads. Where a patch is a
// cell of several of the vision tower's patches, their scores are added, line by line. The class token's own weight is
// left out. Returns the row of scores.out that the block has written; all its threads may read it.
// PRECOND: 1-D block, all of whose threads call it; no other block computes this partition.
__device__ inline const float* score(const SelectScores& scores, uint32_t partition, uint32_t patches)
{
    const uint32_t cell = scores.cell, line = scores.side * cell;
    const uint32_t keys = patches * cell * cell + 1;
    const size_t row = static_cast<size_t>(partition) * scores.heads;
    const float* weights = scores.weights + row * keys + 1;
    float* out = scores.out + static_cast<size_t>(partition) * patches;
    if (scores.heads == 0) return out;
    for (uint32_t patch = threadIdx.x; patch < patches; patch += blockDim.x) {
        const uint32_t first = patch / scores.side * cell * line + patch % scores.side * cell;
        float total = 0.0f;
        for (uint32_t i = 0; i < cell * cell; i++) {
            const uint32_t at = first + i / cell * line + i % cell;
            total += join_heads(scores.how, scores.heads, [&](uint32_t head) {
                return __fdividef(weights[static_cast<size_t>(head) * keys + at], scores.sums[row + head]);
            });
        }
        out[patch] = total;
    }
    __syncthreads();
    return out;
}
