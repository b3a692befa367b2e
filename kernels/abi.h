/* Parameters of the kernels, and the constants that host and kernels share.
 *
 * This file is read by nvcc, by g++ (for the emulator) and by bindgen: plain C, fixed-width types, one struct for
 * each kernel, passed by value. `void*` is a matrix in the kernel's storage format (the suffix of its name: f32 or
 * f16), row-major, and dense unless a stride is given. Strides are distances between rows in numbers. Pointers are to
 * device memory. */
#ifndef HIRED_ABI_H
#define HIRED_ABI_H

#include <stdint.h>

/* Slots of a page of the KV cache. */
#define HIRED_PAGE 16

/* In `InterleaveParams.slots`: the newline's row instead of a visual row. */
#define HIRED_NEWLINE 0xFFFFFFFFu

/* In `ranks` of a selection: a patch that is not kept. */
#define HIRED_DROPPED 0xFFFFFFFFu

/* Errors in a kernel's input, as bits of a word of flags: init or final scores that are negative or not finite, init
 * scores too large for the integer arithmetic of the exact rule, logits that are not finite, rows that are not finite. */
#define HIRED_WRONG_INIT 1
#define HIRED_WRONG_FINAL 2
#define HIRED_LARGE_INIT 4
#define HIRED_WRONG_LOGITS 8
#define HIRED_WRONG_ROWS 16

/* The most threads in a block of the kernels of select, likeness and merge; of diverse; and of sample. */
#define HIRED_SELECT_THREADS 256
#define HIRED_GREEDY_THREADS 1024
#define HIRED_SAMPLE_THREADS 1024

/* The most cosines of a selection, 256 MB. One number for each compared patch, at most the square root of this, fits
 * into shared memory. */
#define HIRED_COSINES (1 << 26)

/* How the heads are reduced to one score. */
#define HIRED_SUM_HEADS 0
#define HIRED_MEAN_HEADS 1
#define HIRED_MAX_HEADS 2
#define HIRED_ONE_HEAD 3

/* The most sub-images: the shared memory that the exact rule needs for each fits into 48 KB. */
#define HIRED_SUB_IMAGES 4000

/* The most patches of a partition. */
#define HIRED_PATCHES 65536

/* The most threads in a block of the kernels of vision, rows, rope and activation. */
#define HIRED_ROW_THREADS 256

/* The most threads in a block of a norm, and the numbers of a row that each thread holds in the vector variants. */
#define HIRED_NORM_THREADS 512
#define HIRED_NORM_KEPT 16

/* The widest head, in numbers. */
#define HIRED_HEAD_DIM 128

/* Threads of a block of attention. */
#define HIRED_ATTENTION_THREADS 128

/* Activation functions. */
#define HIRED_IDENTITY 0
#define HIRED_QUICK_GELU 1
#define HIRED_GELU 2
#define HIRED_SILU 3
#define HIRED_GELU_TANH 4

/* Epilogues of matrix products. */
#define HIRED_STORE 0 /* out = f(sum + bias) */
#define HIRED_ADD 1   /* out += sum + bias */
#define HIRED_GATE 2  /* out = silu(sum + bias of the gate) * (sum + bias of up) */

/* The most parts of a split-K product. */
#define HIRED_GEMM_PARTS 4

/* gemv.cu: the most rows, threads of a block, and columns of a warp (of gate and up together). */
#define HIRED_GEMV_ROWS 8
#define HIRED_GEMV_THREADS 128
#define HIRED_GEMV_COLS 4

/* norm.cu */
typedef struct NormParams {
    const void* x;       /* [rows, cols] */
    void* out;           /* [rows, cols]; may be x */
    const float* weight; /* [cols] */
    const float* bias;   /* [cols], or null; rms_norm does not read it */
    uint32_t rows;
    uint32_t cols;
    float inverse_cols; /* 1 / cols: a division in the kernel would cost a call and its registers */
    float eps;
} NormParams;

/* vision.cu */
typedef struct PatchesParams {
    const uint8_t* pixels; /* [partitions, 3, side, side] */
    const float* lut;      /* [3, 256]: normalised value of a byte, by channel */
    void* out;             /* [partitions * (side / patch)^2, stride] */
    uint32_t partitions;
    uint32_t side;
    uint32_t patch;  /* at most side; the rest of a side that is no whole patch is left out */
    uint32_t stride; /* >= 3 * patch^2; the columns beyond are zeroed */
} PatchesParams;

typedef struct TokensParams {
    const void* patches;   /* [partitions * patch_count, cols] */
    const float* class_token; /* [cols], or null: no token before the patches */
    const float* position; /* [patch_count + 1, cols], without a class token [patch_count, cols] */
    void* out;             /* [partitions, rows of position, cols] */
    uint32_t partitions;
    uint32_t patch_count;
    uint32_t cols;
    uint32_t reserved;
} TokensParams;

/* rows.cu */
typedef struct GatherParams {
    const void* x;        /* rows of row_bytes each */
    const uint32_t* rows; /* [count]: row numbers */
    void* out;            /* [count] rows */
    uint32_t count;
    uint32_t row_bytes;
} GatherParams;

typedef struct InterleaveParams {
    const void* table;      /* [vocabulary, table_stride] */
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
    uint32_t table_stride; /* of the rows of table */
    uint32_t reserved;
} InterleaveParams;

/* rope.cu */
typedef struct RopeAppendParams {
    void* q;                    /* [rows, heads * head_dim]: rotated in place */
    const void* k;              /* [rows, kv_heads * head_dim] */
    const void* v;              /* [rows, kv_heads * head_dim] */
    void* cache;                /* one layer: [page][k|v][kv_heads][HIRED_PAGE][head_dim] */
    const float* frequencies;   /* [turned] */
    const uint32_t* positions;  /* [rows]: position in the row's sequence, by which it turns */
    const uint32_t* slots;      /* [rows]: place in the cache */
    const uint32_t* sequences;  /* [rows]: the sequence, a row of tables */
    const uint32_t* tables;     /* [sequences, table_stride]: pages of each sequence */
    uint32_t rows;
    uint32_t heads;
    uint32_t kv_heads;
    uint32_t head_dim; /* even */
    uint32_t table_stride;
    uint32_t turned; /* pairs that turn: of the first 2 * turned numbers of a head, head_dim at most */
} RopeAppendParams;

/* activation.cu */
typedef struct ActivationParams {
    void* x;           /* [rows, cols]: changed in place */
    const float* bias; /* [cols], or null */
    uint32_t rows;
    uint32_t cols;
    uint32_t activation; /* HIRED_IDENTITY … HIRED_GELU_TANH */
    uint32_t reserved;
} ActivationParams;

typedef struct ScaledAddParams {
    void* sum;            /* [rows, cols]: changed in place */
    const void* x;        /* [rows, cols] */
    const float* factors; /* [cols] */
    uint32_t rows;
    uint32_t cols;
} ScaledAddParams;

/* convolve.cu */
typedef struct ConvolveParams {
    const void* x;       /* [side * side, cols] */
    const float* weight; /* [cols, 3, 3] */
    const float* bias;   /* [cols] */
    void* out;           /* [side * side, cols] */
    uint32_t side;
    uint32_t cols;
} ConvolveParams;

typedef struct SiluMulParams {
    const void* gate; /* [count] */
    const void* up;   /* [count] */
    void* out;        /* [count]; may be gate or up */
    uint64_t count;
} SiluMulParams;

/* gemm_fma.cu, gemm_mma8.cu, gemm_mma16.cu, and with split-K gemm_sum.cu */
typedef struct GemmParams {
    const void* x;          /* [rows, parts * inner] */
    const void* weights[3]; /* [cols[i], parts * inner]; gate: gate and up */
    const float* biases[3]; /* [cols[i]], or null */
    void* outs[3];          /* [rows, cols[i]]; gate: only the first */
    float* sums;            /* scratch: [parts, rows, columns of all weights], or null for one part */
    uint32_t cols[3];       /* 0: no weight; gate: cols[1] = cols[0] */
    uint32_t out_strides[3];
    uint32_t rows;
    uint32_t inner;    /* numbers of a row that each part multiplies */
    uint32_t x_stride;
    uint32_t w_stride; /* of each weight */
    uint32_t parts;    /* split-K: parts of the rows of x and of the weights, at most HIRED_GEMM_PARTS */
    uint32_t activation; /* HIRED_IDENTITY … HIRED_GELU_TANH, for HIRED_STORE */
    uint32_t epilogue;   /* HIRED_STORE … HIRED_GATE */
    uint32_t reserved;
} GemmParams;

/* attention_vision.cu */
typedef struct VisionAttentionParams {
    const void* q;           /* [partitions * tokens, heads * head_dim], or the rows that offsets name */
    const void* k;           /* [partitions * tokens, heads * head_dim] */
    const void* v;           /* as k */
    void* out;               /* a row for each row of q */
    const uint32_t* offsets; /* [partitions + 1]: first row of q of each partition, then their number; null: q has all rows */
    uint32_t tokens;         /* keys of a partition */
    uint32_t heads;
    uint32_t head_dim;
    uint32_t q_stride;
    uint32_t kv_stride;
    uint32_t out_stride;
    float scale;
    uint32_t each; /* rows of q for each row that offsets count */
} VisionAttentionParams;

/* attention_cls.cu */
typedef struct ClsScoresParams {
    const void* q;  /* [partitions, heads * head_dim]: a query of each partition; q_stride 0: one query for all */
    const void* k;  /* [partitions * keys, heads * head_dim] */
    float* weights; /* [partitions, heads, patches + 1]: exp(score - max), not divided by the sum; the first is the class token's, if any */
    float* sums;    /* [partitions, heads]: sums of the weights */
    uint32_t keys;  /* patches, or patches + 1 */
    uint32_t patches;
    uint32_t heads;
    uint32_t head_dim;
    uint32_t q_stride;
    uint32_t k_stride;
    float scale;
    uint32_t reserved;
} ClsScoresParams;

/* attention_received.cu: parameters of both kernels, over queries and over keys. */
typedef struct ReceivedParams {
    const void* q;  /* [partitions * tokens, heads * head_dim] */
    const void* k;  /* as q */
    float* stats;   /* scratch: [partitions, heads, tokens, 2]: maximum of a query's scores, and 1 over the sum of its weights */
    float* weights; /* [partitions, heads, patches + 1]: attention that keys receive; the first is the class token's, if any */
    float* sums;    /* [partitions, heads]: the number of queries, by which the weights are not yet divided */
    uint32_t tokens;
    uint32_t patches; /* tokens, or tokens - 1 with a class token */
    uint32_t heads;
    uint32_t head_dim;
    uint32_t q_stride;
    uint32_t k_stride;
    float scale;
    uint32_t reserved;
} ReceivedParams;

/* attention_prefill.cu */
typedef struct PrefillParams {
    const void* q;         /* [rows, heads * head_dim]: the span's rows */
    const void* cache;     /* one layer: [page][k|v][kv_heads][HIRED_PAGE][head_dim], including the span's keys */
    void* out;             /* [rows, heads * head_dim] */
    const uint32_t* pages; /* the sequence's pages, enough for slot + rows slots */
    uint32_t rows;
    uint32_t slot;     /* slot of the first row's own key */
    uint32_t heads;    /* a multiple of kv_heads */
    uint32_t kv_heads;
    uint32_t head_dim;
    uint32_t q_stride;
    uint32_t out_stride;
    float scale;
} PrefillParams;

/* The smallest split of attention_decode, in slots of the cache, which divides all others; and the largest. */
#define HIRED_LEAST_SPLIT 64
#define HIRED_SPLIT 128

/* attention_decode.cu */
typedef struct DecodeParams {
    const void* q;             /* [sequences, heads * head_dim]: not yet rotated */
    const void* k;             /* [sequences, kv_heads * head_dim]: not yet rotated */
    const void* v;             /* as k */
    void* cache;               /* one layer: [page][k|v][kv_heads][HIRED_PAGE][head_dim] */
    void* out;                 /* [sequences, heads * head_dim] */
    const float* frequencies;  /* [turned] */
    const uint32_t* positions; /* [sequences]: by which q and k turn */
    const uint32_t* slots;     /* [sequences]: where k and v go; the row sees the keys up to its own */
    const uint32_t* tables;    /* [sequences, table_stride]: pages of each sequence */
    float* mixed;              /* scratch: [sequences, heads, splits, head_dim]: weighted values */
    float* weights;            /* scratch: [sequences, heads, splits, 2]: maximum of the scores and sum of the weights */
    uint32_t* done;            /* [sequences, kv_heads]: number of blocks that have finished; 0 between launches */
    uint32_t split;            /* slots of a split */
    uint32_t splits;           /* number of splits, for the longest context */
    uint32_t heads;            /* a multiple of kv_heads */
    uint32_t kv_heads;
    uint32_t head_dim;
    uint32_t table_stride;
    uint32_t q_stride;
    uint32_t kv_stride;
    uint32_t out_stride;
    float scale;
    uint32_t turned; /* as in RopeAppendParams */
    uint32_t reserved;
} DecodeParams;

/* The most threads in the block of retain. */
#define HIRED_RETAIN_THREADS 1024

/* attention_last.cu */
typedef struct LastRowParams {
    const void* q;         /* [heads * head_dim]: a prompt's last row */
    const void* cache;     /* one layer: [page][k|v][kv_heads][HIRED_PAGE][head_dim] */
    const uint32_t* pages; /* the sequence's pages, enough for all keys */
    float* weights;        /* [heads, keys]: exp(score - max), not divided by the sum */
    float* sums;           /* [heads]: sums of the weights */
    uint32_t keys;
    uint32_t heads;    /* a multiple of kv_heads */
    uint32_t kv_heads;
    uint32_t head_dim;
    float scale;
    uint32_t reserved;
} LastRowParams;

/* retain.cu */
typedef struct RetainParams {
    const float* weights; /* [heads, rows] */
    const float* sums;    /* [heads] */
    float* scores;        /* scratch: [candidates] */
    uint32_t* out;        /* [rows - candidates + keep]: retained rows, ascending */
    uint32_t heads;
    uint32_t rows;
    uint32_t first;      /* first candidate */
    uint32_t candidates; /* number of candidates, which are consecutive rows */
    uint32_t keep;       /* at most candidates */
    uint32_t reserved;
} RetainParams;

#include "abi_select.h"

/* sample.cu */
typedef struct SampleGreedyParams {
    const float* logits; /* [rows, cols] */
    uint32_t* tokens;   /* [rows] */
    uint32_t* flags;    /* [rows]: bits are only set, never cleared */
    uint32_t cols;
    uint32_t reserved;
} SampleGreedyParams;

typedef struct SampleHow {
    uint64_t seed;
    uint64_t step;     /* index of the token in its answer */
    float temperature; /* 0: take the most likely token */
    float top_p;       /* 1 and more: no limit */
    uint32_t top_k;    /* 0: no limit */
    uint32_t reserved;
} SampleHow;

typedef struct SampleDrawParams {
    const float* logits;  /* [rows, cols] */
    const SampleHow* how; /* [rows] */
    uint64_t* weights;    /* scratch: [rows, cols] */
    uint32_t* tokens;     /* [rows] */
    uint32_t* flags;      /* [rows]: bits are only set, never cleared */
    uint32_t cols;
    uint32_t reserved;
} SampleDrawParams;

/* synth.cu */
typedef struct SynthParams {
    void* out;    /* [rows, stride] */
    uint64_t key; /* element i is drawn from SplitMix64 at key + i / 4 */
    uint32_t rows;
    uint32_t cols;
    uint32_t stride; /* >= cols; the columns beyond are zeroed */
    float mean;
    float reach; /* half the width of the interval of the numbers */
    uint32_t reserved;
} SynthParams;

/* gemv.cu */
typedef struct GemvParams {
    const void* x;          /* [rows, inner] */
    const float* norm;      /* [inner]: RMSNorm weight, or null for no norm */
    const void* weights[3]; /* [cols[i], inner]; gate: gate and up */
    const float* biases[3]; /* [cols[i]], or null */
    void* outs[3];          /* [rows, cols[i]], dense; gate: only the first */
    uint32_t cols[3];       /* 0: no weight; gate: cols[1] = cols[0] */
    uint32_t rows;          /* at most HIRED_GEMV_ROWS */
    uint32_t inner;
    uint32_t x_stride;
    uint32_t w_stride;   /* of each weight */
    uint32_t activation; /* HIRED_IDENTITY … HIRED_GELU_TANH, for HIRED_STORE */
    uint32_t epilogue;   /* HIRED_STORE or HIRED_ADD; the gate and logits kernels only store */
    float inverse_inner; /* 1 / inner */
    float eps;           /* epsilon of the norm */
    uint32_t reserved;
} GemvParams;

/* quantize.cu */
typedef struct QuantizeParams {
    const void* x;     /* [rows, cols] */
    const float* norm; /* [cols]: RMSNorm weight, or null for no norm */
    int8_t* codes;     /* [rows, stride] */
    float* scales;     /* [rows]: NaN for a row that is not finite */
    uint32_t rows;
    uint32_t cols;
    uint32_t x_stride;
    uint32_t stride;   /* >= cols, a multiple of 16; the codes beyond are zero */
    float inverse_cols; /* 1 / cols */
    float eps;          /* epsilon of the norm */
} QuantizeParams;

/* Scales of integer factors. */
typedef struct FactorScales {
    const void* weights[3]; /* q8: f32 [cols[i]]; groups: [cols[i], inner of all parts / group], as in groups.cuh */
    const float* rows;      /* scales of the rows of x if they are int8, else null */
    uint32_t group_bits;    /* groups: 5, 6 or 7; 2 to this power numbers share a scale */
    uint32_t reserved;
} FactorScales;

/* gemm_dp4a.cu, gemm_mma*_q8.cu, and gemm_fma_*.cu and gemm_mma_*.cu of the formats of groups.cuh: products with
 * integer weights. q8: x is quantized too; rows of x and of the weights are padded with zeros to multiples of 16, which
 * `inner` includes. int4: two codes in a byte, the first in its lower half; strides are in numbers. */
typedef struct ScaledGemmParams {
    GemmParams product;
    FactorScales scales;
} ScaledGemmParams;

/* gemv_q8.cu, gemv_q4.cu, gemv_awq.cu, gemv_w8a16.cu: products of few rows with integer weights. */
typedef struct ScaledGemvParams {
    GemvParams product;
    FactorScales scales;
} ScaledGemvParams;

#endif
