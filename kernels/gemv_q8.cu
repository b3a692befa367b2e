// Products of a few rows of codes with int8 weights by dp4a, at the speed of memory: the columns of a warp and the way along
// them are those of gemv.cuh. Sums are integers and exact, whatever their order.
#include "gemv.cuh"

// One lane's part of the sums of COLS weights with ROWS rows.
template <int ROWS, int COLS>
struct CodeSums {
    // Steps along the weights that are under way at a time: 2 KB of a warp each.
    static constexpr int STEPS = 2;
    static constexpr uint32_t CODES = 16;
    static constexpr uint32_t STRIDE = WARP * CODES;
    typedef uint4 Pieces[STEPS][COLS];

    int32_t sums[COLS][ROWS] = {};

    static __device__ void fetch(const int8_t* const (&w)[COLS], uint32_t k, uint32_t inner, Pieces& pieces)
    {
#pragma unroll
        for (int s = 0; s < STEPS; s++)
#pragma unroll
            for (int c = 0; c < COLS; c++)
                if (k + s * STRIDE < inner) pieces[s][c] = ptx::load_streaming(w[c] + k + s * STRIDE);
    }

    __device__ void add(const GemvParams& p, const int8_t* const (&w)[COLS])
    {
        const int8_t* x = static_cast<const int8_t*>(p.x);
        Pieces next = {};
        uint32_t k = threadIdx.x % WARP * CODES;
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
#pragma unroll
                for (int r = 0; r < ROWS; r++) {
                    // Rows that are not there repeat the last. Through L1, which sm_61 grants only to what is never written.
                    const size_t row = min(static_cast<uint32_t>(r), p.rows - 1);
                    const uint4 y = __ldg(reinterpret_cast<const uint4*>(x + row * p.x_stride + k));
#pragma unroll
                    for (int c = 0; c < COLS; c++) {
                        int32_t sum = sums[c][r];
                        sum = ptx::dp4a(now[s][c].x, y.x, sum);
                        sum = ptx::dp4a(now[s][c].y, y.y, sum);
                        sum = ptx::dp4a(now[s][c].z, y.z, sum);
                        sums[c][r] = ptx::dp4a(now[s][c].w, y.w, sum);
                    }
                }
            }
        }
    }
};

// A column of a weight.
__device__ inline const int8_t* codes_of(const GemvParams& p, const void* weight, uint32_t column)
{
    return static_cast<const int8_t*>(weight) + static_cast<size_t>(column) * p.w_stride;
}

template <typename Out, int ROWS>
__device__ void gemv_q8(const ScaledGemvParams& params)
{
    constexpr int COLS = HIRED_GEMV_COLS;
    const GemvParams& p = params.product;
    const Tile tile(p);
    if (tile.first >= tile.cols) return;

    const int8_t* w[COLS];
#pragma unroll
    for (int c = 0; c < COLS; c++)
        // Columns that are not there repeat the last.
        w[c] = codes_of(p, tile.weight, min(tile.first + c, tile.cols - 1));
    CodeSums<ROWS, COLS> all;
    all.add(p, w);

    int32_t flat[COLS * ROWS];
#pragma unroll
    for (int i = 0; i < COLS * ROWS; i++) flat[i] = all.sums[i / ROWS][i % ROWS];
    const int32_t sum = scatter_sums(flat);
    const Share<ROWS, COLS> share;
    const uint32_t column = tile.first + share.column;
    if (!share.stores || share.row >= p.rows || column >= tile.cols) return;
    const float* of_weight = static_cast<const float*>(scales_of(params.scales, tile.which));
    const float y = scaled(sum, of_weight[column], params.scales.rows[share.row]);
    conclude<Out>(p, tile, share.row, column, tile.bias ? __fadd_rn(y, tile.bias[column]) : y);
}

template <typename Out, int ROWS>
__device__ void gemv_gate_q8(const ScaledGemvParams& params)
{
    constexpr int COLS = HIRED_GEMV_COLS / 2;
    const GemvParams& p = params.product;
    const uint32_t first = (blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP) * COLS;
    if (first >= p.cols[0]) return;

    const int8_t* w[2 * COLS];
#pragma unroll
    for (int c = 0; c < 2 * COLS; c++) w[c] = codes_of(p, p.weights[c / COLS], min(first + c % COLS, p.cols[0] - 1));
    CodeSums<ROWS, 2 * COLS> all;
    all.add(p, w);

    int32_t gates[COLS * ROWS], ups[COLS * ROWS];
#pragma unroll
    for (int i = 0; i < COLS * ROWS; i++) {
        gates[i] = all.sums[i / ROWS][i % ROWS];
        ups[i] = all.sums[COLS + i / ROWS][i % ROWS];
    }
    const int32_t gate = scatter_sums(gates);
    const int32_t up = scatter_sums(ups);
    const Share<ROWS, COLS> share;
    const uint32_t column = first + share.column;
    if (!share.stores || share.row >= p.rows || column >= p.cols[0]) return;
    const float of_row = params.scales.rows[share.row];
    float sums[2] = {scaled(gate, static_cast<const float*>(params.scales.weights[0])[column], of_row),
                     scaled(up, static_cast<const float*>(params.scales.weights[1])[column], of_row)};
#pragma unroll
    for (int i = 0; i < 2; i++)
        if (p.biases[i]) sums[i] = __fadd_rn(sums[i], p.biases[i][column]);
    conclude_gate<Out>(p, share.row, column, sums[0], sums[1]);
}

// PRECOND: as for GEMV; x, weights and scales multiples of 16; inner and the strides of x and of the weights multiples of
// 16, with zeros behind the codes; no norm.
// BLOCKS: on a multiprocessor, so that no variant spills; 4 KB of weights are under way for each warp.
#define GEMV_Q8(dtype, Out, ROWS, BLOCKS)                                                          \
    extern "C" __global__ void __launch_bounds__(HIRED_GEMV_THREADS, BLOCKS)                       \
        gemv_rows##ROWS##_q8_##dtype(ScaledGemvParams p)                                           \
    {                                                                                              \
        gemv_q8<Out, ROWS>(p);                                                                     \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(HIRED_GEMV_THREADS, BLOCKS)                       \
        gemv_gate_rows##ROWS##_q8_##dtype(ScaledGemvParams p)                                      \
    {                                                                                              \
        gemv_gate_q8<Out, ROWS>(p);                                                                \
    }

GEMV_Q8(f32, float, 1, 4)
GEMV_Q8(f32, float, 2, 4)
GEMV_Q8(f32, float, 4, 4)
GEMV_Q8(f32, float, 8, 3)
GEMV_Q8(f16, Half, 1, 4)
GEMV_Q8(f16, Half, 2, 4)
GEMV_Q8(f16, Half, 4, 4)
GEMV_Q8(f16, Half, 8, 3)
