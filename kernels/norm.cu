// LayerNorm and RMSNorm, with a block for each row. Limited by memory. Host side: src/ops/cuda/rows/choose.rs.
//
//   layer_norm: out = (x - mean) / sqrt(variance + eps) * weight + bias
//   rms_norm:   out = x / sqrt(mean of squares + eps) * weight
//
// The mean is computed first, and the squares around it, so that a large mean costs no accuracy.
#include "prelude.cuh"

// A row in registers, so that memory is read once.
template <typename T>
struct KeptRow {
    static constexpr int N = LANES<T>;
    static constexpr int VECTORS = HIRED_NORM_KEPT / N;

    float x[VECTORS][N];
    uint32_t cols;

    __device__ KeptRow(const T* row, uint32_t cols) : cols(cols)
    {
#pragma unroll
        for (int v = 0; v < VECTORS; v++)
            if (column(v) < cols) load(row + column(v), x[v]);
    }

    __device__ uint32_t column(int v) const
    {
        return (v * blockDim.x + threadIdx.x) * N;
    }

    // Sum over this thread's numbers of f(number).
    template <typename F>
    __device__ float sum(F f) const
    {
        float total = 0.0f;
#pragma unroll
        for (int v = 0; v < VECTORS; v++)
            if (column(v) < cols)
#pragma unroll
                for (int i = 0; i < N; i++) total += f(x[v][i]);
        return total;
    }

    __device__ void write(T* out, float mean, float scale, const float* weight, const float* bias) const
    {
#pragma unroll
        for (int v = 0; v < VECTORS; v++) {
            if (column(v) >= cols) break;
            float w[N], b[N] = {}, y[N];
            load(weight + column(v), w);
            if (bias) load(bias + column(v), b);
#pragma unroll
            for (int i = 0; i < N; i++) y[i] = (x[v][i] - mean) * scale * w[i] + b[i];
            store(out + column(v), y);
        }
    }
};

// A row of any width and alignment, read again for each use.
template <typename T>
struct ReadRow {
    const T* row;
    uint32_t cols;

    __device__ ReadRow(const T* row, uint32_t cols) : row(row), cols(cols) {}

    template <typename F>
    __device__ float sum(F f) const
    {
        float total = 0.0f;
        for (uint32_t i = threadIdx.x; i < cols; i += blockDim.x) total += f(to_float(row[i]));
        return total;
    }

    __device__ void write(T* out, float mean, float scale, const float* weight, const float* bias) const
    {
        for (uint32_t i = threadIdx.x; i < cols; i += blockDim.x)
            out[i] = from_float<T>((to_float(row[i]) - mean) * scale * weight[i] + (bias ? bias[i] : 0.0f));
    }
};

template <typename T, typename Row>
__device__ void layer_norm(const NormParams& p)
{
    const size_t start = static_cast<size_t>(blockIdx.x) * p.cols;
    const Row row(static_cast<const T*>(p.x) + start, p.cols);
    const float mean = block_sum(row.sum([](float x) { return x; })) * p.inverse_cols;
    const float variance = block_sum(row.sum([=](float x) { return (x - mean) * (x - mean); })) * p.inverse_cols;
    row.write(static_cast<T*>(p.out) + start, mean, rsqrtf(variance + p.eps), p.weight, p.bias);
}

template <typename T, typename Row>
__device__ void rms_norm(const NormParams& p)
{
    const size_t start = static_cast<size_t>(blockIdx.x) * p.cols;
    const Row row(static_cast<const T*>(p.x) + start, p.cols);
    const float square = block_sum(row.sum([](float x) { return x * x; })) * p.inverse_cols;
    row.write(static_cast<T*>(p.out) + start, 0.0f, rsqrtf(square + p.eps), p.weight, nullptr);
}

// PRECOND: grid of `rows`; 1-D block of whole warps, at most 512 threads.
// vector: x, out, weight and bias multiples of 16; cols a multiple of 16 bytes and at most 16 numbers a thread.
// guarded: any cols and alignment.
#define NORM(op, dtype, T)                                                                         \
    extern "C" __global__ void __launch_bounds__(HIRED_NORM_THREADS) op##_vector_##dtype(NormParams p) \
    {                                                                                              \
        op<T, KeptRow<T>>(p);                                                                      \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(HIRED_NORM_THREADS) op##_guarded_##dtype(NormParams p) \
    {                                                                                              \
        op<T, ReadRow<T>>(p);                                                                      \
    }

NORM(layer_norm, f32, float)
NORM(layer_norm, f16, Half)
NORM(rms_norm, f32, float)
NORM(rms_norm, f16, Half)
