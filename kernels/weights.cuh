// Readers of weights for the products of few rows, one for each format. A reader loads a piece of NUMBERS numbers in
// their stored format, and widens it to fp32 when it is multiplied, CHUNK numbers at a time, so that loads in flight
// take no more registers than bytes.
//
// int8 weights, whose products are not fp32, have kernels of their own.
#pragma once

#include "groups.cuh"
#include "scales.cuh"

// Floating-point numbers.
template <typename T, int N>
struct FloatReader {
    typedef GemvParams Params;
    static constexpr int NUMBERS = N;
    static constexpr int CHUNK = N;

    const T* row;

    // A reader of row `at` of the weight `which`.
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

// Floating-point numbers that accesses of 16 bytes do not fit.
template <typename T>
struct FloatReader<T, 1> {
    typedef GemvParams Params;
    static constexpr int NUMBERS = 1;
    static constexpr int CHUNK = 1;

    const T* row;

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

// Codes in groups; those of a piece are in one group.
template <typename Codes>
struct GroupReader {
    typedef ScaledGemvParams Params;
    typedef typename Codes::Shared Shared;
    static constexpr int NUMBERS = 128 / Codes::BITS;
    static constexpr int CHUNK = 8;

    const uint8_t* row;
    const Shared* shared;
    uint32_t group_bits;

    __device__ static GroupReader of(const Params& p, const void* weight, uint32_t which, uint32_t at)
    {
        const size_t number = static_cast<size_t>(at) * p.product.w_stride;
        const uint32_t bits = p.scales.group_bits;
        return {static_cast<const uint8_t*>(weight) + number * Codes::BITS / 8,
                static_cast<const Shared*>(scales_of(p.scales, which)) + (number >> bits), bits};
    }

    struct Piece {
        uint4 bits;
        Shared shared;

        __device__ void read(const GroupReader& from, uint32_t k)
        {
            bits = ptx::load_streaming(from.row + k * Codes::BITS / 8);
            shared = from.shared[k >> from.group_bits];
        }

        // Widens the next words.
        __device__ void widen(float (&to)[CHUNK])
        {
            if constexpr (Codes::BITS == 4) {
                const uint32_t words[1] = {bits.x};
                widen_codes<Codes>(words, shared, to);
                bits.x = bits.y, bits.y = bits.z, bits.z = bits.w;
            } else {
                const uint32_t words[2] = {bits.x, bits.y};
                widen_codes<Codes>(words, shared, to);
                bits.x = bits.z, bits.y = bits.w;
            }
        }
    };
};
