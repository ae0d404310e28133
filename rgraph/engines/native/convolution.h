/* Convolutions: see `convolution.c`. */
#pragma once

#include "interpreter.h"

enum { SPACE = 3 }; /* spatial axes; those that an operand does not have come first, with one element */

/* A convolution as it stands in a program: for each spatial axis the kernel's size, the stride, the
   dilation and how much of zeros is before the operand; and a tail or none. */
typedef struct {
    int axes;
    ptrdiff_t taps[SPACE], strides[SPACE], dilation[SPACE], low[SPACE];
    const Program *tail;
} Convolution;

/* Computes a convolution and its tail, unit by unit. Returns 0, or 1 for arrays that it can't take or if
   there is no memory: nothing has been done to them then.

   arrays: the kernels, which are not read, the images, the result, what else the tail reads, the result
   again.
   u: the kernels, at the points of minimal filtering or as `kernels_in_panels` has them.
   only_look: does nothing else. */
int convolution(const Convolution *of, const Array *const *arrays, const Array *u, int only_look);

/* The gradient to the kernels, (results, channels, ...) without gaps, of images and of the result's gradient;
   by minimal filtering or by products. Returns 1 for arrays that it can't take or if there is no memory. */
int convolution_gradient(const Convolution *of, float *w, const Array *x, const Array *g, int filtered);

/* Whether it is (rows, channels, ...) with the channels innermost and no gaps. */
int is_channels_last(const Array *array);

/* The sizes of images along all spatial axes. */
void sizes_of(const Convolution *of, const Array *images, ptrdiff_t *size);

/* Kernels (results, channels, ...), of any strides, as the right factor of a product with patches:
   (patches' numbers, results in whole panels). Returns 1 for what is of another form. */
int kernels_in_panels(const Array *w, const Array *to);
