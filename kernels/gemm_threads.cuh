// Matrix products by instructions of single threads, fp32 multiply-add or dp4a, with tiles in shared memory.
//
// Each number is widened once, on its way to shared memory, and is then used in as many multiply-adds as the tile is
// wide. In the inner loop a thread reads 16 numbers by four 128-bit loads for 64 multiply-adds.
#pragma once

#include "gemm.cuh"
#include "scales.cuh"

// A vector of a row on its way to shared memory: N numbers there, made from SPAN numbers of the row. This one is 16
// bytes of floating-point numbers.
template <typename T, bool GUARDED>
struct FloatVector {
    typedef T Stored;
    typedef float Number;
    static constexpr int N = LANES<T>;
    static constexpr int SPAN = N;

    const T* row;
    uint4 held;

    // The start of a weight's row.
    template <typename Params, typename Tile, typename At>
    __device__ static FloatVector of(const Params& params, const Tile& tile, At at)
    {
        return {plain_row<T>(product(params), tile, at), {}};
    }

    // Loads the vector from number k on; zeros from `inner` on.
    __device__ void read(uint32_t k, uint32_t inner)
    {
        held = fetch<GUARDED>(row, k, inner);
    }

    __device__ void widen(float (&x)[N]) const
    {
        const uint32_t words[4] = {held.x, held.y, held.z, held.w};
        unpack(words, x, T{});
    }
};

// Moves SIZE rows of x or w, STEP = 2 vectors of each, through registers to shared memory, stored as [STEP][pitch].
template <typename Vector, int SIZE, int THREADS>
class Stage {
    static constexpr int N = Vector::N;
    static constexpr int VECTORS = 2 * SIZE / THREADS;

    Vector vectors[VECTORS];

    // Two lanes load the two vectors of a row: 32 bytes, a whole sector.
    __device__ static uint32_t row(int v)
    {
        return threadIdx.x / 2 + v * (THREADS / 2);
    }

public:
    // `vector_of` gives the start of a row of the tile.
    template <typename VectorOf>
    __device__ explicit Stage(VectorOf vector_of)
    {
#pragma unroll
        for (int v = 0; v < VECTORS; v++) vectors[v] = vector_of(row(v));
    }

    __device__ void read(uint32_t k, uint32_t inner)
    {
#pragma unroll
        for (int v = 0; v < VECTORS; v++) vectors[v].read(k + threadIdx.x % 2 * Vector::SPAN, inner);
    }

    // The second half of a step is stored 16 columns further, so that the two lanes of a row write to different banks.
    __device__ void write(typename Vector::Number* to, int pitch) const
    {
        const uint32_t half = threadIdx.x % 2;
#pragma unroll
        for (int v = 0; v < VECTORS; v++) {
            typename Vector::Number x[N];
            vectors[v].widen(x);
#pragma unroll
            for (int i = 0; i < N; i++) to[(half * N + i) * pitch + (row(v) ^ (half * 16))] = x[i];
        }
    }
};

// Loads four numbers from shared memory.
__device__ inline void load_four(const float* from, float* to)
{
    load(from, *reinterpret_cast<float(*)[4]>(to));
}

__device__ inline void load_four(const int32_t* from, int32_t* to)
{
    const int4 x = *reinterpret_cast<const int4*>(from);
    to[0] = x.x, to[1] = x.y, to[2] = x.z, to[3] = x.w;
}

__device__ inline void multiply_add(float& sum, float a, float b)
{
    sum += a * b;
}

// sum += four products of codes.
__device__ inline void multiply_add(int32_t& sum, int32_t a, int32_t b)
{
    sum = ptx::dp4a(a, b, sum);
}

// Stores the bits of four sums.
__device__ inline void store_four(float* to, const float* sums)
{
    store(to, *reinterpret_cast<const float(*)[4]>(sums));
}

__device__ inline void store_four(float* to, const int32_t* sums)
{
    *reinterpret_cast<int4*>(to) = make_int4(sums[0], sums[1], sums[2], sums[3]);
}

// A block computes ROWS by COLS of out, a warp 8 * HIGH by 4 * WIDE, a thread HIGH by WIDE in pieces of 4 by 4. Numbers
// of out, in T, are stored OUTS at a time. X and W are the vector types of the factors.
template <typename X, typename W, typename T, int OUTS, int ROWS, int COLS, int HIGH, int WIDE, typename Params,
          typename Scaled>
__device__ void gemm_by_threads(const Params& params, Scaled scaled)
{
    const GemmParams& p = product(params);
    typedef typename X::Number Number;
    static_assert(X::N == W::N && X::SPAN == W::SPAN, "the same numbers of both factors");
    constexpr int N = X::N, STEP = 2 * N, TAKEN = 2 * X::SPAN, PITCH = ROWS + COLS;
    constexpr int WARP_ROWS = 8 * HIGH, WARP_COLS = 4 * WIDE, WARPS_WIDE = COLS / WARP_COLS;
    constexpr int WARPS = ROWS / WARP_ROWS * WARPS_WIDE, THREADS = WARPS * WARP;
    __shared__ __align__(16) Number memory[2 * STEP * PITCH];
    const Tile<ROWS, COLS> tile(p);
    if (tile.row >= p.rows) return;

    // Of 16 lanes that the GPU serves together, 8 read different rows (128 bytes) and 2 different columns.
    const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const uint32_t lane_row = lane / 2 % 8, lane_col = lane % 2 + lane / 16 * 2;
    const uint32_t warp_row = warp / WARPS_WIDE * WARP_ROWS, warp_col = warp % WARPS_WIDE * WARP_COLS;

    Stage<X, ROWS, THREADS> x([&](uint32_t i) { return X{tile.template x_row<typename X::Stored>(p, i), {}}; });
    Stage<W, COLS, THREADS> w([&](uint32_t i) { return W::of(params, tile, tile.template weight_row<WARP_COLS>(p, i)); });
    Number sums[HIGH][WIDE] = {};
    x.read(0, p.inner);
    w.read(0, p.inner);
    x.write(memory, PITCH);
    w.write(memory + ROWS, PITCH);
    __syncthreads();
    uint32_t now = 0;
    for (uint32_t k = TAKEN; k < p.inner + TAKEN; k += TAKEN) {
        // The last iteration reads zeros that are not used. With a branch around these reads and the writes below,
        // ptxas merges both for sm_61 and sm_70, and puts the reads behind the multiply-adds that they should overlap.
        x.read(k, p.inner);
        w.read(k, p.inner);
#pragma unroll
        for (int i = 0; i < STEP; i++) {
            const Number* line = memory + now + i * PITCH;
            const uint32_t aside = i / N * 16;
            Number a[HIGH], b[WIDE];
#pragma unroll
            for (int r = 0; r < HIGH; r += 4)
                load_four(line + ((warp_row + lane_row * 4 + r / 4 * 32) ^ aside), a + r);
#pragma unroll
            for (int c = 0; c < WIDE; c += 4)
                load_four(line + ROWS + ((warp_col + lane_col * 4 + c / 4 * 16) ^ aside), b + c);
#pragma unroll
            for (int r = 0; r < HIGH; r++)
#pragma unroll
                for (int c = 0; c < WIDE; c++) multiply_add(sums[r][c], a[r], b[c]);
        }
        now ^= STEP * PITCH;
        x.write(memory + now, PITCH);
        w.write(memory + now + ROWS, PITCH);
        __syncthreads();
    }
    const Tile<ROWS, COLS> same(p);
    constexpr int LINES = 2 * STEP * PITCH / WARPS / WARP_COLS;
    static_assert(LINES % 8 == 0 && HIGH * 8 % LINES == 0, "whole slabs");
    const Slab<WARP_COLS> slab{reinterpret_cast<float*>(memory) + warp * LINES * WARP_COLS};
#pragma unroll
    for (int first = 0; first < HIGH; first += LINES / 8) {
#pragma unroll
        for (int r = 0; r < LINES / 8; r++)
#pragma unroll
            for (int c = 0; c < WIDE; c += 4)
                store_four(slab.number(r * 8 + lane_row, lane_col * 4 + c / 4 * 16), sums[first + r] + c);
        finish<T, OUTS, LINES>(
            p, same, slab, warp_col,
            [=](uint32_t line) {
                const uint32_t r = first + line / 8;
                return same.row + warp_row + r / 4 * 32 + line % 8 * 4 + r % 4;
            },
            scaled);
    }
}

// All kernels of a type: tiles, threads' parts, threads, and blocks per multiprocessor. TILE is a macro that defines
// one.
#define GEMM_TILES_BY_THREADS(TILE, dtype, T)                                                      \
    TILE(128x128, dtype, T, LANES<T>, false, 128, 128, 8, 8, 256, 2)                               \
    TILE(64x64, dtype, T, LANES<T>, false, 64, 64, 4, 8, 128, 4)                                   \
    TILE(guarded, dtype, T, 1, true, 64, 64, 4, 8, 128, 4)

// GPUs with tensor cores use those for fp16 activations.
template <typename T>
constexpr bool IS_BY_THREADS = sizeof(T) != sizeof(Half) || !ptx::HAS_MMA_K8;
