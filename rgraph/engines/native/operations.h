/* Operations on n numbers: r from as many of a, b and c as each has operands. */
#pragma once

#include <stddef.h>

typedef void Operation(float *r, const float *a, const float *b, const float *c, ptrdiff_t n);

extern Operation *const operations[];
extern const char *const operation_names[];
extern const int operations_count;
