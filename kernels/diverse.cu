// Greedy selection by the cosines of all pairs of patches: patches unlike each other (DivPrune), or patches that
// represent many others (SCOPE). Each pick depends on the one before, so latency is the limit: a block keeps what it
// knows of each patch in shared memory. Ties go to the lower patch, as on the CPU. Host side:
// src/ops/cuda/select/similarity.rs.
#include "rank.cuh"
#include "scores.cuh"

// Marks a kept row in `nearest`.
constexpr float KEPT = __builtin_inff();

// For each row the largest cosine with another row.
// PRECOND: grid of count; 1-D block of whole warps, at most 256 threads.
extern "C" __global__ void __launch_bounds__(HIRED_SELECT_THREADS) spread_nearest(SpreadParams p)
{
    const float* cosines = p.cosines + blockIdx.x * static_cast<size_t>(p.count);
    float most = -1.0f;
    for (uint32_t i = threadIdx.x; i < p.count; i += blockDim.x) most = i != blockIdx.x ? fmaxf(most, cosines[i]) : most;
    const uint32_t key = static_cast<uint32_t>(block_max_key(key_of(most)));
    if (threadIdx.x == 0) p.nearest[blockIdx.x] = __uint_as_float(key & 0x80000000u ? key & 0x7FFFFFFFu : ~key);
}

// Keeps first the row farthest from its nearest neighbour, then repeatedly the row farthest from all kept ones.
//
// The lower bound: the symmetric matrix of cosines takes count^2 * width FLOP, 34 GFLOP or 2.9 ms on a P40 for 2880
// patches of 4096 numbers; the product computes both halves, twice that. Without the matrix every pick would read all
// rows again, 47 MB: 576 picks would take 78 ms at the P40's 346 GB/s. A pick itself reads 11.5 KB and needs two
// barriers, some 3 us.
//
// PRECOND: grid of 1; 1-D block of whole warps, at most 1024 threads; 4 * count bytes of dynamic shared memory; no cosine
// is infinite; picks <= count.
extern "C" __global__ void __launch_bounds__(HIRED_GREEDY_THREADS) spread_pick(SpreadParams p)
{
    // Each thread reads and writes only its own entries, a block's size apart.
    DYN_SHARED(float, nearest); // [count]
    for (uint32_t i = threadIdx.x; i < p.count; i += blockDim.x) {
        nearest[i] = p.nearest[i];
        p.marks[i] = 0;
    }
    for (uint32_t n = 0; n < p.picks; n++) {
        uint64_t best = 0;
        for (uint32_t i = threadIdx.x; i < p.count; i += blockDim.x) {
            if (nearest[i] == KEPT) continue;
            const uint64_t farness = key_of(0.0f - nearest[i]);
            best = max(best, farness << 32 | (0xFFFFFFFFu - i));
        }
        const uint32_t pick = 0xFFFFFFFFu - static_cast<uint32_t>(block_max_key(best));
        const float* cosines = p.cosines + pick * static_cast<size_t>(p.count);
        for (uint32_t i = threadIdx.x; i < p.count; i += blockDim.x) {
            if (nearest[i] == KEPT) continue;
            nearest[i] = i == pick ? KEPT : fmaxf(n == 0 ? -1.0f : nearest[i], cosines[i]);
            if (i == pick) p.marks[i] = 1;
        }
    }
}

// x^exponent for x >= 0, as e^(exponent ln x), because pow needs a stack; exponent 1 is exact.
__device__ inline double power(double x, double exponent)
{
    if (exponent == 1.0) return x;
    if (x > 0.0) return exp(exponent * log(x));
    return exponent == 0.0 ? 1.0 : 0.0;
}

// Repeatedly keeps the row with the largest saliency * sum of max(0, cosine - covered), with sums in f64. A pick reads
// the partition's cosines once, 1.3 MB for 576 patches. f64 is the limit: a conversion and an addition for each cosine,
// of which a multiprocessor of a P40 does 4 per clock. That is at least 55 us per pick, and 12-20 us where f64 has half
// the rate of f32.
//
// PRECOND: grid of partitions; 1-D block of whole warps, at most 1024 threads; 4 * the most valid patches of a partition
// bytes of dynamic shared memory; picks <= count of each.
extern "C" __global__ void __launch_bounds__(HIRED_GREEDY_THREADS, 1) cover_pick(CoverParams p)
{
    DYN_SHARED(float, covered); // [count]
    const uint32_t partition = blockIdx.x, lane = threadIdx.x % WARP;
    const SelectPart part = p.parts[partition];
    const uint32_t first_row = partition * (p.prefix + p.patch_count) + p.prefix;
    const float* scores = score(p.scores, partition, p.patch_count);
    bool wrong = false;
    for (uint32_t t = threadIdx.x; t < p.patch_count; t += blockDim.x) wrong |= !is_attention(scores[t]);
    raise(p.flags, HIRED_WRONG_FINAL, wrong);
    // A negative value marks a kept row.
    double* saliency = p.saliency + part.first;
    uint32_t* marks = p.marks + part.first;
    for (uint32_t i = threadIdx.x; i < part.count; i += blockDim.x) {
        const float x = scores[p.valid[part.first + i] - first_row];
        saliency[i] = power(is_attention(x) ? x : 0.0, p.exponent);
        covered[i] = 0.0f;
        marks[i] = 0;
    }
    __syncthreads();
    const float* cosines = p.cosines + part.cosines;
    for (uint32_t n = 0; n < p.picks[partition]; n++) {
        // The warp's best. A gain is at least 0, so its bits as an integer have the same order.
        uint64_t best = 0;
        uint32_t at = HIRED_DROPPED;
        for (uint32_t j = threadIdx.x / WARP; j < part.count; j += blockDim.x / WARP) {
            const double weight = saliency[j];
            if (weight < 0.0) continue;
            const float* like = cosines + j * static_cast<size_t>(part.count);
            double sum = 0.0;
            for (uint32_t i = lane; i < part.count; i += WARP) sum += fmaxf(like[i] - covered[i], 0.0f);
#pragma unroll
            for (int step = WARP / 2; step > 0; step /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, step);
            const uint64_t gain = static_cast<uint64_t>(__double_as_longlong(weight * sum));
            if (at == HIRED_DROPPED || gain > best) best = gain, at = j;
        }
        const uint64_t most = block_max_key(best);
        const bool is_best = at != HIRED_DROPPED && best == most;
        const uint32_t pick = 0xFFFFFFFFu - static_cast<uint32_t>(block_max_key(is_best ? 0xFFFFFFFFu - at : 0));
        if (threadIdx.x == 0) {
            saliency[pick] = -1.0;
            marks[pick] = 1;
        }
        const float* like = cosines + pick * static_cast<size_t>(part.count);
        for (uint32_t i = threadIdx.x; i < part.count; i += blockDim.x) covered[i] = fmaxf(covered[i], like[i]);
        __syncthreads();
    }
}

// Converts marks of kept patches to their ranks among the kept ones.
// PRECOND: grid of partitions; 1-D block of whole warps, at most 256 threads.
extern "C" __global__ void __launch_bounds__(HIRED_SELECT_THREADS) select_marked(SelectMarkedParams p)
{
    const uint32_t partition = blockIdx.x;
    const SelectPart part = p.parts[partition];
    const uint32_t first_row = partition * (p.prefix + p.patch_count) + p.prefix;
    uint32_t* ranks = p.ranks + static_cast<size_t>(partition) * p.patch_count;
    for (uint32_t t = threadIdx.x; t < p.patch_count; t += blockDim.x) ranks[t] = HIRED_DROPPED;
    __syncthreads();
    uint32_t kept = 0;
    for (uint32_t first = 0; first < part.count; first += blockDim.x) {
        const uint32_t i = first + threadIdx.x;
        const bool is_kept = i < part.count && p.marks[part.first + i] != 0;
        const uint32_t rank = block_rank(is_kept, kept);
        if (is_kept) ranks[p.valid[part.first + i] - first_row] = rank;
    }
    if (threadIdx.x == 0) p.counts[partition] = kept;
}
