// Sampling: chooses a token from a row of logits, with a block for each row. Limited by latency. Host side:
// src/ops/cuda/sample/choose.rs.
//
// The choices are those of the CPU (src/ops/sample.rs), except in rare cases. The CPU adds f64 weights one by one, from
// the most likely token on. Here f64 weights are rounded to multiples of 2^-48 or finer (of 2^-63 times the power of
// two above the number of logits). Sums of them are exact, so they have the same bits in any order. If a draw or a
// top-p limit falls within the rounding of the boundary between two tokens (some 2^-40 of the total, and the last bit
// of exp), the neighbour can be taken; a token of probability below 2^-49 is never drawn.
#include "rank.cuh"

// Key and index of the largest logit, the lowest index among equals; -0 equals 0. Logits that are not finite raise the
// row's flag and are skipped; the index exists whatever they are.
__device__ inline uint32_t most_likely(const float* logits, uint32_t cols, uint32_t* flag)
{
    bool wrong = false;
    uint64_t best = 0;
    // Eight loads in flight at a time: for a vocabulary of 32064 an H200 waits four times for L2, about 3 µs in all,
    // 0.1% of its time for a token. More blocks for a row would not pay for the second launch that they need.
    constexpr uint32_t LOADS = 8;
    for (uint32_t first = threadIdx.x; first < cols; first += LOADS * blockDim.x) {
        float x[LOADS];
        // Beyond the end the last logit is loaded again.
#pragma unroll
        for (uint32_t n = 0; n < LOADS; n++) x[n] = logits[min(first + n * blockDim.x, cols - 1)];
#pragma unroll
        for (uint32_t n = 0; n < LOADS; n++) {
            const bool is_finite = fabsf(x[n]) <= 3.402823466e38f;
            wrong |= !is_finite;
            const uint32_t key = is_finite ? key_of(x[n] + 0.0f) : 0;
            const uint32_t i = min(first + n * blockDim.x, cols - 1);
            best = max(best, static_cast<uint64_t>(key) << 32 | (0xFFFFFFFFu - i));
        }
    }
    if (wrong) atomicOr(flag, HIRED_WRONG_LOGITS);
    return 0xFFFFFFFFu - static_cast<uint32_t>(block_max_key(best));
}

// A number in [0, 1) with 53 random bits that depends on seed and step alone, by Philox 4x32 with 10 rounds (Salmon et
// al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
__device__ inline double uniform(uint64_t seed, uint64_t step)
{
    uint32_t c[4] = {static_cast<uint32_t>(step), static_cast<uint32_t>(step >> 32), 0, 0};
    uint32_t key[2] = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
    for (int round = 0; round < 10; round++) {
        const uint64_t a = static_cast<uint64_t>(c[0]) * 0xD2511F53u;
        const uint64_t b = static_cast<uint64_t>(c[2]) * 0xCD9E8D57u;
        const uint32_t c1 = c[1], c3 = c[3];
        c[0] = static_cast<uint32_t>(b >> 32) ^ c1 ^ key[0];
        c[1] = static_cast<uint32_t>(b);
        c[2] = static_cast<uint32_t>(a >> 32) ^ c3 ^ key[1];
        c[3] = static_cast<uint32_t>(a);
        key[0] += 0x9E3779B9u;
        key[1] += 0xBB67AE85u;
    }
    const uint64_t bits = (static_cast<uint64_t>(c[1]) << 32 | c[0]) >> 11;
    return static_cast<double>(bits) / 9007199254740992.0;
}

__device__ inline uint32_t draw(const float* logits, const SampleHow& how, uint64_t* weights, uint32_t cols, uint32_t* flag)
{
    const uint32_t best = most_likely(logits, cols, flag);
    if (how.temperature == 0.0f) return best;

    // NaN and infinities have raised the flag before, so their keys do not matter.
    const auto key = [&](uint32_t i) { return key_of(logits[i]); };
    const double top = logits[best];
    const double scale = static_cast<double>(uint64_t(1) << (63 - (32 - __clz(cols))));
    const auto weigh = [&](uint32_t i) -> uint64_t {
        const double x = exp((logits[i] - top) / static_cast<double>(how.temperature));
        return x <= 1.0 ? static_cast<uint64_t>(rint(x * scale)) : 0;
    };
    Prefix all{0, 0};
    const auto one = [](uint32_t) { return 1u; };
    if (how.top_k > 0 && how.top_k < cols) all = shortest_prefix(cols, key, one, how.top_k);
    uint64_t total[1] = {};
    each_of_prefix(cols, key, one, all, [&](uint32_t i, bool inside, bool) {
        if (i >= cols) return;
        weights[i] = inside ? weigh(i) : 0;
        total[0] += weights[i];
    });
    block_sums(total);

    const auto weight = [&](uint32_t i) { return weights[i]; };
    // Rounding can make the product exceed the total.
    if (how.top_p < 1.0f) {
        const double part = ceil(fmax(how.top_p * static_cast<double>(total[0]), 1.0));
        const uint64_t goal = min(static_cast<uint64_t>(part), total[0]);
        const Prefix likely = shortest_prefix(cols, key, weight, goal);
        total[0] = 0;
        each_of_prefix(cols, key, weight, likely, [&](uint32_t i, bool inside, bool) {
            if (i >= cols) return;
            if (!inside) weights[i] = 0;
            total[0] += weights[i];
        });
        block_sums(total);
    }
    // The first token at which the sum exceeds the random share of the total.
    const double part = uniform(how.seed, how.step) * static_cast<double>(total[0]);
    const uint64_t goal = min(static_cast<uint64_t>(part) + 1, total[0]);
    const Prefix until = shortest_prefix(cols, key, weight, goal);
    uint64_t chosen = 0;
    each_of_prefix(cols, key, weight, until, [&](uint32_t i, bool, bool is_last) {
        if (is_last) chosen = i;
    });
    return static_cast<uint32_t>(block_max_key(chosen));
}

// One block per multiprocessor: with two as a target, sm_70 spills.
//
// PRECOND: grid of rows; 1-D block of whole warps, at most 1024 threads; cols at least 1 and below 2^31.
extern "C" __global__ void __launch_bounds__(HIRED_SAMPLE_THREADS, 1) sample_greedy_f32(SampleGreedyParams p)
{
    const size_t row = blockIdx.x;
    const uint32_t token = most_likely(p.logits + row * p.cols, p.cols, p.flags + row);
    if (threadIdx.x == 0) p.tokens[row] = token;
}

extern "C" __global__ void __launch_bounds__(HIRED_SAMPLE_THREADS, 1) sample_draw_f32(SampleDrawParams p)
{
    const size_t start = static_cast<size_t>(blockIdx.x) * p.cols;
    const uint32_t token = draw(p.logits + start, p.how[blockIdx.x], p.weights + start, p.cols, p.flags + blockIdx.x);
    if (threadIdx.x == 0) p.tokens[blockIdx.x] = token;
}
