/* Programs of pointwise operations: see `interpreter.c`. */
#pragma once

#include "arrays.h"

enum { MOST_ARRAYS = 40, MOST_VALUES = 64 };

/* A program: `steps` of (operation, target, operands a, b, c). Values are numbered: the operands,
   the results, and then registers. */
typedef struct {
    int steps, operands, results, registers;
    int code[];
} Program;

/* How all arrays are gone through: in the first result's memory order, with as few axes as that
   allows. */
typedef struct {
    int axes, arrays;
    ptrdiff_t shape[MOST_AXES], strides[MOST_ARRAYS][MOST_AXES];
    char *data[MOST_ARRAYS];
} Path;

/* Computes the results. Returns 0, or 1 for arrays that it can't take: nothing has been done to them
   then.

   arrays: the operands and then the results.
   only_look: does nothing else. */
int run_program(const Program *program, const Array *const *arrays, int only_look);

/* A tail's path as rows and columns, the result's being dense; 0 if it is of another form. */
int rows_and_columns(Path *path, const Program *tail, const Array *const *arrays, ptrdiff_t rows,
                     ptrdiff_t columns);

/* Computes a tail on some rows and columns, of which the first operand's are at `from`, its rows
   `line` numbers apart. */
void rectangle(const Program *tail, Path path, float *from, ptrdiff_t line, ptrdiff_t row,
               ptrdiff_t rows, ptrdiff_t column, ptrdiff_t columns);
