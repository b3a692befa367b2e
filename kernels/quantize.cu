// Quantizes rows of activations to int8, with a block for each row, by the rule of codes.cuh: y = x or RMSNorm(x)
// rounded to the format that it would be stored in. Limited by memory. Host side: src/ops/cuda/matmul/integers.rs.
#include "codes.cuh"
#include "rms.cuh"

// Numbers of a row that a thread keeps in registers.
constexpr int KEPT = 32;

// Loads N numbers of a row and applies the norm, if there is one; stores N codes.
template <typename T, int N>
__device__ inline void normed(const QuantizeParams& p, uint32_t column, float scale, float (&x)[N])
{
    if (!p.norm) return;
    float weight[N];
    load(p.norm + column, weight);
#pragma unroll
    for (int i = 0; i < N; i++) x[i] = to_float(from_float<T>(x[i] * scale * weight[i]));
}

// A row in registers, so that memory is read once.
template <typename T>
struct KeptRow {
    static constexpr int N = LANE_CODES;
    static constexpr int VECTORS = KEPT / N;

    float x[VECTORS][N];

    __device__ KeptRow(const QuantizeParams& p, const T* row)
    {
#pragma unroll
        for (int v = 0; v < VECTORS; v++)
            if (column(v) < p.cols) load(row + column(v), x[v]);
    }

    __device__ static uint32_t column(int v)
    {
        return (v * blockDim.x + threadIdx.x) * N;
    }

    __device__ float squares(const QuantizeParams& p) const
    {
        float total = 0.0f;
#pragma unroll
        for (int v = 0; v < VECTORS; v++)
            if (column(v) < p.cols)
#pragma unroll
                for (int i = 0; i < N; i++) total = fmaf(x[v][i], x[v][i], total);
        return total;
    }

    __device__ float greatest(const QuantizeParams& p, float scale)
    {
        float so_far = 0.0f;
#pragma unroll
        for (int v = 0; v < VECTORS; v++)
            if (column(v) < p.cols) {
                normed<T>(p, column(v), scale, x[v]);
                so_far = largest(so_far, x[v]);
            }
        return so_far;
    }

    __device__ void write(const QuantizeParams& p, int8_t* to, float, float factor) const
    {
#pragma unroll
        for (int v = 0; v < VECTORS; v++) {
            if (column(v) >= p.stride) break;
            const uint2 none = make_uint2(0, 0);
            *reinterpret_cast<uint2*>(to + column(v)) = column(v) < p.cols ? codes_of(x[v], factor) : none;
        }
    }
};

// A row of any width and alignment, read again for each use.
template <typename T>
struct ReadRow {
    const T* row;

    __device__ ReadRow(const QuantizeParams&, const T* row) : row(row) {}

    __device__ float number(const QuantizeParams& p, uint32_t i, float scale) const
    {
        float x[1] = {to_float(row[i])};
        normed<T>(p, i, scale, x);
        return x[0];
    }

    __device__ float squares(const QuantizeParams& p) const
    {
        float total = 0.0f;
        for (uint32_t i = threadIdx.x; i < p.cols; i += blockDim.x) {
            const float x = to_float(row[i]);
            total = fmaf(x, x, total);
        }
        return total;
    }

    __device__ float greatest(const QuantizeParams& p, float scale) const
    {
        float so_far = 0.0f;
        for (uint32_t i = threadIdx.x; i < p.cols; i += blockDim.x) {
            const float x[1] = {number(p, i, scale)};
            so_far = largest(so_far, x);
        }
        return so_far;
    }

    __device__ void write(const QuantizeParams& p, int8_t* to, float scale, float factor) const
    {
        for (uint32_t i = threadIdx.x; i < p.stride; i += blockDim.x)
            to[i] = static_cast<int8_t>(i < p.cols ? code(number(p, i, scale), factor) : 0);
    }
};

template <typename T, typename Row>
__device__ void quantize(const CountedQuantizeParams& params)
{
    const QuantizeParams& p = params.rows;
    if (params.done && blockIdx.x == 0 && threadIdx.x == 0) *params.done = 0;
    Row row(p, static_cast<const T*>(p.x) + static_cast<size_t>(blockIdx.x) * p.x_stride);
    const float scale = p.norm ? rms_scale<T>(block_sum(row.squares(p)), p.inverse_cols, p.eps) : 1.0f;
    const float most = block_max(row.greatest(p, scale));
    row.write(p, p.codes + static_cast<size_t>(blockIdx.x) * p.stride, scale, code_factor(most));
    if (threadIdx.x == 0) p.scales[blockIdx.x] = code_scale(most);
}

// PRECOND: grid of `rows`; 1-D block of whole warps, at most HIRED_NORM_THREADS.
// vector: x, norm and codes multiples of 16; cols, x_stride whole vectors of 8 numbers; at most 32 numbers a thread.
// guarded: any cols, strides and alignment.
#define QUANTIZE(dtype, T)                                                                         \
    extern "C" __global__ void __launch_bounds__(HIRED_NORM_THREADS) quantize_vector_##dtype(CountedQuantizeParams p) \
    {                                                                                              \
        quantize<T, KeptRow<T>>(p);                                                                \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(HIRED_NORM_THREADS) quantize_guarded_##dtype(CountedQuantizeParams p) \
    {                                                                                              \
        quantize<T, ReadRow<T>>(p);                                                                \
    }

QUANTIZE(f32, float)
QUANTIZE(f16, Half)
