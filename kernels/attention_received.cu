// Attention that each key receives: its column of the softmax over all keys, added over all queries of the partition,
// head by head. It is a patch's score where there is no class token. The kernels that read scores divide the sums by
// the number of queries (scores.cuh).
//
// The matrix of scores is never written. One kernel computes each query's maximum and sum of exponentials; the second
// computes the same scores again and adds the weights up for each key. The fused attention cannot provide the first: in
// the last block it runs for kept patches only, and these sums decide which those are. fp32 and expf in every format,
// as for the class token; sums in a fixed order, so always the same bits.
//
// The lower bound is two products of all queries with all keys, 4 * tokens^2 * width FLOP: 2.5 GFLOP for 729 tokens of
// 1152 numbers, beside the 642 GFLOP of such a partition in SigLIP's tower. So FMA is fast enough on every GPU. Host
// side: src/ops/cuda/attention/choose.rs, received.
#include "prelude.cuh"

constexpr uint32_t SIDE = 64;  // queries or keys of a tile
constexpr uint32_t DEPTH = 32; // columns of a tile at a time
constexpr uint32_t GROUP = 16; // threads that share four rows of a tile

// Stored by columns, so that both factors of a product are read as rows of 16 bytes.
struct ReceivedTiles {
    float own[DEPTH * SIDE];
    float others[DEPTH * SIDE];
};

// The queries or keys of one head of one partition.
template <typename T>
struct HeadRows {
    const T* first;
    uint32_t stride;
    uint32_t count;
};

// Loads some columns of a tile of rows; those beyond the end as zeros.
template <typename T, int N>
__device__ inline void bring(const HeadRows<T>& rows, uint32_t from, uint32_t width, uint32_t column, float* to)
{
    for (uint32_t at = threadIdx.x; at < SIDE * (DEPTH / N); at += HIRED_ROW_THREADS) {
        const uint32_t row = at % SIDE, part = at / SIDE * N;
        float x[N] = {};
        if (from + row < rows.count && column + part < width)
            load(rows.first + (from + row) * static_cast<size_t>(rows.stride) + column + part, x);
#pragma unroll
        for (int e = 0; e < N; e++) to[(part + e) * SIDE + row] = x[e];
    }
}

// The scores of the thread's four rows with four others. Both kernels add in this order, so both get the same scores.
template <typename T, int N>
__device__ inline void multiply(const HeadRows<T>& own, uint32_t own_from, const HeadRows<T>& others, uint32_t others_from,
    uint32_t width, ReceivedTiles& tiles, float (&score)[4][4])
{
    for (uint32_t column = 0; column < width; column += DEPTH) {
        __syncthreads(); // all threads have finished with the columns before
        bring<T, N>(own, own_from, width, column, tiles.own);
        bring<T, N>(others, others_from, width, column, tiles.others);
        __syncthreads();
        const uint32_t depth = min(DEPTH, width - column);
#pragma unroll 4
        for (uint32_t d = 0; d < depth; d++) {
            float a[4], b[4];
            load(tiles.own + d * SIDE + threadIdx.x / GROUP * 4, a);
            load(tiles.others + d * SIDE + threadIdx.x % GROUP * 4, b);
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) score[i][j] += a[i] * b[j];
        }
    }
}

template <typename T>
__device__ inline HeadRows<T> head_rows(const ReceivedParams& p, const void* x, uint32_t stride)
{
    const size_t row = static_cast<size_t>(blockIdx.z) * p.tokens;
    return {static_cast<const T*>(x) + row * stride + blockIdx.y * p.head_dim, stride, p.tokens};
}

// For the block's queries: the maximum of the scores, and 1 over the sum of the weights.
template <typename T, int N>
__device__ void received_rows(const ReceivedParams& p)
{
    __shared__ __align__(16) ReceivedTiles tiles;
    const HeadRows<T> queries = head_rows<T>(p, p.q, p.q_stride), keys = head_rows<T>(p, p.k, p.k_stride);
    const uint32_t first = blockIdx.x * SIDE;
    float top[4], sum[4] = {};
#pragma unroll
    for (int i = 0; i < 4; i++) top[i] = -INFINITY;
    for (uint32_t from = 0; from < p.tokens; from += SIDE) {
        float score[4][4] = {};
        multiply<T, N>(queries, first, keys, from, p.head_dim, tiles, score);
        const uint32_t key = from + threadIdx.x % GROUP * 4;
        if (key >= p.tokens) continue;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float now = top[i];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                score[i][j] = key + j < p.tokens ? score[i][j] * p.scale : -INFINITY;
                now = fmaxf(now, score[i][j]);
            }
            sum[i] *= expf(top[i] - now);
            top[i] = now;
#pragma unroll
            for (int j = 0; j < 4; j++) sum[i] += expf(score[i][j] - now);
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float greatest = top[i];
#pragma unroll
        for (int step = GROUP / 2; step > 0; step /= 2) greatest = fmaxf(greatest, __shfl_xor_sync(ALL_LANES, greatest, step));
        sum[i] *= expf(top[i] - greatest);
#pragma unroll
        for (int step = GROUP / 2; step > 0; step /= 2) sum[i] += __shfl_xor_sync(ALL_LANES, sum[i], step);
        const uint32_t row = first + threadIdx.x / GROUP * 4 + i;
        if (threadIdx.x % GROUP != 0 || row >= p.tokens) continue;
        float* stat = p.stats + ((static_cast<size_t>(blockIdx.z) * p.heads + blockIdx.y) * p.tokens + row) * 2;
        stat[0] = greatest;
        stat[1] = __fdividef(1.0f, sum[i]);
    }
}

// For the block's keys: the sum of the weights of all queries.
template <typename T, int N>
__device__ void received_columns(const ReceivedParams& p)
{
    __shared__ __align__(16) ReceivedTiles tiles;
    const HeadRows<T> queries = head_rows<T>(p, p.q, p.q_stride), keys = head_rows<T>(p, p.k, p.k_stride);
    const uint32_t first = blockIdx.x * SIDE, prefix = p.tokens - p.patches;
    const size_t head = static_cast<size_t>(blockIdx.z) * p.heads + blockIdx.y;
    float sum[4] = {};
    for (uint32_t from = 0; from < p.tokens; from += SIDE) {
        float score[4][4] = {};
        multiply<T, N>(keys, first, queries, from, p.head_dim, tiles, score);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const uint32_t query = from + threadIdx.x % GROUP * 4 + j;
            if (query >= p.tokens) break;
            const float* stat = p.stats + (head * p.tokens + query) * 2;
            const float top = stat[0], share = stat[1];
#pragma unroll
            for (int i = 0; i < 4; i++) sum[i] += expf(score[i][j] * p.scale - top) * share;
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int step = GROUP / 2; step > 0; step /= 2) sum[i] += __shfl_xor_sync(ALL_LANES, sum[i], step);
        const uint32_t key = first + threadIdx.x / GROUP * 4 + i;
        // Patch 0 has index 1 in a row of weights, whether there is a class token or not.
        if (threadIdx.x % GROUP == 0 && key < p.tokens)
            p.weights[head * (p.patches + 1) + 1 - prefix + key] = sum[i];
    }
    if (blockIdx.x == 0 && threadIdx.x == 0) p.sums[head] = static_cast<float>(p.tokens);
}

// PRECOND: grid of (tokens by 64, heads, partitions); block of 256 threads; tokens = patches, or patches + 1; head_dim even,
// at most 128. vector: q and k multiples of 16, strides and head_dim whole vectors. guarded: any.
#define RECEIVED(name, T, N)                                                                               \
    extern "C" __global__ void __launch_bounds__(HIRED_ROW_THREADS) attention_received_rows_##name(ReceivedParams p) \
    {                                                                                                      \
        received_rows<T, N>(p);                                                                            \
    }                                                                                                      \
    extern "C" __global__ void __launch_bounds__(HIRED_ROW_THREADS) attention_received_columns_##name(ReceivedParams p) \
    {                                                                                                      \
        received_columns<T, N>(p);                                                                         \
    }
RECEIVED(vector_f32, float, LANES<float>)
RECEIVED(vector_f16, Half, LANES<Half>)
RECEIVED(guarded_f32, float, 1)
RECEIVED(guarded_f16, Half, 1)
