// Which numbers of a head turn together.
#pragma once

#include "prelude.cuh"

struct HeadPair {
    uint32_t low, high;
    bool turns;

    // Pair j of half the head's width: the first `turned` ones are of j and turned + j, the others share the numbers
    // behind those and stay as they are.
    __device__ HeadPair(uint32_t j, uint32_t turned, uint32_t half) : turns(j < turned)
    {
        low = turns ? j : turned + j;
        high = turns ? turned + j : half + j;
    }
};
