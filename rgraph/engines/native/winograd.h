/* Convolutions with kernels of 3x3: see `winograd.c`. */
#pragma once

#include "interpreter.h"

/* A kernel's and a tile's side, that of the window it comes from, and the points. */
enum { TAPS = 3, TILE = 4, WINDOW = 6, POINTS = WINDOW * WINDOW };

/* Images of the operand and of the result, and how much of zeros is before the operand. */
typedef struct {
    ptrdiff_t images, channels, results, height, width, high, wide, top, left;
} Geometry;

/* Kernels (results, channels, 3, 3) at the points: (points, pairs of vectors of results, channels,
   two vectors), with one vector where no more is left. */
void winograd_kernels(const Geometry *at, float *to, const float *w);

/* Computes y from x and kernels at the points; then, if there is one, the tail, unit by unit.

   arrays: the tail's, of which the first is not read: it stands for the convolution's result and
   has the form of the last, the tail's. Returns 1 for arrays that the tail can't take: nothing has
   been done then. */
int winograd(const Geometry *at, float *y, const float *x, const float *u, const Program *tail,
             const Array *const *arrays);

/* The gradient to the kernels, (results, channels, 3, 3). Returns 1 if there is no memory for it. */
int winograd_gradient(const Geometry *at, float *w, const float *x, const float *g);
