// Matrix products by mma.m16n8k16, tiles by cp.async: Ampere and newer.
#include "gemm_mma.cuh"

// STAGES steps in a ring of shared memory: while one is multiplied, all but one of the others are on their way.
template <int ROWS, int COLS, int STAGES>
__device__ void gemm_mma_async(const GemmParams& p)
{
    constexpr uint32_t SIZE = (ROWS + COLS) * MMA_STEP;
    __shared__ __align__(16) unsigned char memory[MMA_BYTES<ROWS, COLS, STAGES>];
    const Tile<ROWS, COLS> tile(p);
    if (tile.row >= p.rows) return;

    const Rows<ROWS> x([&](uint32_t i) { return tile.template x_row<Half>(p, i); });
    const Rows<COLS> w([&](uint32_t i) { return tile.template w_row<COLS / 2, Half>(p, i); });
    Half* const ring = reinterpret_cast<Half*>(memory);
    const auto copy = [&](uint32_t k, Half* to) {
        const uint32_t at = k + x.vector() * LANES<Half>;
        // Beyond the row's end nothing is read and zeros are written.
        const uint32_t bytes = at < p.inner ? 16 : 0, from = at < p.inner ? at : 0;
#pragma unroll
        for (int v = 0; v < x.VECTORS; v++)
            ptx::cp_async_16(to + tile_offset(x.row(v), x.vector()), x.from[v] + from, bytes);
#pragma unroll
        for (int v = 0; v < w.VECTORS; v++)
            ptx::cp_async_16(to + ROWS * MMA_STEP + tile_offset(w.row(v), w.vector()), w.from[v] + from, bytes);
    };

#pragma unroll
    for (int stage = 0; stage < STAGES - 1; stage++) {
        if (stage * MMA_STEP < p.inner) copy(stage * MMA_STEP, ring + stage * SIZE);
        ptx::cp_async_commit();
    }
    WarpTile<ROWS, COLS> sums;
    uint32_t now = 0, free = (STAGES - 1) * SIZE;
    for (uint32_t k = 0; k < p.inner; k += MMA_STEP) {
        ptx::cp_async_wait<STAGES - 2>();
        // Shows this step to all, and tells that all have done with the one before, whose place is taken now.
        __syncthreads();
        const uint32_t next = k + (STAGES - 1) * MMA_STEP;
        if (next < p.inner) copy(next, ring + free);
        // Always, so that the count of groups under way stays the same.
        ptx::cp_async_commit();
        sums.add(ring + now, ring + now + ROWS * MMA_STEP);
        free = now;
        now = now == (STAGES - 1) * SIZE ? 0 : now + SIZE;
    }
    ptx::cp_async_wait<0>();
    __syncthreads();
    sums.template write<LANES<Half>>(p, Tile<ROWS, COLS>(p), memory);
}

// Three stages of the large tile are 48 KB: what a block may have unasked, and two blocks fit on every card.
GEMM_MMA(gemm_mma16_128x128_f16, ptx::HAS_MMA_K16, (gemm_mma_async<128, 128, 3>), 2)
GEMM_MMA(gemm_mma16_64x128_f16, ptx::HAS_MMA_K16, (gemm_mma_async<64, 128, 3>), 3)
GEMM_MMA(gemm_mma16_64x64_f16, ptx::HAS_MMA_K16, (gemm_mma_async<64, 64, 4>), 4)
GEMM_MMA(gemm_mma16_guarded_f16, ptx::HAS_MMA_K16, (gemm_mma_staged<64, 64, true>), 4)
