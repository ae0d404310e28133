/* Sums over rows. */
#pragma once

#include <stddef.h>

/* out (groups, columns) from x (groups, rows, columns), both dense. Returns 1 if there is no memory
   for it. */
int row_sums(float *out, const float *x, ptrdiff_t groups, ptrdiff_t rows, ptrdiff_t columns);
