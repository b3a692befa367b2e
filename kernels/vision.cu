// From pixels to the first rows of the vision tower, with a block for each row. Limited by memory. Host side:
// src/ops/cuda/rows/ops.rs.
#include "prelude.cuh"

// The normalised pixels of a patch: channel first, then line, then column; N columns at a time.
template <typename T, int N>
__device__ void patches(const PatchesParams& p)
{
    const uint32_t grid = p.side / p.patch;
    const uint32_t area = p.patch * p.patch;
    const uint32_t partition = blockIdx.x / (grid * grid);
    const uint32_t index = blockIdx.x % (grid * grid);
    const size_t corner = index / grid * p.patch * static_cast<size_t>(p.side) + index % grid * p.patch;
    const uint8_t* pixels = p.pixels + partition * size_t(3) * p.side * p.side + corner;
    T* out = static_cast<T*>(p.out) + static_cast<size_t>(blockIdx.x) * p.stride;
    for (uint32_t first = threadIdx.x * N; first < p.stride; first += blockDim.x * N) {
        uint32_t channel = first / area;
        uint32_t line = first % area / p.patch;
        uint32_t column = first % p.patch;
        float y[N];
#pragma unroll
        for (int i = 0; i < N; i++) {
            y[i] = 0.0f;
            if (channel < 3) {
                const size_t at = (static_cast<size_t>(channel) * p.side + line) * p.side + column;
                y[i] = p.lut[channel * 256 + pixels[at]];
            }
            if (++column == p.patch) column = 0, line++;
            if (line == p.patch) line = 0, channel++;
        }
        store(out + first, y);
    }
}

// The class token, if there is one, or a patch, plus its position embedding; N columns at a time.
template <typename T, int N>
__device__ void vision_tokens(const TokensParams& p)
{
    const uint32_t prefix = p.class_token != nullptr ? 1 : 0;
    const uint32_t tokens = p.patch_count + prefix;
    const uint32_t partition = blockIdx.x / tokens;
    const uint32_t token = blockIdx.x % tokens;
    const size_t cols = p.cols;
    const float* position = p.position + token * cols;
    T* out = static_cast<T*>(p.out) + blockIdx.x * cols;
    for (uint32_t i = threadIdx.x * N; i < p.cols; i += blockDim.x * N) {
        float x[N], add[N];
        if (token < prefix) {
            load(p.class_token + i, x);
        } else {
            const size_t row = static_cast<size_t>(partition) * p.patch_count + token - prefix;
            load(static_cast<const T*>(p.patches) + row * cols + i, x);
        }
        load(position + i, add);
#pragma unroll
        for (int lane = 0; lane < N; lane++) x[lane] += add[lane];
        store(out + i, x);
    }
}

// PRECOND: grid of partitions * (side / patch)^2; 1-D block of at most 256 threads; patch at most side.
// vector: out a multiple of 16 bytes; stride a multiple of 4 numbers.
#define PATCHES(dtype, T)                                                                          \
    extern "C" __global__ void __launch_bounds__(HIRED_ROW_THREADS) patches_vector_##dtype(PatchesParams p) \
    {                                                                                              \
        patches<T, 4>(p);                                                                          \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(HIRED_ROW_THREADS) patches_guarded_##dtype(PatchesParams p) \
    {                                                                                              \
        patches<T, 1>(p);                                                                          \
    }

PATCHES(f32, float)
PATCHES(f16, Half)

// PRECOND: grid of partitions * (patch_count + 1, or without a class token patch_count); 1-D block of at most 256 threads.
// vector: all pointers multiples of 16; cols a multiple of 16 bytes.
#define TOKENS(dtype, T)                                                                           \
    extern "C" __global__ void __launch_bounds__(HIRED_ROW_THREADS) vision_tokens_vector_##dtype(TokensParams p) \
    {                                                                                              \
        vision_tokens<T, LANES<T>>(p);                                                             \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(HIRED_ROW_THREADS) vision_tokens_guarded_##dtype(TokensParams p) \
    {                                                                                              \
        vision_tokens<T, 1>(p);                                                                    \
    }

TOKENS(f32, float)
TOKENS(f16, Half)
