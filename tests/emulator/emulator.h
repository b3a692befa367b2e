// CUDA C++ for g++: the language's types, functions and variables, included before every kernel
// file by -include. A kernel becomes an ordinary function that a fiber runs for each of its
// threads.
#pragma once

// Included first, because __noinline__ as a macro breaks these headers.
#include <cassert>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <type_traits>

#include "schedule.h"

#ifndef EMU_LISTING // the pass that lists the kernels searches for these words
#define __global__
#define __launch_bounds__(...)
#endif
#define __device__
#define __host__
#define __constant__ const
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))
// Blocks run one after another, so a static array belongs to the running block. The scheduler
// poisons it before each block.
#define __shared__ static
#define __grid_constant__

// Dynamic shared memory, with exactly the size that the launch requested.
#define DYN_SHARED(T, name) T* name = static_cast<T*>(::emu::dynamic_shared())

extern __attribute__((visibility("hidden"))) emu::Index3 threadIdx, blockIdx, blockDim, gridDim;
constexpr int warpSize = 32;

// A function that must be inlined: lanes that meet in a collective must come from one place in the
// source, and that place must not be duplicated.
#define EMU_WORD inline __attribute__((always_inline))

#define EMU_VECTOR2(T, NAME, ALIGN)            \
    struct alignas(ALIGN) NAME##2 { T x, y; }; \
    EMU_WORD NAME##2 make_##NAME##2(T x, T y) { return {x, y}; }
#define EMU_VECTOR4(T, NAME, ALIGN)                  \
    struct alignas(ALIGN) NAME##4 { T x, y, z, w; }; \
    EMU_WORD NAME##4 make_##NAME##4(T x, T y, T z, T w) { return {x, y, z, w}; }
EMU_VECTOR2(signed char, char, 2)
EMU_VECTOR2(unsigned char, uchar, 2)
EMU_VECTOR2(short, short, 4)
EMU_VECTOR2(unsigned short, ushort, 4)
EMU_VECTOR2(int, int, 8)
EMU_VECTOR2(unsigned, uint, 8)
EMU_VECTOR2(float, float, 8)
EMU_VECTOR2(unsigned long long, ulonglong, 16)
EMU_VECTOR4(signed char, char, 4)
EMU_VECTOR4(unsigned char, uchar, 4)
EMU_VECTOR4(short, short, 8)
EMU_VECTOR4(unsigned short, ushort, 8)
EMU_VECTOR4(int, int, 16)
EMU_VECTOR4(unsigned, uint, 16)
EMU_VECTOR4(float, float, 16)
#undef EMU_VECTOR2
#undef EMU_VECTOR4

// ---- bits ----

template <typename To, typename From>
EMU_WORD To emu_bits(From from)
{
    static_assert(sizeof(To) == sizeof(From));
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
EMU_WORD float __uint_as_float(unsigned x) { return emu_bits<float>(x); }
EMU_WORD unsigned __float_as_uint(float x) { return emu_bits<unsigned>(x); }
EMU_WORD float __int_as_float(int x) { return emu_bits<float>(x); }
EMU_WORD int __float_as_int(float x) { return emu_bits<int>(x); }
EMU_WORD double __longlong_as_double(long long x) { return emu_bits<double>(x); }
EMU_WORD long long __double_as_longlong(double x) { return emu_bits<long long>(x); }
EMU_WORD int __popc(unsigned x) { return __builtin_popcount(x); }
EMU_WORD int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
EMU_WORD int __clz(int x) { return x ? __builtin_clz(x) : 32; }
EMU_WORD int __ffs(int x) { return __builtin_ffs(x); }
EMU_WORD unsigned __umulhi(unsigned a, unsigned b) { return uint64_t(a) * b >> 32; }
EMU_WORD unsigned __brev(unsigned x)
{
    unsigned r = 0;
    for (int i = 0; i < 32; ++i) r |= (x >> i & 1) << (31 - i);
    return r;
}
EMU_WORD unsigned __byte_perm(unsigned low, unsigned high, unsigned selector)
{
    uint64_t bytes = uint64_t(high) << 32 | low;
    unsigned r = 0;
    for (int i = 0; i < 4; ++i) r |= unsigned(bytes >> (selector >> 4 * i & 7) * 8 & 0xff) << 8 * i;
    return r;
}

// ---- arithmetic ----

#define EMU_MIN_MAX(T)                                 \
    EMU_WORD T min(T a, T b) { return b < a ? b : a; } \
    EMU_WORD T max(T a, T b) { return a < b ? b : a; }
EMU_MIN_MAX(int)
EMU_MIN_MAX(unsigned)
EMU_MIN_MAX(long)
EMU_MIN_MAX(unsigned long)
EMU_MIN_MAX(long long)
EMU_MIN_MAX(unsigned long long)
#undef EMU_MIN_MAX
EMU_WORD float min(float a, float b) { return fminf(a, b); }
EMU_WORD float max(float a, float b) { return fmaxf(a, b); }

EMU_WORD float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
// Volatile, to prevent the compiler from forming a fused multiply-add.
EMU_WORD float __fmul_rn(float a, float b)
{
    volatile float r = a * b;
    return r;
}
EMU_WORD float __fadd_rn(float a, float b)
{
    volatile float r = a + b;
    return r;
}
EMU_WORD float __fsub_rn(float a, float b)
{
    volatile float r = a - b;
    return r;
}
EMU_WORD float __fdiv_rn(float a, float b) { return a / b; }
EMU_WORD float __fsqrt_rn(float x) { return sqrtf(x); }
EMU_WORD float __frsqrt_rn(float x) { return 1.0f / sqrtf(x); }
EMU_WORD float __frcp_rn(float x) { return 1.0f / x; }
EMU_WORD float rsqrtf(float x) { return 1.0f / sqrtf(x); }
EMU_WORD float __fdividef(float a, float b) { return a / b; }
EMU_WORD float __expf(float x) { return expf(x); }
EMU_WORD float __exp2f(float x) { return exp2f(x); }
EMU_WORD float __logf(float x) { return logf(x); }
EMU_WORD float __log2f(float x) { return log2f(x); }
EMU_WORD float __sinf(float x) { return sinf(x); }
EMU_WORD float __cosf(float x) { return cosf(x); }
EMU_WORD void __sincosf(float x, float* s, float* c) { sincosf(x, s, c); }
EMU_WORD float __saturatef(float x) { return x >= 1 ? 1.0f : x > 0 ? x : 0.0f; }
EMU_WORD float __int2float_rn(int x) { return static_cast<float>(x); }
EMU_WORD float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
EMU_WORD int __float2int_rn(float x) { return static_cast<int>(lrintf(x)); }
EMU_WORD int __float2int_rd(float x) { return static_cast<int>(floorf(x)); }

// ---- memory ----

template <typename T>
EMU_WORD T __ldg(const T* p)
{
    return *p;
}
template <typename T>
EMU_WORD T __ldcg(const T* p)
{
    return *p;
}
template <typename T>
EMU_WORD T __ldcs(const T* p)
{
    return *p;
}
template <typename T>
EMU_WORD T __ldcv(const T* p)
{
    return *p;
}
template <typename T>
EMU_WORD void __stcg(T* p, T x)
{
    *p = x;
}
template <typename T>
EMU_WORD void __stcs(T* p, T x)
{
    *p = x;
}
EMU_WORD void __threadfence_block() {}
EMU_WORD void __threadfence() { emu::fence(); }
EMU_WORD void __threadfence_system() { emu::fence(); }

// Threads switch only where they wait, so a plain read and write is atomic here.
template <typename T, typename F>
__attribute__((no_sanitize("thread"))) inline T emu_atomic(T* p, F f)
{
    emu::touch(p, sizeof(T), true, true);
    T old = *p;
    *p = f(old);
    return old;
}
#define EMU_ATOMIC(NAME, EXPRESSION)                                  \
    template <typename T>                                             \
    EMU_WORD T NAME(T* p, std::common_type_t<T> x)                    \
    {                                                                 \
        return emu_atomic(p, [x](T old) -> T { return EXPRESSION; }); \
    }
EMU_ATOMIC(atomicAdd, old + x)
EMU_ATOMIC(atomicSub, old - x)
EMU_ATOMIC(atomicMin, x < old ? x : old)
EMU_ATOMIC(atomicMax, x > old ? x : old)
EMU_ATOMIC(atomicAnd, old& x)
EMU_ATOMIC(atomicOr, old | x)
EMU_ATOMIC(atomicXor, old ^ x)
EMU_ATOMIC(atomicInc, old >= x ? 0 : old + 1)
EMU_ATOMIC(atomicDec, old == 0 || old > x ? x : old - 1)
#undef EMU_ATOMIC
// Loops around these wait for another thread, so they let other threads run.
template <typename T>
EMU_WORD T atomicExch(T* p, std::common_type_t<T> x)
{
    emu::yield();
    return emu_atomic(p, [x](T) { return x; });
}
template <typename T>
EMU_WORD T atomicCAS(T* p, std::common_type_t<T> compare, std::common_type_t<T> x)
{
    emu::yield();
    return emu_atomic(p, [=](T old) { return old == compare ? x : old; });
}

// ---- waiting for others ----

EMU_WORD void __syncthreads(EMU_CALLER) { emu::barrier(0, 0, 0, EMU_SITE); }
EMU_WORD int __syncthreads_count(int p, EMU_CALLER) { return emu::barrier(0, 0, p, EMU_SITE); }
EMU_WORD int __syncthreads_or(int p, EMU_CALLER) { return emu::barrier(0, 0, p, EMU_SITE) != 0; }
EMU_WORD int __syncthreads_and(int p, EMU_CALLER) { return emu::barrier(0, 0, !p, EMU_SITE) == 0; }
EMU_WORD void __nanosleep(unsigned) { emu::yield(); }
EMU_WORD unsigned __activemask() { return emu::active_lanes(); }
[[noreturn]] EMU_WORD void __trap() { emu::fail(715, "__trap was called"); }

#include "warp.h"
