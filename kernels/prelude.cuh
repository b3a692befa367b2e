// Basics of every kernel: storage formats, vector loads and stores, reductions.
//
// fp16 and bf16 are storage formats here, never used for arithmetic: the types have no operators, and sums are fp32.
// (Pascal's fp16 arithmetic runs at 1/64 of its fp32 rate, and a sum in fp16 loses accuracy everywhere.)
#pragma once

#include "abi.h"
#include "ptx.cuh"

// Dynamic shared memory as an array of T, 16-byte aligned. The emulator allocates its exact size and poisons it.
#ifndef DYN_SHARED
#define DYN_SHARED(T, name)                                                                        \
    extern __shared__ __align__(16) unsigned char dynamic_shared_memory[];                         \
    T* name = reinterpret_cast<T*>(dynamic_shared_memory)
#endif

constexpr uint32_t WARP = 32;
constexpr uint32_t ALL_LANES = 0xFFFFFFFFu;

struct Half {
    uint16_t bits;
};

struct Bfloat {
    uint16_t bits;
};

// Numbers in a 16-byte access.
template <typename T>
constexpr int LANES = 16 / sizeof(T);

__device__ inline float to_float(float x)
{
    return x;
}

__device__ inline float to_float(Half x)
{
    return ptx::half_to_float(x.bits);
}

__device__ inline float to_float(Bfloat x)
{
    return __uint_as_float(static_cast<uint32_t>(x.bits) << 16);
}

template <typename T>
__device__ T from_float(float x);

template <>
__device__ inline float from_float(float x)
{
    return x;
}

template <>
__device__ inline Half from_float(float x)
{
    return Half{ptx::float_to_half(x)};
}

// x, limited to the finite range of T: a finite number beyond it becomes the largest of T. A product of two layers or a
// sum can exceed 65504, and one infinity in a row would become NaN in the keys and values of every row after it.
// Infinity and NaN are kept, so that a fault remains visible.
template <typename T>
__device__ inline float saturated(float x)
{
    if constexpr (sizeof(T) == sizeof(Half)) {
        constexpr float LARGEST = 65504.0f;
        return fabsf(x) < INFINITY ? fminf(fmaxf(x, -LARGEST), LARGEST) : x;
    } else {
        return x;
    }
}

template <typename T>
__device__ inline T from_float_saturating(float x)
{
    return from_float<T>(saturated<T>(x));
}

// Converts between numbers and 32-bit words, the first number in the low bits.
template <int N>
__device__ inline void unpack(const uint32_t (&words)[N], float (&to)[N], float)
{
#pragma unroll
    for (int i = 0; i < N; i++) to[i] = __uint_as_float(words[i]);
}

template <int N, typename T>
__device__ inline void unpack(const uint32_t (&words)[N / 2], float (&to)[N], T)
{
#pragma unroll
    for (int i = 0; i < N; i++) to[i] = to_float(T{static_cast<uint16_t>(words[i / 2] >> (i % 2 * 16))});
}

template <int N>
__device__ inline void pack(const float (&from)[N], uint32_t (&words)[N], float)
{
#pragma unroll
    for (int i = 0; i < N; i++) words[i] = __float_as_uint(from[i]);
}

template <int N>
__device__ inline void pack(const float (&from)[N], uint32_t (&words)[N / 2], Half)
{
#pragma unroll
    for (int i = 0; i < N; i += 2)
        words[i / 2] = ptx::float_to_half(from[i]) | static_cast<uint32_t>(ptx::float_to_half(from[i + 1])) << 16;
}

// Loads N numbers by the widest accesses: 16 bytes at a time, then 8.
// PRECOND: `from` is a multiple of 16 if the size of N numbers is, else of 8.
template <typename T, int N>
__device__ inline void load(const T* from, float (&to)[N])
{
    constexpr int WORDS = N * sizeof(T) / 4;
    static_assert(N * sizeof(T) % 8 == 0, "whole accesses only");
    const uint32_t* at = reinterpret_cast<const uint32_t*>(from);
    uint32_t words[WORDS];
#pragma unroll
    for (int i = 0; i + 4 <= WORDS; i += 4) {
        const uint4 x = *reinterpret_cast<const uint4*>(at + i);
        words[i] = x.x, words[i + 1] = x.y, words[i + 2] = x.z, words[i + 3] = x.w;
    }
    if constexpr (WORDS % 4 != 0) {
        const uint2 x = *reinterpret_cast<const uint2*>(at + WORDS - 2);
        words[WORDS - 2] = x.x, words[WORDS - 1] = x.y;
    }
    unpack(words, to, T{});
}

template <typename T, int N>
__device__ inline void store(T* to, const float (&from)[N])
{
    constexpr int WORDS = N * sizeof(T) / 4;
    static_assert(N * sizeof(T) % 8 == 0, "whole accesses only");
    uint32_t* at = reinterpret_cast<uint32_t*>(to);
    uint32_t words[WORDS];
    pack(from, words, T{});
#pragma unroll
    for (int i = 0; i + 4 <= WORDS; i += 4)
        *reinterpret_cast<uint4*>(at + i) = make_uint4(words[i], words[i + 1], words[i + 2], words[i + 3]);
    if constexpr (WORDS % 4 != 0)
        *reinterpret_cast<uint2*>(at + WORDS - 2) = make_uint2(words[WORDS - 2], words[WORDS - 1]);
}

// Loads one number, for guarded kernels.
template <typename T>
__device__ inline void load(const T* from, float (&to)[1])
{
    to[0] = to_float(*from);
}

template <typename T>
__device__ inline void store(T* to, const float (&from)[1])
{
    *to = from_float<T>(from[0]);
}

template <typename T, int N>
__device__ inline void store_saturating(T* to, const float (&from)[N])
{
    float x[N];
#pragma unroll
    for (int i = 0; i < N; i++) x[i] = saturated<T>(from[i]);
    store(to, x);
}

// Sum over the 32 lanes; every lane gets it. The order is fixed, so the bits are always the same.
__device__ inline float warp_sum(float x)
{
#pragma unroll
    for (int step = WARP / 2; step > 0; step /= 2) x += __shfl_xor_sync(ALL_LANES, x, step);
    return x;
}

__device__ inline float warp_max(float x)
{
#pragma unroll
    for (int step = WARP / 2; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, step));
    return x;
}

// Maximum over the block; every thread gets it.
// PRECOND: 1-D block of whole warps, all of whose threads call it.
__device__ inline float block_max(float x)
{
    __shared__ float greatest[WARP];
    const uint32_t lane = threadIdx.x % WARP;
    x = warp_max(x);
    if (lane == 0) greatest[threadIdx.x / WARP] = x;
    __syncthreads();
    x = warp_max(lane < blockDim.x / WARP ? greatest[lane] : -INFINITY);
    // The next call must not overwrite what a slow warp still reads.
    __syncthreads();
    return x;
}

// Sum over the block, with the same precondition.
__device__ inline float block_sum(float x)
{
    __shared__ float sums[WARP];
    const uint32_t lane = threadIdx.x % WARP;
    x = warp_sum(x);
    if (lane == 0) sums[threadIdx.x / WARP] = x;
    __syncthreads();
    x = warp_sum(lane < blockDim.x / WARP ? sums[lane] : 0.0f);
    // The next call must not overwrite what a slow warp still reads.
    __syncthreads();
    return x;
}
