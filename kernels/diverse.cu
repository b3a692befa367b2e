// Patches chosen one after another by the cosines of all pairs: those unlike each other (DivPrune), those that stand for
// many others (SCOPE). A pick waits for the one before, so its latency decides: what a block keeps of each patch lies in
// shared memory. Ties go to the lower patch, as on the CPU.
#include "rank.cuh"
#include "scores.cuh"

// In `nearest`: a row that is kept.
constexpr float KEPT = __builtin_inff();

// Of each row the greatest cosine with another.
// PRECOND: grid of count; 1-D block of whole warps, at most 256 threads.
extern "C" __global__ void __launch_bounds__(HIRED_SELECT_THREADS) spread_nearest(SpreadParams p)
{
    const float* cosines = p.cosines + blockIdx.x * static_cast<size_t>(p.count);
    float most = -1.0f;
    for (uint32_t i = threadIdx.x; i < p.count; i += blockDim.x) most = i != blockIdx.x ? fmaxf(most, cosines[i]) : most;
    const uint32_t key = static_cast<uint32_t>(block_max_key(key_of(most)));
    if (threadIdx.x == 0) p.nearest[blockIdx.x] = __uint_as_float(key & 0x80000000u ? key & 0x7FFFFFFFu : ~key);
}

// First the row farthest from its nearest, then always the one farthest from those kept.
//
// The floor: the cosines, symmetric as they are, take count^2 * width FLOP once, 34 GFLOP or 2.9 ms of a P40 for 2880
// patches of 4096 numbers; the product makes both halves, twice that. Without them every pick would read all rows again,
// 47 MB: 576 picks are 78 ms of its 346 GB/s. A pick itself reads 11.5 KB and waits twice for the block, some 3 us.
//
// PRECOND: grid of 1; 1-D block of whole warps, at most 1024 threads; 4 * count bytes of dynamic shared memory; no cosine
// is infinite; picks <= count.
extern "C" __global__ void __launch_bounds__(HIRED_GREEDY_THREADS) spread_pick(SpreadParams p)
{
    // Each thread reads and writes its own: i of the block's size apart.
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

// x^exponent for x >= 0. By e^(y ln x), for pow takes a stack; 1 is exact.
__device__ inline double power(double x, double exponent)
{
    if (exponent == 1.0) return x;
    if (x > 0.0) return exp(exponent * log(x));
    return exponent == 0.0 ? 1.0 : 0.0;
}

// Again and again the row with the most of saliency * sum of max(0, cosine - covered), sums in f64. Reads the partition's
// cosines once a pick, 1.3 MB for 576 patches. What takes the time is f64: a conversion and an addition for each cosine,
// of which a multiprocessor of a P40 does 4 a clock: at least 55 us a pick, 12-20 us where f64 is half of f32.
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
    // Below 0: kept.
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
        // The warp's best: a gain is at least 0, so that its bits have its order.
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

// From marks of valid patches to places among the kept ones.
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
