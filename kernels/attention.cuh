// Shared code of the attention kernels: access to queries, keys and values, and the exponential.
//
// Scores stay in registers and shared memory. For each row, a tile of keys updates the maximum of the scores, the sum
// of the weights and the weighted values, which are rescaled when the maximum rises (Milakov and Gimelshein 2018; Dao
// 2022).
#pragma once

#include "prelude.cuh"

// A score s has the weight power(s * unit(scale) - maximum): the exponential of the scaled score's distance from the
// maximum. f32 uses expf, which equals the CPU's to a unit in the last place; f16 uses a power of two, one instruction.
template <typename T>
struct Weight;

template <>
struct Weight<float> {
    static __device__ float unit(float scale)
    {
        return scale;
    }
    static __device__ float power(float x)
    {
        return expf(x);
    }
};

template <>
struct Weight<Half> {
    static __device__ float unit(float scale)
    {
        return scale * 1.44269504f;
    }
    static __device__ float power(float x)
    {
        return ptx::exp2(x);
    }
};

// One head's queries of a block, starting with the block's first row.
template <typename T>
struct Queries {
    const T* q;
    T* out;
    uint32_t q_stride;
    uint32_t out_stride;
    uint32_t rows; // all remaining rows, which may be more than the block computes
    uint32_t head_dim;

    __device__ const T* row(uint32_t i) const
    {
        return q + i * static_cast<size_t>(q_stride);
    }
    __device__ T* out_row(uint32_t i) const
    {
        return out + i * static_cast<size_t>(out_stride);
    }
};

// One head's keys and values of a partition. Every query sees all of them.
template <typename T>
struct DenseKeys {
    const T* keys;
    const T* values;
    uint32_t stride;
    uint32_t count;

    // Offset of key or value i from the first.
    __device__ size_t offset(uint32_t i) const
    {
        return i * static_cast<size_t>(stride);
    }
    // Number of keys that row i of the block sees, at least one.
    __device__ uint32_t seen_by(uint32_t) const
    {
        return count;
    }
};

// One head's keys and values in the pages of a sequence. A query sees those up to its own.
template <typename T>
struct PagedKeys {
    const T* keys;
    const T* values;
    const uint32_t* pages;
    uint32_t page_stride; // numbers of a page: keys and values of all heads
    uint32_t head_dim;
    uint32_t slot; // slot of the first row's own key

    // PRECOND: cache is one layer; kv_head is one of kv_heads.
    __device__ PagedKeys(const void* cache, const uint32_t* pages, uint32_t kv_heads, uint32_t kv_head,
                         uint32_t head_dim, uint32_t slot)
        : pages(pages), head_dim(head_dim), slot(slot)
    {
        const uint32_t head_page = HIRED_PAGE * head_dim;
        page_stride = 2 * kv_heads * head_page;
        keys = static_cast<const T*>(cache) + kv_head * head_page;
        values = keys + kv_heads * head_page;
    }
    __device__ size_t offset(uint32_t i) const
    {
        return pages[i / HIRED_PAGE] * static_cast<size_t>(page_stride) + i % HIRED_PAGE * head_dim;
    }
    __device__ uint32_t seen_by(uint32_t i) const
    {
        return slot + i + 1;
    }
};
