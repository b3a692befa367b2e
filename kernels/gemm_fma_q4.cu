// Matrix products with int4 weights by fp32 multiply-add: as gemm_fma.cu, but that the weights' vectors are codes, which
// become numbers on their way into shared memory. Each is its code times its scale, exactly.
#include "gemm_threads.cuh"
#include "scales.cuh"

// As many numbers of a row as a vector of x has, four bits each.
template <int NUMBERS>
struct Int4Vector {
    typedef float Number;
    static constexpr int N = NUMBERS;
    static constexpr int SPAN = NUMBERS;

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
        if constexpr (N == 8)
            held = __ldg(reinterpret_cast<const uint32_t*>(row + k / 2));
        else
            held = __ldg(reinterpret_cast<const uint16_t*>(row + k / 2));
        scale = scales[k >> group_bits];
    }

    __device__ void widen(float (&x)[N]) const
    {
        widen_codes(held, to_float(scale), x);
    }
};

template <typename T, int OUTS, int ROWS, int COLS, int HIGH, int WIDE>
__device__ void gemm_fma_q4(const ScaledGemmParams& params)
{
    typedef FloatVector<T, false> X;
    typedef Int4Vector<LANES<T>> W;
    const GemmParams& p = params.product;
    const FactorScales& s = params.scales;
    constexpr int WARP_COLS = 4 * WIDE;
    gemm_by_threads<X, W, T, OUTS, ROWS, COLS, HIGH, WIDE>(
        p, [&](const Tile<ROWS, COLS>& tile, uint32_t i) { return X{tile.template x_row<T>(p, i), {}}; },
        [&](const Tile<ROWS, COLS>& tile, uint32_t i) {
            const auto w = tile.template weight_row<WARP_COLS>(p, i);
            const size_t number = w.row * static_cast<size_t>(p.w_stride) + tile.first(p);
            return W{static_cast<const uint8_t*>(Columns(p, w.which).weight) + number / 2,
                     static_cast<const Half*>(scales_of(s, w.which)) + (number >> s.group_bits), s.group_bits, 0, {}};
        },
        FloatSums{});
}

// PRECOND: as for GEMM_FMA; x, biases, outs and sums multiples of 16, weights of 4; inner (of each part) and the weights'
// stride multiples of the group, x's stride whole vectors. guarded: cols and strides of out any.
#define GEMM_FMA_Q4(tile, dtype, T, OUTS, ROWS, COLS, HIGH, WIDE, THREADS, BLOCKS)                 \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)                                  \
        gemm_fma_##tile##_q4_##dtype(ScaledGemmParams p)                                           \
    {                                                                                              \
        gemm_fma_q4<T, OUTS, ROWS, COLS, HIGH, WIDE>(p);                                           \
    }

GEMM_FMA_Q4(128x128, f32, float, LANES<float>, 128, 128, 8, 8, 256, 2)
GEMM_FMA_Q4(64x64, f32, float, LANES<float>, 64, 64, 4, 8, 128, 4)
GEMM_FMA_Q4(guarded, f32, float, 1, 64, 64, 4, 8, 128, 4)
GEMM_FMA_Q4(128x128, f16, Half, LANES<Half>, 128, 128, 8, 8, 256, 2)
GEMM_FMA_Q4(64x64, f16, Half, LANES<Half>, 64, 64, 4, 8, 128, 4)
GEMM_FMA_Q4(guarded, f16, Half, 1, 64, 64, 4, 8, 128, 4)
