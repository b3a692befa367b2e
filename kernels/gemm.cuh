// Shared code of the matrix products of more than eight rows (GEMM): tiles, loads and epilogues. outs[i][rows, cols[i]]
// = epilogue(x[rows, inner] * weights[i][cols[i], inner]^T). Host side, with grid and lower bound:
// src/ops/cuda/matmul/gemm.rs.
//
// A launch computes products with up to three weights. Their tiles form one row of tiles, and each block finds its
// weight. For gate and up, a warp computes the same columns of both, so that the factors meet in its epilogue.
//
// Split-K: where there are few tiles, several blocks compute one, each with an equal part of the rows' length. The
// partial sums go to scratch in fp32, and gemm_sum.cu adds them in the order of the parts. Inside a part every sum has
// one order whatever the tile. So a row of out has the same bits beside any other rows, as long as the same kernel
// family computes it in as many parts.
#pragma once

#include "activation.cuh"

// The columns of one of the weights.
struct Columns {
    const void* weight;
    const float* bias;
    void* out;
    uint32_t cols;
    uint32_t out_stride;
    uint32_t before; // columns of the weights before this one

    // Without an array index: a variable index would put the parameters on the stack.
    __device__ Columns(const GemmParams& p, uint32_t which)
        : weight(p.weights[0]), bias(p.biases[0]), out(p.outs[0]), cols(p.cols[0]), out_stride(p.out_strides[0]), before(0)
    {
        if (which == 1) {
            weight = p.weights[1], bias = p.biases[1], out = p.outs[1], cols = p.cols[1], out_stride = p.out_strides[1];
            before = p.cols[0];
        } else if (which == 2) {
            weight = p.weights[2], bias = p.biases[2], out = p.outs[2], cols = p.cols[2], out_stride = p.out_strides[2];
            before = p.cols[0] + p.cols[1];
        }
    }
};

// Number of columns of all weights together, which is the length of a row of scratch.
__device__ inline uint32_t all_columns(const GemmParams& p)
{
    return p.cols[0] + p.cols[1] + p.cols[2];
}

// Rows, weight, columns and part of a block's tile.
//
// The grid is (tiles of rows in a group, tiles of columns, groups * parts). Blocks that run at the same time then
// compute an area of out that is about as high as wide, and share their reads in L2. The last group may reach beyond
// the rows.
template <int ROWS, int COLS>
struct Tile {
    uint32_t part;
    uint32_t row;
    uint32_t which = 0;
    uint32_t col; // column of the weight

    // Computed before the main loop and again after it, when registers are free.
    __device__ explicit Tile(const GemmParams& p)
    {
        const ptx::Block block = ptx::block();
        const uint32_t groups = gridDim.z / p.parts;
        part = block.z / groups;
        row = ((block.z - part * groups) * gridDim.x + block.x) * ROWS;
        col = block.y * COLS;
        if (p.epilogue == HIRED_GATE) {
            col /= 2;
            return;
        }
        const uint32_t tiles[2] = {(p.cols[0] + COLS - 1) / COLS, (p.cols[1] + COLS - 1) / COLS};
        if (col >= tiles[0] * COLS) {
            col -= tiles[0] * COLS;
            which = 1;
            if (col >= tiles[1] * COLS) {
                col -= tiles[1] * COLS;
                which = 2;
            }
        }
    }

    // First number of the rows of x and of the weights that this part multiplies.
    __device__ uint32_t first(const GemmParams& p) const
    {
        return part * p.inner;
    }

    // Rows beyond the last repeat it; their sums are not stored.
    template <typename T>
    __device__ const T* x_row(const GemmParams& p, uint32_t i) const
    {
        return static_cast<const T*>(p.x) + min(row + i, p.rows - 1) * static_cast<size_t>(p.x_stride) + first(p);
    }

    // A weight, and a row of it.
    struct WeightRow {
        uint32_t which;
        uint32_t row;
    };

    // The weight's row for a row of the tile. Of the WIDTH columns of a warp, gate and up have half each.
    template <int WIDTH>
    __device__ WeightRow weight_row(const GemmParams& p, uint32_t i) const
    {
        uint32_t of = which, column = col + i;
        if (p.epilogue == HIRED_GATE) {
            of = i % WIDTH / (WIDTH / 2);
            column = col + i / WIDTH * (WIDTH / 2) + i % (WIDTH / 2);
        }
        return {of, min(column, Columns(p, of).cols - 1)};
    }
};

// Offset of a weight's row in numbers.
template <typename Tile, typename At>
__device__ inline size_t first_number(const GemmParams& p, const Tile& tile, At at)
{
    return at.row * static_cast<size_t>(p.w_stride) + tile.first(p);
}

// A weight's row in memory, for formats whose numbers are stored one by one.
template <typename T, typename Tile, typename At>
__device__ inline const T* plain_row(const GemmParams& p, const Tile& tile, At at)
{
    return static_cast<const T*>(Columns(p, at.which).weight) + first_number(p, tile, at);
}

__device__ inline uint32_t raw(float x)
{
    return __float_as_uint(x);
}

__device__ inline uint32_t raw(Half x)
{
    return x.bits;
}

// The 16 bytes of a row from number k on; zeros from `inner` on.
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

// Applies the epilogue to the sums of N columns, from `at` on, and stores them.
template <typename T, int N>
__device__ inline void conclude(const GemmParams& p, const Columns& c, uint32_t row, uint32_t at, float (&x)[N])
{
    T* to = static_cast<T*>(c.out) + row * static_cast<size_t>(c.out_stride) + at;
    float bias[N] = {};
    if (c.bias) load(c.bias + at, bias);
#pragma unroll
    for (int j = 0; j < N; j++) x[j] += bias[j];
    if (p.epilogue == HIRED_ADD) {
        float old[N];
        load(to, old);
#pragma unroll
        for (int j = 0; j < N; j++) x[j] = old[j] + x[j];
        store_saturating(to, x);
    } else {
        activate(p.activation, x);
        store(to, x);
    }
}

// Applies the epilogue of gate and up.
template <typename T, int N>
__device__ inline void conclude_gate(const GemmParams& p, uint32_t row, uint32_t at, float (&gate)[N], float (&up)[N])
{
    T* to = static_cast<T*>(p.outs[0]) + row * static_cast<size_t>(p.out_strides[0]) + at;
    float bias[2][N] = {};
    if (p.biases[0]) load(p.biases[0] + at, bias[0]);
    if (p.biases[1]) load(p.biases[1] + at, bias[1]);
#pragma unroll
    for (int j = 0; j < N; j++) gate[j] = silu(gate[j] + bias[0][j]) * (up[j] + bias[1][j]);
    store_saturating(to, gate);
}

// Shared memory through which a warp's sums go to out: lines of WIDTH numbers. Groups of eight numbers are permuted
// from line to line, so that four lines are in different banks.
template <int WIDTH>
struct Slab {
    static_assert(WIDTH % 32 == 0, "four groups change places");
    float* at;

    __device__ float* number(uint32_t line, uint32_t col) const
    {
        return at + line * WIDTH + (col ^ (line % 4 * 8));
    }
};

// Sums of floating-point products need no scaling; compare Int8Sums in scales.cuh.
struct FloatSums {
    template <int N>
    __device__ void operator()(uint32_t, uint32_t, uint32_t, float (&)[N]) const
    {
    }
};

// The epilogue of LINES lines, N columns at a time; the warp reads and writes contiguous parts of rows of out. `row_of`
// gives the row of a line; `first` is the warp's first column in the tile. `scaled` converts the bits of sums to
// numbers, given weight, row and column.
template <typename T, int N, int LINES, int WIDTH, typename Tile, typename RowOf, typename Scaled>
__device__ inline void finish(const GemmParams& p, const Tile& tile, Slab<WIDTH> slab, uint32_t first, RowOf row_of,
                              Scaled scaled)
{
    constexpr int HALF = WIDTH / 2;
    static_assert(HALF % N == 0, "no access reaches from gate to up");
    const bool is_gated = p.epilogue == HIRED_GATE;
    const Columns c(p, tile.which);
    __syncwarp();
    if (is_gated && p.parts == 1) {
#pragma unroll 1
        for (uint32_t i = threadIdx.x % WARP * N; i < LINES * HALF; i += WARP * N) {
            const uint32_t line = i / HALF, row = row_of(line), at = tile.col + first / 2 + i % HALF;
            if (row >= p.rows || at >= c.cols) continue;
            float gate[N], up[N];
            load(slab.number(line, i % HALF), gate);
            load(slab.number(line, HALF + i % HALF), up);
            scaled(0, row, at, gate);
            scaled(1, row, at, up);
            conclude_gate<T>(p, row, at, gate, up);
        }
    } else {
#pragma unroll 1
        for (uint32_t i = threadIdx.x % WARP * N; i < LINES * WIDTH; i += WARP * N) {
            const uint32_t line = i / WIDTH, row = row_of(line), in_line = i % WIDTH;
            const uint32_t at = tile.col + (is_gated ? first / 2 + in_line % HALF : first + in_line);
            if (row >= p.rows || at >= c.cols) continue;
            float x[N];
            load(slab.number(line, in_line), x);
            if (p.parts == 1) {
                scaled(tile.which, row, at, x);
                conclude<T>(p, c, row, at, x);
            } else {
                const uint32_t before = is_gated ? in_line / HALF * c.cols : c.before;
                const size_t line_of_scratch = tile.part * static_cast<size_t>(p.rows) + row;
                store(p.sums + line_of_scratch * all_columns(p) + before + at, x);
            }
        }
    }
    // The next lines reuse the memory.
    __syncwarp();
}
