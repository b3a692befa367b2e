// Functions for every PTX instruction that CUDA C++ does not offer.
//
// The declarations are the contract; below them is the implementation for GPUs in inline PTX. The emulator implements
// them in plain C++, in ptx_host.h. Only this file and prelude.cuh depend on the architecture.
#pragma once

#include <stdint.h>

#if defined(HIRED_EMULATED_ARCH)
#define HIRED_ARCH HIRED_EMULATED_ARCH
#elif defined(__CUDA_ARCH__)
#define HIRED_ARCH (__CUDA_ARCH__ / 10)
#else
#define HIRED_ARCH 0
#endif

namespace ptx {

// What the architecture has. The host chooses kernels by the same conditions.
constexpr bool HAS_LDMATRIX = HIRED_ARCH >= 75;
constexpr bool HAS_MMA_K8 = HIRED_ARCH >= 75;
constexpr bool HAS_MMA_K16 = HIRED_ARCH >= 80;
constexpr bool HAS_MMA_S8_K16 = HIRED_ARCH >= 75;
constexpr bool HAS_MMA_S8_K32 = HIRED_ARCH >= 80;
constexpr bool HAS_CP_ASYNC = HIRED_ARCH >= 80;

// The number of fp16 bits.
__device__ float half_to_float(uint16_t bits);
// Rounds to the nearest fp16, ties to even; beyond 65504 to infinity.
__device__ uint16_t float_to_half(float x);
// Rounds two numbers to fp16, the first in the low half.
__device__ uint32_t floats_to_halves(float low, float high);

// 2^x, within 2 units in the last place of fp32; results below the normal numbers are 0.
__device__ float exp2(float x);

// Loads 16 bytes that are used once, bypassing L1 where the GPU can. Nothing may write them during the kernel. `from`
// is a multiple of 16.
__device__ uint4 load_streaming(const void* from);

// The block's index in the grid, read from its register by each call, so that values computed from it need not stay in
// registers.
struct Block {
    uint32_t x, y, z;
};
__device__ Block block();

// c + the four products of signed bytes.
__device__ int32_t dp4a(int32_t a, int32_t b, int32_t c);

// d += a * b, fp16 factors, fp32 sum, over the warp. With g = lane / 4, t = lane % 4:
// a (16x8, row): a[0] = rows g, a[1] = rows g + 8, columns 2t and 2t + 1 (low half first)
// b (8x8, column): rows 2t and 2t + 1 of column g
// d (16x8): d[0], d[1] = row g, columns 2t and 2t + 1; d[2], d[3] = row g + 8.
__device__ void mma_m16n8k8(float (&d)[4], const uint32_t (&a)[2], uint32_t b);
// The same for 16 columns of a and rows of b: a[2], a[3] and b[1] hold those from 8 on.
__device__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

// d += a * b, signed bytes, exact sums without saturation. Lowest column or row in the lowest byte:
// a (8x16, row) = row g, columns 4t to 4t + 3
// b (16x8, column) = rows 4t to 4t + 3 of column g
// d (8x8) = row g, columns 2t and 2t + 1.
__device__ void mma_m8n8k16(int32_t (&d)[2], uint32_t a, uint32_t b);
// The same for 16 rows and 32 columns of a: a[0] = row g, a[1] = row g + 8, a[2] and a[3] the same from column 16 on;
// b[0] from row 0, b[1] from row 16 on; d[0], d[1] = row g, d[2], d[3] = row g + 8.
__device__ void mma_m16n8k32(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

// Four (two) 8x8 matrices of fp16 from shared memory: lane i of 32 (16) names row i % 8 of matrix i / 8,
// 16 aligned bytes. Each lane gets row lane / 4, columns 2 (lane % 4) and the next, of every matrix;
// `_trans`: of the transposed matrix.
__device__ void ldmatrix_x4(uint32_t (&to)[4], const void* shared_row);
__device__ void ldmatrix_x4_trans(uint32_t (&to)[4], const void* shared_row);
__device__ void ldmatrix_x2(uint32_t (&to)[2], const void* shared_row);
__device__ void ldmatrix_x2_trans(uint32_t (&to)[2], const void* shared_row);

// Starts a copy of 16 aligned bytes to shared memory. Only the first `bytes` are read; the rest is zeroed.
__device__ void cp_async_16(void* shared_to, const void* global_from, uint32_t bytes);
// Closes a group of the copies that this thread started.
__device__ void cp_async_commit();
// Waits until at most PENDING groups of this thread are in flight. Other threads see the data after a barrier.
template <int PENDING>
__device__ void cp_async_wait();

} // namespace ptx

#ifdef HIRED_EMULATED
#include "ptx_host.h"
#else

namespace ptx {

__device__ inline float half_to_float(uint16_t bits)
{
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
}

__device__ inline uint16_t float_to_half(float x)
{
    uint16_t bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}

__device__ inline uint32_t floats_to_halves(float low, float high)
{
    uint32_t bits;
#if HIRED_ARCH >= 80
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
#else
    asm("{\n"
        ".reg .b16 low, high;\n"
        "cvt.rn.f16.f32 low, %1;\n"
        "cvt.rn.f16.f32 high, %2;\n"
        "mov.b32 %0, {low, high};\n"
        "}"
        : "=r"(bits)
        : "f"(low), "f"(high));
#endif
    return bits;
}

__device__ inline float exp2(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ inline uint4 load_streaming(const void* from)
{
    uint4 x;
#if HIRED_ARCH >= 70
    asm("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
        : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
        : "l"(from));
#else
    asm("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];"
        : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
        : "l"(from));
#endif
    return x;
}

__device__ inline Block block()
{
    Block at;
    asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(at.x));
    asm volatile("mov.u32 %0, %%ctaid.y;" : "=r"(at.y));
    asm volatile("mov.u32 %0, %%ctaid.z;" : "=r"(at.z));
    return at;
}

__device__ inline int32_t dp4a(int32_t a, int32_t b, int32_t c)
{
    int32_t d;
    asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}

// Address in the shared memory window, as the instructions take it.
__device__ inline uint32_t shared_address(const void* p)
{
    return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// An instruction that the architecture lacks. Never executed, since the host chooses other kernels.
__device__ inline void no_such_instruction()
{
    __trap();
}

__device__ inline void mma_m16n8k8(float (&d)[4], const uint32_t (&a)[2], uint32_t b)
{
#if HIRED_ARCH >= 75
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(b));
#else
    no_such_instruction();
#endif
}

__device__ inline void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
#if HIRED_ARCH >= 80
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    no_such_instruction();
#endif
}

__device__ inline void mma_m8n8k16(int32_t (&d)[2], uint32_t a, uint32_t b)
{
#if HIRED_ARCH >= 75
    asm("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};"
        : "+r"(d[0]), "+r"(d[1])
        : "r"(a), "r"(b));
#else
    no_such_instruction();
#endif
}

__device__ inline void mma_m16n8k32(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
#if HIRED_ARCH >= 80
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    no_such_instruction();
#endif
}

// Reads shared memory that other threads wrote, so it is volatile and has a memory clobber: it must stay behind the
// barrier before it.
__device__ inline void ldmatrix_x4(uint32_t (&to)[4], const void* shared_row)
{
#if HIRED_ARCH >= 75
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(shared_row))
                 : "memory");
#else
    no_such_instruction();
#endif
}

__device__ inline void ldmatrix_x4_trans(uint32_t (&to)[4], const void* shared_row)
{
#if HIRED_ARCH >= 75
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(shared_address(shared_row))
                 : "memory");
#else
    no_such_instruction();
#endif
}

__device__ inline void ldmatrix_x2(uint32_t (&to)[2], const void* shared_row)
{
#if HIRED_ARCH >= 75
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(to[0]), "=r"(to[1])
                 : "r"(shared_address(shared_row))
                 : "memory");
#else
    no_such_instruction();
#endif
}

__device__ inline void ldmatrix_x2_trans(uint32_t (&to)[2], const void* shared_row)
{
#if HIRED_ARCH >= 75
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(to[0]), "=r"(to[1])
                 : "r"(shared_address(shared_row))
                 : "memory");
#else
    no_such_instruction();
#endif
}

__device__ inline void cp_async_16(void* shared_to, const void* global_from, uint32_t bytes)
{
#if HIRED_ARCH >= 80
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(shared_address(shared_to)), "l"(global_from), "r"(bytes)
                 : "memory");
#else
    no_such_instruction();
#endif
}

__device__ inline void cp_async_commit()
{
#if HIRED_ARCH >= 80
    asm volatile("cp.async.commit_group;" ::: "memory");
#else
    no_such_instruction();
#endif
}

template <int PENDING>
__device__ inline void cp_async_wait()
{
#if HIRED_ARCH >= 80
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
#else
    no_such_instruction();
#endif
}

} // namespace ptx

#endif
