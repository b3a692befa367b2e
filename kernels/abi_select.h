/* Parameters of the selection kernels: select, likeness, merge and diverse. A part of abi.h. */
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
    uint32_t cell;  /* a patch here consists of cell * cell patches of the vision tower */
    uint32_t tiled; /* 1: the decoder's order has one sub-image after the other, then the full image */
} SelectArea;

/* scores.cuh: attention as attention_cls.cu and attention_received.cu write it, and the scores computed from it. */
typedef struct SelectScores {
    const float* weights; /* [partitions, heads, patch_count * cell^2 + 1] */
    const float* sums;    /* [partitions, heads] */
    float* out;           /* [partitions, patch_count] */
    uint32_t heads;       /* 0: out has the scores already */
    uint32_t how;         /* HIRED_SUM_HEADS, HIRED_MEAN_HEADS, HIRED_MAX_HEADS, or HIRED_ONE_HEAD + its number */
    uint32_t side;        /* as in SelectArea */
    uint32_t cell;        /* as in SelectArea; a patch's score is the sum over its cell */
} SelectScores;

typedef struct SelectExactParams {
    SelectScores init;    /* of the full image only; not read without sub-images */
    uint32_t* allocation; /* [partitions] */
    uint32_t* flags;      /* [1]: bits are only set, never cleared */
    /* floor((2^64 - 1) / (fit_rows * fit_cols * valid patches)): a larger sum of 2^24 * init could overflow */
    uint64_t mass_limit;
    SelectArea area;
    uint32_t full_image; /* tokens of the full image */
    uint32_t sub_images; /* tokens to share, at most the valid patches of the sub-images */
    uint32_t pixels;     /* side of a partition in pixels */
    uint32_t fit_rows;   /* size of the resized image on the canvas, in pixels */
    uint32_t fit_cols;
    uint32_t reserved;
} SelectExactParams;

typedef struct SelectPaperParams {
    SelectScores init;    /* of the full image only; not read without sub-images */
    uint32_t* allocation; /* [partitions] */
    uint32_t* flags;      /* [1]: bits are only set, never cleared */
    uint64_t sub_images;  /* tokens to share */
    SelectArea area;
    uint32_t full_image; /* tokens of the full image */
    uint32_t reserved;
} SelectPaperParams;

typedef struct SelectRepoParams {
    SelectScores init;    /* of the full image only; not read without sub-images */
    uint32_t* allocation; /* [partitions] */
    uint32_t* flags;      /* [1]: bits are only set, never cleared */
    SelectArea area;
    uint32_t full_image; /* tokens of the full image */
    uint32_t sub_images; /* tokens to share */
    uint32_t marked;     /* number of highest init scores that are marked, at most patch_count */
    uint32_t reserved;
} SelectRepoParams;

typedef struct SelectTopkParams {
    SelectScores scores;        /* of all partitions */
    const uint32_t* allocation; /* [partitions] */
    uint32_t* ranks;            /* [partitions, patch_count]: rank among the partition's kept patches, or HIRED_DROPPED */
    uint32_t* counts;           /* [partitions]: number of kept patches */
    uint32_t* flags;            /* [1]: bits are only set, never cleared */
    SelectArea area;
    uint32_t padding; /* 1: patches of the padding are ranked too, and dropped afterwards */
    uint32_t reserved;
} SelectTopkParams;

typedef struct SelectRowsParams {
    const uint32_t* ranks;  /* [partitions, patch_count] */
    const uint32_t* counts; /* [partitions] */
    uint32_t* offsets;      /* [partitions + 1]: first kept row of each partition, then the number of all */
    uint32_t* patches;      /* [kept]: number of the patch in its partition, ascending in each */
    uint32_t* rows;         /* [kept]: the patch's row in [partitions * (prefix + patch_count)], or see projected */
    SelectArea area;
    uint32_t projected; /* 1: rows has the patch's number among the valid patches of all partitions */
    uint32_t prefix;    /* rows before the patches of a partition: 1 with a class token, else 0 */
} SelectRowsParams;

typedef struct SelectOrderParams {
    const uint32_t* ranks;   /* [partitions, patch_count] */
    const uint32_t* offsets; /* [partitions + 1] */
    const uint32_t* added;   /* [2]: number of rows that the method adds, for the full image and for all; null: none */
    uint32_t* slots;         /* [kept + added + newlines]: number of the kept row, or HIRED_NEWLINE */
    SelectArea area;
    uint32_t newlines; /* 1: a newline ends each valid canvas row */
    uint32_t reserved;
} SelectOrderParams;

/* The valid patches of one partition. */
typedef struct SelectPart {
    uint64_t cosines; /* offset of its [count, count] cosines in those of all partitions */
    uint32_t first;   /* number of its first valid patch among those of all partitions */
    uint32_t count;   /* number of its valid patches */
} SelectPart;

/* Weighted sums of rows: row r is the sum of weights[i] * x[sources[i]] for i from spans[2 r] to spans[2 r + 1]. */
typedef struct SelectMix {
    uint32_t* spans; /* [rows, 2] */
    uint32_t* sources;
    float* weights;
} SelectMix;

/* likeness.cu */
typedef struct UnitRowsParams {
    const void* x;        /* rows of heads * width numbers */
    const uint32_t* rows; /* [grid]: row numbers; null: the first rows */
    float* out;           /* [grid, width]: mean of each row over its heads, scaled to length 1; zeros stay zeros */
    uint32_t* flags;      /* [1]: bits are only set, never cleared */
    uint32_t heads;
    uint32_t width;
    uint32_t x_stride;
    uint32_t reserved;
} UnitRowsParams;

typedef struct ClassAttentionParams {
    const void* q;   /* [partitions, width] */
    const void* k;   /* [partitions * (patch_count + 1), width] */
    double* logits;  /* scratch: [partitions, patch_count + 1] */
    float* out;      /* [partitions, patch_count]: the patches' part of the softmax over all keys */
    uint32_t* flags; /* [1]: bits are only set, never cleared */
    double scale;
    uint32_t patch_count;
    uint32_t width;
    uint32_t q_stride;
    uint32_t k_stride;
} ClassAttentionParams;

/* merge.cu */
typedef struct MixRowsParams {
    const void* x; /* [rows, cols], with all rows that the sources name */
    void* out;     /* [grid, cols] */
    SelectMix mix;
    uint32_t cols;
    uint32_t x_stride;
    uint32_t out_stride;
    uint32_t reserved;
} MixRowsParams;

/* Rows that VisionZip adds to a partition's dominant patches. */
typedef struct SelectContext {
    uint32_t contexts;    /* number of contextual rows, at most that of the remaining patches */
    uint32_t class_row;   /* number of the class token's row, or HIRED_DROPPED */
    uint32_t context_row; /* number of the first contextual row */
    uint32_t source;      /* offset of the sources of these rows: one for the class token, then all remaining patches */
} SelectContext;

typedef struct SelectContextsParams {
    SelectMix mix;
    const float* cosines;
    const uint32_t* valid;         /* [valid]: row numbers of the valid patches */
    const SelectPart* parts;       /* [partitions] */
    const SelectContext* contexts; /* [partitions] */
    const uint32_t* ranks;         /* [partitions, patch_count] */
    const uint32_t* offsets;       /* [partitions + 1] */
    const uint32_t* rows;          /* [kept] */
    uint32_t* left;                /* scratch: [3, valid] */
    uint32_t patch_count;
    uint32_t valid_count;
} SelectContextsParams;

typedef struct SelectOutstandingParams {
    const float* attention;     /* [partitions, patch_count] */
    const uint32_t* valid;      /* [valid]: row numbers of the valid patches */
    const SelectPart* parts;    /* [partitions] */
    const uint32_t* allocation; /* [partitions]: rows */
    uint32_t* ranks;            /* [partitions, patch_count]: rank among the partition's kept patches, or HIRED_DROPPED */
    uint32_t* counts;           /* [partitions]: number of kept patches */
    uint32_t* merged;           /* [partitions]: 1: a row stands for the dropped patches */
    uint32_t patch_count;
    uint32_t spatial; /* 1: a quarter of the patches by attention, the others at even distances */
} SelectOutstandingParams;

/* Parameters of two kernels, for the neighbours of kept patches and for the dropped patches. */
typedef struct SelectMergedParams {
    SelectMix mix;
    const float* cosines;
    const float* attention;  /* [partitions, patch_count] */
    const uint32_t* valid;   /* [valid]: row numbers of the valid patches */
    const SelectPart* parts; /* [partitions] */
    const uint32_t* ranks;   /* [partitions, patch_count] */
    const uint32_t* offsets; /* [partitions + 1] */
    const uint32_t* rows;    /* [kept] */
    const uint32_t* merged;  /* [partitions] */
    uint32_t* added;         /* [2]: number of rows of dropped patches, for the full image and for all */
    uint32_t partitions;
    uint32_t patch_count;
    uint32_t neighbours; /* neighbours of a kept patch, if its partition has as many */
    uint32_t source;     /* offset of the sources of rows of dropped patches */
} SelectMergedParams;

/* diverse.cu */
typedef struct SpreadParams {
    const float* cosines; /* [count, count] */
    float* nearest;       /* [count]: largest cosine of each row with another row, -1 for a single row */
    uint32_t* marks;      /* [count]: 1 for kept rows */
    uint32_t count;
    uint32_t picks; /* at most count */
} SpreadParams;

typedef struct CoverParams {
    SelectScores scores;    /* of all partitions */
    const float* cosines;
    const uint32_t* valid;  /* [valid]: row numbers of the valid patches */
    const SelectPart* parts; /* [partitions] */
    const uint32_t* picks;  /* [partitions]: number of picks, at most the valid patches of each */
    double* saliency;       /* scratch: [valid] */
    uint32_t* marks;        /* [valid]: 1 for kept patches */
    uint32_t* flags;        /* [1]: bits are only set, never cleared */
    double exponent;
    uint32_t patch_count;
    uint32_t prefix; /* as in SelectRowsParams */
} CoverParams;

typedef struct SelectMarkedParams {
    const uint32_t* marks;   /* [valid]: 1 for kept patches */
    const uint32_t* valid;   /* [valid]: row numbers of the valid patches */
    const SelectPart* parts; /* [partitions] */
    uint32_t* ranks;         /* [partitions, patch_count]: rank among the partition's kept patches, or HIRED_DROPPED */
    uint32_t* counts;        /* [partitions]: number of kept patches */
    uint32_t patch_count;
    uint32_t prefix; /* as in SelectRowsParams */
} SelectMarkedParams;

#endif
