/* Pooling: see `pooling.c`. */
#pragma once

#include "convolution.h"

/* The largest of each window; the gradient of that; the mean of each window; the gradient of that. */
enum { LARGEST, PLACED, MEAN, SPREAD };

/* Pools, image by image; all arrays are channels-last. Returns 1 for arrays that it can't take.

   of: where windows are; it has no tail.
   result: the windows' values, or for a gradient an operand's.
   value: the operand, or the gradient of the windows' values.
   guide: for PLACED, the operand.
   include_pad: whether means are over what is outside the operand, too. */
int pool(const Convolution *of, int kind, const Array *result, const Array *value, const Array *guide,
         int include_pad);
