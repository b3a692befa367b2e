/* Parameters of the kernels that choose patches: of select, likeness, merge and diverse. A part of abi.h. */
#ifndef HIRED_ABI_SELECT_H
#define HIRED_ABI_SELECT_H

#include <stdint.h>

/* select.cu: the patches of one image. Partition 0 is the full image, valid throughout; sub-image (a, b) is
 * partition 1 + a * grid_cols + b. The valid canvas is rows [row_begin, row_end), likewise columns, in patches. */
typedef struct SelectArea {
    uint32_t partitions; /* 1 + grid_rows * grid_cols */
    uint32_t side;       /* patches along a side of a partition, n; patch_count is n^2 */
    uint32_t grid_rows;
    uint32_t grid_cols;
    uint32_t row_begin;
    uint32_t row_end;
    uint32_t col_begin;
    uint32_t col_end;
    uint32_t cell;  /* a patch here is made of cell * cell of the vision tower's */
    uint32_t tiled; /* sub-images are read one after the other, the full image behind them */
} SelectArea;

/* scores.cuh: attention as attention_cls.cu and attention_received.cu leave it, and the scores that its reader makes of it. */
typedef struct SelectScores {
    const float* weights; /* [partitions, heads, patch_count * cell^2 + 1] */
    const float* sums;    /* [partitions, heads] */
    float* out;           /* [partitions, patch_count] */
    uint32_t heads;       /* 0: the scores are there already */
    uint32_t how;         /* HIRED_SUM_HEADS, HIRED_MEAN_HEADS, HIRED_MAX_HEADS, or HIRED_ONE_HEAD + its number */
    uint32_t side;        /* as in SelectArea */
    uint32_t cell;        /* likewise: a patch's score is the sum of its cell's */
} SelectScores;

typedef struct SelectExactParams {
    SelectScores init;    /* of the full image alone; not read without sub-images */
    uint32_t* allocation; /* [partitions] */
    uint32_t* flags;      /* [1]: only ever set */
    /* floor((2^64 - 1) / (fit_rows * fit_cols * valid patches)): a larger sum of 2^24 * init could overflow */
    uint64_t mass_limit;
    SelectArea area;
    uint32_t full_image; /* tokens of the full image */
    uint32_t sub_images; /* tokens to share, at most the valid patches of the sub-images */
    uint32_t pixels;     /* side of a partition in pixels */
    uint32_t fit_rows;   /* the resized picture on the canvas, in pixels */
    uint32_t fit_cols;
    uint32_t reserved;
} SelectExactParams;

typedef struct SelectPaperParams {
    SelectScores init;    /* of the full image alone; not read without sub-images */
    uint32_t* allocation; /* [partitions] */
    uint32_t* flags;      /* [1]: only ever set */
    uint64_t sub_images;  /* tokens to share */
    SelectArea area;
    uint32_t full_image; /* tokens of the full image */
    uint32_t reserved;
} SelectPaperParams;

typedef struct SelectRepoParams {
    SelectScores init;    /* of the full image alone; not read without sub-images */
    uint32_t* allocation; /* [partitions] */
    uint32_t* flags;      /* [1]: only ever set */
    SelectArea area;
    uint32_t full_image; /* tokens of the full image */
    uint32_t sub_images; /* tokens to share */
    uint32_t marked;     /* how many of the highest init scores are marked, at most patch_count */
    uint32_t reserved;
} SelectRepoParams;

typedef struct SelectTopkParams {
    SelectScores scores;        /* of all partitions */
    const uint32_t* allocation; /* [partitions] */
    uint32_t* ranks;            /* [partitions, patch_count]: place among the partition's kept, or HIRED_DROPPED */
    uint32_t* counts;           /* [partitions]: kept */
    uint32_t* flags;            /* [1]: only ever set */
    SelectArea area;
    uint32_t padding; /* 1: patches of the padding take part, and are dropped afterwards */
    uint32_t reserved;
} SelectTopkParams;

typedef struct SelectRowsParams {
    const uint32_t* ranks;  /* [partitions, patch_count] */
    const uint32_t* counts; /* [partitions] */
    uint32_t* offsets;      /* [partitions + 1]: first kept row of each partition, then their number */
    uint32_t* patches;      /* [kept]: patch in its partition, ascending in each */
    uint32_t* rows;         /* [kept]: row of [partitions * (prefix + patch_count)] that the patch has, or see projected */
    SelectArea area;
    uint32_t projected; /* 1: its row among the valid patches of all partitions */
    uint32_t prefix;    /* rows before the patches of a partition: 1 with a class token, else 0 */
} SelectRowsParams;

typedef struct SelectOrderParams {
    const uint32_t* ranks;   /* [partitions, patch_count] */
    const uint32_t* offsets; /* [partitions + 1] */
    const uint32_t* added;   /* [2]: rows beside the kept patches, of the full image and of all; null: none */
    uint32_t* slots;         /* [kept + added + newlines]: kept row, or HIRED_NEWLINE */
    SelectArea area;
    uint32_t newlines; /* 1: a newline ends each valid canvas row */
    uint32_t reserved;
} SelectOrderParams;

/* The valid patches of one partition. */
typedef struct SelectPart {
    uint64_t cosines; /* where its [count, count] cosines begin among those of all partitions */
    uint32_t first;   /* of its valid patches among those of all partitions */
    uint32_t count;   /* of them */
} SelectPart;

/* Rows that are combinations: row r is the sum of weights[i] * x[sources[i]] for i from spans[2 r] to spans[2 r + 1]. */
typedef struct SelectMix {
    uint32_t* spans; /* [rows, 2] */
    uint32_t* sources;
    float* weights;
} SelectMix;

/* likeness.cu */
typedef struct UnitRowsParams {
    const void* x;        /* rows of heads * width numbers */
    const uint32_t* rows; /* [grid]: which of them; null: the first ones */
    float* out;           /* [grid, width]: their means over heads, of length 1; zeros stay zeros */
    uint32_t* flags;      /* [1]: only ever set */
    uint32_t heads;
    uint32_t width;
    uint32_t x_stride; /* numbers from row to row */
    uint32_t reserved;
} UnitRowsParams;

typedef struct ClassAttentionParams {
    const void* q;   /* [partitions, width] */
    const void* k;   /* [partitions * (patch_count + 1), width] */
    double* logits;  /* [partitions, patch_count + 1]: scratch */
    float* out;      /* [partitions, patch_count]: softmax over all keys, of the patches */
    uint32_t* flags; /* [1]: only ever set */
    double scale;
    uint32_t patch_count;
    uint32_t width;
    uint32_t q_stride; /* numbers from row to row */
    uint32_t k_stride;
} ClassAttentionParams;

/* merge.cu */
typedef struct MixRowsParams {
    const void* x; /* [rows that the sources name, cols] */
    void* out;     /* [grid, cols] */
    SelectMix mix;
    uint32_t cols;
    uint32_t x_stride; /* numbers from row to row */
    uint32_t out_stride;
    uint32_t reserved;
} MixRowsParams;

/* Rows of a partition beside its dominant patches. */
typedef struct SelectContext {
    uint32_t contexts;    /* contextual rows, at most the patches that are left */
    uint32_t class_row;   /* the class token's row, or HIRED_DROPPED */
    uint32_t context_row; /* the first contextual row */
    uint32_t source;      /* where the sources of these rows begin: one of the class token, all patches that are left */
} SelectContext;

typedef struct SelectContextsParams {
    SelectMix mix;
    const float* cosines;
    const uint32_t* valid;         /* [valid]: rows of the valid patches */
    const SelectPart* parts;       /* [partitions] */
    const SelectContext* contexts; /* [partitions] */
    const uint32_t* ranks;         /* [partitions, patch_count] */
    const uint32_t* offsets;       /* [partitions + 1] */
    const uint32_t* rows;          /* [kept] */
    uint32_t* left;                /* [3, valid]: scratch */
    uint32_t patch_count;
    uint32_t valid_count;
} SelectContextsParams;

typedef struct SelectOutstandingParams {
    const float* attention;     /* [partitions, patch_count] */
    const uint32_t* valid;      /* [valid]: rows of the valid patches */
    const SelectPart* parts;    /* [partitions] */
    const uint32_t* allocation; /* [partitions]: rows */
    uint32_t* ranks;            /* [partitions, patch_count]: place among the partition's kept, or HIRED_DROPPED */
    uint32_t* counts;           /* [partitions]: kept */
    uint32_t* merged;           /* [partitions]: 1: the dropped ones make a row */
    uint32_t patch_count;
    uint32_t spatial; /* 1: a quarter by attention, the others at even distances */
} SelectOutstandingParams;

/* Two kernels take it: that of the kept patches' neighbours and that of the dropped patches. */
typedef struct SelectMergedParams {
    SelectMix mix;
    const float* cosines;
    const float* attention;  /* [partitions, patch_count] */
    const uint32_t* valid;   /* [valid]: rows of the valid patches */
    const SelectPart* parts; /* [partitions] */
    const uint32_t* ranks;   /* [partitions, patch_count] */
    const uint32_t* offsets; /* [partitions + 1] */
    const uint32_t* rows;    /* [kept] */
    const uint32_t* merged;  /* [partitions] */
    uint32_t* added;         /* [2]: rows of dropped patches, of the full image and of all */
    uint32_t partitions;
    uint32_t patch_count;
    uint32_t neighbours; /* of a kept patch, as far as its partition has others */
    uint32_t source;     /* where the sources of rows of dropped patches begin */
} SelectMergedParams;

/* diverse.cu */
typedef struct SpreadParams {
    const float* cosines; /* [count, count] */
    float* nearest;       /* [count]: of each row the greatest cosine with another, -1 if it is alone */
    uint32_t* marks;      /* [count]: 1: kept */
    uint32_t count;
    uint32_t picks; /* at most count */
} SpreadParams;

typedef struct CoverParams {
    SelectScores scores;    /* of all partitions */
    const float* cosines;
    const uint32_t* valid;  /* [valid]: rows of the valid patches */
    const SelectPart* parts; /* [partitions] */
    const uint32_t* picks;  /* [partitions]: at most the valid patches of each */
    double* saliency;       /* [valid]: scratch */
    uint32_t* marks;        /* [valid]: 1: kept */
    uint32_t* flags;        /* [1]: only ever set */
    double exponent;
    uint32_t patch_count;
    uint32_t prefix; /* as in SelectRowsParams */
} CoverParams;

typedef struct SelectMarkedParams {
    const uint32_t* marks;   /* [valid]: 1: kept */
    const uint32_t* valid;   /* [valid]: rows of the valid patches */
    const SelectPart* parts; /* [partitions] */
    uint32_t* ranks;         /* [partitions, patch_count]: place among the partition's kept, or HIRED_DROPPED */
    uint32_t* counts;        /* [partitions]: kept */
    uint32_t patch_count;
    uint32_t prefix; /* as in SelectRowsParams */
} SelectMarkedParams;

#endif
