// Products of 1 to 8 rows with weights by instructions of single threads (GEMV), limited by memory: every weight is
// read once, for all rows. Host side, with grid and lower bound: src/ops/cuda/matmul/gemv.rs.
//
//   out = f(y · wᵀ + bias)  or  out += y · wᵀ + bias  or  out = silu(y · gateᵀ) * (y · upᵀ);  y = x or RMSNorm(x)
//
// A warp computes neighbouring columns for all rows. Its lanes step along the rows of the weights together, 16 bytes of
// each weight per lane, and the next loads are in flight while these are used. x and the norm's weight are read through
// L1, without shared memory, so no block waits at a barrier. The norm's scale is a factor of the whole sum: each warp
// adds up the squares on its way along x.
//
// A sum has one order whatever the number of rows, so a row has the same bits alone and in a batch.
#pragma once

#include "activation.cuh"
#include "rms.cuh"
#include "weights.cuh"

// Loads N numbers that every warp reads, through L1, which sm_61 allows only for memory that the kernel never writes.
template <typename T, int N>
__device__ void load_common(const T* from, float (&to)[N])
{
    if constexpr (N == 1) {
        to[0] = to_float(*from);
    } else {
        static_assert(N * sizeof(T) % 16 == 0, "whole accesses only");
#pragma unroll
        for (int i = 0; i < N; i += LANES<T>) {
            const uint4 x = __ldg(reinterpret_cast<const uint4*>(from + i));
            const uint32_t words[4] = {x.x, x.y, x.z, x.w};
            float part[LANES<T>];
            unpack(words, part, T{});
#pragma unroll
            for (int lane = 0; lane < LANES<T>; lane++) to[i + lane] = part[lane];
        }
    }
}

// Sums of N numbers over the lanes, with about one shuffle each: lane l gets the sum of number l / (32 / N). Pairs of
// lanes are added in the same order for every N.
template <int N, int STEP = WARP / 2, typename Number>
__device__ Number scatter_sums(const Number (&x)[N])
{
    if constexpr (STEP == 0) {
        static_assert(N == 1, "at most a number for each lane");
        return x[0];
    } else if constexpr (N == 1) {
        const Number sum[1] = {x[0] + __shfl_xor_sync(ALL_LANES, x[0], STEP)};
        return scatter_sums<1, STEP / 2>(sum);
    } else {
        const bool is_upper = (threadIdx.x & STEP) != 0;
        Number sums[N / 2];
#pragma unroll
        for (int i = 0; i < N / 2; i++) {
            const Number given = __shfl_xor_sync(ALL_LANES, is_upper ? x[i] : x[i + N / 2], STEP);
            sums[i] = (is_upper ? x[i + N / 2] : x[i]) + given;
        }
        return scatter_sums<N / 2, STEP / 2>(sums);
    }
}

// A lane's partial sums for some columns and rows. Other classes like this one define how a weight is read, and how a
// sum becomes a number. This one has floating-point numbers T, weights of Reader, and the rows' squares beside the
// sums.
template <typename T, typename Weights, int OF_ROWS>
struct Sums {
    typedef Weights Reader;
    typedef float Number;
    typedef typename Reader::Params Params;
    static constexpr int ROWS = OF_ROWS, COLS = HIRED_GEMV_COLS;
    // Steps along the weights in flight at a time.
    static constexpr int STEPS = ROWS <= 2 && Reader::CHUNK == Reader::NUMBERS ? 2 : 1;
    static constexpr int N = Reader::NUMBERS, CHUNK = Reader::CHUNK;
    static constexpr uint32_t STRIDE = WARP * N;
    typedef typename Reader::Piece Pieces[STEPS][COLS];

    float sums[COLS][ROWS] = {};
    float squares[ROWS] = {};

    static __device__ void fetch(const Reader (&w)[COLS], uint32_t k, uint32_t inner, Pieces& pieces)
    {
#pragma unroll
        for (int s = 0; s < STEPS; s++)
#pragma unroll
            for (int c = 0; c < COLS; c++)
                if (k + s * STRIDE < inner) pieces[s][c].read(w[c], k + s * STRIDE);
    }

    template <bool NORM>
    __device__ void add(const GemvParams& p, const Reader (&w)[COLS])
    {
        const T* x = static_cast<const T*>(p.x);
        Pieces next = {};
        uint32_t k = threadIdx.x % WARP * N;
        fetch(w, k, p.inner, next);
        while (k < p.inner) {
            Pieces now;
#pragma unroll
            for (int s = 0; s < STEPS; s++)
#pragma unroll
                for (int c = 0; c < COLS; c++) now[s][c] = next[s][c];
            fetch(w, k + STEPS * STRIDE, p.inner, next);
#pragma unroll
            for (int s = 0; s < STEPS; s++, k += STRIDE) {
                if (k >= p.inner) break;
                // One by one, because the reads of several would not fit into the registers.
#pragma unroll 1
                for (int chunk = 0; chunk < N / CHUNK; chunk++) {
                    const uint32_t at = k + chunk * CHUNK;
                    float norm[CHUNK], weight[COLS][CHUNK];
                    if constexpr (NORM) load_common(p.norm + at, norm);
#pragma unroll
                    for (int c = 0; c < COLS; c++) now[s][c].widen(weight[c]);
#pragma unroll
                    for (int r = 0; r < ROWS; r++) {
                        // Missing rows repeat the last one.
                        const size_t row = min(static_cast<uint32_t>(r), p.rows - 1);
                        float y[CHUNK];
                        load_common(x + row * p.x_stride + at, y);
#pragma unroll
                        for (int i = 0; i < CHUNK; i++) {
                            if constexpr (NORM) {
                                squares[r] = fmaf(y[i], y[i], squares[r]);
                                y[i] *= norm[i];
                            }
#pragma unroll
                            for (int c = 0; c < COLS; c++) sums[c][r] = fmaf(weight[c][i], y[i], sums[c][r]);
                        }
                    }
                }
            }
        }
    }

    __device__ void add(const GemvParams& p, const Reader (&w)[COLS])
    {
        if (p.norm)
            add<true>(p, w);
        else
            add<false>(p, w);
    }

    // The norm's factor of row `row`, after the sums are complete. Called by all lanes together.
    __device__ float norm(const GemvParams& p, uint32_t row)
    {
        if (!p.norm) return 1.0f;
        const float square = __shfl_sync(ALL_LANES, scatter_sums(squares), row * (WARP / ROWS));
        return rms_scale<T>(square, p.inverse_inner, p.eps);
    }

    // A sum with its bias.
    __device__ static float number(const Params&, uint32_t, uint32_t, uint32_t column, float sum, float norm,
                                   const float* bias)
    {
        return fmaf(sum, norm, bias ? bias[column] : 0.0f);
    }
};

// A warp's columns of one of the weights.
struct Tile {
    const void* weight;
    const float* bias;
    void* out;
    uint32_t cols;
    uint32_t which = 0;
    uint32_t first;

    __device__ explicit Tile(const GemvParams& p) : weight(p.weights[0]), bias(p.biases[0]), out(p.outs[0]), cols(p.cols[0])
    {
        constexpr uint32_t COLS = HIRED_GEMV_COLS;
        uint32_t tile = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
        // Without an array index: a variable index would put the parameters on the stack.
        const uint32_t tiles[2] = {(p.cols[0] + COLS - 1) / COLS, (p.cols[1] + COLS - 1) / COLS};
        if (tile >= tiles[0]) {
            tile -= tiles[0];
            weight = p.weights[1], bias = p.biases[1], out = p.outs[1], cols = p.cols[1], which = 1;
            if (tile >= tiles[1]) {
                tile -= tiles[1];
                weight = p.weights[2], bias = p.biases[2], out = p.outs[2], cols = p.cols[2], which = 2;
            }
        }
        first = tile * COLS;
    }
};

// The part of the sums of COLS columns and ROWS rows that a lane stores; they are scattered over the warp.
template <int ROWS, int COLS>
struct Share {
    static constexpr uint32_t LANES_EACH = WARP / (COLS * ROWS);
    uint32_t row;
    uint32_t column; // in the warp's columns
    bool stores;     // whether the lane stores it, so that each is stored once

    __device__ Share()
    {
        const uint32_t lane = threadIdx.x % WARP;
        row = lane / LANES_EACH % ROWS;
        column = lane / LANES_EACH / ROWS;
        stores = lane % LANES_EACH == 0;
    }
};

// Stores a sum with its bias.
template <typename Out>
__device__ inline void conclude(const GemvParams& p, const Tile& tile, uint32_t row, uint32_t column, float sum)
{
    float y[1] = {sum};
    Out* out = static_cast<Out*>(tile.out) + static_cast<size_t>(row) * tile.cols + column;
    if (p.epilogue == HIRED_ADD)
        y[0] = saturated<Out>(y[0] + to_float(*out));
    else
        activate(p.activation, y);
    *out = from_float<Out>(y[0]);
}

// Stores the SwiGLU product of gate and up.
template <typename Out>
__device__ inline void conclude_gate(const GemvParams& p, uint32_t row, uint32_t column, float gate, float up)
{
    static_cast<Out*>(p.outs[0])[static_cast<size_t>(row) * p.cols[0] + column] = from_float_saturating<Out>(silu(gate) * up);
}

template <typename Out, typename Way>
__device__ void gemv(const typename Way::Params& params)
{
    constexpr int COLS = HIRED_GEMV_COLS, ROWS = Way::ROWS;
    typedef typename Way::Reader Reader;
    const GemvParams& p = product(params);
    const Tile tile(p);
    if (tile.first >= tile.cols) return;

    Reader w[COLS];
#pragma unroll
    for (int c = 0; c < COLS; c++)
        // Missing columns repeat the last one.
        w[c] = Reader::of(params, tile.weight, tile.which, min(tile.first + c, tile.cols - 1));
    Way all;
    all.add(p, w);

    typename Way::Number flat[COLS * ROWS];
#pragma unroll
    for (int i = 0; i < COLS * ROWS; i++) flat[i] = all.sums[i / ROWS][i % ROWS];
    const Share<ROWS, COLS> share;
    const uint32_t column = tile.first + share.column;
    const auto sum = scatter_sums(flat);
    const float norm = all.norm(p, share.row);
    if (!share.stores || share.row >= p.rows || column >= tile.cols) return;
    const float y = Way::number(params, tile.which, share.row, column, sum, norm, tile.bias);
    conclude<Out>(p, tile, share.row, column, y);
}

template <typename Out, typename Way>
__device__ void gemv_gate(const typename Way::Params& params)
{
    constexpr int COLS = HIRED_GEMV_COLS / 2, ROWS = Way::ROWS;
    typedef typename Way::Reader Reader;
    const GemvParams& p = product(params);
    const uint32_t first = (blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP) * COLS;
    if (first >= p.cols[0]) return;

    Reader w[2 * COLS];
#pragma unroll
    for (int c = 0; c < 2 * COLS; c++)
        w[c] = Reader::of(params, p.weights[c / COLS], c / COLS, min(first + c % COLS, p.cols[0] - 1));
    Way all;
    all.add(p, w);

    typename Way::Number gates[COLS * ROWS], ups[COLS * ROWS];
#pragma unroll
    for (int i = 0; i < COLS * ROWS; i++) {
        gates[i] = all.sums[i / ROWS][i % ROWS];
        ups[i] = all.sums[COLS + i / ROWS][i % ROWS];
    }
    const Share<ROWS, COLS> share;
    const uint32_t column = first + share.column;
    const auto gate = scatter_sums(gates);
    const auto up = scatter_sums(ups);
    const float norm = all.norm(p, share.row);
    if (!share.stores || share.row >= p.rows || column >= p.cols[0]) return;
    const float g = Way::number(params, 0, share.row, column, gate, norm, p.biases[0]);
    const float u = Way::number(params, 1, share.row, column, up, norm, p.biases[1]);
    conclude_gate<Out>(p, share.row, column, g, u);
}
