// Rows that are a square of tokens, each with what a convolution makes of its neighbours.
#include "prelude.cuh"

// out = x + w * x + b: of each column the 3 x 3 convolution with its own numbers, zeros around the square. In fp32.
template <typename T>
__device__ void convolve(const ConvolveParams& p)
{
    const int side = p.side, row = blockIdx.x / p.side, column = blockIdx.x % p.side;
    const T* x = static_cast<const T*>(p.x);
    const size_t own = static_cast<size_t>(blockIdx.x) * p.cols;
    for (uint32_t c = threadIdx.x; c < p.cols; c += blockDim.x) {
        const float* weight = p.weight + static_cast<size_t>(c) * 9;
        float sum = p.bias[c];
#pragma unroll
        for (int i = 0; i < 9; i++) {
            const int y = row + i / 3 - 1, z = column + i % 3 - 1;
            if (y < 0 || z < 0 || y >= side || z >= side) continue;
            sum += weight[i] * to_float(x[(static_cast<size_t>(y) * side + z) * p.cols + c]);
        }
        static_cast<T*>(p.out)[own + c] = from_float<T>(sum + to_float(x[own + c]));
    }
}

// PRECOND: grid of side * side; 1-D block of at most 256 threads; out is not x.
extern "C" __global__ void __launch_bounds__(HIRED_ROW_THREADS) convolve_f32(ConvolveParams p)
{
    convolve<float>(p);
}
extern "C" __global__ void __launch_bounds__(HIRED_ROW_THREADS) convolve_f16(ConvolveParams p)
{
    convolve<Half>(p);
}
