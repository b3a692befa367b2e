// Products of 1 to 8 rows on tensor cores, from Turing on: fp16 factors, fp32 sums. gemv.cuh has the formula,
// src/ops/cuda/matmul/gemv.rs the grid and the lower bound.
//
// A block computes 16 columns for all rows; its warps take turns along `inner`. Weights are operand `a` of the mma and
// come straight from memory: 16 columns by 64 numbers at a time, 2 KB, while the next are in flight. x is operand `b`,
// whose missing rows cost nothing but their place. A product does not depend on the order of `inner`, as long as both
// factors use the same one. So a lane reads 16 consecutive bytes of a row, and uses the four words as pairs 0 and 1 of
// two mma.
//
// RMSNorm is computed once per block: each number of x is read by one warp. y is rounded to fp16, as where GEMM
// multiplies it.
//
// The same instructions run for one row and for eight, so a row has the same bits alone and in a batch.
#include "activation.cuh"
#include "mma.cuh"
#include "rms.cuh"

// Threads of a block; src/ops/cuda/matmul/gemv.rs has the same constant.
constexpr uint32_t THREADS = 256;
constexpr uint32_t COLS = 16;
constexpr uint32_t WARPS = THREADS / WARP;
// Numbers of a row of x or w that a warp takes at a time, and that all warps take.
constexpr uint32_t STEP = 64;
constexpr uint32_t STRIDE = WARPS * STEP;
// Four lanes share a row; each takes VECTORS vectors of a step.
constexpr uint32_t PART = 4 * LANES<Half>;
constexpr int VECTORS = STEP / PART;

// A lane's part of a step: from columns lane / 4 and lane / 4 + 8, and from row lane / 4.
struct Pieces {
    uint4 low[VECTORS], high[VECTORS], x[VECTORS];
};

// The sums of a warp. A lane has those of columns lane / 4 and lane / 4 + 8, for rows 2 (lane % 4) and 2 (lane % 4) +
// 1.
struct Sums {
    // The lane's next numbers.
    const Half* low;
    const Half* high;
    const Half* x;
    const float* norm = nullptr;
    // Length of the rows, counted from the warp's next number.
    uint32_t end;

    float sums[4] = {};

    __device__ Sums(const GemvParams& p, const Half* low_column, const Half* high_column)
    {
        const uint32_t lane = threadIdx.x % WARP;
        // Missing rows repeat the last one.
        const size_t row = min(lane / 4, p.rows - 1);
        low = low_column + own();
        high = high_column + own();
        x = static_cast<const Half*>(p.x) + row * p.x_stride + own();
        end = p.inner - min(p.inner, threadIdx.x / WARP * STEP);
    }

    // Offset of the lane's first number in a row.
    static __device__ uint32_t own()
    {
        return threadIdx.x / WARP * STEP + threadIdx.x % 4 * LANES<Half>;
    }

    // Vector v of the step that starts `ahead` numbers on. x is skipped if there is a norm: then it is in L1, because
    // its squares are added up.
    template <bool NORM>
    __device__ void read(uint32_t ahead, int v, Pieces& pieces) const
    {
        pieces.low[v] = ptx::load_streaming(low + ahead + v * PART);
        pieces.high[v] = ptx::load_streaming(high + ahead + v * PART);
        if constexpr (!NORM) pieces.x[v] = __ldg(reinterpret_cast<const uint4*>(x + ahead + v * PART));
    }

    // Loads a complete step, if there is one.
    template <bool NORM>
    __device__ void read(uint32_t ahead, Pieces& pieces) const
    {
        if (ahead + STEP > end) return;
#pragma unroll
        for (int v = 0; v < VECTORS; v++) read<NORM>(ahead, v, pieces);
    }

    // Loads a step in which this lane has `count` numbers.
    template <bool NORM>
    __device__ void add(const Pieces& pieces, float scale, uint32_t count = STEP)
    {
#pragma unroll
        for (int v = 0; v < VECTORS; v++) {
            const uint4 low = pieces.low[v], high = pieces.high[v];
            uint32_t y[4] = {pieces.x[v].x, pieces.x[v].y, pieces.x[v].z, pieces.x[v].w};
            if constexpr (NORM) {
                float numbers[LANES<Half>] = {}, weight[LANES<Half>] = {};
                if (v * PART < count) {
                    load(x + v * PART, numbers);
                    load(norm + v * PART, weight);
                }
#pragma unroll
                for (int i = 0; i < 4; i++)
                    y[i] = ptx::floats_to_halves(numbers[2 * i] * scale * weight[2 * i],
                                                 numbers[2 * i + 1] * scale * weight[2 * i + 1]);
            }
            multiply(sums, {low.x, high.x, low.y, high.y}, {y[0], y[1]});
            multiply(sums, {low.z, high.z, low.w, high.w}, {y[2], y[3]});
        }
    }

    // Called by all threads of the block together.
    template <bool NORM>
    __device__ void add_all(const GemvParams& p)
    {
        // Two steps are in flight at any time, the first while the squares are added up.
        Pieces pieces[2] = {};
        read<NORM>(0, pieces[0]);
        read<NORM>(STRIDE, pieces[1]);
        if constexpr (NORM) norm = p.norm + own();
        const float scale = NORM ? norm_scale(p) : 1.0f;
        while (STEP <= end) {
#pragma unroll
            for (int i = 0; i < 2; i++) {
                if (STEP > end) break;
                add<NORM>(pieces[i], scale);
                read<NORM>(2 * STRIDE, pieces[i]);
                low += STRIDE, high += STRIDE, x += STRIDE;
                if constexpr (NORM) norm += STRIDE;
                end -= min(end, STRIDE);
            }
        }
        if (end == 0) return;
        // An incomplete step is filled with zeros.
        const uint32_t count = end - min(end, threadIdx.x % 4 * LANES<Half>);
        Pieces last = {};
#pragma unroll
        for (int v = 0; v < VECTORS; v++)
            if (v * PART < count) read<NORM>(0, v, last);
        add<NORM>(last, scale, count);
    }

    // The norm's factor of row lane / 4. Called by all threads of the block together.
    __device__ float norm_scale(const GemvParams& p) const
    {
        __shared__ float squares[WARPS][HIRED_GEMV_ROWS];
        const uint32_t row = threadIdx.x % WARP / 4;
        const uint32_t rest = p.inner - min(p.inner, own());
        float square = 0.0f;
#pragma unroll 2
        for (uint32_t k = 0; k < rest; k += STRIDE)
#pragma unroll
            for (int v = 0; v < VECTORS; v++) {
                float numbers[LANES<Half>] = {};
                if (k + v * PART < rest) load(x + k + v * PART, numbers);
#pragma unroll
                for (int i = 0; i < LANES<Half>; i++) square = fmaf(numbers[i], numbers[i], square);
            }
        square += __shfl_xor_sync(ALL_LANES, square, 2);
        square += __shfl_xor_sync(ALL_LANES, square, 1);
        squares[threadIdx.x / WARP][row] = square;
        __syncthreads();
        square = 0.0f;
#pragma unroll
        for (uint32_t w = 0; w < WARPS; w++) square += squares[w][row];
        return rms_scale<Half>(square, p.inverse_inner, p.eps);
    }
};

// The block's sums: those of its warps, added in a fixed order.
struct BlockSums {
    // Padded, so that the numbers that a warp writes at a time lie in different banks.
    static constexpr uint32_t PITCH = COLS + 4;

    float sums[WARPS][HIRED_GEMV_ROWS * PITCH];

    __device__ void write(const float (&of_lane)[4])
    {
        const uint32_t lane = threadIdx.x % WARP;
#pragma unroll
        for (uint32_t i = 0; i < 4; i++)
            sums[threadIdx.x / WARP][(lane % 4 * 2 + i % 2) * PITCH + lane / 4 + i / 2 * 8] = of_lane[i];
    }

    __device__ float sum(uint32_t row, uint32_t col) const
    {
        float sum = 0.0f;
#pragma unroll
        for (uint32_t w = 0; w < WARPS; w++) sum += sums[w][row * PITCH + col];
        return sum;
    }
};

// The block's columns of one of the weights.
struct Tile {
    const Half* weight;
    const float* bias;
    void* out;
    uint32_t cols;
    uint32_t first;

    __device__ explicit Tile(const GemvParams& p)
        : weight(static_cast<const Half*>(p.weights[0])), bias(p.biases[0]), out(p.outs[0]), cols(p.cols[0])
    {
        uint32_t tile = blockIdx.x;
        // Without an array index: a variable index would put the parameters on the stack.
        const uint32_t tiles[2] = {(p.cols[0] + COLS - 1) / COLS, (p.cols[1] + COLS - 1) / COLS};
        if (tile >= tiles[0]) {
            tile -= tiles[0];
            weight = static_cast<const Half*>(p.weights[1]), bias = p.biases[1], out = p.outs[1], cols = p.cols[1];
            if (tile >= tiles[1]) {
                tile -= tiles[1];
                weight = static_cast<const Half*>(p.weights[2]), bias = p.biases[2], out = p.outs[2], cols = p.cols[2];
            }
        }
        first = tile * COLS;
    }

    // Missing columns repeat the last one.
    __device__ const Half* column(uint32_t i, uint32_t stride) const
    {
        return weight + static_cast<size_t>(min(first + i, cols - 1)) * stride;
    }
};

template <typename Out, bool NORM>
__device__ void gemv_mma(const GemvParams& p, BlockSums& block)
{
    const Tile tile(p);
    const uint32_t lane = threadIdx.x % WARP;
    const uint32_t row = threadIdx.x / COLS, column = tile.first + threadIdx.x % COLS;
    const bool stores = row < p.rows && column < tile.cols, adds = p.epilogue == HIRED_ADD;
    Out* const out = static_cast<Out*>(tile.out) + static_cast<size_t>(row) * tile.cols + column;
    // Loaded early, so that the end does not wait for them, and unconverted, since a conversion would wait here. With a
    // norm `out` is read at the end: registers are scarce there, and no model adds a residual to such a product.
    const float bias = stores && tile.bias ? tile.bias[column] : 0.0f;
    Out old = {};
    if (!NORM && stores && adds) old = *out;

    Sums sums(p, tile.column(lane / 4, p.w_stride), tile.column(lane / 4 + 8, p.w_stride));
    sums.add_all<NORM>(p);
    block.write(sums.sums);
    __syncthreads();
    if (!stores) return;
    float y[1] = {block.sum(row, threadIdx.x % COLS) + bias};
    if (adds)
        y[0] = saturated<Out>(y[0] + to_float(NORM ? *out : old));
    else
        activate(p.activation, y);
    *out = from_float<Out>(y[0]);
}

template <bool NORM>
__device__ void gemv_gate_mma(const GemvParams& p, BlockSums& block)
{
    constexpr uint32_t HALF = COLS / 2;
    const uint32_t lane = threadIdx.x % WARP, first = blockIdx.x * HALF;
    const size_t of_lane = static_cast<size_t>(min(first + lane / 4, p.cols[0] - 1)) * p.w_stride;
    Sums sums(p, static_cast<const Half*>(p.weights[0]) + of_lane, static_cast<const Half*>(p.weights[1]) + of_lane);
    sums.add_all<NORM>(p);
    block.write(sums.sums);
    __syncthreads();
    const uint32_t row = threadIdx.x / HALF, column = first + threadIdx.x % HALF;
    if (row >= p.rows || column >= p.cols[0]) return;
    const float g = block.sum(row, threadIdx.x % HALF) + (p.biases[0] ? p.biases[0][column] : 0.0f);
    const float u = block.sum(row, threadIdx.x % HALF + HALF) + (p.biases[1] ? p.biases[1][column] : 0.0f);
    static_cast<Half*>(p.outs[0])[static_cast<size_t>(row) * p.cols[0] + column] =
        from_float_saturating<Half>(silu(g) * u);
}

// PRECOND: a block of 256 for each 16 columns of each weight (gate: for each 8); rows from 1 to 8; inner and cols[0] at
// least 1; x and the outs apart; x, norm and weights multiples of 16; inner, x_stride and w_stride multiples of 8.
// Three blocks per multiprocessor: 24 warps with 2 to 4 KB of weights in flight each.
#define GEMV_MMA(name, NORMED, PLAIN)                                                              \
    extern "C" __global__ void __launch_bounds__(THREADS, 3) name(GemvParams p)                    \
    {                                                                                              \
        if constexpr (ptx::HAS_MMA_K8) {                                                           \
            __shared__ BlockSums block;                                                            \
            if (p.norm)                                                                            \
                NORMED(p, block);                                                                  \
            else                                                                                   \
                PLAIN(p, block);                                                                   \
        } else {                                                                                   \
            __trap();                                                                              \
        }                                                                                          \
    }

GEMV_MMA(gemv_mma_f16, (gemv_mma<Half, true>), (gemv_mma<Half, false>))
// Logits are stored as fp32: the two best of a vocabulary often differ by less than an fp16 step.
GEMV_MMA(gemv_logits_mma_f16, (gemv_mma<float, true>), (gemv_mma<float, false>))
GEMV_MMA(gemv_gate_mma_f16, gemv_gate_mma<true>, gemv_gate_mma<false>)
