// Copies of rows, with a block for each row: rows named by indices, and the rows of a prompt. Limited by memory. Host
// side: src/ops/cuda/rows/ops.rs.
#include "prelude.cuh"

// Copies rows as bytes, one Piece at a time, whatever their format.
template <typename Piece>
__device__ void gather(const GatherParams& p)
{
    const size_t bytes = p.row_bytes;
    const uint32_t pieces = p.row_bytes / sizeof(Piece);
    const char* from = static_cast<const char*>(p.x) + p.rows[blockIdx.x] * bytes;
    char* to = static_cast<char*>(p.out) + blockIdx.x * bytes;
    for (uint32_t i = threadIdx.x; i < pieces; i += blockDim.x)
        reinterpret_cast<Piece*>(to)[i] = reinterpret_cast<const Piece*>(from)[i];
}

// PRECOND: grid of `count`; 1-D block of at most 256 threads; every row of x named by `rows` exists.
// vector: x and out multiples of 16, row_bytes too. guarded: multiples of 2.
extern "C" __global__ void __launch_bounds__(HIRED_ROW_THREADS) gather_vector(GatherParams p)
{
    gather<uint4>(p);
}

extern "C" __global__ void __launch_bounds__(HIRED_ROW_THREADS) gather_guarded(GatherParams p)
{
    gather<uint16_t>(p);
}

template <typename T, int N, typename From>
__device__ void copy_row(T* to, const From* from, uint32_t cols)
{
    for (uint32_t i = threadIdx.x * N; i < cols; i += blockDim.x * N) {
        float x[N];
        load(from + i, x);
        store(to + i, x);
    }
}

// The rows of a prompt: embeddings of `before`, visual rows and newlines by `slots`, embeddings of `after`.
template <typename T, int N>
__device__ void interleave(const InterleaveParams& p)
{
    const size_t cols = p.cols;
    T* to = static_cast<T*>(p.out) + blockIdx.x * cols;
    uint32_t row = blockIdx.x;
    const bool is_before = row < p.before_count;
    if (!is_before) row -= p.before_count;
    if (!is_before && row < p.slot_count) {
        const uint32_t slot = p.slots[row];
        if (slot == HIRED_NEWLINE)
            copy_row<T, N>(to, p.newline, p.cols);
        else
            copy_row<T, N>(to, static_cast<const T*>(p.visual) + slot * cols, p.cols);
    } else {
        const uint32_t id = is_before ? p.before[row] : p.after[row - p.slot_count];
        copy_row<T, N>(to, static_cast<const T*>(p.table) + id * static_cast<size_t>(p.table_stride), p.cols);
    }
}

// PRECOND: grid of before_count + slot_count + after_count; 1-D block of at most 256 threads; ids and slots
// name rows that exist. vector: all pointers multiples of 16; cols and table_stride multiples of 16 bytes.
#define INTERLEAVE(dtype, T)                                                                       \
    extern "C" __global__ void __launch_bounds__(HIRED_ROW_THREADS) interleave_vector_##dtype(InterleaveParams p) \
    {                                                                                              \
        interleave<T, LANES<T>>(p);                                                                \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(HIRED_ROW_THREADS) interleave_guarded_##dtype(InterleaveParams p) \
    {                                                                                              \
        interleave<T, 1>(p);                                                                       \
    }

INTERLEAVE(f32, float)
INTERLEAVE(f16, Half)
