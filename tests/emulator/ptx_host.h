// Implementation of kernels/ptx.cuh for the host: what each instruction computes, in plain C++.
#pragma once

#ifdef __F16C__
#include <immintrin.h>
#endif

namespace emu {

#ifdef __F16C__
inline float from_half(uint16_t bits) { return _cvtsh_ss(bits); }
inline uint16_t to_half(float x)
{
    return _cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
#else
inline float from_half(uint16_t bits)
{
    // Moves the exponent into place and corrects its bias by a product, which is exact also for
    // subnormals.
    float x = emu_bits<float>(uint32_t(bits & 0x7fff) << 13) * 0x1p112f;
    const uint32_t fraction = bits & 0x3ff;
    if ((bits & 0x7c00) == 0x7c00)
        x = emu_bits<float>(0x7f800000u | fraction << 13 |
                            (fraction ? 0x400000u : 0)); // NaN, quiet
    return emu_bits<float>(emu_bits<uint32_t>(x) | uint32_t(bits & 0x8000) << 16);
}
inline uint16_t to_half(float x)
{
    uint32_t bits = emu_bits<uint32_t>(x), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    if (rest > 0x7f800000) return sign | 0x7e00 | (rest >> 13 & 0x3ff);
    if (rest >= 0x477ff000) return sign | 0x7c00; // rounds to 65536 or more
    if (rest < 0x38800000) {
        // Subnormal: adding 0.5 aligns the last bit of the half with that of the float, and rounds
        // there.
        return sign | (emu_bits<uint32_t>(emu_bits<float>(rest) + 0.5f) - 0x3f000000u);
    }
    return sign | ((rest + 0xfff + (rest >> 13 & 1) - 0x38000000u) >> 13);
}
#endif

inline float low_half(uint32_t pair) { return from_half(pair & 0xffff); }
inline float high_half(uint32_t pair) { return from_half(pair >> 16); }

// A matrix product of a warp, d += a b, with a 16 by K and b K by 8; fragments in PTX's layout.
template <int K>
struct Mma {
    float* d;
    const uint32_t* a;
    const uint32_t* b;
};

template <int K>
void mma(unsigned, unsigned present, void* const args[32])
{
    if (present != ~0u) fail(719, "mma in a warp some of whose lanes have left");
    float a[16][K], b[K][8];
    for (int lane = 0; lane < 32; ++lane) {
        const auto& f = *static_cast<const Mma<K>*>(args[lane]);
        int g = lane / 4, t = lane % 4 * 2;
        for (int half = 0; half < K / 8; ++half) {
            int k = half * 8 + t;
            a[g][k] = low_half(f.a[half * 2]), a[g][k + 1] = high_half(f.a[half * 2]);
            a[g + 8][k] = low_half(f.a[half * 2 + 1]),
                  a[g + 8][k + 1] = high_half(f.a[half * 2 + 1]);
            b[k][g] = low_half(f.b[half]), b[k + 1][g] = high_half(f.b[half]);
        }
    }
    for (int row = 0; row < 16; ++row) {
        float sum[8] = {};
        for (int k = 0; k < K; ++k)
            for (int col = 0; col < 8; ++col) sum[col] += a[row][k] * b[k][col];
        for (int col = 0; col < 8; ++col) {
            static_cast<const Mma<K>*>(args[row % 8 * 4 + col / 2])->d[row / 8 * 2 + col % 2] +=
                sum[col];
        }
    }
}

// A matrix product of signed bytes with exact sums: a ROWS by K, b K by 8, K a multiple of 16.
struct IntegerMma {
    int32_t* d;
    const uint32_t* a;
    const uint32_t* b;
};

template <int ROWS, int K>
void integer_mma(unsigned, unsigned present, void* const args[32])
{
    if (present != ~0u) fail(719, "mma in a warp some of whose lanes have left");
    int8_t a[ROWS][K], b[K][8];
    for (int lane = 0; lane < 32; ++lane) {
        const auto& f = *static_cast<const IntegerMma*>(args[lane]);
        const int g = lane / 4, t = lane % 4 * 4;
        for (int part = 0; part < K / 16; ++part) {
            for (int i = 0; i < 4; ++i) {
                const int k = part * 16 + t + i;
                for (int high = 0; high < ROWS / 8; ++high)
                    a[high * 8 + g][k] = int8_t(f.a[part * (ROWS / 8) + high] >> i * 8);
                b[k][g] = int8_t(f.b[part] >> i * 8);
            }
        }
    }
    for (int row = 0; row < ROWS; ++row) {
        for (int col = 0; col < 8; ++col) {
            // Beyond 32 bits the hardware wraps.
            uint32_t sum = 0;
            for (int k = 0; k < K; ++k) sum += uint32_t(int32_t(a[row][k]) * b[k][col]);
            int32_t& d =
                static_cast<const IntegerMma*>(args[row % 8 * 4 + col / 2])->d[row / 8 * 2 + col % 2];
            d = int32_t(uint32_t(d) + sum);
        }
    }
}

// ldmatrix: rows of 8x8 matrices of 16-bit numbers, one row from each lane.
struct Matrices {
    uint16_t row[8];
    uint32_t* to;
};

template <int N, bool TRANS>
void share_matrices(unsigned, unsigned present, void* const args[32])
{
    if (present != ~0u) fail(719, "ldmatrix in a warp some of whose lanes have left");
    for (int lane = 0; lane < 32; ++lane) {
        for (int n = 0; n < N; ++n) {
            auto at = [&](int row, int col) -> uint32_t {
                return static_cast<const Matrices*>(args[n * 8 + row])->row[col];
            };
            int g = lane / 4, t = lane % 4 * 2;
            uint32_t low = TRANS ? at(t, g) : at(g, t), high = TRANS ? at(t + 1, g) : at(g, t + 1);
            static_cast<const Matrices*>(args[lane])->to[n] = low | high << 16;
        }
    }
}

template <int N, bool TRANS>
inline void ldmatrix(uint32_t* to, const void* shared_row, Site site)
{
    Matrices mine{{}, to};
    if (lane_id() < N * 8) {
        if (reinterpret_cast<uintptr_t>(shared_row) % 16) {
            fail(716, "ldmatrix: row address %p is no multiple of 16", shared_row);
        }
        check_shared(shared_row, 16, "ldmatrix");
        memcpy(mine.row, shared_row, 16);
        touch(shared_row, 16, false, false);
    }
    collective("ldmatrix", ~0u, share_matrices<N, TRANS>, &mine, site);
}

template <int K>
inline void mma_with(float* d, const uint32_t* a, const uint32_t* b, Site site)
{
    Mma<K> args{d, a, b};
    collective("mma", ~0u, mma<K>, &args, site);
}

template <int ROWS, int K>
inline void integer_mma_with(int32_t* d, const uint32_t* a, const uint32_t* b, Site site)
{
    IntegerMma args{d, a, b};
    collective("mma", ~0u, integer_mma<ROWS, K>, &args, site);
}

} // namespace emu

namespace ptx {

inline float half_to_float(uint16_t bits) { return emu::from_half(bits); }
inline uint16_t float_to_half(float x) { return emu::to_half(x); }

inline uint32_t floats_to_halves(float low, float high)
{
    return emu::to_half(low) | uint32_t(emu::to_half(high)) << 16;
}

inline float exp2(float x)
{
    const float y = exp2f(x);
    return y < 0x1p-126f ? 0.0f : y;
}

inline uint4 load_streaming(const void* from) { return *static_cast<const uint4*>(from); }

inline Block block() { return {blockIdx.x, blockIdx.y, blockIdx.z}; }

inline int32_t dp4a(int32_t a, int32_t b, int32_t c)
{
    for (int i = 0; i < 32; i += 8) c += int8_t(a >> i) * int8_t(b >> i);
    return c;
}

// An architecture without the instruction has no code for it. Reaching this is an error in the
// choice of kernels.
template <bool HAS>
inline void demand(const char* what)
{
    if constexpr (!HAS)
        emu::fail(715, "%s: sm_%d has no such instruction", what, HIRED_EMULATED_ARCH);
}

inline void mma_m16n8k8(float (&d)[4], const uint32_t (&a)[2], uint32_t b)
{
    demand<HAS_MMA_K8>("mma.m16n8k8");
    emu::mma_with<8>(d, a, &b, EMU_HERE);
}
inline void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
    demand<HAS_MMA_K16>("mma.m16n8k16");
    emu::mma_with<16>(d, a, b, EMU_HERE);
}

inline void mma_m8n8k16(int32_t (&d)[2], uint32_t a, uint32_t b)
{
    demand<HAS_MMA_S8_K16>("mma.m8n8k16");
    emu::integer_mma_with<8, 16>(d, &a, &b, EMU_HERE);
}
inline void mma_m16n8k32(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
    demand<HAS_MMA_S8_K32>("mma.m16n8k32");
    emu::integer_mma_with<16, 32>(d, a, b, EMU_HERE);
}

inline void ldmatrix_x4(uint32_t (&to)[4], const void* row)
{
    demand<HAS_LDMATRIX>("ldmatrix");
    emu::ldmatrix<4, false>(to, row, EMU_HERE);
}
inline void ldmatrix_x4_trans(uint32_t (&to)[4], const void* row)
{
    demand<HAS_LDMATRIX>("ldmatrix");
    emu::ldmatrix<4, true>(to, row, EMU_HERE);
}
inline void ldmatrix_x2(uint32_t (&to)[2], const void* row)
{
    demand<HAS_LDMATRIX>("ldmatrix");
    emu::ldmatrix<2, false>(to, row, EMU_HERE);
}
inline void ldmatrix_x2_trans(uint32_t (&to)[2], const void* row)
{
    demand<HAS_LDMATRIX>("ldmatrix");
    emu::ldmatrix<2, true>(to, row, EMU_HERE);
}

inline void cp_async_16(void* to, const void* from, uint32_t bytes)
{
    demand<HAS_CP_ASYNC>("cp.async");
    emu::copy_async(to, from, 16, bytes);
}
inline void cp_async_commit()
{
    demand<HAS_CP_ASYNC>("cp.async");
    emu::copy_commit();
}
template <int PENDING>
inline void cp_async_wait()
{
    demand<HAS_CP_ASYNC>("cp.async");
    emu::copy_wait(PENDING);
}

} // namespace ptx
