// Matrix products on tensor cores, of fp16 with sums in fp32 and of int8 with sums in int32. A matrix of 8 by 8 fp16
// has the bytes of one of 8 by 16 int8, so both share tiles and fragments; only the mma differs.
//
// Four warps share a tile, two by two. For a step of 16, a warp of the large tile reads 64 rows of x and 64 of w by 8
// ldmatrix.x4 (4 KB, 32 clocks of shared memory) for 64x64x16 multiply-adds (64 clocks of an A100's tensor cores, 128
// of a T4's). With smaller warp tiles shared memory would be the limit.
#pragma once

#include "gemm.cuh"
#include "mma.cuh"
#include "scales.cuh"

// Numbers of a row in a tile: 64 bytes, four vectors.
template <typename T>
constexpr int MMA_STEP = 64 / sizeof(T);
constexpr int MMA_THREADS = 128;

// The type of sums of products of T.
template <typename T>
struct SumOf {
    typedef float Number;
};

template <>
struct SumOf<int8_t> {
    typedef int32_t Number;
};

// Vectors are permuted from row to row, so that neither the 8 rows of a matrix nor 8 lanes that write meet in one bank.
template <typename T>
__device__ inline uint32_t tile_offset(uint32_t row, uint32_t vector)
{
    return row * MMA_STEP<T> + (vector ^ (row / 2 % 4)) * LANES<T>;
}

// Moves SIZE rows of x or w, with four lanes for a row. `From` is the type of a row's start.
template <typename From, int SIZE>
struct Rows {
    static constexpr int VECTORS = SIZE * 4 / MMA_THREADS;

    From from[VECTORS];

    // `row_of` gives the start of a row of the tile.
    template <typename RowOf>
    __device__ explicit Rows(RowOf row_of)
    {
#pragma unroll
        for (int v = 0; v < VECTORS; v++) from[v] = row_of(row(v));
    }

    __device__ static uint32_t row(int v)
    {
        return threadIdx.x / 4 + v * (MMA_THREADS / 4);
    }

    // The lane's vector in a row.
    __device__ static uint32_t vector()
    {
        return threadIdx.x % 4;
    }
};

// The sums of a warp's part of the tile.
template <typename T, int ROWS, int COLS>
struct WarpTile {
    typedef typename SumOf<T>::Number Number;
    static constexpr int HIGH = ROWS / 2, WIDE = COLS / 2; // rows and columns of the warp's part
    static constexpr int LINES = 32;                       // lines of the epilogue at a time

    Number sums[HIGH / 16][WIDE / 8][4] = {};

    __device__ static uint32_t row()
    {
        return threadIdx.x / WARP / 2 * HIGH;
    }

    __device__ static uint32_t col()
    {
        return threadIdx.x / WARP % 2 * WIDE;
    }

    // Adds one step: x [ROWS, MMA_STEP] and w [COLS, MMA_STEP] in shared memory.
    __device__ void add(const T* x, const T* w)
    {
        const uint32_t lane = threadIdx.x % WARP;
#pragma unroll
        for (int k = 0; k < MMA_STEP<T> / LANES<T>; k += 2) {
            uint32_t a[HIGH / 16][4], b[WIDE / 16][4];
#pragma unroll
            for (int i = 0; i < HIGH / 16; i++)
                ptx::ldmatrix_x4(a[i], x + tile_offset<T>(row() + i * 16 + lane % 16, k + lane / 16));
#pragma unroll
            for (int j = 0; j < WIDE / 16; j++)
                ptx::ldmatrix_x4(b[j], w + tile_offset<T>(col() + j * 16 + lane / 16 * 8 + lane % 8, k + lane / 8 % 2));
#pragma unroll
            for (int i = 0; i < HIGH / 16; i++)
#pragma unroll
                for (int j = 0; j < WIDE / 8; j++)
                    multiply(sums[i][j], a[i], {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]});
        }
    }

    // Stores the sums to out as Out, N at a time, through BYTES of shared `memory` that nothing else uses any more.
    template <typename Out, int N, int BYTES, typename Scaled>
    __device__ void write(const GemmParams& p, const Tile<ROWS, COLS>& tile, unsigned char (&memory)[BYTES],
                          Scaled scaled) const
    {
        static_assert(BYTES >= 4 * LINES * WIDE * 4, "room for four slabs");
        const uint32_t lane = threadIdx.x % WARP;
        const Slab<WIDE> slab{reinterpret_cast<float*>(memory) + threadIdx.x / WARP * LINES * WIDE};
#pragma unroll
        for (int first = 0; first < HIGH; first += LINES) {
#pragma unroll
            for (int i = 0; i < LINES; i += 8)
#pragma unroll
                for (int j = 0; j < WIDE / 8; j++)
                    store_two(slab.number(i + lane / 4, j * 8 + lane % 4 * 2), sums[(first + i) / 16][j] + i / 8 % 2 * 2);
            finish<Out, N, LINES>(
                p, tile, slab, col(), [=](uint32_t line) { return tile.row + row() + first + line; }, scaled);
        }
    }

    // Stores the bits of two sums.
    __device__ static void store_two(float* to, const float* two)
    {
        *reinterpret_cast<float2*>(to) = make_float2(two[0], two[1]);
    }

    __device__ static void store_two(float* to, const int32_t* two)
    {
        *reinterpret_cast<int2*>(to) = make_int2(two[0], two[1]);
    }
};

// Bytes of shared memory of STAGES steps, and at least those that the epilogues of four warps need.
template <int ROWS, int COLS, int STAGES, int SLABS = 4 * WarpTile<Half, ROWS, COLS>::LINES * COLS / 2 * 4>
constexpr int MMA_BYTES = STAGES * (ROWS + COLS) * 64 > SLABS ? STAGES * (ROWS + COLS) * 64 : SLABS;

// A vector of a row of T, copied to shared memory unchanged.
template <typename T, bool GUARDED>
struct PlainVector {
    typedef T Number;

    const T* row;
    uint4 held;

    // The start of a weight's row.
    template <typename Params, typename Tile, typename At>
    __device__ static PlainVector of(const Params& params, const Tile& tile, At at)
    {
        return {plain_row<T>(product(params), tile, at), {}};
    }

    __device__ void read(uint32_t k, uint32_t inner)
    {
        held = fetch<GUARDED>(row, k, inner);
    }

    __device__ uint4 numbers() const
    {
        return held;
    }
};

// GEMM with two buffers in shared memory: the next step is loaded to registers while this one is multiplied. X and W
// are the vector types of the factors.
template <typename X, typename W, typename Out, int OUTS, int ROWS, int COLS, typename Params, typename Scaled>
__device__ void gemm_mma_staged(const Params& params, Scaled scaled)
{
    typedef typename X::Number T;
    const GemmParams& p = product(params);
    constexpr uint32_t STEP = MMA_STEP<T>, SIZE = (ROWS + COLS) * STEP;
    __shared__ __align__(16) unsigned char memory[MMA_BYTES<ROWS, COLS, 2>];
    const Tile<ROWS, COLS> tile(p);
    if (tile.row >= p.rows) return;

    Rows<X, ROWS> x([&](uint32_t i) { return X{tile.template x_row<T>(p, i), {}}; });
    Rows<W, COLS> w([&](uint32_t i) { return W::of(params, tile, tile.template weight_row<COLS / 2>(p, i)); });
    const auto read = [&](uint32_t k) {
        const uint32_t at = k + x.vector() * LANES<T>;
#pragma unroll
        for (int v = 0; v < x.VECTORS; v++) x.from[v].read(at, p.inner);
#pragma unroll
        for (int v = 0; v < w.VECTORS; v++) w.from[v].read(at, p.inner);
    };
    const auto write = [&](T* to) {
#pragma unroll
        for (int v = 0; v < x.VECTORS; v++)
            *reinterpret_cast<uint4*>(to + tile_offset<T>(x.row(v), x.vector())) = x.from[v].numbers();
#pragma unroll
        for (int v = 0; v < w.VECTORS; v++)
            *reinterpret_cast<uint4*>(to + ROWS * STEP + tile_offset<T>(w.row(v), w.vector())) = w.from[v].numbers();
    };

    T* const buffers = reinterpret_cast<T*>(memory);
    WarpTile<T, ROWS, COLS> sums;
    read(0);
    write(buffers);
    __syncthreads();
    uint32_t now = 0;
    for (uint32_t k = STEP; k < p.inner + STEP; k += STEP) {
        const bool is_more = k < p.inner;
        if (is_more) read(k);
        sums.add(buffers + now, buffers + now + ROWS * STEP);
        now = SIZE - now;
        if (is_more) write(buffers + now);
        __syncthreads();
    }
    sums.template write<Out, OUTS>(p, Tile<ROWS, COLS>(p), memory, scaled);
}

// GEMM of factors that are both stored as T.
template <typename T, typename Out, int OUTS, int ROWS, int COLS, bool GUARDED, typename Scaled>
__device__ void gemm_mma_plain(const GemmParams& p, Scaled scaled)
{
    typedef PlainVector<T, GUARDED> Vector;
    gemm_mma_staged<Vector, Vector, Out, OUTS, ROWS, COLS>(p, scaled);
}

// GEMM with cp.async and a ring of STAGES steps in shared memory: while one step is multiplied, all but one of the
// others are in flight.
template <typename T, typename Out, int ROWS, int COLS, int STAGES, typename Scaled>
__device__ void gemm_mma_async(const GemmParams& p, Scaled scaled)
{
    constexpr uint32_t STEP = MMA_STEP<T>, SIZE = (ROWS + COLS) * STEP;
    __shared__ __align__(16) unsigned char memory[MMA_BYTES<ROWS, COLS, STAGES>];
    const Tile<ROWS, COLS> tile(p);
    if (tile.row >= p.rows) return;

    const Rows<const T*, ROWS> x([&](uint32_t i) { return tile.template x_row<T>(p, i); });
    const Rows<const T*, COLS> w(
        [&](uint32_t i) { return plain_row<T>(p, tile, tile.template weight_row<COLS / 2>(p, i)); });
    T* const ring = reinterpret_cast<T*>(memory);
    const auto copy = [&](uint32_t k, T* to) {
        const uint32_t at = k + x.vector() * LANES<T>;
        // Beyond the row's end nothing is read and zeros are written.
        const uint32_t bytes = at < p.inner ? 16 : 0, from = at < p.inner ? at : 0;
#pragma unroll
        for (int v = 0; v < x.VECTORS; v++)
            ptx::cp_async_16(to + tile_offset<T>(x.row(v), x.vector()), x.from[v] + from, bytes);
#pragma unroll
        for (int v = 0; v < w.VECTORS; v++)
            ptx::cp_async_16(to + ROWS * STEP + tile_offset<T>(w.row(v), w.vector()), w.from[v] + from, bytes);
    };

#pragma unroll
    for (int stage = 0; stage < STAGES - 1; stage++) {
        if (stage * STEP < p.inner) copy(stage * STEP, ring + stage * SIZE);
        ptx::cp_async_commit();
    }
    WarpTile<T, ROWS, COLS> sums;
    uint32_t now = 0, free = (STAGES - 1) * SIZE;
    for (uint32_t k = 0; k < p.inner; k += STEP) {
        ptx::cp_async_wait<STAGES - 2>();
        // Makes this step visible to all threads, after all have finished with the one before, whose place is reused
        // now.
        __syncthreads();
        const uint32_t next = k + (STAGES - 1) * STEP;
        if (next < p.inner) copy(next, ring + free);
        // Committed in every iteration, even without copies, so that the number of pending groups stays the same.
        ptx::cp_async_commit();
        sums.add(ring + now, ring + now + ROWS * STEP);
        free = now;
        now = now == (STAGES - 1) * SIZE ? 0 : now + SIZE;
    }
    ptx::cp_async_wait<0>();
    __syncthreads();
    sums.template write<Out, LANES<Out>>(p, Tile<ROWS, COLS>(p), memory, scaled);
}

// PRECOND: as for GEMM_FMA (guarded: tiles of 64 by 64); 1-D block of 128.
#define GEMM_MMA(name, HAS, GEMM, BLOCKS)                                                          \
    extern "C" __global__ void __launch_bounds__(MMA_THREADS, BLOCKS) name(GemmParams p)           \
    {                                                                                              \
        if constexpr (HAS) {                                                                       \
            GEMM(p, FloatSums{});                                                                  \
        } else {                                                                                   \
            __trap();                                                                              \
        }                                                                                          \
    }

// PRECOND: as for GEMM_DP4A; 1-D block of 128.
#define GEMM_MMA_Q8(name, HAS, GEMM, BLOCKS)                                                       \
    extern "C" __global__ void __launch_bounds__(MMA_THREADS, BLOCKS) name(ScaledGemmParams p)     \
    {                                                                                              \
        if constexpr (HAS) {                                                                       \
            GEMM(p.product, Int8Sums{p.scales});                                                   \
        } else {                                                                                   \
            __trap();                                                                              \
        }                                                                                          \
    }
