/* What runs along rows: softmax, its logarithm, what it becomes for large differences, and its cross
   entropy. */
#pragma once

#include <stddef.h>

enum { SOFTMAX, LOG_SOFTMAX, HARDMAX, ENTROPY, ALONG_ROWS };

/* Of each row of x (rows, length), both dense; ENTROPY of it and of that of t, one number. Equal
   infinities do not differ. */
void along_rows(int what, float *out, const float *x, const float *t, ptrdiff_t rows, ptrdiff_t length);
