// Attention of a block of queries by fp32 FMA: for f32 on every GPU, and for f16 on GPUs without mma and for shapes
// that the mma kernels do not support.
//
// 128 threads in 8 groups of 16. Thread c of group r has queries 4r to 4r + 3 of every 32, keys 4c to 4c + 3 of a tile
// of 64, and columns 4c to 4c + 3 of every 64. Keys and values pass through shared memory in chunks of 2048 numbers,
// widened to fp32 on the way in, because on Pascal a conversion costs as much as several FMA. While one chunk is used,
// the next is loaded to registers.
//
// Queries and keys are stored in shared memory by columns, so that both products are sums of outer products: a thread
// reads a few numbers of a column and of a row and multiplies all pairs. For dot products along rows, both factors of
// an FFMA would have the same place in two loads of 16 bytes. The compiler puts those into registers of one bank, which
// Pascal reads one after the other.
#pragma once

#include "attention.cuh"

// N numbers in their stored format.
template <typename T, int N>
struct Raw {
    static_assert(N == LANES<T>, "16 bytes or one number");
    uint4 bits;

    __device__ void load(const T* from)
    {
        bits = *reinterpret_cast<const uint4*>(from);
    }
    __device__ void clear()
    {
        bits = make_uint4(0, 0, 0, 0);
    }
    __device__ void widen(float (&to)[N]) const
    {
        const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
        unpack(words, to, T{});
    }
};

template <typename T>
struct Raw<T, 1> {
    T number;

    __device__ void load(const T* from)
    {
        number = *from;
    }
    __device__ void clear()
    {
        number = from_float<T>(0.0f);
    }
    __device__ void widen(float (&to)[1]) const
    {
        to[0] = to_float(number);
    }
};

// D: the most columns, 64 or 128. N: numbers of a load.
template <typename T, int D, int N>
struct FmaTile {
    static constexpr uint32_t THREADS = HIRED_ATTENTION_THREADS;
    static constexpr uint32_t GROUP = 16;
    static constexpr uint32_t GROUPS = THREADS / GROUP;
    static constexpr uint32_t ROWS = D == 64 ? 64 : 32;
    // Blocks that fit into the 96 KB of shared memory of a Pascal multiprocessor.
    static constexpr int BLOCKS = D == 64 ? 2 : 3;
    static constexpr uint32_t KEYS = 64;
    static constexpr uint32_t CHUNK = 2048;
    static constexpr uint32_t CHUNK_COLUMNS = CHUNK / KEYS; // columns of keys in a chunk
    static constexpr uint32_t CHUNK_VALUES = CHUNK / D;     // whole values in a chunk
    static constexpr int M = ROWS / GROUPS;
    static constexpr int C = D / GROUP;
    static constexpr int LOADS = CHUNK / THREADS / N;

    struct Shared {
        float q[D * ROWS];           // [column][query]
        float weights[ROWS * KEYS];  // [query][key]
        float chunk[CHUNK];          // of keys [column][key], or of values [key][column]
    };

    // A warp makes PARTS neighbouring loads of each of WARP / PARTS neighbouring rows.
    static constexpr uint32_t PARTS = N == 8 ? 4 : 8;
    // The row of load `at`, when all threads load this many rows.
    static constexpr __device__ uint32_t row_of(uint32_t at, uint32_t rows)
    {
        return at / PARTS % rows;
    }
    static constexpr __device__ uint32_t column_of(uint32_t at, uint32_t rows)
    {
        return (at / (PARTS * rows) * PARTS + at % PARTS) * N;
    }
    // The rows of a column are XORed with this in arrays stored by columns. The numbers that a warp stores at a time
    // are then in different banks, and four neighbouring rows stay together.
    static constexpr __device__ uint32_t turn(uint32_t column)
    {
        return column / N % PARTS * (WARP / PARTS);
    }
    // Whether the numbers that a warp stores at a time are in different banks.
    static constexpr __device__ bool are_stores_apart(uint32_t rows)
    {
        for (uint32_t first = 0; first < THREADS; first += WARP) {
            uint32_t banks = 0;
            for (uint32_t at = first; at < first + WARP; at++)
                banks |= 1u << (column_of(at, rows) * rows + (row_of(at, rows) ^ turn(column_of(at, rows)))) % WARP;
            if (banks != ALL_LANES) return false;
        }
        return true;
    }
    static __device__ void store_turned(float* to, uint32_t rows, uint32_t at, const Raw<T, N>& raw)
    {
        const uint32_t row = row_of(at, rows), column = column_of(at, rows);
        float x[N];
        raw.widen(x);
#pragma unroll
        for (int e = 0; e < N; e++) to[(column + e) * rows + (row ^ turn(column))] = x[e];
    }
    // The i-th query of a thread in a group.
    static __device__ uint32_t query(uint32_t group, int i)
    {
        return i / 4 * 32 + group * 4 + i % 4;
    }
    // Index of the weights of a group's queries for `key`. Both groups of a warp read at a time, from different banks.
    static __device__ uint32_t weight(uint32_t group, uint32_t key)
    {
        return key ^ group % 2 * 16;
    }

    // A chunk in registers, before it is stored: 16 numbers of each thread.
    struct Chunk {
        Raw<T, N> raw[LOADS];

        template <typename Keys>
        __device__ void load_keys(const Keys& keys, uint32_t head_dim, uint32_t first, uint32_t count, uint32_t column)
        {
#pragma unroll
            for (int i = 0; i < LOADS; i++) {
                const uint32_t at = i * THREADS + threadIdx.x;
                const uint32_t key = first + row_of(at, KEYS), from = column + column_of(at, KEYS);
                raw[i].clear();
                if (key < count && from < head_dim) raw[i].load(keys.keys + keys.offset(key) + from);
            }
        }
        template <typename Keys>
        __device__ void load_values(const Keys& keys, uint32_t head_dim, uint32_t first, uint32_t count)
        {
#pragma unroll
            for (int i = 0; i < LOADS; i++) {
                const uint32_t at = i * THREADS + threadIdx.x, key = first + at / (D / N);
                const uint32_t from = at % (D / N) * N;
                raw[i].clear();
                if (key < count && from < head_dim) raw[i].load(keys.values + keys.offset(key) + from);
            }
        }
        __device__ void store_keys(float* chunk) const
        {
#pragma unroll
            for (int i = 0; i < LOADS; i++) store_turned(chunk, KEYS, i * THREADS + threadIdx.x, raw[i]);
        }
        __device__ void store_values(float* chunk) const
        {
#pragma unroll
            for (int i = 0; i < LOADS; i++) {
                float x[N];
                raw[i].widen(x);
                ::store(chunk + (i * THREADS + threadIdx.x) * N, x);
            }
        }
    };
};

// Loads four numbers from shared memory.
__device__ inline void load4(const float* from, float (&to)[4])
{
    load(from, to);
}

// PRECOND: block of 128 threads, all of which arrive; head_dim at most D. N > 1: q, keys and values multiples of
// 16, head_dim and strides whole vectors; out a multiple of 16 or, in f16, of 8.
template <typename T, int D, int N, typename Keys>
__device__ void attend_fma(const Queries<T>& queries, const Keys& keys, float scale)
{
    using Tile = FmaTile<T, D, N>;
    constexpr int M = Tile::M, C = Tile::C;
    static_assert(Tile::are_stores_apart(Tile::KEYS) && Tile::are_stores_apart(Tile::ROWS), "no bank conflicts");
    __shared__ __align__(16) typename Tile::Shared shared;
    const uint32_t group = threadIdx.x / Tile::GROUP, lane = threadIdx.x % Tile::GROUP;
    const uint32_t head_dim = queries.head_dim;
    const uint32_t count = keys.seen_by(min(queries.rows, Tile::ROWS) - 1);
    const float unit = Weight<T>::unit(scale);

    typename Tile::Chunk next;
    next.load_keys(keys, head_dim, 0, count, 0);
    for (uint32_t at = threadIdx.x; at < Tile::ROWS * (D / N); at += Tile::THREADS) {
        const uint32_t row = Tile::row_of(at, Tile::ROWS), from = Tile::column_of(at, Tile::ROWS);
        Raw<T, N> raw;
        raw.clear();
        if (row < queries.rows && from < head_dim) raw.load(queries.row(row) + from);
        Tile::store_turned(shared.q, Tile::ROWS, at, raw);
    }

    float out[M][C] = {}, greatest[M], sum[M] = {};
#pragma unroll
    for (int i = 0; i < M; i++) greatest[i] = -INFINITY;

    for (uint32_t first = 0; first < count; first += Tile::KEYS) {
        float score[M][4] = {};
#pragma unroll 1
        for (uint32_t column = 0; column < head_dim; column += Tile::CHUNK_COLUMNS) {
            __syncthreads(); // all threads have finished with the chunk before
            next.store_keys(shared.chunk);
            __syncthreads();
            if (column + Tile::CHUNK_COLUMNS < head_dim)
                next.load_keys(keys, head_dim, first, count, column + Tile::CHUNK_COLUMNS);
            else
                next.load_values(keys, head_dim, first, count);
#pragma unroll
            for (uint32_t d = 0; d < Tile::CHUNK_COLUMNS; d++) {
                float b[4];
                load4(shared.chunk + d * Tile::KEYS + (lane * 4 ^ Tile::turn(d)), b);
#pragma unroll
                for (int part = 0; part < M; part += 4) {
                    float a[4];
                    load4(shared.q + (column + d) * Tile::ROWS + (Tile::query(group, part) ^ Tile::turn(d)), a);
#pragma unroll
                    for (int i = 0; i < 4; i++)
#pragma unroll
                        for (int j = 0; j < 4; j++) score[part + i][j] += a[i] * b[j];
                }
            }
        }

#pragma unroll
        for (int i = 0; i < M; i++) {
            const uint32_t row = Tile::query(group, i), seen = keys.seen_by(row);
            float top = -INFINITY;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                if (first + lane * 4 + j >= seen) score[i][j] = -INFINITY;
                top = fmaxf(top, score[i][j]);
            }
#pragma unroll
            for (int step = Tile::GROUP / 2; step > 0; step /= 2) top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, step));
            // Every row sees key 0, so this is finite from the first tile on.
            const float now = fmaxf(greatest[i], top * unit);
            const float correction = Weight<T>::power(greatest[i] - now);
            greatest[i] = now;
            sum[i] *= correction;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                score[i][j] = Weight<T>::power(score[i][j] * unit - now);
                sum[i] += score[i][j];
            }
            store(shared.weights + row * Tile::KEYS + Tile::weight(group, lane * 4), score[i]);
#pragma unroll
            for (int c = 0; c < C; c++) out[i][c] *= correction;
        }
        // A row's weights are read by the 16 threads that wrote them; the barriers below order these accesses too.

#pragma unroll 1
        for (uint32_t done = 0; done < Tile::KEYS; done += Tile::CHUNK_VALUES) {
            __syncthreads();
            next.store_values(shared.chunk);
            __syncthreads();
            if (done + Tile::CHUNK_VALUES < Tile::KEYS)
                next.load_values(keys, head_dim, first + done + Tile::CHUNK_VALUES, count);
            else
                next.load_keys(keys, head_dim, first + Tile::KEYS, count, 0);
#pragma unroll
            for (uint32_t k = 0; k < Tile::CHUNK_VALUES; k += 4) {
                float a[M][4];
#pragma unroll
                for (int i = 0; i < M; i++)
                    load4(shared.weights + Tile::query(group, i) * Tile::KEYS + Tile::weight(group, done + k), a[i]);
#pragma unroll
                for (int e = 0; e < 4; e++)
#pragma unroll
                    for (int part = 0; part < C; part += 4) {
                        float b[4];
                        load4(shared.chunk + (k + e) * D + part * Tile::GROUP + lane * 4, b);
#pragma unroll
                        for (int i = 0; i < M; i++)
#pragma unroll
                            for (int c = 0; c < 4; c++) out[i][part + c] += a[i][e] * b[c];
                    }
            }
        }
    }

#pragma unroll
    for (int i = 0; i < M; i++)
#pragma unroll
        for (int step = Tile::GROUP / 2; step > 0; step /= 2) sum[i] += __shfl_xor_sync(ALL_LANES, sum[i], step);
#pragma unroll
    for (int i = 0; i < M; i++) {
        const uint32_t row = Tile::query(group, i);
        if (row >= queries.rows) break;
        const float inverse = __fdividef(1.0f, sum[i]);
#pragma unroll
        for (int part = 0; part < C; part += 4) {
            const uint32_t column = part * Tile::GROUP + lane * 4;
            float x[4];
#pragma unroll
            for (int c = 0; c < 4; c++) x[c] = out[i][part + c] * inverse;
            if constexpr (N > 1) {
                if (column < head_dim) store(queries.out_row(row) + column, x);
            } else {
#pragma unroll
                for (int c = 0; c < 4; c++)
                    if (column + c < head_dim) queries.out_row(row)[column + c] = from_float<T>(x[c]);
            }
        }
    }
}
