// Attention of one new row of each sequence to its cache, the keys split between blocks.
//
// A split has a fixed number of slots, so the bits of a row depend on its own length alone, neither on the batch
// nor on the capacity that the grid is made for. Slot and block table are read from memory: a captured graph is
// replayed unchanged while they advance.
#include "attention.cuh"

constexpr uint32_t THREADS = HIRED_ATTENTION_THREADS;
constexpr uint32_t WARPS = THREADS / WARP;

// How threads share positions. D: columns that there is room for; N: numbers of a load.
template <int D, int N>
struct Lanes {
    static constexpr uint32_t LANES = D / N < 32 ? D / N : 32; // to a position
    static constexpr uint32_t POSITIONS = THREADS / LANES;     // at once
    static constexpr int C = D / N / LANES;                    // loads of a thread for one position
    static constexpr int AHEAD = 4;                            // positions of a thread under way

    static __device__ uint32_t position()
    {
        return threadIdx.x / LANES;
    }
    static __device__ uint32_t column(int c)
    {
        return (c * LANES + threadIdx.x % LANES) * N;
    }

    // The positions from `first` on that are this thread's; 0 beyond `count` and head_dim.
    template <typename T>
    static __device__ void load_ahead(const T* from, const PagedKeys<T>& keys, uint32_t first, uint32_t count,
                                      float (&x)[AHEAD][C][N])
    {
#pragma unroll
        for (int ahead = 0; ahead < AHEAD; ahead++) {
            const uint32_t i = first + ahead * POSITIONS + position();
            const size_t at = i < count ? keys.offset(i) : 0;
#pragma unroll
            for (int c = 0; c < C; c++) {
#pragma unroll
                for (int n = 0; n < N; n++) x[ahead][c][n] = 0.0f;
                if (i < count && column(c) < keys.head_dim) load(from + at + column(c), x[ahead][c]);
            }
        }
    }
};

// G: heads that share the keys, of those of one key head; more of them are more blocks' work.
template <typename T, int D, int N, int G>
__device__ void decode(const DecodeParams& p)
{
    using Lanes = ::Lanes<D, N>;
    constexpr int C = Lanes::C, AHEAD = Lanes::AHEAD;
    constexpr uint32_t STRIDE = AHEAD * Lanes::POSITIONS;
    __shared__ uint32_t pages[HIRED_SPLIT / HIRED_PAGE];
    __shared__ float weights[G][HIRED_SPLIT];
    __shared__ float mixed[WARPS][G][D];

    const uint32_t split = blockIdx.x, sequence = blockIdx.z;
    const uint32_t context = p.slots[sequence] + 1, start = split * HIRED_SPLIT;
    if (start >= context) return;
    const uint32_t count = min(context - start, static_cast<uint32_t>(HIRED_SPLIT));
    const uint32_t group = p.heads / p.kv_heads, parts = (group + G - 1) / G;
    const uint32_t kv_head = blockIdx.y / parts, member = blockIdx.y % parts * G;
    const uint32_t first_head = kv_head * group + member, heads = min(group - member, static_cast<uint32_t>(G));
    const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;

    const uint32_t* table = p.tables + static_cast<size_t>(sequence) * p.table_stride + start / HIRED_PAGE;
    if (threadIdx.x * HIRED_PAGE < count) pages[threadIdx.x] = table[threadIdx.x];
    float q[G][C][N];
    const T* q_row = static_cast<const T*>(p.q) + static_cast<size_t>(sequence) * p.q_stride;
#pragma unroll
    for (int g = 0; g < G; g++)
#pragma unroll
        for (int c = 0; c < C; c++) {
#pragma unroll
            for (int n = 0; n < N; n++) q[g][c][n] = 0.0f;
            if (g < heads && Lanes::column(c) < p.head_dim)
                load(q_row + (first_head + g) * p.head_dim + Lanes::column(c), q[g][c]);
        }
    __syncthreads();

    const PagedKeys<T> keys(p.cache, pages, p.kv_heads, kv_head, p.head_dim, 0);
    const float unit = Weight<T>::unit(p.scale);
    float x[AHEAD][C][N];
    for (uint32_t first = 0; first < count; first += STRIDE) {
        Lanes::load_ahead(keys.keys, keys, first, count, x);
#pragma unroll
        for (int ahead = 0; ahead < AHEAD; ahead++)
#pragma unroll
            for (int g = 0; g < G; g++) {
                float score = 0.0f;
#pragma unroll
                for (int c = 0; c < C; c++)
#pragma unroll
                    for (int n = 0; n < N; n++) score += q[g][c][n] * x[ahead][c][n];
#pragma unroll
                for (uint32_t step = Lanes::LANES / 2; step > 0; step /= 2) score += __shfl_xor_sync(ALL_LANES, score, step);
                if (threadIdx.x % Lanes::LANES == 0) weights[g][first + ahead * Lanes::POSITIONS + Lanes::position()] = score * unit;
            }
    }
    __syncthreads();

    for (uint32_t g = warp; g < heads; g += WARPS) {
        float top = -INFINITY, sum = 0.0f;
        for (uint32_t i = lane; i < count; i += WARP) top = fmaxf(top, weights[g][i]);
        top = warp_max(top);
        for (uint32_t i = lane; i < HIRED_SPLIT; i += WARP) {
            const float weight = i < count ? Weight<T>::power(weights[g][i] - top) : 0.0f;
            weights[g][i] = weight;
            sum += weight;
        }
        sum = warp_sum(sum);
        const size_t row = (static_cast<size_t>(sequence) * p.heads + first_head + g) * p.splits + split;
        if (lane == 0) reinterpret_cast<float2*>(p.weights)[row] = make_float2(top, sum);
    }
    __syncthreads();

    float out[G][C][N] = {};
    for (uint32_t first = 0; first < count; first += STRIDE) {
        Lanes::load_ahead(keys.values, keys, first, count, x);
#pragma unroll
        for (int ahead = 0; ahead < AHEAD; ahead++)
#pragma unroll
            for (int g = 0; g < G; g++) {
                const float weight = weights[g][first + ahead * Lanes::POSITIONS + Lanes::position()];
#pragma unroll
                for (int c = 0; c < C; c++)
#pragma unroll
                    for (int n = 0; n < N; n++) out[g][c][n] += weight * x[ahead][c][n];
            }
    }
#pragma unroll
    for (int g = 0; g < G; g++)
#pragma unroll
        for (int c = 0; c < C; c++)
#pragma unroll
            for (int n = 0; n < N; n++) {
#pragma unroll
                for (uint32_t step = Lanes::LANES; step < WARP; step *= 2)
                    out[g][c][n] += __shfl_xor_sync(ALL_LANES, out[g][c][n], step);
                if (lane < Lanes::LANES) mixed[warp][g][Lanes::column(c) + n] = out[g][c][n];
            }
    __syncthreads();
    for (uint32_t g = 0; g < heads; g++)
        for (uint32_t d = threadIdx.x; d < p.head_dim; d += THREADS) {
            float total = 0.0f;
#pragma unroll
            for (uint32_t w = 0; w < WARPS; w++) total += mixed[w][g][d];
            const size_t row = (static_cast<size_t>(sequence) * p.heads + first_head + g) * p.splits + split;
            p.mixed[row * p.head_dim + d] = total;
        }
}

// One head of one sequence, a column a thread: its splits in their order.
template <typename T>
__device__ void merge(const DecodeParams& p)
{
    const uint32_t head = blockIdx.x, sequence = blockIdx.y;
    const uint32_t splits = p.slots[sequence] / HIRED_SPLIT + 1;
    const size_t row = (static_cast<size_t>(sequence) * p.heads + head) * p.splits;
    const float2* weights = reinterpret_cast<const float2*>(p.weights) + row;
    float top = -INFINITY;
    for (uint32_t s = 0; s < splits; s++) top = fmaxf(top, weights[s].x);
    if (threadIdx.x >= p.head_dim) return;
    float sum = 0.0f, total = 0.0f;
    for (uint32_t s = 0; s < splits; s++) {
        const float factor = Weight<T>::power(weights[s].x - top);
        sum += factor * weights[s].y;
        total += factor * p.mixed[(row + s) * p.head_dim + threadIdx.x];
    }
    T* out = static_cast<T*>(p.out) + static_cast<size_t>(sequence) * p.out_stride + head * p.head_dim;
    out[threadIdx.x] = from_float<T>(total * __fdividef(1.0f, sum));
}

// PRECOND: grid of (splits, kv_heads * (heads / kv_heads by the heads in the name, rounded up), sequences); block of
// 128 threads; head_dim even, at most 128 (64 where the name says so); every slot below splits * HIRED_SPLIT;
// the tables hold its pages, its own key and value in them.
// vector: q and cache multiples of 16, q_stride and head_dim whole vectors of 16 bytes. guarded: any.
#define DECODE(name, T, D, N, G)                                                                           \
    extern "C" __global__ void __launch_bounds__(HIRED_ATTENTION_THREADS) attention_decode_##name(DecodeParams p) \
    {                                                                                                      \
        decode<T, D, N, G>(p);                                                                             \
    }
#define DECODE_ALL(dtype, T)                                                                               \
    DECODE(vector64x1_##dtype, T, 64, LANES<T>, 1)                                                         \
    DECODE(vector64x4_##dtype, T, 64, LANES<T>, 4)                                                         \
    DECODE(vector64x8_##dtype, T, 64, LANES<T>, 8)                                                         \
    DECODE(vector128x1_##dtype, T, 128, LANES<T>, 1)                                                       \
    DECODE(vector128x4_##dtype, T, 128, LANES<T>, 4)                                                       \
    DECODE(vector128x8_##dtype, T, 128, LANES<T>, 8)                                                       \
    DECODE(guardedx4_##dtype, T, 128, 1, 4)
DECODE_ALL(f32, float)
DECODE_ALL(f16, Half)

// PRECOND: after attention_decode_* with the same parameters; grid of (heads, sequences); block of 128 threads.
#define MERGE(dtype, T)                                                                                    \
    extern "C" __global__ void __launch_bounds__(HIRED_ATTENTION_THREADS) attention_merge_##dtype(DecodeParams p) \
    {                                                                                                      \
        merge<T>(p);                                                                                       \
    }
MERGE(f32, float)
MERGE(f16, Half)
