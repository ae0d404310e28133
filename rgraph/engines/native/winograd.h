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

/* A convolution as it stands in a program: how much of zeros is before the operand, and a tail or none. */
typedef struct {
    ptrdiff_t top, left;
    const Program *tail;
} Convolution;

/* The geometry of a convolution of x to y, both channels-last; 0 for what does not suit. */
int geometry_of(Geometry *at, const Array *y, const Array *x, ptrdiff_t top, ptrdiff_t left);

/* Computes a convolution and its tail, unit by unit. Returns 0, or 1 for arrays that it can't take or if
   there is no memory: nothing has been done to them then.

   arrays: the kernels, which are not read, the images, the result, what else the tail reads, the result
   again.
   u: the kernels at the points, (POINTS, numbers).
   only_look: does nothing else. */
int convolution(const Convolution *of, const Array *const *arrays, const Array *u, int only_look);

/* The gradient to the kernels, (results, channels, 3, 3). Returns 1 if there is no memory for it. */
int winograd_gradient(const Geometry *at, float *w, const float *x, const float *g);
