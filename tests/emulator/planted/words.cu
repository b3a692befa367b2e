// CUDA functions and instructions that kernels use, compared with their definitions, from which the
// host computes the same.
#include "kernels/prelude.cuh"
#include "planted.h"

// One warp. out[word * 32 + lane], whole numbers below 2^24, or halves' bits.
// PRECOND: 1-D block of 32, one block.
extern "C" __global__ void collectives(PlantedParams p)
{
    const unsigned lane = threadIdx.x;
    unsigned word = 0;
    auto put = [&](float x) { p.out[32 * word++ + lane] = x; };
    const float x = p.in[lane];
    put(__shfl_sync(ALL_LANES, x, lane * 5));
    put(__shfl_sync(ALL_LANES, x, 9, 8));
    put(__shfl_up_sync(ALL_LANES, x, 3, 16));
    put(__shfl_down_sync(ALL_LANES, x, 3, 16));
    put(__shfl_xor_sync(ALL_LANES, x, 21));
    put(__shfl_xor_sync(ALL_LANES, x, 9, 8));
    put(__ballot_sync(ALL_LANES, lane < 20) >> 8);
    put(__any_sync(ALL_LANES, lane == 7));
    put(__any_sync(ALL_LANES, lane == 40));
    put(__all_sync(ALL_LANES, lane < 32));
    put(__all_sync(ALL_LANES, lane < 31));
    put(__popc(__match_any_sync(ALL_LANES, lane / 3)));
    put(__reduce_add_sync(ALL_LANES, lane));
    put(__reduce_min_sync(ALL_LANES, lane + 4));
    put(__reduce_max_sync(ALL_LANES, lane + 4));
    put(__syncthreads_count(lane % 3 == 0));
    put(__syncthreads_or(lane == 5));
    put(__syncthreads_and(lane != 5));
}

// One warp multiplies a (16x16, row-major) by b (16x8, row-major), both from `in` as integers, with
// both shapes of mma: out is [2][16][8]. The fragments are loaded by ldmatrix from shared memory
// that cp.async filled. PRECOND: 1-D block of 32, one block; in [16 * 16 + 16 * 8].
extern "C" __global__ void matrix_product(PlantedParams p)
{
    __shared__ __align__(16) uint16_t a[16 * 16], b[16 * 8];
    // Converts to halves, which the instructions take, first into `out`, whose first 768 bytes are
    // the source of the copies.
    uint16_t* halves = reinterpret_cast<uint16_t*>(p.out);
    const unsigned lane = threadIdx.x;
    for (unsigned i = lane; i < 16 * 24; i += 32) halves[i] = ptx::float_to_half(p.in[i]);
    __syncthreads();
    ptx::cp_async_16(a + 8 * lane, halves + 8 * lane, 16);
    ptx::cp_async_commit();
    if (lane < 16) ptx::cp_async_16(b + 8 * lane, halves + 256 + 8 * lane, 16);
    ptx::cp_async_commit();
    if (p.broken) {
        ptx::cp_async_wait<1>(); // the second group may still be in flight
    } else {
        ptx::cp_async_wait<0>();
    }
    __syncthreads();

    uint32_t fa[4], fb[2];
    // Matrices 0 and 1: rows 0 and 8 on, columns 0 on; 2 and 3: columns 8 on.
    ptx::ldmatrix_x4(fa, a + (lane % 16) * 16 + lane / 16 * 8);
    ptx::ldmatrix_x2_trans(fb, b + lane % 16 * 8);
    float d16[4] = {}, d8[4] = {};
    ptx::mma_m16n8k16(d16, fa, fb);
    ptx::mma_m16n8k8(d8, {fa[0], fa[1]}, fb[0]);
    ptx::mma_m16n8k8(d8, {fa[2], fa[3]}, fb[1]);
    __syncthreads(); // the source of the copies has been read
    for (int i = 0; i < 4; i++) {
        const unsigned at = (lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2;
        p.out[at] = d16[i];
        p.out[128 + at] = d8[i];
    }
}

// The rows of ldmatrix without and with transposition: out [2][4][32], each lane's two halves as
// low + 1000 * high. PRECOND: 1-D block of 32; in [256], whole numbers below 1000.
extern "C" __global__ void matrix_loads(PlantedParams p)
{
    __shared__ __align__(16) uint16_t rows[256];
    const unsigned lane = threadIdx.x;
    for (unsigned i = lane; i < 256; i += 32) rows[i] = static_cast<uint16_t>(p.in[i]);
    __syncthreads();
    uint32_t plain[4], turned[4];
    ptx::ldmatrix_x4(plain, rows + 8 * lane);
    ptx::ldmatrix_x4_trans(turned, rows + 8 * lane);
    for (int i = 0; i < 4; i++) {
        p.out[32 * i + lane] = (plain[i] & 0xffff) + 1000 * (plain[i] >> 16);
        p.out[128 + 32 * i + lane] = (turned[i] & 0xffff) + 1000 * (turned[i] >> 16);
    }
}

// A copy of fewer than 16 bytes zeroes the rest.
// PRECOND: 1-D block of 32; in and out [128].
extern "C" __global__ void short_copies(PlantedParams p)
{
    DYN_SHARED(float, rows);
    const unsigned lane = threadIdx.x;
    ptx::cp_async_16(rows + 4 * lane, p.in + 4 * lane, p.broken ? 16 : lane % 5 * 4);
    ptx::cp_async_commit();
    ptx::cp_async_wait<0>();
    for (int i = 0; i < 4; i++) p.out[4 * lane + i] = rows[4 * lane + i];
}

// Every half to float and back, and floats of every exponent to half: out[i] as bits.
// PRECOND: 1-D block of 256, 256 blocks; out [65536].
extern "C" __global__ void halves(PlantedParams p)
{
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    const uint16_t there_and_back =
        ptx::float_to_half(ptx::half_to_float(static_cast<uint16_t>(i)));
    const uint32_t packed =
        there_and_back | uint32_t(ptx::float_to_half(__uint_as_float(i * 65537u))) << 16;
    p.out[i] = __uint_as_float(packed);
}

// Atomic and bit operations.
// PRECOND: 1-D block of 32; out [16], zero.
extern "C" __global__ void atomics_and_bits(PlantedParams p)
{
    unsigned* n = reinterpret_cast<unsigned*>(p.out);
    const unsigned lane = threadIdx.x;
    atomicAdd(n, lane);
    atomicMax(n + 1, lane * 3);
    atomicOr(n + 2, 1u << lane);
    atomicInc(n + 3, 9u);
    // A lock, held by one lane at a time while it adds.
    while (atomicCAS(n + 4, 0u, 1u) != 0) {
    }
    atomicAdd(n + 5, 2u); // atomic too, since the race detector does not treat a lock as an order
    atomicExch(n + 4, 0u);
    if (lane == 0) {
        n[6] = ptx::dp4a(0x7f80ff01, 0x02030405, 10);
        n[7] = __byte_perm(0x33221100, 0x77665544, 0x7351);
        n[8] = __clz(0x00012345) + 100 * __popc(0xf0f0) + 10000 * __ffs(0x80);
        n[9] = __umulhi(0xdeadbeef, 0x12345678);
        n[10] = __brev(0x12345678);
        n[11] = min(3, -4) + max(7u, 9u);
    }
}
