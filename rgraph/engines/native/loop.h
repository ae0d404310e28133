/* Loops whose steps run without Python between them: see `loop.c`. */
#pragma once

#include "products.h"
#include "winograd.h"

enum { MOST_LOOP_VALUES = 160 };

/* Where a value is: as `plan.program.Rule` has it, but for results that lie nowhere. */
enum { WHOLE, FIRST_ROWS, FRAME, BEFORE, AFTER, RING, PART };

/* `source` numbers the arrays, for a part the values. */
typedef struct {
    int rule, source, axis;
    ptrdiff_t start, size;
    int spare;
} Place;

/* One of these, with its operands and results, and for a product or a convolution the number of the
   prepared factor or kernels. */
typedef struct {
    const Program *program;
    const Product *product;
    const Convolution *convolution;
    int prepared, first, count;
} Instruction;

/* Where a sequence begins, what a delay reads, `back` steps back, is its row of `initial`. */
typedef struct {
    Place place;
    int back, initial;
} Start;

/* Where a sequence ends, its row of an array gets a value. */
typedef struct {
    int value, array;
} End;

typedef struct {
    const Place *places;
    const Instruction *instructions;
    const int *operands;
    const Start *starts;
    const End *ends;
    const char *written; /* of each array, whether the loop writes to it */
    const Program *copy; /* of an array to another */
    int values, count, started, ended, arrays, prepared;
} Loop;

/* The frames of a loop: `starts` has the row of the whole that each begins with, and the end; `step` is
   1 or -1. */
typedef struct {
    const ptrdiff_t *starts;
    ptrdiff_t count, step;
} Frames;

/* Goes through all steps. Returns 0; 1 for arrays that an instruction can't take: nothing has been done
   then; or 2 if there was no memory on the way. */
int run_loop(const Loop *loop, const Array *arrays, const Array *prepared, const Frames *frames);
