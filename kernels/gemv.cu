// Products of 1 to 8 rows with floating-point weights by FMA, see gemv.cuh. gemv_mma.cu does those of fp16 on tensor
// cores.
#include "gemv.cuh"

// fp16 in vectors uses these kernels where there are no tensor cores, and gemv_mma.cu elsewhere.
template <typename T, int N>
constexpr bool IS_HERE = N == 1 || sizeof(T) != sizeof(Half) || !ptx::HAS_MMA_K8;

// PRECOND: a warp for each 4 columns of each weight (gate: for each 2), in 1-D blocks of whole warps, at most 128
// threads; rows from 1 to the name's (guarded: to 8); inner and cols[0] at least 1; x and the outs apart.
// vector: x, norm and weights multiples of 16; inner, x_stride and w_stride multiples of 16 bytes.
// guarded: any alignment and width.
// BLOCKS: blocks per multiprocessor, chosen so that no variant spills; at least 12 warps with 2 KB of weights in flight
// each.
#define GEMV(name, T, Out, N, ROWS, BLOCKS)                                                        \
    extern "C" __global__ void __launch_bounds__(HIRED_GEMV_THREADS, BLOCKS) gemv_##name(GemvParams p) \
    {                                                                                              \
        if constexpr (IS_HERE<T, N>) {                                                             \
            gemv<Out, Sums<T, FloatReader<T, N>, ROWS>>(p);                                   \
        } else {                                                                                   \
            __trap();                                                                              \
        }                                                                                          \
    }
#define GEMV_GATE(name, T, N, ROWS, BLOCKS)                                                        \
    extern "C" __global__ void __launch_bounds__(HIRED_GEMV_THREADS, BLOCKS) gemv_gate_##name(GemvParams p) \
    {                                                                                              \
        if constexpr (IS_HERE<T, N>) {                                                             \
            gemv_gate<T, Sums<T, FloatReader<T, N>, ROWS>>(p);                                \
        } else {                                                                                   \
            __trap();                                                                              \
        }                                                                                          \
    }

GEMV(vector_rows1_f32, float, float, LANES<float>, 1, 4)
GEMV(vector_rows2_f32, float, float, LANES<float>, 2, 4)
GEMV(vector_rows4_f32, float, float, LANES<float>, 4, 4)
GEMV(vector_rows8_f32, float, float, LANES<float>, 8, 3)
GEMV(guarded_f32, float, float, 1, 8, 4)

GEMV(vector_rows1_f16, Half, Half, LANES<Half>, 1, 4)
GEMV(vector_rows2_f16, Half, Half, LANES<Half>, 2, 4)
GEMV(vector_rows4_f16, Half, Half, LANES<Half>, 4, 4)
GEMV(vector_rows8_f16, Half, Half, LANES<Half>, 8, 3)
GEMV(guarded_f16, Half, Half, 1, 8, 4)

// Logits are stored as fp32: the two best of a vocabulary often differ by less than an fp16 step.
GEMV(logits_vector_rows1_f16, Half, float, LANES<Half>, 1, 4)
GEMV(logits_vector_rows2_f16, Half, float, LANES<Half>, 2, 4)
GEMV(logits_vector_rows4_f16, Half, float, LANES<Half>, 4, 4)
GEMV(logits_vector_rows8_f16, Half, float, LANES<Half>, 8, 3)
GEMV(logits_guarded_f16, Half, float, 1, 8, 4)

GEMV_GATE(vector_rows1_f32, float, LANES<float>, 1, 4)
GEMV_GATE(vector_rows2_f32, float, LANES<float>, 2, 4)
GEMV_GATE(vector_rows4_f32, float, LANES<float>, 4, 4)
GEMV_GATE(vector_rows8_f32, float, LANES<float>, 8, 3)
GEMV_GATE(guarded_f32, float, 1, 8, 4)

GEMV_GATE(vector_rows1_f16, Half, LANES<Half>, 1, 4)
GEMV_GATE(vector_rows2_f16, Half, LANES<Half>, 2, 4)
GEMV_GATE(vector_rows4_f16, Half, LANES<Half>, 4, 4)
GEMV_GATE(vector_rows8_f16, Half, LANES<Half>, 8, 3)
GEMV_GATE(guarded_f16, Half, 1, 8, 4)
