// Matrix products of fp16 with int4 weights on tensor cores, from Turing on: the weights become fp16, their code times their
// scale rounded once, on their way into shared memory.
#include "gemm_mma.cuh"

// Eight codes of a row, which become 16 bytes.
struct Int4Vector {
    const uint8_t* row;
    const Half* scales;
    uint32_t group_bits;
    uint32_t held;
    Half scale;

    __device__ void read(uint32_t k, uint32_t inner)
    {
        held = 0;
        scale = Half{0};
        if (k >= inner) return;
        held = __ldg(reinterpret_cast<const uint32_t*>(row + k / 2));
        scale = scales[k >> group_bits];
    }

    __device__ uint4 numbers() const
    {
        float x[8];
        widen_codes(held, to_float(scale), x);
        return make_uint4(ptx::floats_to_halves(x[0], x[1]), ptx::floats_to_halves(x[2], x[3]),
                          ptx::floats_to_halves(x[4], x[5]), ptx::floats_to_halves(x[6], x[7]));
    }
};

template <int OUTS, int ROWS, int COLS>
__device__ void gemm_mma_q4(const ScaledGemmParams& params)
{
    typedef PlainVector<Half, false> X;
    const GemmParams& p = params.product;
    const FactorScales& s = params.scales;
    gemm_mma_staged<X, Int4Vector, Half, OUTS, ROWS, COLS>(
        p, [&](const Tile<ROWS, COLS>& tile, uint32_t i) { return X{tile.template x_row<Half>(p, i), {}}; },
        [&](const Tile<ROWS, COLS>& tile, uint32_t i) {
            const auto w = tile.template weight_row<COLS / 2>(p, i);
            const size_t number = w.row * static_cast<size_t>(p.w_stride) + tile.first(p);
            return Int4Vector{static_cast<const uint8_t*>(Columns(p, w.which).weight) + number / 2,
                              static_cast<const Half*>(scales_of(s, w.which)) + (number >> s.group_bits), s.group_bits, 0,
                              {}};
        },
        FloatSums{});
}

// PRECOND: as for GEMM_FMA_Q4; 1-D block of 128.
#define GEMM_MMA_Q4(tile, OUTS, ROWS, COLS, BLOCKS)                                                \
    extern "C" __global__ void __launch_bounds__(MMA_THREADS, BLOCKS) gemm_mma_##tile##_q4_f16(ScaledGemmParams p) \
    {                                                                                              \
        if constexpr (ptx::HAS_MMA_K8) {                                                           \
            gemm_mma_q4<OUTS, ROWS, COLS>(p);                                                      \
        } else {                                                                                   \
            __trap();                                                                              \
        }                                                                                          \
    }

GEMM_MMA_Q4(128x128, LANES<Half>, 128, 128, 2)
GEMM_MMA_Q4(64x128, LANES<Half>, 64, 128, 2)
GEMM_MMA_Q4(64x64, LANES<Half>, 64, 64, 4)
GEMM_MMA_Q4(guarded, 1, 64, 64, 4)
