// Planted bugs in synchronisation. `broken` chooses between the bug and its corrected twin.
#include "planted.h"

constexpr unsigned ALL = 0xffffffff;

// Block sum by warps: without the barrier the first warp reads sums that others have not written
// yet. PRECOND: 1-D block of 256, one block; count is 256.
extern "C" __global__ void missing_barrier(PlantedParams p)
{
    __shared__ float sums[8];
    float x = p.in[threadIdx.x];
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(ALL, x, step);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = x;
    if (!p.broken) __syncthreads();
    float sum = 0;
    for (int i = 0; i < 8; ++i) sum += sums[i];
    p.out[threadIdx.x] = sum;
}

// The same sum twice through one buffer: without the second barrier a fast warp overwrites what a
// slow one still reads.
extern "C" __global__ void missing_second_barrier(PlantedParams p)
{
    __shared__ float sums[8];
    float total = 0;
    for (int round = 0; round < 2; ++round) {
        float x = p.in[threadIdx.x] + round;
        for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(ALL, x, step);
        if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = x;
        __syncthreads();
        for (int i = 0; i < 8; ++i) total += __shfl_sync(ALL, sums[i], 0);
        if (!p.broken) __syncthreads();
    }
    p.out[threadIdx.x] = total;
}

// Lanes of one warp exchange through shared memory: without __syncwarp nothing orders them.
extern "C" __global__ void missing_syncwarp(PlantedParams p)
{
    __shared__ float row[256];
    row[threadIdx.x] = p.in[threadIdx.x];
    if (!p.broken) __syncwarp();
    p.out[threadIdx.x] = row[threadIdx.x ^ 1];
}

extern "C" __global__ void divergent_barrier(PlantedParams p)
{
    __shared__ float row[256];
    row[threadIdx.x] = p.in[threadIdx.x];
    if (p.broken && threadIdx.x % 2) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    p.out[threadIdx.x] = row[255 - threadIdx.x];
}

// Only some threads reach the barrier.
extern "C" __global__ void conditional_barrier(PlantedParams p)
{
    __shared__ float row[256];
    row[threadIdx.x] = p.in[threadIdx.x];
    if (!p.broken || threadIdx.x < 100) __syncthreads();
    p.out[threadIdx.x] = row[255 - threadIdx.x];
}

extern "C" __global__ void early_return(PlantedParams p)
{
    __shared__ float row[256];
    const bool mine = threadIdx.x < p.count;
    if (p.broken && !mine) return;
    row[threadIdx.x] = mine ? p.in[threadIdx.x] : 0.0f;
    __syncthreads();
    if (mine) p.out[threadIdx.x] = row[p.count - 1 - threadIdx.x];
}

// Lane 20 and those after it do not take part, although the mask names them.
extern "C" __global__ void mask_names_too_many(PlantedParams p)
{
    const unsigned lane = threadIdx.x % 32;
    float x = p.in[threadIdx.x];
    if (lane < 20) x = __shfl_sync(p.broken ? ALL : 0xfffff, x, 19 - lane);
    __syncthreads();
    p.out[threadIdx.x] = x;
}

// The calling lane is missing in its own mask.
extern "C" __global__ void mask_without_caller(PlantedParams p)
{
    float x = p.in[threadIdx.x];
    p.out[threadIdx.x] = __shfl_xor_sync(p.broken ? 0x0000ffff : ALL, x, 1);
}

// A sum over half a warp that reads from lanes the mask leaves out.
extern "C" __global__ void mask_reads_outside(PlantedParams p)
{
    float x = p.in[threadIdx.x];
    if (threadIdx.x % 32 < 16) {
        for (int step = p.broken ? 16 : 8; step > 0; step /= 2)
            x += __shfl_down_sync(0xffff, x, step, p.broken ? 32 : 16);
    }
    p.out[threadIdx.x] = threadIdx.x % 32 == 0 ? x : 0.0f;
}

// Correct where lanes are scheduled one by one (sm_70 and newer), never on Pascal: the lanes of one
// mask meet from two places in the source.
extern "C" __global__ void two_call_sites(PlantedParams p)
{
    float x = p.in[threadIdx.x];
    if (!p.broken) {
        x = __shfl_xor_sync(ALL, x, 1);
    } else if (threadIdx.x % 2) {
        x = __shfl_xor_sync(ALL, x, 1);
    } else {
        x = __shfl_xor_sync(ALL, x, 1);
    }
    p.out[threadIdx.x] = x;
}

// Never ends; the emulator must stop it.
extern "C" __global__ void endless(PlantedParams p)
{
    volatile unsigned rounds = 0;
    while (p.broken) rounds = rounds + 1;
    p.out[threadIdx.x] = p.in[threadIdx.x];
}
