// What the matrix products of more than eight rows share: a block's tile, 16 bytes of a row on their way, and
// what becomes of the sums. out[rows, cols] = epilogue(x[rows, inner] * w[cols, inner]^T).
//
// Every sum runs over `inner` in one order whatever the tile is, so a row of out has the same bits beside any
// other rows, as long as the same kernel family makes it.
#pragma once

#include "activation.cuh"

// First row and column of the block's tile.
//
// The grid is (tiles of rows in a group, tiles of columns, groups): blocks that run at the same time then make
// a patch of out that is about as high as wide, and share what they read in L2. The last group may reach
// beyond the rows.
template <int ROWS, int COLS>
struct Tile {
    uint32_t row = (blockIdx.z * gridDim.x + blockIdx.x) * ROWS;
    uint32_t col = blockIdx.y * COLS;
};

__device__ inline uint32_t raw(float x)
{
    return __float_as_uint(x);
}

__device__ inline uint32_t raw(Half x)
{
    return x.bits;
}

// The 16 bytes of a row from number k on, zeros from `inner` on.
// PRECOND: not guarded: row + k is a multiple of 16, inner whole vectors.
template <bool GUARDED, typename T>
__device__ inline uint4 fetch(const T* row, uint32_t k, uint32_t inner)
{
    if constexpr (GUARDED) {
        uint32_t words[4] = {};
#pragma unroll
        for (int i = 0; i < LANES<T>; i++)
            if (k + i < inner) words[i * sizeof(T) / 4] |= raw(row[k + i]) << i * sizeof(T) % 4 * 8;
        return make_uint4(words[0], words[1], words[2], words[3]);
    } else {
        return k < inner ? __ldg(reinterpret_cast<const uint4*>(row + k)) : make_uint4(0, 0, 0, 0);
    }
}

// A warp's sums between registers and out: lines of WIDTH numbers in shared memory. Groups of eight numbers
// change places from line to line, so that four lines lie in different banks.
template <int WIDTH>
struct Slab {
    static_assert(WIDTH % 32 == 0, "four groups change places");
    float* at;

    __device__ float* number(uint32_t line, uint32_t col) const
    {
        return at + line * WIDTH + (col ^ (line % 4 * 8));
    }
};

// The epilogue of LINES lines, N columns at a time; the warp reads and writes whole pieces of rows of out.
// `row_of` gives the row of a line; `col` is the first column.
template <typename T, int N, int LINES, int WIDTH, typename RowOf>
__device__ inline void finish(const GemmParams& p, Slab<WIDTH> slab, uint32_t col, RowOf row_of)
{
    __syncwarp();
#pragma unroll 1
    for (uint32_t i = threadIdx.x % WARP * N; i < LINES * WIDTH; i += WARP * N) {
        const uint32_t line = i / WIDTH, row = row_of(line), at = col + i % WIDTH;
        if (row >= p.rows || at >= p.cols) continue;
        T* to = static_cast<T*>(p.out) + row * static_cast<size_t>(p.out_stride) + at;
        float x[N], bias[N] = {};
        load(slab.number(line, i % WIDTH), x);
        if (p.bias) load(p.bias + at, bias);
#pragma unroll
        for (int j = 0; j < N; j++) x[j] += bias[j];
        if (p.epilogue == HIRED_STORE) {
            activate(p.activation, x);
            store(to, x);
        } else {
            float old[N];
            load(to, old);
#pragma unroll
            for (int j = 0; j < N; j++) x[j] = p.epilogue == HIRED_ADD ? old[j] + x[j] : silu(old[j]) * x[j];
            store_saturating(to, x);
        }
    }
    // The next lines take their place.
    __syncwarp();
}
