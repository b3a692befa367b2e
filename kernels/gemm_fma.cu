// Matrix products by fp32 multiply-add: the parity mode everywhere, and fp16 storage on cards without tensor
// cores, where fp16 arithmetic runs at 1/64 of the fp32 rate.
//
// Each number is widened once, on its way into shared memory, and then takes part in as many multiply-adds as
// the tile is wide: in the inner loop a thread reads 16 numbers by four 128-bit loads for 64 multiply-adds.
// For sm_61 ptxas makes of a step of 16 of the large tile in fp16 1161 instructions, 1024 of them FFMA, beside 64 LDS,
// 16 conversions, 16 STS and 2 LDG. 98 issue together with another, 116 wait for a bank of registers: 87% of the card's
// fp32 rate is what this can reach there.
#include "gemm.cuh"

// SIZE rows of x or w, STEP = 2 vectors of each, through registers to shared memory as [STEP][pitch] of float.
template <typename T, int SIZE, int THREADS, bool GUARDED>
class Stage {
    static constexpr int N = LANES<T>;
    static constexpr int VECTORS = 2 * SIZE / THREADS;

    const T* rows[VECTORS];
    uint4 held[VECTORS];

    // Two lanes take the two vectors of a row: 32 bytes, a whole sector.
    __device__ static uint32_t row(int v)
    {
        return threadIdx.x / 2 + v * (THREADS / 2);
    }

public:
    // `row_of` gives a row of the tile.
    template <typename RowOf>
    __device__ explicit Stage(RowOf row_of)
    {
#pragma unroll
        for (int v = 0; v < VECTORS; v++) rows[v] = row_of(row(v));
    }

    __device__ void read(uint32_t k, uint32_t inner)
    {
#pragma unroll
        for (int v = 0; v < VECTORS; v++) held[v] = fetch<GUARDED>(rows[v], k + threadIdx.x % 2 * N, inner);
    }

    // The second half of a step lies 16 columns aside, so that the two lanes of a row write to two banks.
    __device__ void write(float* to, int pitch) const
    {
        const uint32_t half = threadIdx.x % 2;
#pragma unroll
        for (int v = 0; v < VECTORS; v++) {
            const uint32_t words[4] = {held[v].x, held[v].y, held[v].z, held[v].w};
            float x[N];
            unpack(words, x, T{});
#pragma unroll
            for (int i = 0; i < N; i++) to[(half * N + i) * pitch + (row(v) ^ (half * 16))] = x[i];
        }
    }
};

// A block makes ROWS by COLS of out, a warp 8 * HIGH by 4 * WIDE, a thread HIGH by WIDE in pieces of 4 by 4.
template <typename T, int ROWS, int COLS, int HIGH, int WIDE, bool GUARDED>
__device__ void gemm_fma(const GemmParams& p)
{
    constexpr int N = LANES<T>, STEP = 2 * N, PITCH = ROWS + COLS;
    constexpr int WARP_ROWS = 8 * HIGH, WARP_COLS = 4 * WIDE, WARPS_WIDE = COLS / WARP_COLS;
    constexpr int WARPS = ROWS / WARP_ROWS * WARPS_WIDE, THREADS = WARPS * WARP;
    __shared__ __align__(16) float memory[2 * STEP * PITCH];
    const Tile<ROWS, COLS> tile(p);
    if (tile.row >= p.rows) return;

    // Of 16 lanes that the card serves together, 8 read different rows (128 bytes) and 2 different columns.
    const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const uint32_t lane_row = lane / 2 % 8, lane_col = lane % 2 + lane / 16 * 2;
    const uint32_t warp_row = warp / WARPS_WIDE * WARP_ROWS, warp_col = warp % WARPS_WIDE * WARP_COLS;

    Stage<T, ROWS, THREADS, GUARDED> x([&](uint32_t i) { return tile.template x_row<T>(p, i); });
    Stage<T, COLS, THREADS, GUARDED> w([&](uint32_t i) { return tile.template w_row<WARP_COLS, T>(p, i); });
    float sums[HIGH][WIDE] = {};
    x.read(0, p.inner);
    w.read(0, p.inner);
    x.write(memory, PITCH);
    w.write(memory + ROWS, PITCH);
    __syncthreads();
    uint32_t now = 0;
    for (uint32_t k = STEP; k < p.inner + STEP; k += STEP) {
        // The last time zeros are read, and nobody reads them: with a branch around these reads and the writes below,
        // ptxas joins both for sm_61 and sm_70 and puts the reads behind the multiply-adds that they should overlap.
        x.read(k, p.inner);
        w.read(k, p.inner);
#pragma unroll
        for (int i = 0; i < STEP; i++) {
            const float* line = memory + now + i * PITCH;
            const uint32_t aside = i / N * 16;
            float a[HIGH], b[WIDE];
#pragma unroll
            for (int r = 0; r < HIGH; r += 4) {
                const float* from = line + ((warp_row + lane_row * 4 + r / 4 * 32) ^ aside);
                load(from, *reinterpret_cast<float(*)[4]>(a + r));
            }
#pragma unroll
            for (int c = 0; c < WIDE; c += 4) {
                const float* from = line + ROWS + ((warp_col + lane_col * 4 + c / 4 * 16) ^ aside);
                load(from, *reinterpret_cast<float(*)[4]>(b + c));
            }
#pragma unroll
            for (int r = 0; r < HIGH; r++)
#pragma unroll
                for (int c = 0; c < WIDE; c++) sums[r][c] += a[r] * b[c];
        }
        now ^= STEP * PITCH;
        x.write(memory + now, PITCH);
        w.write(memory + now + ROWS, PITCH);
        __syncthreads();
    }
    const Tile<ROWS, COLS> same(p);
    constexpr int LINES = 2 * STEP * PITCH / WARPS / WARP_COLS;
    static_assert(LINES % 8 == 0 && HIGH * 8 % LINES == 0, "whole slabs");
    const Slab<WARP_COLS> slab{memory + warp * LINES * WARP_COLS};
#pragma unroll
    for (int first = 0; first < HIGH; first += LINES / 8) {
#pragma unroll
        for (int r = 0; r < LINES / 8; r++)
#pragma unroll
            for (int c = 0; c < WIDE; c += 4)
                store(slab.number(r * 8 + lane_row, lane_col * 4 + c / 4 * 16),
                      *reinterpret_cast<const float(*)[4]>(sums[first + r] + c));
        finish<T, GUARDED ? 1 : N, LINES>(p, same, slab, warp_col, [=](uint32_t line) {
            const uint32_t r = first + line / 8;
            return same.row + warp_row + r / 4 * 32 + line % 8 * 4 + r % 4;
        });
    }
}

// PRECOND: grid (tiles of rows in a group, tiles of columns of each weight (gate: of both together), groups * parts),
// tiles of ROWS by COLS; 1-D block of THREADS; rows, cols[0], inner and parts at least 1; gate: cols[1] = cols[0].
// Large: x, weights, biases, outs and sums multiples of 16; cols, inner and all strides whole vectors of 16 bytes.
// guarded: any.
#define GEMM_FMA(tile, dtype, T, ROWS, COLS, HIGH, WIDE, GUARDED, THREADS, BLOCKS)                 \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) gemm_fma_##tile##_##dtype(GemmParams p) \
    {                                                                                              \
        if constexpr (HAS_##dtype) {                                                               \
            gemm_fma<T, ROWS, COLS, HIGH, WIDE, GUARDED>(p);                                       \
        } else {                                                                                   \
            __trap();                                                                              \
        }                                                                                          \
    }

constexpr bool HAS_f32 = true;
// Cards with tensor cores take these.
constexpr bool HAS_f16 = !ptx::HAS_MMA_K8;

GEMM_FMA(128x128, f32, float, 128, 128, 8, 8, false, 256, 2)
GEMM_FMA(64x64, f32, float, 64, 64, 4, 8, false, 128, 4)
GEMM_FMA(guarded, f32, float, 64, 64, 4, 8, true, 128, 4)
GEMM_FMA(128x128, f16, Half, 128, 128, 8, 8, false, 256, 2)
GEMM_FMA(64x64, f16, Half, 64, 64, 4, 8, false, 128, 4)
GEMM_FMA(guarded, f16, Half, 64, 64, 4, 8, true, 128, 4)
