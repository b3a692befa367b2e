// Planted bugs in memory accesses. `broken` chooses between the bug and its corrected twin.
#include "planted.h"

// PRECOND: in and out [count]; the grid covers count rounded up to the block.
extern "C" __global__ void global_overrun_write(PlantedParams p)
{
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < p.count) p.out[i] = p.in[i];
    if (p.broken && i == p.count) p.out[i] = 1.0f;
}

extern "C" __global__ void global_overrun_read(PlantedParams p)
{
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    const unsigned from = p.broken ? i + 1 : i;
    if (i < p.count) p.out[i] = p.in[from];
}

// Writes far behind the end: a wild pointer.
extern "C" __global__ void global_wild(PlantedParams p)
{
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < p.count) p.out[i] = p.in[p.broken ? i + (1u << 20) : i];
}

// PRECOND: dynamic shared memory of 256 floats.
extern "C" __global__ void dynamic_shared_overrun(PlantedParams p)
{
    DYN_SHARED(float, row);
    row[threadIdx.x + (p.broken ? 1 : 0)] = p.in[threadIdx.x];
    __syncthreads();
    p.out[threadIdx.x] = row[threadIdx.x];
}

extern "C" __global__ void static_shared_overrun(PlantedParams p)
{
    __shared__ float row[256];
    row[threadIdx.x + (p.broken ? 1 : 0)] = p.in[threadIdx.x];
    __syncthreads();
    p.out[threadIdx.x] = row[threadIdx.x];
}

// Vector loads from a row that starts at an odd element.
extern "C" __global__ void misaligned_load(PlantedParams p)
{
    const unsigned i = threadIdx.x;
    if (i >= p.count / 4) return;
    const float4 x = *reinterpret_cast<const float4*>(p.in + 4 * i + (p.broken && i ? 1 - 4 : 0));
    p.out[4 * i] = x.x, p.out[4 * i + 1] = x.y, p.out[4 * i + 2] = x.z, p.out[4 * i + 3] = x.w;
}

// Sums a row of shared memory of which only half was written.
extern "C" __global__ void uninitialised_static_shared(PlantedParams p)
{
    __shared__ float row[256];
    if (!p.broken || threadIdx.x < 128) row[threadIdx.x] = p.in[threadIdx.x];
    __syncthreads();
    p.out[threadIdx.x] = row[255 - threadIdx.x];
}

extern "C" __global__ void uninitialised_dynamic_shared(PlantedParams p)
{
    DYN_SHARED(float, row);
    if (!p.broken || threadIdx.x < 128) row[threadIdx.x] = p.in[threadIdx.x];
    __syncthreads();
    p.out[threadIdx.x] = row[255 - threadIdx.x];
}

// Does not write some elements that the caller will read.
extern "C" __global__ void unwritten_output(PlantedParams p)
{
    const unsigned i = threadIdx.x;
    if (!p.broken || i % 2) p.out[i] = p.in[i];
}

// Two warps write different values to the same element.
extern "C" __global__ void write_write_race(PlantedParams p)
{
    __shared__ float row[128];
    if (!p.broken && threadIdx.x < 128) row[threadIdx.x] = 0.0f;
    if (!p.broken) __syncthreads();
    if (p.broken || threadIdx.x >= 128) row[threadIdx.x % 128] = p.in[threadIdx.x];
    __syncthreads();
    p.out[threadIdx.x] = row[threadIdx.x % 128];
}

// Two warps write the same value to the same element: harmless to the results, and still a race.
extern "C" __global__ void silent_race(PlantedParams p)
{
    __shared__ float first;
    if (p.broken || threadIdx.x == 0) first = p.in[0];
    __syncthreads();
    p.out[threadIdx.x] = first;
}

// Blocks add to one number without atomic operations.
extern "C" __global__ void race_between_blocks(PlantedParams p)
{
    unsigned* counter = reinterpret_cast<unsigned*>(p.out);
    if (threadIdx.x != 0) return;
    if (p.broken) {
        counter[0] = counter[0] + 1;
    } else {
        atomicAdd(counter, 1u);
    }
}

// The last block to finish sums the results of the others: correct with a fence before the counter,
// a race without.
extern "C" __global__ void last_block_sums(PlantedParams p)
{
    __shared__ bool last;
    unsigned* counter = reinterpret_cast<unsigned*>(p.out + gridDim.x);
    if (threadIdx.x == 0) {
        p.out[blockIdx.x] = p.in[blockIdx.x];
        if (!p.broken) __threadfence();
        last = atomicAdd(counter, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (!last || threadIdx.x != 0) return;
    if (!p.broken) __threadfence();
    float sum = 0;
    for (unsigned i = 0; i < gridDim.x; ++i) sum += p.out[i];
    p.out[gridDim.x + 1] = sum;
}

// Recurses to the given depth.
__device__ __noinline__ float deep(float x, unsigned depth)
{
    volatile float frame[64];
    frame[depth % 64] = x;
    // The frame is needed after the call; only what was written of it, for 0 times a NaN is none.
    return depth ? deep(frame[depth % 64] + 1, depth - 1) + frame[depth % 64] * 0 : x;
}
extern "C" __global__ void stack_overflow(PlantedParams p)
{
    p.out[threadIdx.x] = p.in[threadIdx.x] + 0 * deep(0, p.broken ? 100000 : 10);
}

// Writes behind the end of a static array that the compiler sees only as a pointer.
__device__ __noinline__ void put(float* row, unsigned i, float x) { row[i] = x; }
extern "C" __global__ void hidden_shared_overrun(PlantedParams p)
{
    __shared__ float row[256];
    put(row, threadIdx.x + (p.broken ? 1 : 0), p.in[threadIdx.x]);
    __syncthreads();
    p.out[threadIdx.x] = row[threadIdx.x];
}
