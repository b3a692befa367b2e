// Products of a few rows with weights at the speed of memory: every weight is read once, for all rows. By FMA;
// gemv_mma.cu makes those of fp16 on tensor cores.
//
//   out = f(y · wᵀ + bias)  or  out += y · wᵀ + bias  or  out = silu(y · gateᵀ) * (y · upᵀ);  y = x or RMSNorm(x)
//
// A warp computes neighbouring columns for all rows. Its lanes walk along a row together, 16 bytes of each weight a
// lane, and the next are on their way while these are used. x and the norm's weight come from L1, so no block waits
// for anything. The norm's scale is a factor of the whole sum: each warp adds up the squares on its own way along x.
//
// A sum is added up in one order however many rows there are: a row has the bits that it has alone.
#include "activation.cuh"
#include "rms.cuh"
#include "weights.cuh"

// N numbers that every warp reads: through L1, which sm_61 grants only to what is never written.
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

// Sums over the lanes, of N numbers at about one shuffle each: lane l gets that of number l / (32 / N). Pairs of
// lanes are added in the same order for every N.
template <int N, int STEP = WARP / 2>
__device__ float scatter_sums(const float (&x)[N])
{
    if constexpr (STEP == 0) {
        static_assert(N == 1, "at most a number for each lane");
        return x[0];
    } else if constexpr (N == 1) {
        const float sum[1] = {x[0] + __shfl_xor_sync(ALL_LANES, x[0], STEP)};
        return scatter_sums<1, STEP / 2>(sum);
    } else {
        const bool is_upper = (threadIdx.x & STEP) != 0;
        float sums[N / 2];
#pragma unroll
        for (int i = 0; i < N / 2; i++) {
            const float given = __shfl_xor_sync(ALL_LANES, is_upper ? x[i] : x[i + N / 2], STEP);
            sums[i] = (is_upper ? x[i + N / 2] : x[i]) + given;
        }
        return scatter_sums<N / 2, STEP / 2>(sums);
    }
}

// One lane's part of the sums of COLS weights with ROWS rows, and of the rows' squares.
template <typename T, int N, int ROWS, int COLS>
struct Sums {
    // Steps along the weights that are under way at a time.
    static constexpr int STEPS = ROWS <= 2 ? 2 : 1;
    static constexpr uint32_t STRIDE = WARP * N;
    typedef Piece<T, N> Pieces[STEPS][COLS];

    float sums[COLS][ROWS] = {};
    float squares[ROWS] = {};

    static __device__ void fetch(const T* const (&w)[COLS], uint32_t k, uint32_t inner, Pieces& pieces)
    {
#pragma unroll
        for (int s = 0; s < STEPS; s++)
#pragma unroll
            for (int c = 0; c < COLS; c++)
                if (k + s * STRIDE < inner) pieces[s][c].read(w[c] + k + s * STRIDE);
    }

    template <bool NORM>
    __device__ void add(const GemvParams& p, const T* const (&w)[COLS])
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
                float norm[N], weight[COLS][N];
                if constexpr (NORM) load_common(p.norm + k, norm);
#pragma unroll
                for (int c = 0; c < COLS; c++) now[s][c].widen(weight[c]);
#pragma unroll
                for (int r = 0; r < ROWS; r++) {
                    // Rows that are not there repeat the last.
                    const size_t row = min(static_cast<uint32_t>(r), p.rows - 1);
                    float y[N];
                    load_common(x + row * p.x_stride + k, y);
#pragma unroll
                    for (int i = 0; i < N; i++) {
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

    __device__ void add(const GemvParams& p, const T* const (&w)[COLS])
    {
        if (p.norm)
            add<true>(p, w);
        else
            add<false>(p, w);
    }

    // What the norm multiplies row `row` with, after the sums are complete. All lanes together.
    __device__ float scale(const GemvParams& p, uint32_t row)
    {
        if (!p.norm) return 1.0f;
        const float square = __shfl_sync(ALL_LANES, scatter_sums(squares), row * (WARP / ROWS));
        return rms_scale<T>(square, p);
    }
};

// A warp's columns of one of the weights.
struct Tile {
    const void* weight;
    const float* bias;
    void* out;
    uint32_t cols;
    uint32_t first;

    __device__ explicit Tile(const GemvParams& p) : weight(p.weights[0]), bias(p.biases[0]), out(p.outs[0]), cols(p.cols[0])
    {
        constexpr uint32_t COLS = HIRED_GEMV_COLS;
        uint32_t tile = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
        // Written out: an index that varies would put the parameters on the stack.
        const uint32_t tiles[2] = {(p.cols[0] + COLS - 1) / COLS, (p.cols[1] + COLS - 1) / COLS};
        if (tile >= tiles[0]) {
            tile -= tiles[0];
            weight = p.weights[1], bias = p.biases[1], out = p.outs[1], cols = p.cols[1];
            if (tile >= tiles[1]) {
                tile -= tiles[1];
                weight = p.weights[2], bias = p.biases[2], out = p.outs[2], cols = p.cols[2];
            }
        }
        first = tile * COLS;
    }
};

template <typename T, typename Out, int N, int ROWS>
__device__ void gemv(const GemvParams& p)
{
    constexpr int COLS = HIRED_GEMV_COLS;
    const Tile tile(p);
    if (tile.first >= tile.cols) return;

    const T* w[COLS];
#pragma unroll
    for (int c = 0; c < COLS; c++)
        // Columns that are not there repeat the last.
        w[c] = static_cast<const T*>(tile.weight) + static_cast<size_t>(min(tile.first + c, tile.cols - 1)) * p.w_stride;
    Sums<T, N, ROWS, COLS> all;
    all.add(p, w);

    float flat[COLS * ROWS];
#pragma unroll
    for (int i = 0; i < COLS * ROWS; i++) flat[i] = all.sums[i / ROWS][i % ROWS];
    constexpr uint32_t SHARE = WARP / (COLS * ROWS);
    const uint32_t lane = threadIdx.x % WARP;
    const uint32_t row = lane / SHARE % ROWS;
    const uint32_t column = tile.first + lane / SHARE / ROWS;
    const float sum = scatter_sums(flat);
    const float scale = all.scale(p, row);
    if (lane % SHARE != 0 || row >= p.rows || column >= tile.cols) return;
    float y[1] = {fmaf(sum, scale, tile.bias ? tile.bias[column] : 0.0f)};
    Out* out = static_cast<Out*>(tile.out) + static_cast<size_t>(row) * tile.cols + column;
    if (p.epilogue == HIRED_ADD)
        y[0] = saturated<Out>(y[0] + to_float(*out));
    else
        activate(p.activation, y);
    *out = from_float<Out>(y[0]);
}

template <typename T, int N, int ROWS>
__device__ void gemv_gate(const GemvParams& p)
{
    constexpr int COLS = HIRED_GEMV_COLS / 2;
    const uint32_t first = (blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP) * COLS;
    if (first >= p.cols[0]) return;

    const T* w[2 * COLS];
#pragma unroll
    for (int c = 0; c < 2 * COLS; c++)
        w[c] = static_cast<const T*>(p.weights[c / COLS]) + static_cast<size_t>(min(first + c % COLS, p.cols[0] - 1)) * p.w_stride;
    Sums<T, N, ROWS, 2 * COLS> all;
    all.add(p, w);

    float gates[COLS * ROWS], ups[COLS * ROWS];
#pragma unroll
    for (int i = 0; i < COLS * ROWS; i++) {
        gates[i] = all.sums[i / ROWS][i % ROWS];
        ups[i] = all.sums[COLS + i / ROWS][i % ROWS];
    }
    constexpr uint32_t SHARE = WARP / (COLS * ROWS);
    const uint32_t lane = threadIdx.x % WARP;
    const uint32_t row = lane / SHARE % ROWS;
    const uint32_t column = first + lane / SHARE / ROWS;
    const float gate = scatter_sums(gates);
    const float up = scatter_sums(ups);
    const float scale = all.scale(p, row);
    if (lane % SHARE != 0 || row >= p.rows || column >= p.cols[0]) return;
    const float g = fmaf(gate, scale, p.biases[0] ? p.biases[0][column] : 0.0f);
    const float u = fmaf(up, scale, p.biases[1] ? p.biases[1][column] : 0.0f);
    static_cast<T*>(p.outs[0])[static_cast<size_t>(row) * p.cols[0] + column] =
        from_float_saturating<T>(silu(g) * u);
}

// Vectors of fp16 come here where there are no tensor cores, else to gemv_mma.cu.
template <typename T, int N>
constexpr bool IS_HERE = N == 1 || sizeof(T) != sizeof(Half) || !ptx::HAS_MMA_K8;

// PRECOND: a warp for each 4 columns of each weight (gate: for each 2), in 1-D blocks of whole warps, at most 128
// threads; rows from 1 to the name's (guarded: to 8); inner and cols[0] at least 1; x and the outs apart.
// vector: x, norm and weights multiples of 16; inner, x_stride and w_stride multiples of 16 bytes.
// guarded: any alignment and width.
// BLOCKS: on a multiprocessor, so that no variant spills; at least 12 warps with 2 KB of weights under way each.
#define GEMV(name, T, Out, N, ROWS, BLOCKS)                                                        \
    extern "C" __global__ void __launch_bounds__(HIRED_GEMV_THREADS, BLOCKS) gemv_##name(GemvParams p) \
    {                                                                                              \
        if constexpr (IS_HERE<T, N>) {                                                             \
            gemv<T, Out, N, ROWS>(p);                                                              \
        } else {                                                                                   \
            __trap();                                                                              \
        }                                                                                          \
    }
#define GEMV_GATE(name, T, N, ROWS, BLOCKS)                                                        \
    extern "C" __global__ void __launch_bounds__(HIRED_GEMV_THREADS, BLOCKS) gemv_gate_##name(GemvParams p) \
    {                                                                                              \
        if constexpr (IS_HERE<T, N>) {                                                             \
            gemv_gate<T, N, ROWS>(p);                                                              \
        } else {                                                                                   \
            __trap();                                                                              \
        }                                                                                          \
    }

GEMV(vector_rows1_f32, float, float, LANES<float>, 1, 4)
GEMV(vector_rows2_f32, float, float, LANES<float>, 2, 4)
GEMV(vector_rows4_f32, float, float, LANES<float>, 4, 4)
GEMV(vector_rows8_f32, float, float, LANES<float>, 8, 3)
GEMV(guarded_f32, float, float, 1, 8, 4)

GEMV(vector_rows1_f16, Half, Half, LANES<Half>, 1, 4)
GEMV(vector_rows2_f16, Half, Half, LANES<Half>, 2, 4)
GEMV(vector_rows4_f16, Half, Half, LANES<Half>, 4, 4)
GEMV(vector_rows8_f16, Half, Half, LANES<Half>, 8, 3)
GEMV(guarded_f16, Half, Half, 1, 8, 4)

// Logits leave as fp32: between the best two of a vocabulary there is often less than an fp16 step.
GEMV(logits_vector_rows1_f16, Half, float, LANES<Half>, 1, 4)
GEMV(logits_vector_rows2_f16, Half, float, LANES<Half>, 2, 4)
GEMV(logits_vector_rows4_f16, Half, float, LANES<Half>, 4, 4)
GEMV(logits_vector_rows8_f16, Half, float, LANES<Half>, 8, 3)
GEMV(logits_guarded_f16, Half, float, 1, 8, 4)

GEMV_GATE(vector_rows1_f32, float, LANES<float>, 1, 4)
GEMV_GATE(vector_rows2_f32, float, LANES<float>, 2, 4)
GEMV_GATE(vector_rows4_f32, float, LANES<float>, 4, 4)
GEMV_GATE(vector_rows8_f32, float, LANES<float>, 8, 3)
GEMV_GATE(guarded_f32, float, 1, 8, 4)

GEMV_GATE(vector_rows1_f16, Half, LANES<Half>, 1, 4)
GEMV_GATE(vector_rows2_f16, Half, LANES<Half>, 2, 4)
GEMV_GATE(vector_rows4_f16, Half, LANES<Half>, 4, 4)
GEMV_GATE(vector_rows8_f16, Half, LANES<Half>, 8, 3)
GEMV_GATE(guarded_f16, Half, 1, 8, 4)
