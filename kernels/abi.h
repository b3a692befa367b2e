/* Parameters of the kernels and the constants that both sides share.
 *
 * Read by nvcc, by g++ (the emulator) and by bindgen: plain C, fixed-width types, one struct for each
 * kernel, passed by value. `void*` is a matrix in the kernel's storage format (its name's ending: f32 or
 * f16), row-major and dense unless a stride is given. Pointers are to device memory. */
#ifndef HIRED_ABI_H
#define HIRED_ABI_H

#include <stdint.h>

/* Positions in a page of the cache. */
#define HIRED_PAGE 16

/* In `InterleaveParams.slots`: the newline's row instead of a visual one. */
#define HIRED_NEWLINE 0xFFFFFFFFu

/* Most threads in a block of a kernel of vision, rows, rope, activation and convert. */
#define HIRED_ROW_THREADS 256

/* Most threads in a block of a norm, and the numbers of a row that each keeps in the vector variants. */
#define HIRED_NORM_THREADS 512
#define HIRED_NORM_KEPT 16

/* Functions between layers. */
#define HIRED_IDENTITY 0
#define HIRED_QUICK_GELU 1
#define HIRED_GELU 2
#define HIRED_SILU 3

/* What a matrix product does with its sums. */
#define HIRED_STORE 0 /* out = f(sum + bias) */
#define HIRED_ADD 1   /* out += sum + bias */
#define HIRED_GATE 2  /* out = silu(out) * (sum + bias) */

/* norm.cu */
typedef struct NormParams {
    const void* x;       /* [rows, cols] */
    void* out;           /* [rows, cols]; may be x */
    const float* weight; /* [cols] */
    const float* bias;   /* [cols], or null; rms_norm does not read it */
    uint32_t rows;
    uint32_t cols;
    float inverse_cols; /* 1 / cols: a division here would cost a call and its registers */
    float eps;
} NormParams;

/* vision.cu */
typedef struct PatchesParams {
    const uint8_t* pixels; /* [partitions, 3, side, side] */
    const float* lut;      /* [3, 256]: normalised value of a byte, by channel */
    void* out;             /* [partitions * (side / patch)^2, stride] */
    uint32_t partitions;
    uint32_t side;
    uint32_t patch;  /* divides side */
    uint32_t stride; /* >= 3 * patch^2; the columns beyond are zeroed */
} PatchesParams;

typedef struct TokensParams {
    const void* patches;   /* [partitions * patch_count, cols] */
    const float* class_token; /* [cols] */
    const float* position; /* [patch_count + 1, cols] */
    void* out;             /* [partitions * (patch_count + 1), cols] */
    uint32_t partitions;
    uint32_t patch_count;
    uint32_t cols;
    uint32_t reserved;
} TokensParams;

/* rows.cu */
typedef struct GatherParams {
    const void* x;        /* rows of row_bytes each */
    const uint32_t* rows; /* [count]: which of them */
    void* out;            /* [count] rows */
    uint32_t count;
    uint32_t row_bytes;
} GatherParams;

typedef struct InterleaveParams {
    const void* table;      /* [vocabulary, cols] */
    const uint32_t* before; /* [before_count]: token ids */
    const uint32_t* slots;  /* [slot_count]: rows of visual, or HIRED_NEWLINE */
    const uint32_t* after;  /* [after_count]: token ids */
    const void* visual;     /* [kept, cols] */
    const float* newline;   /* [cols] */
    void* out;              /* [before_count + slot_count + after_count, cols] */
    uint32_t before_count;
    uint32_t slot_count;
    uint32_t after_count;
    uint32_t cols;
} InterleaveParams;

/* rope.cu */
typedef struct RopeAppendParams {
    void* q;                    /* [rows, heads * head_dim]: rotated in place */
    const void* k;              /* [rows, kv_heads * head_dim] */
    const void* v;              /* [rows, kv_heads * head_dim] */
    void* cache;                /* one layer: [page][k|v][kv_heads][HIRED_PAGE][head_dim] */
    const float* frequencies;   /* [head_dim / 2] */
    const uint32_t* positions;  /* [rows]: position in the row's sequence */
    const uint32_t* sequences;  /* [rows]: the sequence, a row of tables */
    const uint32_t* tables;     /* [sequences, table_stride]: pages of each sequence */
    uint32_t rows;
    uint32_t heads;
    uint32_t kv_heads;
    uint32_t head_dim; /* even */
    uint32_t table_stride;
    uint32_t reserved;
} RopeAppendParams;

/* activation.cu */
typedef struct ActivationParams {
    void* x;           /* [rows, cols]: changed in place */
    const float* bias; /* [cols], or null */
    uint32_t rows;
    uint32_t cols;
    uint32_t activation; /* HIRED_IDENTITY … HIRED_SILU */
    uint32_t reserved;
} ActivationParams;

typedef struct SiluMulParams {
    const void* gate; /* [count] */
    const void* up;   /* [count] */
    void* out;        /* [count]; may be gate or up */
    uint64_t count;
} SiluMulParams;

/* convert.cu */
typedef struct ConvertParams {
    const void* from; /* [count] in the format named first */
    void* to;         /* [count] in the format named second */
    uint64_t count;
} ConvertParams;

/* gemm_fma.cu, gemm_mma8.cu, gemm_mma16.cu */
typedef struct GemmParams {
    const void* x;     /* [rows, inner] */
    const void* w;     /* [cols, inner] */
    const float* bias; /* [cols], or null */
    void* out;         /* [rows, cols] */
    uint32_t rows;
    uint32_t cols;
    uint32_t inner;
    uint32_t x_stride; /* numbers from row to row */
    uint32_t w_stride;
    uint32_t out_stride;
    uint32_t activation; /* HIRED_IDENTITY … HIRED_SILU, of HIRED_STORE */
    uint32_t epilogue;   /* HIRED_STORE … HIRED_GATE */
} GemmParams;

#endif
