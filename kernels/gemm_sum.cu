// Second kernel of a split-K product: adds the partial sums in the order of the parts, and applies the product's
// epilogue. There are no atomic additions, so every run gives the same bits. Limited by memory.
#include "gemm.cuh"

template <int N>
__device__ inline void add_parts(const GemmParams& p, uint32_t column, float (&x)[N])
{
    const size_t part = p.rows * static_cast<size_t>(all_columns(p));
    const float* from = p.sums + blockIdx.x * static_cast<size_t>(all_columns(p)) + column;
    load(from, x);
#pragma unroll
    for (uint32_t i = 1; i < HIRED_GEMM_PARTS; i++) {
        if (i >= p.parts) break;
        float more[N];
        load(from + i * part, more);
#pragma unroll
        for (int j = 0; j < N; j++) x[j] += more[j];
    }
}

template <typename T, int N>
__device__ void gemm_sum(const GemmParams& p)
{
    const uint32_t row = blockIdx.x, at = (blockIdx.y * blockDim.x + threadIdx.x) * N;
    float x[N];
    if (p.epilogue == HIRED_GATE) {
        if (at >= p.cols[0]) return;
        float up[N];
        add_parts(p, at, x);
        add_parts(p, p.cols[0] + at, up);
        conclude_gate<T>(p, row, at, x, up);
    } else {
        if (at >= all_columns(p)) return;
        const Columns c(p, at < p.cols[0] ? 0 : at < p.cols[0] + p.cols[1] ? 1 : 2);
        add_parts(p, at, x);
        conclude<T>(p, c, row, at - c.before, x);
    }
}

// PRECOND: the parameters of the launch before, with 2 to HIRED_GEMM_PARTS parts; grid (rows, columns of the weights
// (gate: of the first) in blocks of as many threads with N each); 1-D block of at most HIRED_ROW_THREADS.
// vector: as the products' kernels that are not guarded. guarded: any.
#define GEMM_SUM(variant, dtype, T, N)                                                             \
    extern "C" __global__ void __launch_bounds__(HIRED_ROW_THREADS) gemm_sum_##variant##_##dtype(GemmParams p) \
    {                                                                                              \
        gemm_sum<T, N>(p);                                                                         \
    }

GEMM_SUM(vector, f32, float, LANES<float>)
GEMM_SUM(vector, f16, Half, LANES<Half>)
GEMM_SUM(guarded, f32, float, 1)
GEMM_SUM(guarded, f16, Half, 1)
