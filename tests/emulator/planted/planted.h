/* Parameters of the kernels with planted bugs. */
#include <stdint.h>

typedef struct PlantedParams {
    const float* in; /* [count] */
    float* out;      /* [count] */
    uint32_t count;
    uint32_t broken; /* 1: the bug, 0: its corrected twin */
} PlantedParams;
