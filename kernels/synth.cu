// Weights of a synthetic model, generated on the device: bit for bit the numbers that the host writes into a synthetic
// checkpoint (src/checkpoint/synth).
#include "prelude.cuh"

// SplitMix64: a full-period step followed by its finaliser.
__device__ inline uint64_t mix(uint64_t x)
{
    x = x * 0x9e3779b97f4a7c15 + 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

// Four elements share a random number. Every operation is rounded separately, as on the host. A checkpoint's numbers
// are fp16.
__device__ inline float element(const SynthParams& p, uint64_t index)
{
    const uint64_t bits = mix(p.key + index / 4) >> (index % 4 * 16);
    const float drawn = (static_cast<int16_t>(bits & 0xFFFF) + 0.5f) / 32768.0f;
    return to_float(from_float<Half>(__fadd_rn(p.mean, __fmul_rn(drawn, p.reach))));
}

template <typename T>
__device__ void synth(const SynthParams& p)
{
    T* out = static_cast<T*>(p.out) + static_cast<size_t>(blockIdx.x) * p.stride;
    const uint64_t first = static_cast<uint64_t>(blockIdx.x) * p.cols;
    for (uint32_t i = threadIdx.x; i < p.stride; i += blockDim.x)
        out[i] = from_float<T>(i < p.cols ? element(p, first + i) : 0.0f);
}

// PRECOND: grid of `rows`; 1-D block of at most 256 threads.
extern "C" __global__ void __launch_bounds__(HIRED_ROW_THREADS) synth_f32(SynthParams p)
{
    synth<float>(p);
}

extern "C" __global__ void __launch_bounds__(HIRED_ROW_THREADS) synth_f16(SynthParams p)
{
    synth<Half>(p);
}
