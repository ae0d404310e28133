/* Vectors of the processor's, and products of blocks of them. */
#pragma once

#include <stddef.h>

/* Numbers of a vector, and how many rows of a product's block fit the registers beside two of them. */
#if defined(__AVX512F__)
enum { LANES = 16, ROWS = 14 };
#elif defined(__AVX__)
enum { LANES = 8, ROWS = 6 };
#else
enum { LANES = 4, ROWS = 6 };
#endif

typedef float Vector __attribute__((vector_size(LANES * sizeof(float))));
typedef float Unaligned __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float))));

#define LOAD(p) ((Vector) * (const Unaligned *)(p))
#define STORE(p, v) (*(Unaligned *)(p) = (v))
#define INLINE static inline __attribute__((always_inline))


/* c (rows, vectors), or what is added to it: the product of a (rows, depth), whose strides are given, and
   b (depth, vectors), with one vector or two. */
void product(ptrdiff_t rows, int vectors, int add, float *c, ptrdiff_t c_row, const float *a,
             ptrdiff_t a_row, ptrdiff_t a_depth, const float *b, ptrdiff_t b_depth, ptrdiff_t depth);
