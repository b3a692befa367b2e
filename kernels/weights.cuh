// How products of a few rows read weights: one reader for each format. A reader's piece brings NUMBERS of a row as they
// lie in memory and widens them to fp32 when they are multiplied, CHUNK after CHUNK, so that those on their way take as few
// registers as bytes.
//
// Weights whose products are not fp32 (int8) have kernels of their own.
#pragma once

#include "scales.cuh"

// Plain numbers.
template <typename T, int N>
struct FloatReader {
    typedef GemvParams Params;
    static constexpr int NUMBERS = N;
    static constexpr int CHUNK = N;

    const T* row;

    __device__ static const GemvParams& product(const Params& p)
    {
        return p;
    }

    // Of row `at` of a weight.
    __device__ static FloatReader of(const Params& p, const void* weight, uint32_t, uint32_t at)
    {
        return {static_cast<const T*>(weight) + static_cast<size_t>(at) * p.w_stride};
    }

    struct Piece {
        uint4 bits;

        __device__ void read(const FloatReader& from, uint32_t k)
        {
            bits = ptx::load_streaming(from.row + k);
        }

        __device__ void widen(float (&to)[N]) const
        {
            const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
            unpack(words, to, T{});
        }
    };
};

// The same where no access of 16 bytes reaches all.
template <typename T>
struct FloatReader<T, 1> {
    typedef GemvParams Params;
    static constexpr int NUMBERS = 1;
    static constexpr int CHUNK = 1;

    const T* row;

    __device__ static const GemvParams& product(const Params& p)
    {
        return p;
    }

    __device__ static FloatReader of(const Params& p, const void* weight, uint32_t, uint32_t at)
    {
        return {static_cast<const T*>(weight) + static_cast<size_t>(at) * p.w_stride};
    }

    struct Piece {
        T bits;

        __device__ void read(const FloatReader& from, uint32_t k)
        {
            bits = from.row[k];
        }

        __device__ void widen(float (&to)[1]) const
        {
            to[0] = to_float(bits);
        }
    };
};

// int4 codes in groups: the 32 of a piece are in one group.
struct Int4Reader {
    typedef ScaledGemvParams Params;
    static constexpr int NUMBERS = 32;
    static constexpr int CHUNK = 8;

    const uint8_t* row;
    const Half* scales;
    uint32_t group_bits;

    __device__ static const GemvParams& product(const Params& p)
    {
        return p.product;
    }

    __device__ static Int4Reader of(const Params& p, const void* weight, uint32_t which, uint32_t at)
    {
        const size_t number = static_cast<size_t>(at) * p.product.w_stride;
        const uint32_t bits = p.scales.group_bits;
        return {static_cast<const uint8_t*>(weight) + number / 2,
                static_cast<const Half*>(scales_of(p.scales, which)) + (number >> bits), bits};
    }

    struct Piece {
        uint4 bits;
        Half scale;

        __device__ void read(const Int4Reader& from, uint32_t k)
        {
            bits = ptx::load_streaming(from.row + k / 2);
            scale = from.scales[k >> from.group_bits];
        }

        // The next word.
        __device__ void widen(float (&to)[CHUNK])
        {
            widen_codes(bits.x, to_float(scale), to);
            bits.x = bits.y, bits.y = bits.z, bits.z = bits.w;
        }
    };
};
