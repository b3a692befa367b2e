// Which patches of an image are kept, and where they go in the prompt: one block for the allocation, then one for each
// partition, then one for the order. Limited by latency. Host side: src/ops/cuda/select/launches.rs.
//
//   select_exact, select_paper or select_repo: heads of the init scores -> scores, allocation
//   select_topk: heads of the final scores, allocation -> scores, places of the kept patches in their partition
//   select_rows: places -> kept rows, partition after partition
//   select_order: places -> the decoder's order
//
// Whatever the scores, every index written exists: wrong scores count as 0 and raise a flag.
#include "rank.cuh"
#include "scores.cuh"

__device__ inline uint32_t patch_count(const SelectArea& area)
{
    return area.side * area.side;
}

// How many of [begin, end) lie in strip number `strip` of the canvas.
__device__ inline uint32_t in_strip(uint32_t begin, uint32_t end, uint32_t strip, uint32_t side)
{
    const uint32_t low = max(begin, strip * side);
    const uint32_t high = min(end, (strip + 1) * side);
    return high > low ? high - low : 0;
}

__device__ inline uint32_t valid_in_sub_image(const SelectArea& area, uint32_t i)
{
    return in_strip(area.row_begin, area.row_end, i / area.grid_cols, area.side)
        * in_strip(area.col_begin, area.col_end, i % area.grid_cols, area.side);
}

__device__ inline bool is_valid(const SelectArea& area, uint32_t partition, uint32_t patch)
{
    if (partition == 0) return true;
    const uint32_t row = (partition - 1) / area.grid_cols * area.side + patch / area.side;
    const uint32_t col = (partition - 1) % area.grid_cols * area.side + patch % area.side;
    return row >= area.row_begin && row < area.row_end && col >= area.col_begin && col < area.col_end;
}

// 2^24 * score, rounded half to even. Exact: the product only moves the exponent, upwards.
__device__ inline uint64_t mass_of(float score)
{
    if (!is_attention(score)) return 0;
    const float mass = rintf(score * 16777216.0f);
    return mass < 18446744073709551616.0f ? static_cast<uint64_t>(mass) : UINT64_MAX;
}

// How much of line `line` (of n equal lines of the image) strip `strip` of the canvas shows, in units of 1/n pixel. The
// image is `length` pixels long and centred on `strips` * `pixels`; an odd pixel of padding goes behind it.
__device__ inline uint32_t share_of(uint32_t strip, uint32_t strips, uint32_t pixels, uint32_t n, uint32_t length, uint32_t line)
{
    const uint32_t offset = (strips * pixels - length) / 2;
    const uint32_t start = strip * pixels;
    const uint32_t low = n * min(start > offset ? start - offset : 0, length);
    const uint32_t high = n * min(start + pixels > offset ? start + pixels - offset : 0, length);
    const uint32_t from = max(low, line * length);
    const uint32_t to = min(high, (line + 1) * length);
    return to > from ? to - from : 0;
}

// Attention mass of the part of the image that sub-image i shows. Called by a whole warp; every lane gets the result.
__device__ inline uint64_t content_of(const SelectExactParams& p, const float* init, uint32_t i)
{
    const SelectArea& area = p.area;
    const uint32_t a = i / area.grid_cols, b = i % area.grid_cols;
    uint64_t sum = 0;
    for (uint32_t t = threadIdx.x % WARP; t < patch_count(area); t += WARP) {
        const uint64_t r = share_of(a, area.grid_rows, p.pixels, area.side, p.fit_rows, t / area.side);
        const uint64_t c = share_of(b, area.grid_cols, p.pixels, area.side, p.fit_cols, t % area.side);
        sum += r * mass_of(init[t]) * c;
    }
#pragma unroll
    for (int step = WARP / 2; step > 0; step /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, step);
    return sum;
}

// Raises the flags of the init scores, and returns whether products of the exact rule can exceed 64 bits.
__device__ inline bool is_too_large(const SelectExactParams& p, const float* init)
{
    constexpr uint64_t CAP = uint64_t(1) << 47; // times the most patches it still fits
    bool wrong = false;
    uint64_t sum[2] = {};
    for (uint32_t t = threadIdx.x; t < patch_count(p.area); t += blockDim.x) {
        const uint64_t mass = mass_of(init[t]);
        wrong |= !is_attention(init[t]);
        sum[0] += min(mass, CAP);
        sum[1] += mass > CAP;
    }
    raise(p.flags, HIRED_WRONG_INIT, wrong);
    block_sums(sum);
    const bool large = sum[0] > p.mass_limit || sum[1] > 0;
    raise(p.flags, HIRED_LARGE_INIT, large && threadIdx.x == 0);
    return large;
}

// Divides tokens among the sub-images in proportion to their contents, limited by their valid patches, until all are
// given. In each round, sub-images whose share reaches their limit get the limit. When no more are limited, the shares
// are rounded down, and the remaining tokens go one each to the largest remainders, ties to the lower sub-image. If
// there is no content at all, the numbers of valid patches take its place.
//
// PRECOND: grid of 1; 1-D block of whole warps, at most 256 threads; 12 * (partitions - 1) bytes of dynamic shared
// memory; patch_count <= HIRED_PATCHES; partitions - 1 <= HIRED_SUB_IMAGES; canvas sides below 2^20 pixels.
extern "C" __global__ void __launch_bounds__(HIRED_SELECT_THREADS) select_exact(SelectExactParams p)
{
    constexpr uint32_t OPEN = 0xFFFFFFFFu;
    DYN_SHARED(uint64_t, contents); // [count]
    const uint32_t count = p.area.partitions - 1;
    uint32_t* given = reinterpret_cast<uint32_t*>(contents + count); // [count]
    if (threadIdx.x == 0) p.allocation[0] = p.full_image;
    if (count == 0) return;

    const float* init = score(p.init, 0, patch_count(p.area));
    const bool large = is_too_large(p, init);
    for (uint32_t i = threadIdx.x / WARP; i < count; i += blockDim.x / WARP) {
        const uint64_t content = large ? 0 : content_of(p, init, i);
        if (threadIdx.x % WARP == 0) contents[i] = content;
    }
    for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) given[i] = valid_in_sub_image(p.area, i) > 0 ? OPEN : 0;
    __syncthreads();

    uint64_t left = p.sub_images;
    uint64_t total;
    bool by_valid;
    const auto weight = [&](uint32_t i) { return by_valid ? valid_in_sub_image(p.area, i) : contents[i]; };
    while (true) {
        uint64_t open[2] = {}; // content and valid patches of the sub-images that are not limited
        for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) {
            if (given[i] != OPEN) continue;
            open[0] += contents[i];
            open[1] += valid_in_sub_image(p.area, i);
        }
        block_sums(open);
        by_valid = open[0] == 0;
        total = by_valid ? open[1] : open[0];
        uint64_t filled[1] = {};
        for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) {
            const uint64_t valid = valid_in_sub_image(p.area, i);
            if (given[i] != OPEN || left * weight(i) < valid * total) continue;
            given[i] = static_cast<uint32_t>(valid);
            filled[0] += valid;
        }
        block_sums(filled);
        if (filled[0] == 0) break;
        left -= filled[0];
    }

    uint64_t floored[1] = {};
    for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) {
        uint64_t remainder = 0; // plus one, so that 0 means no part in the distribution
        if (given[i] == OPEN) {
            const uint64_t part = left * weight(i);
            given[i] = static_cast<uint32_t>(part / total);
            remainder = part % total + 1;
            floored[0] += given[i];
        }
        contents[i] = remainder;
    }
    block_sums(floored);
    const uint64_t over = left - floored[0];
    for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) {
        uint32_t before = 0;
        for (uint32_t j = 0; j < count; j++) before += contents[j] > contents[i] || (contents[j] == contents[i] && j < i);
        p.allocation[1 + i] = given[i] + (contents[i] > 0 && before < over);
    }
}

// First line of the full image whose centre lies in cell number `cell` of `cells` equal cells.
__device__ inline uint32_t first_line(uint32_t cell, uint32_t cells, uint32_t n)
{
    return (2 * n * cell + cells - 1) / (2 * cells);
}

// floor(sub_images * s / sum of s), limited by the valid patches, where s is the sum of scores over the sub-image's
// cell of the full image. One thread adds up each cell in the order of its patches, because these f64 sums must have
// the same bits as on the CPU.
//
// PRECOND: grid of 1; 1-D block of whole warps, at most 256 threads; 8 * (partitions - 1) bytes of dynamic shared
// memory; patch_count <= HIRED_PATCHES; partitions - 1 <= HIRED_SUB_IMAGES.
extern "C" __global__ void __launch_bounds__(HIRED_SELECT_THREADS) select_paper(SelectPaperParams p)
{
    DYN_SHARED(double, contents); // [count]
    const SelectArea& area = p.area;
    const uint32_t count = area.partitions - 1;
    if (threadIdx.x == 0) p.allocation[0] = p.full_image;
    if (count == 0) return;

    const float* init = score(p.init, 0, patch_count(area));
    for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) {
        const uint32_t a = i / area.grid_cols, b = i % area.grid_cols;
        const uint32_t end_row = first_line(a + 1, area.grid_rows, area.side);
        const uint32_t end_col = first_line(b + 1, area.grid_cols, area.side);
        bool wrong = false;
        double sum = 0.0;
        for (uint32_t y = first_line(a, area.grid_rows, area.side); y < end_row; y++) {
            for (uint32_t x = first_line(b, area.grid_cols, area.side); x < end_col; x++) {
                const float score = init[y * area.side + x];
                wrong |= !is_attention(score);
                sum += is_attention(score) ? score : 0.0f;
            }
        }
        contents[i] = sum;
        raise(p.flags, HIRED_WRONG_INIT, wrong);
    }
    __syncthreads();
    double total = 0.0;
    for (uint32_t i = 0; i < count; i++) total += contents[i];
    for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) {
        const double allotted = total == 0.0 ? 0.0 : floor(static_cast<double>(p.sub_images) * contents[i] / total);
        const uint32_t most = patch_count(area);
        p.allocation[1 + i] = allotted < most ? static_cast<uint32_t>(allotted) : most;
    }
}

// trunc(marks of the sub-image's chunk / all marks * sub_images) in f32, limited by the valid patches. The `marked`
// highest init scores are marked; chunk i of m is [floor(i T / m), floor((i + 1) T / m)) of the T patches.
//
// PRECOND: grid of 1; 1-D block of whole warps, at most 256 threads; 4 * (partitions - 1) bytes of dynamic shared
// memory; marked <= patch_count <= HIRED_PATCHES; partitions - 1 <= HIRED_SUB_IMAGES.
extern "C" __global__ void __launch_bounds__(HIRED_SELECT_THREADS) select_repo(SelectRepoParams p)
{
    DYN_SHARED(uint32_t, marks); // [count]
    const uint32_t count = p.area.partitions - 1;
    const uint32_t patches = patch_count(p.area);
    if (threadIdx.x == 0) p.allocation[0] = p.full_image;
    if (count == 0) return;

    const float* init = score(p.init, 0, patches);
    bool wrong = false;
    for (uint32_t t = threadIdx.x; t < patches; t += blockDim.x) wrong |= !is_attention(init[t]);
    raise(p.flags, HIRED_WRONG_INIT, wrong);
    for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) marks[i] = 0;
    __syncthreads();
    if (p.marked > 0) {
        const auto key = [&](uint32_t t) { return key_of(is_attention(init[t]) ? init[t] : 0.0f); };
        const auto all = [](uint32_t) { return 1u; };
        const Prefix prefix = shortest_prefix(patches, key, all, p.marked);
        each_of_prefix(patches, key, all, prefix, [&](uint32_t t, bool is_marked, bool) {
            if (is_marked) atomicAdd(&marks[((t + 1) * static_cast<uint64_t>(count) - 1) / patches], 1u);
        });
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) {
        const float share = static_cast<float>(marks[i]) / static_cast<float>(p.marked);
        const float allotted = p.marked > 0 ? share * static_cast<float>(p.sub_images) : 0.0f;
        p.allocation[1 + i] = allotted < patches ? static_cast<uint32_t>(allotted) : patches;
    }
}

// Keeps the allotted number of highest scores in a partition, ties to the lower patch. Every patch gets its rank among
// those kept, or HIRED_DROPPED.
//
// PRECOND: grid of partitions; 1-D block of whole warps, at most 256 threads; patch_count <= HIRED_PATCHES.
extern "C" __global__ void __launch_bounds__(HIRED_SELECT_THREADS) select_topk(SelectTopkParams p)
{
    const uint32_t partition = blockIdx.x;
    const uint32_t patches = patch_count(p.area);
    const float* scores = score(p.scores, partition, patches);
    uint32_t* ranks = p.ranks + static_cast<size_t>(partition) * patches;

    const auto takes_part = [&](uint32_t t) -> uint32_t { return p.padding != 0 || is_valid(p.area, partition, t); };
    bool wrong = false;
    uint32_t candidates[1] = {};
    for (uint32_t t = threadIdx.x; t < patches; t += blockDim.x) {
        wrong |= !is_attention(scores[t]);
        candidates[0] += takes_part(t);
    }
    raise(p.flags, HIRED_WRONG_FINAL, wrong);
    block_sums(candidates);

    const auto key = [&](uint32_t t) { return key_of(is_attention(scores[t]) ? scores[t] : 0.0f); };
    const uint32_t goal = min(p.allocation[partition], candidates[0]);
    Prefix prefix{0xFFFFFFFFu, 0};
    if (goal > 0) prefix = shortest_prefix(patches, key, takes_part, goal);
    uint32_t kept = 0;
    each_of_prefix(patches, key, takes_part, prefix, [&](uint32_t t, bool is_chosen, bool) {
        const bool arrives = is_chosen && is_valid(p.area, partition, t);
        const uint32_t rank = block_rank(arrives, kept);
        if (t < patches) ranks[t] = arrives ? rank : HIRED_DROPPED;
    });
    if (threadIdx.x == 0) p.counts[partition] = kept;
}

// The source rows of the kept patches of all partitions, one partition after another, patches ascending; a cell has the
// rows of its patches, line by line.
// PRECOND: grid of partitions; 1-D block of whole warps, at most 256 threads.
extern "C" __global__ void __launch_bounds__(HIRED_SELECT_THREADS) select_rows(SelectRowsParams p)
{
    const uint32_t partition = blockIdx.x;
    uint32_t before[1] = {};
    for (uint32_t i = threadIdx.x; i < partition; i += blockDim.x) before[0] += p.counts[i];
    block_sums(before);
    if (threadIdx.x == 0) {
        p.offsets[partition] = before[0];
        if (partition + 1 == p.area.partitions) p.offsets[partition + 1] = before[0] + p.counts[partition];
    }
    const uint32_t patches = patch_count(p.area);
    const uint32_t* ranks = p.ranks + static_cast<size_t>(partition) * patches;
    uint32_t first[1] = {}; // valid patches of earlier partitions
    if (p.projected != 0) {
        for (uint32_t i = threadIdx.x; i < partition; i += blockDim.x)
            first[0] += i == 0 ? patches : valid_in_sub_image(p.area, i - 1);
        block_sums(first);
    }
    uint32_t valid = 0;
    for (uint32_t begin = 0; begin < patches; begin += blockDim.x) {
        const uint32_t t = begin + threadIdx.x;
        uint32_t place = 0;
        if (p.projected != 0) place = first[0] + block_rank(t < patches && is_valid(p.area, partition, t), valid);
        if (t >= patches || ranks[t] == HIRED_DROPPED) continue;
        const uint32_t row = before[0] + ranks[t];
        p.patches[row] = t;
        if (p.projected != 0) {
            p.rows[row] = place;
            continue;
        }
        const uint32_t cell = p.area.cell, each = cell * cell, line = p.area.side * cell;
        const uint32_t top = t / p.area.side * cell * line + t % p.area.side * cell;
        for (uint32_t i = 0; i < each; i++)
            p.rows[row * each + i] = partition * (patches * each + p.prefix) + p.prefix + top + i / cell * line + i % cell;
    }
}

// The decoder's order: the full image's kept patches, then those of the whole canvas row by row, so that left and right
// sub-images interleave. If newlines are asked for, one follows each valid canvas row, even a row that kept nothing.
// Rows that the method adds follow the patches that they belong to: the full image's follow its patches, all others the
// canvas. For a tiled image: all kept patches of the sub-images, then those of the full image.
// PRECOND: grid of 1; 1-D block of whole warps, at most 256 threads; partitions * (patch_count + 1) below 2^32.
extern "C" __global__ void __launch_bounds__(HIRED_SELECT_THREADS) select_order(SelectOrderParams p)
{
    const SelectArea& area = p.area;
    if (area.tiled != 0) {
        const uint32_t first = p.offsets[1], count = p.offsets[area.partitions];
        for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) p.slots[i] = first + i < count ? first + i : first + i - count;
        return;
    }
    const uint32_t patches = patch_count(area);
    const uint32_t cols = area.col_end - area.col_begin;
    const uint32_t steps = cols + (p.newlines != 0 ? 1 : 0); // places of a canvas row
    const uint32_t own = p.added != nullptr ? p.added[0] : 0;
    const uint32_t others = p.added != nullptr ? p.added[1] - own : 0;
    const uint32_t canvas = patches + own;
    const uint32_t behind = canvas + (area.row_end - area.row_begin) * steps;
    const uint32_t end = behind + others;
    uint32_t written = 0;
    for (uint32_t first = 0; first < end; first += blockDim.x) {
        const uint32_t at = first + threadIdx.x;
        uint32_t slot = HIRED_NEWLINE;
        bool is_slot = at < end;
        uint32_t partition = 0, patch = at;
        bool is_patch = at < patches;
        if (at >= patches && (at < canvas || at >= behind)) {
            slot = p.offsets[area.partitions] + (at < canvas ? at - patches : own + at - behind);
        } else if (is_slot && !is_patch) {
            const uint32_t row = area.row_begin + (at - canvas) / steps;
            const uint32_t step = (at - canvas) % steps;
            const uint32_t col = area.col_begin + step;
            is_patch = step < cols;
            partition = 1 + row / area.side * area.grid_cols + col / area.side;
            patch = row % area.side * area.side + col % area.side;
        }
        if (is_patch) {
            const uint32_t rank = p.ranks[static_cast<size_t>(partition) * patches + patch];
            is_slot = rank != HIRED_DROPPED;
            slot = p.offsets[partition] + rank;
        }
        const uint32_t place = block_rank(is_slot, written);
        if (is_slot) p.slots[place] = slot;
    }
}
