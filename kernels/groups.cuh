// Integer codes that share a scale in groups of a row, and their numbers, which fp32 holds exactly.
//
// A code of BITS bits becomes the upper bits of a fraction, 1 + code / 2^BITS. One multiply-add then subtracts 1 and
// the zero point and applies the scale. A type of codes defines what a group has in memory (Shared), its scale, and its
// zero point as 1 + zero / 2^BITS.
#pragma once

#include "prelude.cuh"

// int4, each code stored plus 8.
struct Int4 {
    typedef Half Shared;
    static constexpr int BITS = 4;
    // Bits of the fraction that are stored inverted.
    static constexpr uint32_t FLIPPED = 0;

    __device__ static float scale(Shared shared)
    {
        return to_float(shared);
    }

    __device__ static float zero(Shared)
    {
        return 1.5f;
    }
};

// int4 codes from 0 with a zero point for each group. The lower half of a word is the scale, the upper half is that of
// the fp32 number 1 + zero / 16.
struct Awq {
    typedef uint32_t Shared;
    static constexpr int BITS = 4;
    static constexpr uint32_t FLIPPED = 0;

    __device__ static float scale(Shared shared)
    {
        return to_float(Half{static_cast<uint16_t>(shared)});
    }

    __device__ static float zero(Shared shared)
    {
        return __uint_as_float(shared & 0xffff0000u);
    }
};

// int8 in two's complement: with its sign bit inverted, a code is its value plus 128.
struct Int8 {
    typedef Half Shared;
    static constexpr int BITS = 8;
    static constexpr uint32_t FLIPPED = 0x00400000u;

    __device__ static float scale(Shared shared)
    {
        return to_float(shared);
    }

    __device__ static float zero(Shared)
    {
        return 1.5f;
    }
};

// Widens N codes, the first in the lowest bits.
template <typename Codes, int N, int WORDS>
__device__ inline void widen_codes(const uint32_t (&words)[WORDS], typename Codes::Shared shared, float (&to)[N])
{
    constexpr int BITS = Codes::BITS, IN_WORD = 32 / BITS;
    static_assert(N <= WORDS * IN_WORD, "as many codes as there are");
    constexpr uint32_t MASK = (1u << 23) - (1u << (23 - BITS)), ONE = 0x3f800000u ^ Codes::FLIPPED;
    const float factor = (1 << BITS) * Codes::scale(shared), less = -factor * Codes::zero(shared);
#pragma unroll
    for (int i = 0; i < N; i++) {
        const int left = 23 - BITS - i % IN_WORD * BITS;
        const uint32_t word = words[i / IN_WORD], bits = left >= 0 ? word << left : word >> -left;
        to[i] = fmaf(__uint_as_float((bits & MASK) ^ ONE), factor, less);
    }
}
