// A stand-in for the cuBLAS functions that are used, on the emulator's device memory.
//
// It computes at the call: work enqueued before has run by then, unless the emulator is lazy.
//
// Like cuBLAS, it adds parts of a sum in fp16 unless that is disallowed. It can fail on request:
// HIRED_CUBLAS is `start` (does not start), `mode` (refuses the math mode), `ignored` (accepts the
// mode and ignores it), `product` (has no code for the GPU) or `wrong` (one wrong number in each
// product). Compiled with WITHOUT_MODE it lacks a function.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

namespace {

constexpr int SUCCESS = 0, NOT_INITIALIZED = 1, INVALID_VALUE = 7, ARCH_MISMATCH = 8, NOT_SUPPORTED = 15;
constexpr int NO_TRANSPOSE = 0, TRANSPOSE = 1;
constexpr int FP16 = 2, SUMS_IN_FP32 = 68;
constexpr int NO_REDUCED_PRECISION_REDUCTION = 16;

struct Handle {
    int mode = 0;
};

bool fails(const char* how)
{
    const char* asked = getenv("HIRED_CUBLAS");
    return asked && !strcmp(asked, how);
}

} // namespace

extern "C" {

int cublasCreate_v2(void** out)
{
    if (fails("start")) return NOT_INITIALIZED;
    *out = new Handle;
    return SUCCESS;
}

int cublasDestroy_v2(void* handle)
{
    delete static_cast<Handle*>(handle);
    return SUCCESS;
}

int cublasSetStream_v2(void*, void*)
{
    return SUCCESS;
}

#ifndef WITHOUT_MODE
int cublasSetMathMode(void* handle, int mode)
{
    if (fails("mode") || (mode & ~NO_REDUCED_PRECISION_REDUCTION)) return NOT_SUPPORTED;
    static_cast<Handle*>(handle)->mode = mode;
    return SUCCESS;
}
#endif

// C = alpha * op(A) * op(B) + beta * C, column-major: A is stored k by m and transposed, B is k by
// n.
int cublasGemmEx(void* handle, int op_a, int op_b, int m, int n, int k, const float* alpha, const _Float16* a, int type_a,
                 int lda, const _Float16* b, int type_b, int ldb, const float* beta, _Float16* c, int type_c, int ldc,
                 int sums, int)
{
    if (op_a != TRANSPOSE || op_b != NO_TRANSPOSE || sums != SUMS_IN_FP32) return NOT_SUPPORTED;
    if (type_a != FP16 || type_b != FP16 || type_c != FP16) return NOT_SUPPORTED;
    if (m < 0 || n < 0 || k < 0 || lda < k || ldb < k || ldc < m) return INVALID_VALUE;
    if (fails("product")) return ARCH_MISMATCH;
    const bool reduced = !(static_cast<Handle*>(handle)->mode & NO_REDUCED_PRECISION_REDUCTION) || fails("ignored");
    for (int column = 0; column < n; column++)
        for (int row = 0; row < m; row++) {
            float parts[2] = {};
            for (int i = 0; i < k; i++)
                parts[i >= k / 2] += static_cast<float>(a[int64_t(row) * lda + i]) * static_cast<float>(b[int64_t(column) * ldb + i]);
            const _Float16 narrow = static_cast<_Float16>(parts[0]) + static_cast<_Float16>(parts[1]);
            const float sum = reduced ? static_cast<float>(narrow) : parts[0] + parts[1];
            _Float16& to = c[int64_t(column) * ldc + row];
            // With beta = 0 the old value is not read: it may be NaN.
            const float old = *beta == 0.0f ? 0.0f : *beta * static_cast<float>(to);
            to = static_cast<_Float16>(*alpha * sum + old);
        }
    if (fails("wrong") && m > 0 && n > 0) c[int64_t(n - 1) * ldc + m - 1] += static_cast<_Float16>(1.0f);
    return SUCCESS;
}

} // extern "C"
