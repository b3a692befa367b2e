// How products of a few rows read weights: one reader for each format. A reader brings N numbers of a row as they lie in
// memory and widens them to fp32 when they are multiplied, so that those on their way take as few registers as bytes.
//
// A format that is not a plain number (integers with a scale for each row or group) gets a specialisation here, and the
// kernels are instantiated with it; a scale for a whole row is a factor of its sum.
#pragma once

#include "prelude.cuh"

// N numbers of a weight, as they lie in memory.
template <typename T, int N>
struct Piece {
    uint4 bits;

    __device__ void read(const T* from)
    {
        bits = ptx::load_streaming(from);
    }

    __device__ void widen(float (&to)[N]) const
    {
        const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
        unpack(words, to, T{});
    }
};

template <typename T>
struct Piece<T, 1> {
    T bits;

    __device__ void read(const T* from)
    {
        bits = *from;
    }

    __device__ void widen(float (&to)[1]) const
    {
        to[0] = to_float(bits);
    }
};
