// Weights from the checkpoint's format to the engine's.
#include "prelude.cuh"

template <typename From, typename To>
__device__ void convert(const ConvertParams& p)
{
    constexpr int N = 8;
    const From* from = static_cast<const From*>(p.from);
    To* to = static_cast<To*>(p.to);
    const uint64_t stride = static_cast<uint64_t>(gridDim.x) * blockDim.x * N;
    for (uint64_t i = (static_cast<uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * N; i < p.count; i += stride) {
        if (i + N <= p.count) {
            float x[N];
            load(from + i, x);
            store(to + i, x);
        } else {
            for (uint64_t last = i; last < p.count; last++) to[last] = from_float<To>(to_float(from[last]));
        }
    }
}

// PRECOND: any grid; 1-D block of at most 256 threads; from and to multiples of 16, not overlapping.
#define CONVERT(from, From, to, To)                                                                \
    extern "C" __global__ void __launch_bounds__(HIRED_ROW_THREADS) convert_##from##_##to(ConvertParams p) \
    {                                                                                              \
        convert<From, To>(p);                                                                      \
    }

CONVERT(bf16, Bfloat, f16, Half)
CONVERT(bf16, Bfloat, f32, float)
CONVERT(f16, Half, f32, float)
CONVERT(f32, float, f16, Half)
