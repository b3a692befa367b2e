/* Parameters of the kernels that also store their rows quantized to int8, or clear the counters for it. Follows abi.h. */
#ifndef HIRED_ABI_CODES_H
#define HIRED_ABI_CODES_H

#include "abi.h"

/* The most rows that one block quantizes in gemv_q8.cu, where the last block does it for all. */
#define HIRED_ROUNDED_ROWS 2

/* int8 copy of the rows in `out`, by the rule of quantize.cu; written by the block that finishes last. */
typedef struct CodedRows {
    int8_t* codes;  /* [rows, cols], or null: no codes */
    float* scales;  /* [rows]: NaN for a row that is not finite */
    uint32_t* done; /* finished blocks: one word for a product, [sequences] for attention; 0 before and after a launch */
} CodedRows;

/* quantize.cu */
typedef struct CountedQuantizeParams {
    QuantizeParams rows;
    uint32_t* done; /* set to 0 for the product that reads the codes, or null */
} CountedQuantizeParams;

/* gemv_q8.cu; only gate and up store codes. */
typedef struct CodedGemvParams {
    ScaledGemvParams product;
    CodedRows coded;
} CodedGemvParams;

/* attention_decode.cu */
typedef struct CodedDecodeParams {
    DecodeParams step;
    CodedRows coded;
} CodedDecodeParams;

#endif
