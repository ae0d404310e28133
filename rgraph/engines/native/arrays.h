/* Arrays as the library sees them: of float, with strides in bytes. */
#pragma once

#include <stddef.h>

enum { MOST_AXES = 16 };

typedef struct {
    char *data;
    int rank;
    ptrdiff_t shape[MOST_AXES], strides[MOST_AXES];
} Array;

static inline ptrdiff_t least(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }
static inline ptrdiff_t most(ptrdiff_t a, ptrdiff_t b) { return a > b ? a : b; }
