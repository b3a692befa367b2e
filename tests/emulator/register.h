// Makes a table entry of a kernel. The parameters' types and sizes and the call follow from the
// type of the function, so a struct of any size is passed as the compiler passes it.
#pragma once
#include <cstddef>
#include <utility>

#include "library.h"

namespace emu {

// The first argument of __launch_bounds__.
constexpr unsigned first(unsigned threads, unsigned = 0, unsigned = 0) { return threads; }

template <auto F>
struct Thunk;

template <typename... P, void (*F)(P...)>
struct Thunk<F> {
    static constexpr unsigned count = sizeof...(P);
    static constexpr unsigned sizes[sizeof...(P) + 1] = {sizeof(P)..., 0};

    template <size_t... I>
    static void apply(void* const* params, std::index_sequence<I...>)
    {
        F(*static_cast<P*>(params[I])...);
        (void)params;
    }
    static void call(void* const* params) { apply(params, std::index_sequence_for<P...>{}); }

    static constexpr Kernel kernel(const char* name, unsigned max_threads)
    {
        return {name, count, sizes, call, max_threads};
    }
};

} // namespace emu
