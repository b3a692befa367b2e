// Attention of a block of queries on tensor cores: fp16 factors, fp32 sums and softmax.
//
// 4 warps, each with 16 or 32 queries in registers. The fragments of scores that the first product leaves are those
// that the second one takes, so scores never pass through shared memory. Tiles of 64 keys or values are loaded by
// cp.async where the GPU has it, otherwise through registers: the values while the scores are computed, and the next
// keys while the values are used.
//
// By instruction counts, the instructions around the products are the limit on large GPUs. Therefore a lane computes
// its addresses once, and tiles that no row's end can touch have a loop of their own without bounds checks.
#pragma once

#include "attention.cuh"

// c += a b, with 16 columns of a.
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

// COLUMNS: the most columns, 64 or 128.
template <int COLUMNS, uint32_t TILE_KEYS = 64>
struct MmaTile {
    static constexpr int D = COLUMNS;
    static constexpr uint32_t THREADS = HIRED_ATTENTION_THREADS;
    // Number of 16-query blocks of a warp. A read from shared memory serves all of them: with two, the reads are
    // halved, but with 128 columns they would not fit into the registers.
    static constexpr int M = D == 64 ? 2 : 1;
    static constexpr uint32_t ROWS = THREADS / WARP * 16 * M;
    static constexpr uint32_t KEYS = TILE_KEYS;
    static constexpr uint32_t PARTS = D / 8; // vectors of 16 bytes in a row
    static constexpr uint32_t STEP = THREADS / PARTS;
    static constexpr int LOADS = KEYS / STEP; // loads of a thread: one vector of rows STEP apart

    // Index in shared memory of part `part` of row `row`. The same part of eight rows is in eight different banks.
    static __device__ uint32_t at(uint32_t row, uint32_t part)
    {
        return row * D + (part ^ row % 8) * 8;
    }

    struct Shared {
        Half keys[KEYS * D];
        Half values[KEYS * D];
    };
};

// Offsets in bytes of a thread's rows in a tile (its first row and each STEP-th one after it) from its row in the first
// tile. WHOLE: the tile has all its keys, and heads have D columns.
template <typename Keys, typename Tile>
struct Places;

template <typename Tile>
struct Places<DenseKeys<Half>, Tile> {
    uint32_t pitch; // bytes from key to key

    __device__ Places(const DenseKeys<Half>& keys) : pitch(keys.stride * sizeof(Half)) {}
    template <bool WHOLE>
    __device__ void turn_to(uint32_t, uint32_t)
    {
    }
    template <bool WHOLE>
    __device__ size_t at(uint32_t first, int i) const
    {
        return (first + i * Tile::STEP) * static_cast<size_t>(pitch);
    }
};

// The page numbers of a tile are loaded long before they are needed.
template <typename Tile>
struct Places<PagedKeys<Half>, Tile> {
    static constexpr uint32_t STEP = Tile::STEP, PAGES = Tile::KEYS / HIRED_PAGE;
    static_assert(HIRED_PAGE % STEP == 0, "a load of all threads lies in one page");
    const uint32_t* pages;
    uint32_t page_bytes, pitch;
    uint32_t page[PAGES];

    __device__ Places(const PagedKeys<Half>& keys)
        : pages(keys.pages), page_bytes(keys.page_stride * sizeof(Half)), pitch(keys.head_dim * sizeof(Half))
    {
    }
    template <bool WHOLE>
    __device__ void turn_to(uint32_t first, uint32_t count)
    {
#pragma unroll
        for (uint32_t i = 0; i < PAGES; i++) {
            const uint32_t of = first / HIRED_PAGE + i;
            page[i] = pages[WHOLE ? of : min(of, (count - 1) / HIRED_PAGE)];
        }
    }
    template <bool WHOLE>
    __device__ size_t at(uint32_t, int i) const
    {
        const uint32_t slot = i * STEP % HIRED_PAGE;
        return page[i * STEP / HIRED_PAGE] * static_cast<size_t>(page_bytes) +
               slot * (WHOLE ? static_cast<uint32_t>(Tile::D * sizeof(Half)) : pitch);
    }
};

// Copies the keys or values of a tile to shared memory; rows from `count` on and columns from head_dim on become 0.
template <typename Keys, typename Tile>
struct MmaCopy {
    Places<Keys, Tile> places;
    const char *keys, *values; // at the thread's row and column
    uint32_t head_dim, count, to;
    uint4 held[ptx::HAS_CP_ASYNC ? 1 : Tile::LOADS];

    __device__ MmaCopy(const Keys& from, uint32_t head_dim, uint32_t count)
        : places(from), head_dim(head_dim), count(count), to(Tile::at(row(), part()))
    {
        const size_t at = row() * static_cast<size_t>(places.pitch) + part() * 16;
        keys = reinterpret_cast<const char*>(from.keys) + at;
        values = reinterpret_cast<const char*>(from.values) + at;
    }
    static __device__ uint32_t row()
    {
        return threadIdx.x / Tile::PARTS;
    }
    static __device__ uint32_t part()
    {
        return threadIdx.x % Tile::PARTS;
    }

    // PRECOND: `places` was turned to the tile that starts at key `first`.
    template <bool WHOLE>
    __device__ void begin(Half* tile, const char* from, uint32_t first)
    {
#pragma unroll
        for (int i = 0; i < Tile::LOADS; i++) {
            const bool exists = WHOLE || (part() * 8 < head_dim && first + row() + i * Tile::STEP < count);
            const char* at = from + places.template at<WHOLE>(first, i);
            if constexpr (ptx::HAS_CP_ASYNC) {
                ptx::cp_async_16(tile + to + i * Tile::STEP * Tile::D, at, exists ? 16 : 0);
            } else {
                if constexpr (!WHOLE) held[i] = make_uint4(0, 0, 0, 0);
                if (exists) held[i] = *reinterpret_cast<const uint4*>(at);
            }
        }
        if constexpr (ptx::HAS_CP_ASYNC) ptx::cp_async_commit();
    }
    // After the next barrier all threads see the tile.
    __device__ void end(Half* tile) const
    {
        if constexpr (ptx::HAS_CP_ASYNC) {
            ptx::cp_async_wait<0>();
        } else {
#pragma unroll
            for (int i = 0; i < Tile::LOADS; i++)
                *reinterpret_cast<uint4*>(tile + to + i * Tile::STEP * Tile::D) = held[i];
        }
    }
};

// A warp's rows. Of each of M blocks of 16 rows, a lane has parts of rows lane / 4 and lane / 4 + 8.
template <typename Tile>
struct MmaRows {
    static constexpr int D = Tile::D, M = Tile::M, STEPS = D / 16, BLOCKS = Tile::KEYS / 8;

    uint32_t q[M][STEPS][4];
    float out[M][D / 8][4] = {};
    float greatest[M][2];
    float sum[M][2] = {};
    // Addresses of the lane's rows for ldmatrix, for parts 2i and 2i + 1. Other rows and parts are at constant offsets.
    uint32_t key_at[4], value_at[4];

    static __device__ uint32_t row(int m, int half)
    {
        return threadIdx.x / WARP * 16 * M + m * 16 + half * 8 + threadIdx.x % WARP / 4;
    }
    // The lane's first column or key in a block of 8; the lane has this one and the next.
    static __device__ uint32_t column()
    {
        return threadIdx.x % 4 * 2;
    }

    __device__ MmaRows(const Queries<Half>& queries)
    {
        const uint32_t lane = threadIdx.x % WARP;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            key_at[i] = Tile::at(lane / 16 * 8 + lane % 8, i * 2 + lane / 8 % 2);
            value_at[i] = Tile::at(lane % 16, i * 2 + lane / 16);
        }
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
#pragma unroll
        for (int step = 0; step < STEPS; step++)
#pragma unroll
            for (int block = 0; block < BLOCKS; block += 2) {
                uint32_t b[4];
                ptx::ldmatrix_x4(b, keys + key_at[step % 4] + block * 8 * D + step / 4 * 64);
#pragma unroll
                for (int m = 0; m < M; m++) {
                    mma16(score[m][block], q[m][step], b[0], b[1]);
                    mma16(score[m][block + 1], q[m][step], b[2], b[3]);
                }
            }
    }

    // Masks the scores of keys that a row does not see.
    template <typename Keys>
    __device__ void hide(const Keys& keys, uint32_t first, float (&score)[M][BLOCKS][4]) const
    {
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int seen = static_cast<int>(keys.seen_by(row(m, i / 2)) - first - column());
#pragma unroll
                for (int block = 0; block < BLOCKS; block++)
                    if (block * 8 + i % 2 >= seen) score[m][block][i] = -INFINITY;
            }
    }

    // Turns scores into weights, in the layout that the second product takes.
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
                // Every row sees key 0, so this is finite from the first tile on.
                const float now = fmaxf(greatest[m][half], top * unit);
                rises |= now > greatest[m][half];
                correction[m][half] = Weight<Half>::power(greatest[m][half] - now);
                greatest[m][half] = now;
                sum[m][half] *= correction[m][half];
            }
        // Rare after the first tiles.
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
#pragma unroll
        for (int step = 0; step < BLOCKS / 2; step++)
#pragma unroll
            for (int block = 0; block < D / 8; block += 2) {
                uint32_t b[4];
                ptx::ldmatrix_x4_trans(b, values + value_at[block / 2 % 4] + step * 16 * D + block / 8 * 64);
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

// The work of a block.
template <typename Keys, typename Tile>
struct MmaAttention {
    using Rows = MmaRows<Tile>;
    typename Tile::Shared& tile;
    const Keys& keys;
    uint32_t count;      // keys that any row of the block sees
    uint32_t warp_first; // row of the warp
    uint32_t seen;       // keys that any row of the warp sees; 0 if it has no row
    float unit;
    MmaCopy<Keys, Tile> copy;
    Rows rows;

    __device__ MmaAttention(typename Tile::Shared& tile, const Queries<Half>& queries, const Keys& keys, float scale)
        : tile(tile),
          keys(keys),
          count(keys.seen_by(min(queries.rows, Tile::ROWS) - 1)),
          warp_first(threadIdx.x / WARP * 16 * Tile::M),
          seen(warp_first < queries.rows ? min(keys.seen_by(warp_first + 16 * Tile::M - 1), count) : 0),
          unit(Weight<Half>::unit(scale)),
          copy(keys, queries.head_dim, count),
          rows(queries)
    {
    }

    // Computes the tile that starts at key `first`. WHOLE: it and the next tile have all their keys, every row of the
    // block sees all keys of this one, and heads are D wide.
    template <bool WHOLE>
    __device__ void step(uint32_t first)
    {
        copy.end(tile.keys);
        __syncthreads(); // makes the keys visible; all threads have finished with the values before
        copy.template begin<WHOLE>(tile.values, copy.values, first);
        copy.places.template turn_to<WHOLE>(first + Tile::KEYS, count);
        float score[Rows::M][Rows::BLOCKS][4] = {};
        // A warp skips keys that none of its rows sees.
        if (WHOLE || first < seen) rows.multiply_keys(tile.keys, score);
        copy.end(tile.values);
        __syncthreads(); // makes the values visible; all threads have finished with the keys
        if (WHOLE || first + Tile::KEYS < count) copy.template begin<WHOLE>(tile.keys, copy.keys, first + Tile::KEYS);
        if (!WHOLE && first >= seen) return;
        if (!WHOLE && first + Tile::KEYS > keys.seen_by(warp_first)) rows.hide(keys, first, score);
        uint32_t weights[Rows::M][Rows::BLOCKS / 2][4];
        rows.weigh(score, unit, weights);
        rows.add_values(tile.values, weights);
    }
};

// Two blocks of 16 queries, 64 scores of each, the keys in flight and the page numbers do not fit into the registers.
template <int D>
constexpr __device__ uint32_t tile_keys(const PagedKeys<Half>*)
{
    return D == 64 && !ptx::HAS_CP_ASYNC ? 32 : 64;
}
template <int D>
constexpr __device__ uint32_t tile_keys(const DenseKeys<Half>*)
{
    return 64;
}

// PRECOND: block of 128 threads, all of which arrive; head_dim at most D and whole vectors; q, out, keys and values
// multiples of 16 with strides of whole vectors.
template <int D, typename Keys>
__device__ void attend_mma(const Queries<Half>& queries, const Keys& keys, float scale)
{
    using Tile = MmaTile<D, tile_keys<D>(static_cast<const Keys*>(nullptr))>;
    __shared__ __align__(16) typename Tile::Shared tile;
    MmaAttention<Keys, Tile> attention(tile, queries, keys, scale);
    attention.copy.places.template turn_to<false>(0, attention.count);
    attention.copy.template begin<false>(tile.keys, attention.copy.keys, 0);
    // Nearly all tiles of a long context need no bounds checks.
    const uint32_t whole = queries.head_dim == D ? min(attention.count, keys.seen_by(0)) : 0;
    uint32_t first = 0;
    for (; first + 2 * Tile::KEYS <= whole; first += Tile::KEYS) attention.template step<true>(first);
    for (; first < attention.count; first += Tile::KEYS) attention.template step<false>(first);
    attention.rows.write(queries);
}
