// Codes whose numbers share a scale in groups of a row, and the numbers that they stand for: exact in fp32.
//
// A code of so many BITS becomes the upper bits of a fraction, 1 + code / 2^BITS; one multiply-add takes off the 1 and what
// stands for zero, and scales the rest. A kind of codes says what a group has in memory (Shared), its scale, and its zero
// as 1 + zero / 2^BITS.
#pragma once

#include "prelude.cuh"

// int4, each code plus 8.
struct Int4 {
    typedef Half Shared;
    static constexpr int BITS = 4;
    // Bits of the fraction that memory has the other way round.
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

// int4 codes from 0 with a zero point for each group: the scale in the lower half of a word, in the upper half that of the
// fp32 number 1 + zero / 16.
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

// int8 in two's complement: with the sign's bit flipped a code is itself plus 128.
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

// N numbers from their codes, the first in the lowest bits.
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
