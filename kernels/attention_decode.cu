// Attention in a decode step: one new row of each sequence to its cache, softmax(scale * q K^T) V, with the keys
// divided into splits, one for each block (as in flash-decoding). The kernel also applies the rotary embedding
// and appends to the cache: each block rotates its queries, and the blocks of the last split rotate the row's own key;
// the first of them stores key and value. Those blocks use both from shared memory and all others read earlier slots,
// so no block waits for the stores. Limited by reading the cache once. Host side: src/ops/cuda/attention/choose.rs,
// decode.
//
// A split has a fixed number of slots, so the bits of a row depend on its own length alone, neither on the batch nor on
// the grid. Slot and block table are read from memory, so that a captured graph can be replayed unchanged while they
// advance. The last block of a key/value head to finish merges all splits, always in their order. If the row is to be
// multiplied as int8, the last of these blocks also quantizes it.
//
// Two rounds of loads are in flight at any time, from the first keys to the last values; the softmax between them waits
// for neither.
#include "attention_merge.cuh"
#include "rotate.cuh"
#include "codes.cuh"

// N numbers as one load brings them, unpacked when they are used: until then f16 takes half the registers.
template <typename T, int N>
struct Packed {
    uint4 bits;

    __device__ void clear()
    {
        bits = make_uint4(0, 0, 0, 0);
    }
    __device__ void load(const T* from)
    {
        bits = *reinterpret_cast<const uint4*>(from);
    }
    __device__ void unpack(float (&to)[N]) const
    {
        const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
        ::unpack(words, to, T{});
    }
};

template <typename T>
struct Packed<T, 1> {
    T number;

    __device__ void clear()
    {
        number = T{};
    }
    __device__ void load(const T* from)
    {
        number = *from;
    }
    __device__ void unpack(float (&to)[1]) const
    {
        to[0] = to_float(number);
    }
};

// How the threads divide positions and columns. D: the most columns; N: numbers of a load.
template <int D, int N>
struct Lanes {
    static constexpr uint32_t LANES = D / N < 32 ? D / N : 32; // threads of a position
    static constexpr uint32_t POSITIONS = THREADS / LANES;     // positions at a time
    static constexpr int C = D / N / LANES;                    // loads of a thread for one position
    static constexpr int ROUND = POSITIONS < 8 ? 4 : 32 / POSITIONS; // positions of a thread in a round
    static constexpr uint32_t STRIDE = ROUND * POSITIONS;      // positions of a round
    static_assert(HIRED_LEAST_SPLIT % (2 * STRIDE) == 0, "a split is whole pairs of rounds");

    static __device__ uint32_t position()
    {
        return threadIdx.x / LANES;
    }
    static __device__ uint32_t column(int c)
    {
        return (c * LANES + threadIdx.x % LANES) * N;
    }

    // Loads this thread's part of the positions from `first` on; 0 beyond `count` and head_dim.
    template <typename T>
    static __device__ void load(const T* from, const PagedKeys<T>& keys, uint32_t first, uint32_t count,
                                Packed<T, N> (&x)[ROUND][C])
    {
#pragma unroll
        for (int r = 0; r < ROUND; r++) {
            const uint32_t i = first + r * POSITIONS + position();
            const size_t at = i < count ? keys.offset(i) : 0;
#pragma unroll
            for (int c = 0; c < C; c++) {
                x[r][c].clear();
                if (i < count && column(c) < keys.head_dim) x[r][c].load(from + at + column(c));
            }
        }
    }
};

// G: the most query heads of a block, which share its keys. If a key/value head has more, other blocks take them.
template <typename T, int D, int N, int G>
__device__ void decode(const CodedDecodeParams& params)
{
    const DecodeParams& p = params.step;
    using Lanes = ::Lanes<D, N>;
    constexpr int C = Lanes::C, ROUND = Lanes::ROUND;
    constexpr uint32_t STRIDE = Lanes::STRIDE;
    __shared__ uint32_t pages[HIRED_SPLIT / HIRED_PAGE];
    __shared__ float weights[G][HIRED_SPLIT];
    __shared__ float own[2][D]; // the row's key and value, rounded as in the cache
    __shared__ float mixed[WARPS][G][D];
    __shared__ bool is_last;

    const uint32_t split = blockIdx.x, sequence = blockIdx.z, start = split * p.split;
    // Reading the table need not wait for the sequence's length: the table has entries for every split.
    const uint32_t* table = p.tables + static_cast<size_t>(sequence) * p.table_stride + start / HIRED_PAGE;
    if (threadIdx.x < p.split / HIRED_PAGE) pages[threadIdx.x] = table[threadIdx.x];
    const uint32_t slot = p.slots[sequence];
    const uint32_t group = p.heads / p.kv_heads, parts = (group + G - 1) / G;
    const uint32_t kv_head = blockIdx.y / parts, member = blockIdx.y % parts * G;
    const uint32_t first_head = kv_head * group + member, heads = min(group - member, static_cast<uint32_t>(G));

    // A thread holds pairs of numbers: half of the threads those of every other head and of the row's value, the others
    // those of the remaining heads and of the row's key. All loads are issued before the first is waited for, including
    // those whose result is not needed.
    constexpr uint32_t PAIRS = HIRED_HEAD_DIM / 2, SIDES = THREADS / PAIRS;
    static_assert(SIDES == 2, "one for the value, one for the key");
    constexpr int TURNS = (G + SIDES - 1) / SIDES;
    const uint32_t half = p.head_dim / 2, pair = threadIdx.x % PAIRS, side = threadIdx.x / PAIRS;
    const HeadPair numbers(pair, p.turned, half);
    float low[TURNS] = {}, high[TURNS] = {}, own_low = 0.0f, own_high = 0.0f, angle = 0.0f;
    if (pair < half) {
        if (numbers.turns) angle = p.positions[sequence] * p.frequencies[pair];
        const T* row = static_cast<const T*>(side == 0 ? p.v : p.k);
        row += static_cast<size_t>(sequence) * p.kv_stride + kv_head * p.head_dim;
        own_low = to_float(row[numbers.low]), own_high = to_float(row[numbers.high]);
        row = static_cast<const T*>(p.q) + static_cast<size_t>(sequence) * p.q_stride + first_head * p.head_dim;
#pragma unroll
        for (int turn = 0; turn < TURNS; turn++) {
            const uint32_t g = turn * SIDES + side;
            if (g >= heads) continue;
            low[turn] = to_float(row[g * p.head_dim + numbers.low]), high[turn] = to_float(row[g * p.head_dim + numbers.high]);
        }
    }
    if (start > slot) return;

    const bool is_own = slot - start < p.split;
    const uint32_t stored = is_own ? slot - start : p.split; // keys of the split in the cache
    const Place place{sequence, kv_head, split, slot / p.split + 1, group, parts};
    const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    if (pair < half) {
        float sine, cosine;
        sincosf(angle, &sine, &cosine);
#pragma unroll
        for (int turn = 0; turn < TURNS; turn++) {
            const uint32_t g = turn * SIDES + side;
            if (g >= heads) continue;
            mixed[0][g][numbers.low] = low[turn] * cosine - high[turn] * sine;
            mixed[0][g][numbers.high] = high[turn] * cosine + low[turn] * sine;
        }
        const float x = side == 0 ? own_low : own_low * cosine - own_high * sine;
        const float y = side == 0 ? own_high : own_high * cosine + own_low * sine;
        own[1 - side][numbers.low] = to_float(from_float<T>(x));
        own[1 - side][numbers.high] = to_float(from_float<T>(y));
    }
    __syncthreads();

    const PagedKeys<T> keys(p.cache, pages, p.kv_heads, kv_head, p.head_dim, 0);
    const float unit = Weight<T>::unit(p.scale);
    Packed<T, N> even[ROUND][C], odd[ROUND][C];
    Lanes::load(keys.keys, keys, 0, stored, even);
    Lanes::load(keys.keys, keys, STRIDE, stored, odd);
    if (is_own && member == 0 && threadIdx.x < p.head_dim) {
        T* at = static_cast<T*>(p.cache) + (keys.keys - static_cast<const T*>(p.cache)) + keys.offset(stored) + threadIdx.x;
        at[0] = from_float<T>(own[0][threadIdx.x]);
        at[keys.values - keys.keys] = from_float<T>(own[1][threadIdx.x]);
    }
    // This thread's columns of a row in shared memory, 0 beyond head_dim.
    auto columns = [&](const float(&row)[D], float(&to)[C][N]) {
#pragma unroll
        for (int c = 0; c < C; c++)
#pragma unroll
            for (int n = 0; n < N; n++) to[c][n] = Lanes::column(c) < p.head_dim ? row[Lanes::column(c) + n] : 0.0f;
    };
    // The score of a key: the sum over all threads of the position, which all of them get.
    auto product = [&](const float(&a)[C][N], const float(&b)[C][N]) {
        float score = 0.0f;
#pragma unroll
        for (int c = 0; c < C; c++)
#pragma unroll
            for (int n = 0; n < N; n++) score += a[c][n] * b[c][n];
#pragma unroll
        for (uint32_t step = Lanes::LANES / 2; step > 0; step /= 2) score += __shfl_xor_sync(ALL_LANES, score, step);
        return score * unit;
    };
    const bool tells = threadIdx.x % Lanes::LANES == 0;
    float q[G][C][N];
#pragma unroll
    for (int g = 0; g < G; g++) columns(mixed[0][g], q[g]);
    auto score = [&](uint32_t first, const Packed<T, N>(&keys)[ROUND][C]) {
#pragma unroll
        for (int r = 0; r < ROUND; r++) {
            float x[C][N];
#pragma unroll
            for (int c = 0; c < C; c++) keys[r][c].unpack(x[c]);
#pragma unroll
            for (int g = 0; g < G; g++) {
                const float score = product(q[g], x);
                if (tells) weights[g][first + r * Lanes::POSITIONS + Lanes::position()] = score;
            }
        }
    };
    for (uint32_t first = 0; first < stored; first += 2 * STRIDE) {
        // The values' first rounds follow the keys' last ones.
        const uint32_t next = first + 2 * STRIDE;
        const bool more = next < stored;
        const T* from = more ? keys.keys : keys.values;
        const uint32_t at = more ? next : 0;
        score(first, even);
        Lanes::load(from, keys, at, stored, even);
        score(first + STRIDE, odd);
        Lanes::load(from, keys, at + STRIDE, stored, odd);
    }
    if (is_own) {
        float x[C][N];
        columns(own[0], x);
#pragma unroll
        for (int g = 0; g < G; g++) {
            const float score = product(q[g], x);
            // The thread that wrote this place before, if the last round reached beyond the keys.
            if (tells && Lanes::position() == stored % Lanes::POSITIONS) weights[g][stored] = score;
        }
    }
    __syncthreads();

    const uint32_t count = stored + is_own;
    for (uint32_t g = warp; g < heads; g += WARPS) {
        float top = -INFINITY, sum = 0.0f;
        for (uint32_t i = lane; i < count; i += WARP) top = fmaxf(top, weights[g][i]);
        top = warp_max(top);
        for (uint32_t i = lane; i < p.split; i += WARP) {
            const float weight = i < count ? Weight<T>::power(weights[g][i] - top) : 0.0f;
            weights[g][i] = weight;
            sum += weight;
        }
        sum = warp_sum(sum);
        if (lane == 0)
            reinterpret_cast<float2*>(p.weights)[place.row(p, first_head + g, split)] = make_float2(top, sum);
    }
    __syncthreads();

    float out[G][C][N] = {};
    auto mix = [&](uint32_t first, const Packed<T, N>(&values)[ROUND][C]) {
#pragma unroll
        for (int r = 0; r < ROUND; r++) {
            float x[C][N];
#pragma unroll
            for (int c = 0; c < C; c++) values[r][c].unpack(x[c]);
#pragma unroll
            for (int g = 0; g < G; g++) {
                const float weight = weights[g][first + r * Lanes::POSITIONS + Lanes::position()];
#pragma unroll
                for (int c = 0; c < C; c++)
#pragma unroll
                    for (int n = 0; n < N; n++) out[g][c][n] += weight * x[c][n];
            }
        }
    };
    for (uint32_t first = 0; first < stored; first += 2 * STRIDE) {
        const uint32_t next = first + 2 * STRIDE;
        mix(first, even);
        Lanes::load(keys.values, keys, next, stored, even);
        mix(first + STRIDE, odd);
        Lanes::load(keys.values, keys, next + STRIDE, stored, odd);
    }
    if (is_own && Lanes::position() == 0) {
        float x[C][N];
        columns(own[1], x);
#pragma unroll
        for (int g = 0; g < G; g++)
#pragma unroll
            for (int c = 0; c < C; c++)
#pragma unroll
                for (int n = 0; n < N; n++) out[g][c][n] += weights[g][stored] * x[c][n];
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
    for (uint32_t g = 0; g < heads && threadIdx.x < p.head_dim; g++) {
        float total = 0.0f;
#pragma unroll
        for (uint32_t w = 0; w < WARPS; w++) total += mixed[w][g][threadIdx.x];
        p.mixed[place.row(p, first_head + g, split) * p.head_dim + threadIdx.x] = total;
    }

    // The block's results must be visible to all before it counts as done. The last block resets the counter to 0.
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        const uint32_t last = place.splits * parts - 1;
        is_last = atomicInc(p.done + static_cast<size_t>(sequence) * p.kv_heads + kv_head, last) == last;
    }
    __syncthreads();
    if (!is_last) return;
    __threadfence();
    merge<T, D, N == 1 ? 1 : D / WARP, G>(p, place, mixed);

    const CodedRows& coded = params.coded;
    if (!coded.codes || !is_last_block(coded.done + sequence, p.kv_heads)) return;
    const uint32_t cols = p.heads * p.head_dim;
    const T* row = static_cast<const T*>(p.out) + static_cast<size_t>(sequence) * p.out_stride;
    round_written_row(row, cols, coded.codes + static_cast<size_t>(sequence) * cols, coded.scales + sequence);
}

// PRECOND: grid of (splits, kv_heads * (heads / kv_heads by the heads in the name, rounded up), sequences); block of
// 128 threads; head_dim even, at most 128 (64 where the name says so); turned at most head_dim / 2; split a multiple of
// HIRED_LEAST_SPLIT, at most HIRED_SPLIT; every slot below splits * split, which table_stride reaches; the tables hold a
// sequence's pages, the own slot's among them, and readable numbers behind; done is 0. With codes: out and codes
// multiples of 16, and so are heads * head_dim and out_stride.
// vector: cache a multiple of 16, head_dim whole vectors of 16 bytes. guarded: any.
// BLOCKS: blocks per multiprocessor. Without the bound, the compiler aims at one more and spills a few bytes.
#define BLOCKS(G) (G == 1 ? 7 : G == 4 ? 4 : 3)
#define DECODE(name, T, D, N, G)                                                                           \
    extern "C" __global__ void __launch_bounds__(HIRED_ATTENTION_THREADS, BLOCKS(G)) attention_decode_##name(CodedDecodeParams p) \
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
