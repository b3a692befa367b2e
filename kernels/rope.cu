// Rotary embedding of q and k, and append of k and v to the paged cache, for the rows of prompts. (In decode steps
// attention_decode.cu does both.) Limited by memory. Host side: src/ops/cuda/rows/choose.rs, rope.
//
// Pairs (j, j + turned) of the first numbers of each head turn by position * frequencies[j], those behind them stay. Rows
// of prompts: a decode step's rows turn in attention_decode.cu.
#include "rotate.cuh"

// One row of the batch, N pairs at a time. The heads of q, k and v are divided among the blocks along y.
template <typename T, int N>
__device__ void rope_append(const RopeAppendParams& p)
{
    DYN_SHARED(float2, turns); // [turned]: cosine and sine
    const uint32_t row = blockIdx.x;
    const uint32_t position = p.positions[row], slot = p.slots[row];
    const uint32_t half = p.head_dim / 2;
    for (uint32_t j = threadIdx.x; j < p.turned; j += blockDim.x) {
        float sine, cosine;
        sincosf(position * p.frequencies[j], &sine, &cosine);
        turns[j] = make_float2(cosine, sine);
    }
    __syncthreads();

    const size_t page = p.tables[p.sequences[row] * static_cast<size_t>(p.table_stride) + slot / HIRED_PAGE];
    const size_t head_page = static_cast<size_t>(HIRED_PAGE) * p.head_dim;
    T* keys = static_cast<T*>(p.cache) + 2 * page * p.kv_heads * head_page + slot % HIRED_PAGE * p.head_dim;
    T* values = keys + p.kv_heads * head_page;
    T* q = static_cast<T*>(p.q) + static_cast<size_t>(row) * p.heads * p.head_dim;
    const size_t kv_row = static_cast<size_t>(row) * p.kv_heads * p.head_dim;
    const T* k = static_cast<const T*>(p.k) + kv_row;
    const T* v = static_cast<const T*>(p.v) + kv_row;

    const uint32_t steps = half / N;
    const uint32_t tasks = (p.heads + 2 * p.kv_heads) * steps;
    const uint32_t stride = gridDim.y * blockDim.x;
    for (uint32_t task = blockIdx.y * blockDim.x + threadIdx.x; task < tasks; task += stride) {
        uint32_t head = task / steps;
        const uint32_t j = task % steps * N;
        const T* from;
        T* to;
        const HeadPair pair(j, p.turned, half);
        bool turn = pair.turns;
        if (head < p.heads) {
            from = to = q + head * p.head_dim;
        } else if (head -= p.heads; head < p.kv_heads) {
            from = k + head * p.head_dim;
            to = keys + head * head_page;
        } else {
            head -= p.kv_heads;
            from = v + head * p.head_dim;
            to = values + head * head_page;
            turn = false;
        }
        float a[N], b[N];
        load(from + pair.low, a);
        load(from + pair.high, b);
        if (turn) {
#pragma unroll
            for (int i = 0; i < N; i++) {
                const float2 t = turns[j + i];
                const float low = a[i];
                a[i] = low * t.x - b[i] * t.y;
                b[i] = b[i] * t.x + low * t.y;
            }
        }
        store(to + pair.low, a);
        store(to + pair.high, b);
    }
}

// PRECOND: grid of (rows, any); 1-D block of at most 256 threads; turned float2 of dynamic shared memory;
// head_dim even; turned at most head_dim / 2; no two rows in one slot of one sequence; the tables hold each row's page.
// vector: q, k, v and cache multiples of 16; head_dim / 2 numbers and turned numbers multiples of 16 bytes.
#define ROPE(dtype, T)                                                                             \
    extern "C" __global__ void __launch_bounds__(HIRED_ROW_THREADS) rope_append_vector_##dtype(RopeAppendParams p) \
    {                                                                                              \
        rope_append<T, LANES<T>>(p);                                                               \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(HIRED_ROW_THREADS) rope_append_guarded_##dtype(RopeAppendParams p) \
    {                                                                                              \
        rope_append<T, 1>(p);                                                                      \
    }

ROPE(f32, float)
ROPE(f16, Half)
