/* Convolutions with kernels of 3x3 by minimal filtering: see `winograd.c`. */
#pragma once

#include "convolution.h"

/* A kernel's and a tile's side, that of the window it comes from, and the points. */
enum { TAPS = 3, TILE = 4, WINDOW = 6, POINTS = WINDOW * WINDOW };

/* Images of the operand and of the result, and how much of zeros is before the operand. */
typedef struct {
    ptrdiff_t images, channels, results, height, width, high, wide, top, left;
} Geometry;

/* Kernels (results, channels, 3, 3) at the points: (points, pairs of vectors of results, channels,
   two vectors), with one vector where no more is left. */
void winograd_kernels(const Geometry *at, float *to, const float *w);

/* The geometry of a convolution of x to y, both channels-last; 0 for what does not suit. */
int geometry_of(Geometry *at, const Array *y, const Array *x, ptrdiff_t top, ptrdiff_t left);

/* As `convolution`, with the kernels at the points, (POINTS, numbers), for what suits. */
int winograd(const Convolution *of, const Array *const *arrays, const Array *u, int only_look);

/* The gradient to the kernels, (results, channels, 3, 3). Returns 1 if there is no memory for it. */
int winograd_gradient(const Geometry *at, float *w, const float *x, const float *g);
