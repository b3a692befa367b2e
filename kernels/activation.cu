// Element-wise kernels on rows of activations: bias and activation after a library's matrix product, which has no
// epilogue; the SwiGLU product; and a scaled residual. Limited by memory. Host side: src/ops/cuda/matmul/elements.rs
// and rows/ops.rs.
#include "activation.cuh"

// bias_activation: x = f(x + bias), in place; N columns at a time.
template <typename T, int N>
__device__ void bias_activation(const ActivationParams& p)
{
    T* row = static_cast<T*>(p.x) + static_cast<size_t>(blockIdx.x) * p.cols;
    for (uint32_t i = threadIdx.x * N; i < p.cols; i += blockDim.x * N) {
        float x[N], bias[N] = {};
        load(row + i, x);
        if (p.bias) load(p.bias + i, bias);
#pragma unroll
        for (int lane = 0; lane < N; lane++) x[lane] += bias[lane];
        activate(p.activation, x);
        store(row + i, x);
    }
}

// scaled_add: sum += factors * x, row by row; N columns at a time.
template <typename T, int N>
__device__ void scaled_add(const ScaledAddParams& p)
{
    const size_t start = static_cast<size_t>(blockIdx.x) * p.cols;
    T* row = static_cast<T*>(p.sum) + start;
    for (uint32_t i = threadIdx.x * N; i < p.cols; i += blockDim.x * N) {
        float sum[N], x[N], factors[N];
        load(row + i, sum);
        load(static_cast<const T*>(p.x) + start + i, x);
        load(p.factors + i, factors);
#pragma unroll
        for (int lane = 0; lane < N; lane++) sum[lane] += factors[lane] * x[lane];
        store(row + i, sum);
    }
}

// silu_mul: out = silu(gate) * up; N numbers at a time.
template <typename T, int N>
__device__ void silu_mul(const SiluMulParams& p)
{
    const uint64_t stride = static_cast<uint64_t>(gridDim.x) * blockDim.x * N;
    for (uint64_t i = (static_cast<uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * N; i < p.count; i += stride) {
        float gate[N], up[N];
        load(static_cast<const T*>(p.gate) + i, gate);
        load(static_cast<const T*>(p.up) + i, up);
#pragma unroll
        for (int lane = 0; lane < N; lane++) up[lane] *= silu(gate[lane]);
        store_saturating(static_cast<T*>(p.out) + i, up);
    }
}

// PRECOND: bias_activation, scaled_add: grid of `rows`; silu_mul: any grid. 1-D block of at most 256 threads.
// vector: all pointers multiples of 16; cols, count a multiple of 16 bytes.
#define ACTIVATION(variant, dtype, T, N)                                                           \
    extern "C" __global__ void __launch_bounds__(HIRED_ROW_THREADS)                                \
        bias_activation_##variant##_##dtype(ActivationParams p)                                    \
    {                                                                                              \
        bias_activation<T, N>(p);                                                                  \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(HIRED_ROW_THREADS)                                \
        scaled_add_##variant##_##dtype(ScaledAddParams p)                                          \
    {                                                                                              \
        scaled_add<T, N>(p);                                                                       \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(HIRED_ROW_THREADS)                                \
        silu_mul_##variant##_##dtype(SiluMulParams p)                                              \
    {                                                                                              \
        silu_mul<T, N>(p);                                                                         \
    }

ACTIVATION(vector, f32, float, LANES<float>)
ACTIVATION(vector, f16, Half, LANES<Half>)
ACTIVATION(guarded, f32, float, 1)
ACTIVATION(guarded, f16, Half, 1)
