// A kernel without a bug, for the tests of the driver: several parameters, and launch bounds.
#include <stdint.h>

// PRECOND: 1-D block of at most 64. in and out [count].
extern "C" __global__ void __launch_bounds__(64, 2)
    add_scaled(const float* in, float* out, uint32_t count, double scale)
{
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) out[i] += static_cast<float>(in[i] * scale);
}

// PRECOND: dynamic shared memory of as many bytes as out[0] will contain.
extern "C" __global__ void shared_bytes(float* out)
{
    DYN_SHARED(unsigned char, bytes);
    if (threadIdx.x == 0) {
        bytes[0] = 1;
        out[0] = bytes[0];
    }
}
