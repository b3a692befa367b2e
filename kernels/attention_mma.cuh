// Attention of a block of queries on tensor cores: fp16 products, fp32 sums and softmax.
//
// 4 warps, each with 16 or 32 queries in registers. Scores leave the first product as the fragments that the
// second one takes, so they never see shared memory. Keys and values come in tiles of 32, the next one while one is
// computed with: by cp.async where the card has it, else through registers.
#pragma once

#include "attention.cuh"

// c += a b, 16 columns of a.
__device__ inline void mma16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    if constexpr (ptx::HAS_MMA_K16) {
        const uint32_t b[2] = {b0, b1};
        ptx::mma_m16n8k16(c, a, b);
    } else {
        const uint32_t low[2] = {a[0], a[1]}, high[2] = {a[2], a[3]};
        ptx::mma_m16n8k8(c, low, b0);
        ptx::mma_m16n8k8(c, high, b1);
    }
}

// D: columns that there is room for, 64 or 128.
template <int D>
struct MmaTile {
    static constexpr uint32_t THREADS = HIRED_ATTENTION_THREADS;
    // Blocks of 16 queries of a warp. What is read from shared memory is used once for each: two halve the reads, but
    // with 128 columns they would not fit the registers.
    static constexpr int M = D == 64 ? 2 : 1;
    static constexpr uint32_t ROWS = THREADS / WARP * 16 * M;
    static constexpr uint32_t KEYS = 32;
    static constexpr uint32_t PARTS = D / 8; // of 16 bytes, in a row
    static constexpr uint32_t STEP = THREADS / PARTS;
    static constexpr int LOADS = KEYS / STEP;

    // Where part `part` of row `row` lies in shared memory: the same part of eight rows in different banks.
    static __device__ uint32_t at(uint32_t row, uint32_t part)
    {
        return (row * PARTS + (part ^ row % 8)) * 8;
    }

    struct Shared {
        Half keys[KEYS * D];
        Half values[KEYS * D];
    };

    // A tile on its way to shared memory; rows from `count` on and columns from head_dim on are 0.
    struct Copy {
        uint4 held[2][ptx::HAS_CP_ASYNC ? 1 : LOADS];

        template <typename Keys>
        __device__ void begin(Shared& tile, const Keys& keys, uint32_t head_dim, uint32_t first, uint32_t count)
        {
            const uint32_t part = threadIdx.x % PARTS, row = threadIdx.x / PARTS;
#pragma unroll
            for (int i = 0; i < LOADS; i++) {
                const uint32_t key = first + row + i * STEP;
                const bool exists = key < count && part * 8 < head_dim;
                const size_t from = exists ? keys.offset(key) + part * 8 : 0;
                if constexpr (ptx::HAS_CP_ASYNC) {
                    const uint32_t to = at(row + i * STEP, part);
                    ptx::cp_async_16(tile.keys + to, keys.keys + from, exists ? 16 : 0);
                    ptx::cp_async_16(tile.values + to, keys.values + from, exists ? 16 : 0);
                } else {
                    held[0][i] = held[1][i] = make_uint4(0, 0, 0, 0);
                    if (exists) {
                        held[0][i] = *reinterpret_cast<const uint4*>(keys.keys + from);
                        held[1][i] = *reinterpret_cast<const uint4*>(keys.values + from);
                    }
                }
            }
            if constexpr (ptx::HAS_CP_ASYNC) ptx::cp_async_commit();
        }
        // After the next barrier all threads see the tile.
        __device__ void end(Shared& tile) const
        {
            if constexpr (ptx::HAS_CP_ASYNC) {
                ptx::cp_async_wait<0>();
            } else {
                const uint32_t part = threadIdx.x % PARTS, row = threadIdx.x / PARTS;
#pragma unroll
                for (int i = 0; i < LOADS; i++) {
                    const uint32_t to = at(row + i * STEP, part);
                    *reinterpret_cast<uint4*>(tile.keys + to) = held[0][i];
                    *reinterpret_cast<uint4*>(tile.values + to) = held[1][i];
                }
            }
        }
    };
};

// A warp's rows: of each of M blocks of 16, a lane has parts of rows lane / 4 and that + 8.
template <int D>
struct MmaRows {
    using Tile = MmaTile<D>;
    static constexpr int M = Tile::M, STEPS = D / 16, BLOCKS = Tile::KEYS / 8;

    uint32_t q[M][STEPS][4];
    float out[M][D / 8][4] = {};
    float greatest[M][2];
    float sum[M][2] = {};

    static __device__ uint32_t row(int m, int half)
    {
        return threadIdx.x / WARP * 16 * M + m * 16 + half * 8 + threadIdx.x % WARP / 4;
    }
    // Of a block of 8 columns or keys: this one and the next are the lane's.
    static __device__ uint32_t column()
    {
        return threadIdx.x % 4 * 2;
    }

    __device__ MmaRows(const Queries<Half>& queries)
    {
#pragma unroll
        for (int m = 0; m < M; m++) {
            greatest[m][0] = greatest[m][1] = -INFINITY;
#pragma unroll
            for (int step = 0; step < STEPS; step++)
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const uint32_t from_row = row(m, i % 2), from = step * 16 + i / 2 * 8 + column();
                    q[m][step][i] = 0;
                    if (from_row < queries.rows && from < queries.head_dim)
                        q[m][step][i] = *reinterpret_cast<const uint32_t*>(queries.row(from_row) + from);
                }
        }
    }

    __device__ void multiply_keys(const Half* keys, float (&score)[M][BLOCKS][4]) const
    {
        const uint32_t lane = threadIdx.x % WARP;
#pragma unroll
        for (int step = 0; step < STEPS; step++)
#pragma unroll
            for (int block = 0; block < BLOCKS; block += 2) {
                uint32_t b[4];
                ptx::ldmatrix_x4(b, keys + Tile::at(block * 8 + lane / 16 * 8 + lane % 8, step * 2 + lane / 8 % 2));
#pragma unroll
                for (int m = 0; m < M; m++) {
                    mma16(score[m][block], q[m][step], b[0], b[1]);
                    mma16(score[m][block + 1], q[m][step], b[2], b[3]);
                }
            }
    }

    // Scores of keys that a row does not see become nothing.
    template <typename Keys>
    __device__ void hide(const Keys& keys, uint32_t first, float (&score)[M][BLOCKS][4]) const
    {
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const uint32_t seen = keys.seen_by(row(m, i / 2));
#pragma unroll
                for (int block = 0; block < BLOCKS; block++)
                    if (first + block * 8 + column() + i % 2 >= seen) score[m][block][i] = -INFINITY;
            }
    }

    // Scores to weights, as the factors of the second product.
    __device__ void weigh(const float (&score)[M][BLOCKS][4], float unit, uint32_t (&weights)[M][BLOCKS / 2][4])
    {
        float correction[M][2];
        bool rises = false;
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float top = -INFINITY;
#pragma unroll
                for (int block = 0; block < BLOCKS; block++)
                    top = fmaxf(top, fmaxf(score[m][block][half * 2], score[m][block][half * 2 + 1]));
                top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, 1));
                top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, 2));
                // Key 0 is seen by every row, so this is finite from the first tile on.
                const float now = fmaxf(greatest[m][half], top * unit);
                rises |= now > greatest[m][half];
                correction[m][half] = Weight<Half>::power(greatest[m][half] - now);
                greatest[m][half] = now;
                sum[m][half] *= correction[m][half];
            }
        // Seldom after the first tiles.
        if (__any_sync(ALL_LANES, rises)) {
#pragma unroll
            for (int m = 0; m < M; m++)
#pragma unroll
                for (int block = 0; block < D / 8; block++)
#pragma unroll
                    for (int i = 0; i < 4; i++) out[m][block][i] *= correction[m][i / 2];
        }
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int half = 0; half < 2; half++)
#pragma unroll
                for (int block = 0; block < BLOCKS; block++) {
                    const float low = Weight<Half>::power(score[m][block][half * 2] * unit - greatest[m][half]);
                    const float high = Weight<Half>::power(score[m][block][half * 2 + 1] * unit - greatest[m][half]);
                    sum[m][half] += low + high;
                    weights[m][block / 2][block % 2 * 2 + half] = ptx::floats_to_halves(low, high);
                }
    }

    __device__ void add_values(const Half* values, const uint32_t (&weights)[M][BLOCKS / 2][4])
    {
        const uint32_t lane = threadIdx.x % WARP;
#pragma unroll
        for (int step = 0; step < BLOCKS / 2; step++)
#pragma unroll
            for (int block = 0; block < D / 8; block += 2) {
                uint32_t b[4];
                ptx::ldmatrix_x4_trans(b, values + Tile::at(step * 16 + lane % 16, block + lane / 16));
#pragma unroll
                for (int m = 0; m < M; m++) {
                    mma16(out[m][block], weights[m][step], b[0], b[1]);
                    mma16(out[m][block + 1], weights[m][step], b[2], b[3]);
                }
            }
    }

    __device__ void write(const Queries<Half>& queries)
    {
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                sum[m][half] += __shfl_xor_sync(ALL_LANES, sum[m][half], 1);
                sum[m][half] += __shfl_xor_sync(ALL_LANES, sum[m][half], 2);
            }
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                if (row(m, half) >= queries.rows) continue;
                const float inverse = __fdividef(1.0f, sum[m][half]);
                Half* to = queries.out_row(row(m, half)) + column();
#pragma unroll
                for (int block = 0; block < D / 8; block++) {
                    const float (&x)[4] = out[m][block];
                    if (block * 8 < queries.head_dim)
                        *reinterpret_cast<uint32_t*>(to + block * 8) =
                            ptx::floats_to_halves(x[half * 2] * inverse, x[half * 2 + 1] * inverse);
                }
            }
    }
};

// PRECOND: block of 128 threads, all of which arrive; head_dim at most D and whole vectors; q, out, keys and values
// multiples of 16 with strides of whole vectors.
template <int D, typename Keys>
__device__ void attend_mma(const Queries<Half>& queries, const Keys& keys, float scale)
{
    using Tile = MmaTile<D>;
    using Rows = MmaRows<D>;
    __shared__ __align__(16) typename Tile::Shared tiles[2];
    const uint32_t count = keys.seen_by(min(queries.rows, Tile::ROWS) - 1);
    const uint32_t warp_first = threadIdx.x / WARP * 16 * Tile::M, warp_last = warp_first + 16 * Tile::M - 1;
    const float unit = Weight<Half>::unit(scale);

    typename Tile::Copy copy;
    copy.begin(tiles[0], keys, queries.head_dim, 0, count);
    Rows rows(queries);
    for (uint32_t first = 0, now = 0; first < count; first += Tile::KEYS, now ^= 1) {
        copy.end(tiles[now]);
        __syncthreads(); // shows the tile; the one before is done with
        if (first + Tile::KEYS < count) copy.begin(tiles[now ^ 1], keys, queries.head_dim, first + Tile::KEYS, count);
        // A warp leaves keys alone that none of its rows sees, and all of them if it has no row.
        if (warp_first >= queries.rows || first >= keys.seen_by(warp_last)) continue;
        float score[Rows::M][Rows::BLOCKS][4] = {};
        rows.multiply_keys(tiles[now].keys, score);
        if (first + Tile::KEYS > keys.seen_by(warp_first)) rows.hide(keys, first, score);
        uint32_t weights[Rows::M][Rows::BLOCKS / 2][4];
        rows.weigh(score, unit, weights);
        rows.add_values(tiles[now].values, weights);
    }
    rows.write(queries);
}
