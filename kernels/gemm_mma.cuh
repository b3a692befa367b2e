// Matrix products on tensor cores: fp16 factors, fp32 sums. Tiles in shared memory, fragments, and what a
// block does with them; gemm_mma8.cu and gemm_mma16.cu bring the tiles there.
//
// Four warps share a tile two by two. Of a step of 16 a warp of the large tile reads 64 rows of x and 64 of w
// by 8 ldmatrix.x4 (4 KB, 32 clocks of shared memory) for 64x64x16 multiply-adds (64 clocks of an A100's
// tensor cores, 128 of a T4's); with smaller warp tiles shared memory would be the limit.
#pragma once

#include "gemm.cuh"
#include "mma.cuh"

// Numbers of a row in a tile: 64 bytes, four vectors.
constexpr int MMA_STEP = 32;
constexpr int MMA_THREADS = 128;

// Vectors change places from row to row, so that neither the 8 rows of a matrix nor 8 lanes that write meet in
// a bank.
__device__ inline uint32_t tile_offset(uint32_t row, uint32_t vector)
{
    return row * MMA_STEP + (vector ^ (row / 2 % 4)) * LANES<Half>;
}

// SIZE rows of x or w, the vectors of them that this thread moves: four lanes for a row.
template <int SIZE>
struct Rows {
    static constexpr int VECTORS = SIZE * 4 / MMA_THREADS;

    const Half* from[VECTORS];

    // `row_of` gives a row of the tile.
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

    // Where in a row.
    __device__ static uint32_t vector()
    {
        return threadIdx.x % 4;
    }
};

// The sums of a warp's part of the tile.
template <int ROWS, int COLS>
struct WarpTile {
    static constexpr int HIGH = ROWS / 2, WIDE = COLS / 2; // of the warp
    static constexpr int LINES = 32;                       // of a slab

    float sums[HIGH / 16][WIDE / 8][4] = {};

    __device__ static uint32_t row()
    {
        return threadIdx.x / WARP / 2 * HIGH;
    }

    __device__ static uint32_t col()
    {
        return threadIdx.x / WARP % 2 * WIDE;
    }

    // One step: x [ROWS, MMA_STEP] and w [COLS, MMA_STEP] in shared memory.
    __device__ void add(const Half* x, const Half* w)
    {
        const uint32_t lane = threadIdx.x % WARP;
#pragma unroll
        for (int k = 0; k < MMA_STEP / LANES<Half>; k += 2) {
            uint32_t a[HIGH / 16][4], b[WIDE / 16][4];
#pragma unroll
            for (int i = 0; i < HIGH / 16; i++)
                ptx::ldmatrix_x4(a[i], x + tile_offset(row() + i * 16 + lane % 16, k + lane / 16));
#pragma unroll
            for (int j = 0; j < WIDE / 16; j++)
                ptx::ldmatrix_x4(b[j], w + tile_offset(col() + j * 16 + lane / 16 * 8 + lane % 8, k + lane / 8 % 2));
#pragma unroll
            for (int i = 0; i < HIGH / 16; i++)
#pragma unroll
                for (int j = 0; j < WIDE / 8; j++)
                    multiply(sums[i][j], a[i], {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]});
        }
    }

    // Through `memory`, BYTES that nobody uses any more.
    template <int N, int BYTES>
    __device__ void write(const GemmParams& p, const Tile<ROWS, COLS>& tile, unsigned char (&memory)[BYTES]) const
    {
        static_assert(BYTES >= 4 * LINES * WIDE * 4, "room for four slabs");
        const uint32_t lane = threadIdx.x % WARP;
        const Slab<WIDE> slab{reinterpret_cast<float*>(memory) + threadIdx.x / WARP * LINES * WIDE};
#pragma unroll
        for (int first = 0; first < HIGH; first += LINES) {
#pragma unroll
            for (int i = 0; i < LINES; i += 8)
#pragma unroll
                for (int j = 0; j < WIDE / 8; j++) {
                    const float* two = sums[(first + i) / 16][j] + i / 8 % 2 * 2;
                    *reinterpret_cast<float2*>(slab.number(i + lane / 4, j * 8 + lane % 4 * 2)) =
                        make_float2(two[0], two[1]);
                }
            finish<Half, N, LINES>(p, tile, slab, col(),
                                   [=](uint32_t line) { return tile.row + row() + first + line; });
        }
    }
};

// Bytes of shared memory of STAGES steps, and at least of the slabs of four warps.
template <int ROWS, int COLS, int STAGES, int SLABS = 4 * WarpTile<ROWS, COLS>::LINES * COLS / 2 * 4>
constexpr int MMA_BYTES = STAGES * (ROWS + COLS) * MMA_STEP * 2 > SLABS ? STAGES * (ROWS + COLS) * MMA_STEP * 2
                                                                        : SLABS;

// Tiles by way of registers: the next step is read while this one is multiplied, in two buffers.
template <int ROWS, int COLS, bool GUARDED>
__device__ void gemm_mma_staged(const GemmParams& p)
{
    constexpr uint32_t SIZE = (ROWS + COLS) * MMA_STEP;
    __shared__ __align__(16) unsigned char memory[MMA_BYTES<ROWS, COLS, 2>];
    const Tile<ROWS, COLS> tile(p);
    if (tile.row >= p.rows) return;

    const Rows<ROWS> x([&](uint32_t i) { return tile.template x_row<Half>(p, i); });
    const Rows<COLS> w([&](uint32_t i) { return tile.template w_row<COLS / 2, Half>(p, i); });
    uint4 held_x[x.VECTORS], held_w[w.VECTORS];
    const auto read = [&](uint32_t k) {
        const uint32_t at = k + x.vector() * LANES<Half>;
#pragma unroll
        for (int v = 0; v < x.VECTORS; v++) held_x[v] = fetch<GUARDED>(x.from[v], at, p.inner);
#pragma unroll
        for (int v = 0; v < w.VECTORS; v++) held_w[v] = fetch<GUARDED>(w.from[v], at, p.inner);
    };
    const auto write = [&](Half* to) {
#pragma unroll
        for (int v = 0; v < x.VECTORS; v++)
            *reinterpret_cast<uint4*>(to + tile_offset(x.row(v), x.vector())) = held_x[v];
#pragma unroll
        for (int v = 0; v < w.VECTORS; v++)
            *reinterpret_cast<uint4*>(to + ROWS * MMA_STEP + tile_offset(w.row(v), w.vector())) = held_w[v];
    };

    Half* const buffers = reinterpret_cast<Half*>(memory);
    WarpTile<ROWS, COLS> sums;
    read(0);
    write(buffers);
    __syncthreads();
    uint32_t now = 0;
    for (uint32_t k = MMA_STEP; k < p.inner + MMA_STEP; k += MMA_STEP) {
        const bool is_more = k < p.inner;
        if (is_more) read(k);
        sums.add(buffers + now, buffers + now + ROWS * MMA_STEP);
        now = SIZE - now;
        if (is_more) write(buffers + now);
        __syncthreads();
    }
    sums.template write<GUARDED ? 1 : LANES<Half>>(p, Tile<ROWS, COLS>(p), memory);
}

// PRECOND: as for GEMM_FMA (guarded: tiles of 64 by 64); 1-D block of 128.
#define GEMM_MMA(name, HAS, GEMM, BLOCKS)                                                          \
    extern "C" __global__ void __launch_bounds__(MMA_THREADS, BLOCKS) name(GemmParams p)           \
    {                                                                                              \
        if constexpr (HAS) {                                                                       \
            GEMM(p);                                                                               \
        } else {                                                                                   \
            __trap();                                                                              \
        }                                                                                          \
    }
