// A stand-in for the four functions of cuBLAS that are used, on the emulator's device memory.
//
// Computes when it is called: what was enqueued before has run by then, unless the emulator is lazy.
#include <stdint.h>

namespace {

constexpr int SUCCESS = 0, INVALID_VALUE = 7, NOT_SUPPORTED = 15;
constexpr int NO_TRANSPOSE = 0, TRANSPOSE = 1;
constexpr int FP16 = 2, SUMS_IN_FP32 = 68;
int handle;

} // namespace

extern "C" {

int cublasCreate_v2(void** out)
{
    *out = &handle;
    return SUCCESS;
}

int cublasDestroy_v2(void*)
{
    return SUCCESS;
}

int cublasSetStream_v2(void*, void*)
{
    return SUCCESS;
}

// C = alpha * op(A) * op(B) + beta * C, all by columns: A is stored k by m and transposed, B is k by n.
int cublasGemmEx(void*, int op_a, int op_b, int m, int n, int k, const float* alpha, const _Float16* a, int type_a, int lda,
                 const _Float16* b, int type_b, int ldb, const float* beta, _Float16* c, int type_c, int ldc, int sums, int)
{
    if (op_a != TRANSPOSE || op_b != NO_TRANSPOSE || sums != SUMS_IN_FP32) return NOT_SUPPORTED;
    if (type_a != FP16 || type_b != FP16 || type_c != FP16) return NOT_SUPPORTED;
    if (m < 0 || n < 0 || k < 0 || lda < k || ldb < k || ldc < m) return INVALID_VALUE;
    for (int column = 0; column < n; column++)
        for (int row = 0; row < m; row++) {
            float sum = 0.0f;
            for (int i = 0; i < k; i++)
                sum += static_cast<float>(a[int64_t(row) * lda + i]) * static_cast<float>(b[int64_t(column) * ldb + i]);
            _Float16& to = c[int64_t(column) * ldc + row];
            // With beta = 0 what is there is not read: it may be no number.
            const float old = *beta == 0.0f ? 0.0f : *beta * static_cast<float>(to);
            to = static_cast<_Float16>(*alpha * sum + old);
        }
    return SUCCESS;
}

} // extern "C"
