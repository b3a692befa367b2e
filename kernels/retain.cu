// FastV's choice: the rows of a prompt that remain after a layer. Of the candidates these are the `keep` rows to which
// the last row attends most (attention_last.cu; the sum over heads), and all other rows. One block ranks all
// candidates. Host side: src/ops/cuda/select/fastv.rs.
//
// Whatever the scores, exactly the promised number of rows is written, each once.
#include "rank.cuh"

// PRECOND: grid of 1; 1-D block of whole warps, at most 1024 threads; first + candidates <= rows;
// keep <= candidates.
extern "C" __global__ void __launch_bounds__(HIRED_RETAIN_THREADS) retain(RetainParams p)
{
    const float* weights = p.weights + p.first;
    for (uint32_t i = threadIdx.x; i < p.candidates; i += blockDim.x) {
        float total = 0.0f;
        for (uint32_t head = 0; head < p.heads; head++)
            total += __fdividef(weights[static_cast<size_t>(head) * p.rows + i], p.sums[head]);
        p.scores[i] = total;
    }
    __syncthreads();

    const auto key = [&](uint32_t i) { return key_of(p.scores[i]); };
    const auto each = [](uint32_t) -> uint32_t { return 1; };
    Prefix prefix{0xFFFFFFFFu, 0};
    if (p.keep > 0) prefix = shortest_prefix(p.candidates, key, each, p.keep);
    uint32_t kept = p.first;
    each_of_prefix(p.candidates, key, each, prefix, [&](uint32_t i, bool goes_on, bool) {
        const uint32_t place = block_rank(goes_on, kept);
        if (goes_on) p.out[place] = p.first + i;
    });

    const uint32_t behind = p.first + p.candidates, dropped = p.candidates - p.keep;
    for (uint32_t row = threadIdx.x; row < p.first; row += blockDim.x) p.out[row] = row;
    for (uint32_t row = behind + threadIdx.x; row < p.rows; row += blockDim.x) p.out[row - dropped] = row;
}
