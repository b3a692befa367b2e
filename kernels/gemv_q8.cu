// Products of 1 to 8 rows of int8 codes with int8 weights by dp4a, limited by memory. Columns and steps of a warp are
// those of gemv.cuh. The integer sums are exact, in any order. The block that finishes last quantizes the rows that gate
// and up make, for the product that follows.
#include "codes.cuh"
#include "gemv.cuh"

// The codes of a column.
struct CodeReader {
    const int8_t* row;

    __device__ static CodeReader of(const ScaledGemvParams& p, const void* weight, uint32_t, uint32_t column)
    {
        return {static_cast<const int8_t*>(weight) + static_cast<size_t>(column) * p.product.w_stride};
    }
};

template <int OF_ROWS>
struct CodeSums {
    typedef CodeReader Reader;
    typedef int32_t Number;
    typedef ScaledGemvParams Params;
    static constexpr int ROWS = OF_ROWS, COLS = HIRED_GEMV_COLS;
    // Steps along the weights in flight at a time, 2 KB of a warp each.
    static constexpr int STEPS = 2;
    static constexpr uint32_t CODES = 16;
    static constexpr uint32_t STRIDE = WARP * CODES;
    typedef uint4 Pieces[STEPS][COLS];

    int32_t sums[COLS][ROWS] = {};

    static __device__ void fetch(const CodeReader (&w)[COLS], uint32_t k, uint32_t inner, Pieces& pieces)
    {
#pragma unroll
        for (int s = 0; s < STEPS; s++)
#pragma unroll
            for (int c = 0; c < COLS; c++)
                if (k + s * STRIDE < inner) pieces[s][c] = ptx::load_streaming(w[c].row + k + s * STRIDE);
    }

    __device__ void add(const GemvParams& p, const CodeReader (&w)[COLS])
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
                    // Missing rows repeat the last one. Loaded through L1, which sm_61 allows only for memory that the
                    // kernel never writes.
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

    // The norm was applied before the rows were quantized.
    __device__ float norm(const GemvParams&, uint32_t) const
    {
        return 1.0f;
    }

    __device__ static float number(const Params& p, uint32_t which, uint32_t row, uint32_t column, int32_t sum, float,
                                   const float* bias)
    {
        const float* of_weight = static_cast<const float*>(scales_of(p.scales, which));
        const float y = scaled(sum, of_weight[column], p.scales.rows[row]);
        return bias ? __fadd_rn(y, bias[column]) : y;
    }
};

// By all threads of a block that has stored its part of gate and up, a row after the other.
template <typename T>
__device__ void round_rows(const GemvParams& p, const CodedRows& coded)
{
    if (!coded.codes || !is_last_block(coded.done, gridDim.x)) return;
    const uint32_t cols = p.cols[0];
    for (uint32_t row = 0; row < p.rows; row++) {
        const size_t at = static_cast<size_t>(row) * cols;
        round_written_row(static_cast<const T*>(p.outs[0]) + at, cols, coded.codes + at, coded.scales + row);
    }
}

// PRECOND: as for GEMV; x, weights and scales multiples of 16; inner and the strides of x and of the weights multiples of
// 16, with zeros behind the codes; no norm. With codes: out and codes multiples of 16, their columns too, and done is 0.
// BLOCKS: blocks per multiprocessor, chosen so that no variant spills; each warp has 4 KB of weights in flight.
#define GEMV_Q8(dtype, Out, ROWS, BLOCKS)                                                          \
    extern "C" __global__ void __launch_bounds__(HIRED_GEMV_THREADS, BLOCKS)                       \
        gemv_rows##ROWS##_q8_##dtype(CodedGemvParams p)                                            \
    {                                                                                              \
        gemv<Out, CodeSums<ROWS>>(p.product);                                                      \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(HIRED_GEMV_THREADS, BLOCKS)                       \
        gemv_gate_rows##ROWS##_q8_##dtype(CodedGemvParams p)                                       \
    {                                                                                              \
        gemv_gate<Out, CodeSums<ROWS>>(p.product);                                                 \
        if (ROWS <= HIRED_ROUNDED_ROWS) round_rows<Out>(p.product.product, p.coded);               \
    }

GEMV_Q8(f32, float, 1, 4)
GEMV_Q8(f32, float, 2, 4)
GEMV_Q8(f32, float, 4, 4)
GEMV_Q8(f32, float, 8, 3)
GEMV_Q8(f16, Half, 1, 4)
GEMV_Q8(f16, Half, 2, 4)
GEMV_Q8(f16, Half, 4, 4)
GEMV_Q8(f16, Half, 8, 3)
