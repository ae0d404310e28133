/* Products of matrices: see `products.c`. */
#pragma once

#include "interpreter.h"
#include "vectors.h"

/* A product as it stands in a program: of the operands, or of the second and the first if they are
   exchanged, and of each as it is or transposed. */
typedef struct {
    int exchanged, left_transposed, right_transposed;
    const Program *tail; /* or none */
} Product;

/* The width of a panel; multiplications that are worth a thread. */
enum { PANEL = 2 * LANES, SHARE = 1 << 17 };

/* So many columns, and those that fill the last panel. */
ptrdiff_t in_panels(ptrdiff_t columns);

/* How far apart rows of so many columns are best in scratch memory, and the numbers that some need there. */
ptrdiff_t strip_line(ptrdiff_t columns, ptrdiff_t depth);
ptrdiff_t strip_room(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t depth);

/* The columns from `first`, where a panel begins, to `end` of a product of some rows of a, whose strides are
   given, and b in panels: to c, whose rows are `line` apart, as `strip_line` has it if they are not whole
   panels. */
void rows_of_product(ptrdiff_t rows, ptrdiff_t first, ptrdiff_t end, float *c, ptrdiff_t line, const float *a,
                     ptrdiff_t a_row, ptrdiff_t a_depth, const float *b, ptrdiff_t depth);

/* Brings the right factor into panels, (panels, depth, two vectors), which is an array (depth,
   in_panels(columns)); columns that there are not are zeros. Returns 1 for what it can't take. */
int packed_factor(const Product *p, const Array *b, const Array *to);

/* Computes a product and its tail. Returns 0, or 1 for arrays that it can't take: nothing has been
   done to them then.

   arrays: both operands, the result, what else the tail reads, the result again.
   panels: the right factor.
   only_look: does nothing else. */
int matrix_product(const Product *p, const Array *const *arrays, const Array *panels, int only_look);

/* Computes the product of two matrices over all their rows, (rows, narrow) and (rows, wide), to c
   (narrow, wide). Returns 0, or 1 for arrays that it can't take or that a library does better: nothing
   has been done to them then. */
int contraction(const Array *a, const Array *b, const Array *c);
