// Rows that are weighted sums of others (VisionZip, PruMerge): the kernels that list sources and factors, and mix_rows,
// which computes the sums. The offset of a row's sources is known beforehand or is a sum over the rows before it, and
// their order is the CPU's. Limited by latency and memory. Host side: src/ops/cuda/select/similarity.rs.
#include "rank.cuh"

// Sources whose loads are in flight at a time.
constexpr int SOURCES = 4;

// mix_rows: a block for each row adds its weighted sources in f32, in their order.
template <typename T, int N>
__device__ void mix_row(const MixRowsParams& p)
{
    const T* x = static_cast<const T*>(p.x);
    T* out = static_cast<T*>(p.out) + blockIdx.x * static_cast<size_t>(p.out_stride);
    const uint32_t begin = p.mix.spans[2 * blockIdx.x], end = p.mix.spans[2 * blockIdx.x + 1];
    for (uint32_t i = threadIdx.x * N; i < p.cols; i += blockDim.x * N) {
        float sum[N] = {};
        for (uint32_t first = begin; first < end; first += SOURCES) {
            float row[SOURCES][N], weight[SOURCES];
#pragma unroll
            for (int s = 0; s < SOURCES; s++) {
                // Beyond the end, the last source is loaded again with factor 0.
                const uint32_t at = min(first + s, end - 1);
                weight[s] = p.mix.weights[at];
                load(x + p.mix.sources[at] * static_cast<size_t>(p.x_stride) + i, row[s]);
            }
#pragma unroll
            for (int s = 0; s < SOURCES; s++) {
                if (first + s >= end) break;
#pragma unroll
                for (int j = 0; j < N; j++) sum[j] += weight[s] * row[s][j];
            }
        }
        store(out + i, sum);
    }
}

// PRECOND: grid of rows; 1-D block of at most 256 threads; sources name rows of x. vector: x and out multiples of 16, cols
// and strides multiples of 16 bytes.
#define MIX_ROWS(dtype, T)                                                                         \
    extern "C" __global__ void __launch_bounds__(HIRED_ROW_THREADS) mix_rows_vector_##dtype(MixRowsParams p) \
    {                                                                                              \
        mix_row<T, LANES<T>>(p);                                                                   \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(HIRED_ROW_THREADS) mix_rows_guarded_##dtype(MixRowsParams p) \
    {                                                                                              \
        mix_row<T, 1>(p);                                                                          \
    }

MIX_ROWS(f32, float)
MIX_ROWS(f16, Half)

__device__ inline void set_span(const SelectMix& mix, uint32_t row, uint32_t begin, uint32_t end)
{
    mix.spans[2 * row] = begin;
    mix.spans[2 * row + 1] = end;
}

__device__ inline void set_source(const SelectMix& mix, uint32_t at, uint32_t row, float weight)
{
    mix.sources[at] = row;
    mix.weights[at] = weight;
}

// VisionZip's rows: copies of the kept patches, the class token, and the contextual rows. For those, targets are taken
// at even distances among the remaining patches, and each target is averaged with the patches that are most similar to
// it, ties to the lower target.
// PRECOND: grid of partitions; 1-D block of whole warps, at most 256 threads; contexts <= patches that are not kept.
extern "C" __global__ void __launch_bounds__(HIRED_SELECT_THREADS) select_contexts(SelectContextsParams p)
{
    const uint32_t partition = blockIdx.x, lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const uint32_t warps = blockDim.x / WARP;
    const SelectContext context = p.contexts[partition];
    for (uint32_t q = p.offsets[partition] + threadIdx.x; q < p.offsets[partition + 1]; q += blockDim.x) {
        set_span(p.mix, q, q, q + 1);
        set_source(p.mix, q, p.rows[q], 1.0f);
    }
    const uint32_t class_row = partition * (p.patch_count + 1);
    uint32_t source = context.source;
    if (context.class_row != HIRED_DROPPED) {
        if (threadIdx.x == 0) {
            set_span(p.mix, context.class_row, source, source + 1);
            set_source(p.mix, source, class_row, 1.0f);
        }
        source++;
    }
    const uint32_t contexts = context.contexts;
    if (contexts == 0) return;

    const SelectPart part = p.parts[partition];
    const uint32_t* valid = p.valid + part.first;
    const uint32_t* ranks = p.ranks + static_cast<size_t>(partition) * p.patch_count;
    uint32_t* left = p.left + part.first; // numbers of the remaining patches among the valid ones
    uint32_t* target = left + p.valid_count; // the target of each remaining patch
    uint32_t* sizes = target + p.valid_count; // number of patches merged into each target
    uint32_t count = 0;
    for (uint32_t first = 0; first < part.count; first += blockDim.x) {
        const uint32_t i = first + threadIdx.x;
        const bool is_left = i < part.count && ranks[valid[i] - class_row - 1] == HIRED_DROPPED;
        const uint32_t rank = block_rank(is_left, count);
        if (is_left) left[rank] = i;
    }
    __syncthreads();
    const uint32_t step = max(count / contexts, 1u);
    for (uint32_t k = threadIdx.x; k < count; k += blockDim.x) {
        uint32_t best = HIRED_DROPPED;
        if (k % step != 0 || k / step >= contexts) {
            const float* like = p.cosines + part.cosines + left[k] * static_cast<size_t>(part.count);
            float most = like[left[0]];
            best = 0;
            for (uint32_t t = 1; t < contexts; t++) {
                const float x = like[left[t * step]];
                if (x > most) most = x, best = t;
            }
        }
        target[k] = best;
    }
    __syncthreads();
    for (uint32_t t = warp; t < contexts; t += warps) {
        uint32_t size = 0;
        for (uint32_t k = lane; k < count; k += WARP) size += target[k] == t;
#pragma unroll
        for (int s = WARP / 2; s > 0; s /= 2) size += __shfl_xor_sync(ALL_LANES, size, s);
        if (lane == 0) sizes[t] = size;
    }
    __syncthreads();
    for (uint32_t t = warp; t < contexts; t += warps) {
        uint32_t before = 0;
        for (uint32_t i = lane; i < t; i += WARP) before += 1 + sizes[i];
#pragma unroll
        for (int s = WARP / 2; s > 0; s /= 2) before += __shfl_xor_sync(ALL_LANES, before, s);
        uint32_t at = source + before;
        const uint32_t size = sizes[t];
        if (lane == 0) {
            set_span(p.mix, context.context_row + t, at, at + 1 + size);
            set_source(p.mix, at, valid[left[t * step]], 1.0f);
        }
        at++;
        const float share = 1.0f / static_cast<float>(max(size, 1u));
        for (uint32_t first = 0; first < count; first += WARP) {
            const uint32_t k = first + lane;
            const bool is_of = k < count && target[k] == t;
            const uint32_t votes = __ballot_sync(ALL_LANES, is_of);
            if (is_of) set_source(p.mix, at + __popc(votes & ((1u << lane) - 1)), valid[left[k]], share);
            at += __popc(votes);
        }
    }
}

// Whether the place is the middle of one of `runs` equal runs that divide `length` places.
// PRECOND: runs <= length <= 8192, so that products fit.
__device__ inline bool is_middle(uint32_t place, uint32_t length, uint32_t runs)
{
    if (runs == 0) return false;
    // The first run whose middle (2 run + 1) * length / (2 runs) is not before the place.
    const uint32_t wanted = 2 * runs * place;
    const uint32_t run = wanted > length ? (wanted + length - 1) / (2 * length) : 0;
    return run < runs && (2 * run + 1) * length / (2 * runs) == place;
}

// Chooses PruMerge's patches. A partition gets as many rows as allotted; one of them stands for the dropped patches, if
// there are any and it is not the only row. The others are the patches of the highest attention, ties to the lower
// patch; with `spatial` a quarter of them by attention and the rest at even distances.
// PRECOND: grid of partitions; 1-D block of whole warps, at most 256 threads; at most 8192 valid patches in a partition.
extern "C" __global__ void __launch_bounds__(HIRED_SELECT_THREADS) select_outstanding(SelectOutstandingParams p)
{
    const uint32_t partition = blockIdx.x;
    const SelectPart part = p.parts[partition];
    const uint32_t first_row = partition * (p.patch_count + 1) + 1;
    const uint32_t* valid = p.valid + part.first;
    const float* attention = p.attention + static_cast<size_t>(partition) * p.patch_count;
    uint32_t* ranks = p.ranks + static_cast<size_t>(partition) * p.patch_count;
    for (uint32_t t = threadIdx.x; t < p.patch_count; t += blockDim.x) ranks[t] = HIRED_DROPPED;
    __syncthreads();
    const uint32_t n = part.count;
    const uint32_t rows = min(p.allocation[partition], n);
    const uint32_t merged = rows >= 2 && rows < n ? 1 : 0;
    const uint32_t count = rows - merged;
    const uint32_t best = p.spatial != 0 ? (count + 3) / 4 : count;
    const auto key = [&](uint32_t i) { return key_of(attention[valid[i] - first_row]); };
    const auto all = [](uint32_t) { return 1u; };
    Prefix prefix{0xFFFFFFFFu, 0};
    if (best > 0) prefix = shortest_prefix(n, key, all, best);
    uint32_t kept = 0, others = 0;
    each_of_prefix(n, key, all, prefix, [&](uint32_t i, bool is_best, bool) {
        const bool is_other = i < n && !is_best;
        const uint32_t place = block_rank(is_other, others);
        const bool is_chosen = is_best || (is_other && is_middle(place, n - best, count - best));
        const uint32_t rank = block_rank(is_chosen, kept);
        if (is_chosen) ranks[valid[i] - first_row] = rank;
    });
    if (threadIdx.x == 0) {
        p.counts[partition] = kept;
        p.merged[partition] = merged;
    }
}

// Sources of a kept patch's row: the patch and those most similar to it, each weighted by its attention. A block for
// each possible row.
// PRECOND: grid of rows, at least as many as are kept; 1-D block of whole warps, at most 256 threads.
extern "C" __global__ void __launch_bounds__(HIRED_SELECT_THREADS) select_neighbours(SelectMergedParams p)
{
    const uint32_t q = blockIdx.x;
    if (q >= p.offsets[p.partitions]) return;
    const uint32_t row = p.rows[q];
    const uint32_t partition = row / (p.patch_count + 1);
    const uint32_t first_row = partition * (p.patch_count + 1) + 1;
    const SelectPart part = p.parts[partition];
    const uint32_t* valid = p.valid + part.first;
    const float* attention = p.attention + static_cast<size_t>(partition) * p.patch_count;
    uint32_t own = 0; // the patch's number among the valid ones, whose rows ascend
    for (uint32_t end = part.count; own < end;) {
        const uint32_t middle = (own + end) / 2;
        if (valid[middle] < row)
            own = middle + 1;
        else
            end = middle;
    }
    const float* like = p.cosines + part.cosines + own * static_cast<size_t>(part.count);
    const uint32_t near = min(p.neighbours, part.count - 1);
    const uint32_t begin = q * (1 + p.neighbours);
    if (threadIdx.x == 0) {
        set_span(p.mix, q, begin, begin + 1 + near);
        set_source(p.mix, begin, row, 1.0f);
    }
    if (near == 0) return;
    const auto key = [&](uint32_t i) { return key_of(like[i] + 0.0f); };
    const auto others = [&](uint32_t i) -> uint32_t { return i != own; };
    const Prefix prefix = shortest_prefix(part.count, key, others, near);
    uint32_t taken = 0;
    each_of_prefix(part.count, key, others, prefix, [&](uint32_t i, bool is_near, bool) {
        const uint32_t rank = block_rank(is_near, taken);
        if (is_near) set_source(p.mix, begin + 1 + rank, valid[i], attention[valid[i] - first_row]);
    });
}

// Sources of the row that stands for a partition's dropped patches, each weighted by its attention; it follows all kept
// rows, if the partition has one.
// PRECOND: grid of partitions; 1-D block of whole warps, at most 256 threads.
extern "C" __global__ void __launch_bounds__(HIRED_SELECT_THREADS) select_rest(SelectMergedParams p)
{
    const uint32_t partition = blockIdx.x;
    uint32_t merged[2] = {}; // such rows before this partition, and in all
    for (uint32_t i = threadIdx.x; i < p.partitions; i += blockDim.x) {
        merged[0] += i < partition ? p.merged[i] : 0;
        merged[1] += p.merged[i];
    }
    block_sums(merged);
    if (partition == 0 && threadIdx.x == 0) {
        p.added[0] = p.merged[0];
        p.added[1] = merged[1];
    }
    if (p.merged[partition] == 0) return;
    const SelectPart part = p.parts[partition];
    const uint32_t first_row = partition * (p.patch_count + 1) + 1;
    const uint32_t* valid = p.valid + part.first;
    const float* attention = p.attention + static_cast<size_t>(partition) * p.patch_count;
    const uint32_t* ranks = p.ranks + static_cast<size_t>(partition) * p.patch_count;
    const uint32_t begin = p.source + part.first;
    uint32_t dropped = 0;
    for (uint32_t first = 0; first < part.count; first += blockDim.x) {
        const uint32_t i = first + threadIdx.x;
        const bool is_dropped = i < part.count && ranks[valid[i] - first_row] == HIRED_DROPPED;
        const uint32_t rank = block_rank(is_dropped, dropped);
        if (is_dropped) set_source(p.mix, begin + rank, valid[i], attention[valid[i] - first_row]);
    }
    if (threadIdx.x == 0) set_span(p.mix, p.offsets[p.partitions] + merged[0], begin, begin + dropped);
}
