/* Loops that are gone through without Python: see `tape.c`. */
#pragma once

#include "products.h"

enum { WHOLE, FIRST_ROWS, FRAME, BEFORE, AFTER, TURN, OTHER_TURN, PART };

/* Where a value is: in an array, as it is (WHOLE); in its first rows (FIRST_ROWS), or those of the
   frame, of the frame before or of the one after, if that frame has as many, else in the first rows of
   a spare one; in one of two arrays in turn, or in the other; or it is a part of another value along an
   axis. `source` numbers the arrays, for a part the values. */
typedef struct {
    int rule, source, axis;
    ptrdiff_t start, size;
    int spare;
} Place;

/* One call: a program, or a product (else NULL) with the panels of that number. */
typedef struct {
    const Program *program;
    const Product *product;
    int panels, first, count; /* its operands */
} Entry;

/* What a delay reads: `place` is its source's if that is kept whole (BEFORE), or written where the next
   frame has the delay's (AFTER), or else in two arrays in turn (TURN). `initial` numbers an array with
   a row for each sequence. */
typedef struct {
    Place place;
    int initial;
} Delay;

/* A value that is kept, in an array with a row for each sequence, as it was when that ended. */
typedef struct {
    int value, array;
} Last;

typedef struct {
    const Place *places;
    const Entry *entries;
    const int *operands;
    const Delay *delays;
    const Last *lasts;
    const char *written; /* of each array, whether the loop writes to it */
    const Program *copy; /* of an array to another */
    int values, calls, delayed, kept, arrays, products;
} Tape;

/* The frames of a loop: `starts` has the row of the whole that each begins with, and the end; `step` is
   1 or -1. */
typedef struct {
    const ptrdiff_t *starts;
    ptrdiff_t count, step;
} Frames;

/* Does the frames. Returns 0; 1 for arrays that a call can't take: nothing has been done then; or 2 if
   there was no memory on the way. */
int run_tape(const Tape *tape, const Array *arrays, const Array *panels, const Frames *frames);
