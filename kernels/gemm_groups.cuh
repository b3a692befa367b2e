// Loads weights whose codes share scales in groups: a vector consists of codes, which become numbers on their way to
// shared memory.
#pragma once

#include "gemm.cuh"
#include "groups.cuh"
#include "scales.cuh"

// N codes of a row, all in one group.
template <typename Codes, int NUMBERS>
struct GroupVector {
    typedef typename Codes::Shared Shared;
    typedef float Number;
    static constexpr int N = NUMBERS, SPAN = NUMBERS;
    static constexpr int BYTES = N * Codes::BITS / 8, WORDS = (BYTES + 3) / 4;

    const uint8_t* row;
    const Shared* shared_of;
    uint32_t group_bits;
    uint32_t held[WORDS];
    Shared shared;

    template <typename Tile, typename At>
    __device__ static GroupVector of(const ScaledGemmParams& params, const Tile& tile, At at)
    {
        const GemmParams& p = params.product;
        const FactorScales& s = params.scales;
        const size_t number = first_number(p, tile, at);
        return {static_cast<const uint8_t*>(Columns(p, at.which).weight) + number * Codes::BITS / 8,
                static_cast<const Shared*>(scales_of(s, at.which)) + (number >> s.group_bits), s.group_bits, {}, {}};
    }

    __device__ void read(uint32_t k, uint32_t inner)
    {
#pragma unroll
        for (int i = 0; i < WORDS; i++) held[i] = 0;
        shared = Shared{0};
        if (k >= inner) return;
        const uint8_t* from = row + k / (8 / Codes::BITS);
        if constexpr (BYTES == 8) {
            const uint2 words = __ldg(reinterpret_cast<const uint2*>(from));
            held[0] = words.x, held[WORDS - 1] = words.y;
        } else if constexpr (BYTES == 4) {
            held[0] = __ldg(reinterpret_cast<const uint32_t*>(from));
        } else {
            static_assert(BYTES == 2, "an access for so many bytes");
            held[0] = __ldg(reinterpret_cast<const uint16_t*>(from));
        }
        shared = shared_of[k >> group_bits];
    }

    __device__ void widen(float (&x)[N]) const
    {
        widen_codes<Codes>(held, shared, x);
    }

    // The numbers as fp16, each rounded once.
    __device__ uint4 numbers() const
    {
        float x[8];
        widen_codes<Codes>(held, shared, x);
        return make_uint4(ptx::floats_to_halves(x[0], x[1]), ptx::floats_to_halves(x[2], x[3]),
                          ptx::floats_to_halves(x[4], x[5]), ptx::floats_to_halves(x[6], x[7]));
    }
};
