/* Sums over rows. */

#include "sums.h"

#include <stdlib.h>
#include <string.h>

#include "arrays.h"
#include "threads.h"

/* Rows of a thread's share, and that are summed in float one after the other: more lose digits. */
enum { MOST_ROWS = 4096, LEAST_ROWS = 64, IN_A_ROW = 128 };

static void chunk_sum(double *to, const float *x, ptrdiff_t rows, ptrdiff_t columns, float *partial)
{
    for (ptrdiff_t c = 0; c < columns; ++c)
        to[c] = 0;
    for (ptrdiff_t start = 0; start < rows; start += IN_A_ROW) {
        const ptrdiff_t stop = least(rows, start + IN_A_ROW);
        memset(partial, 0, (size_t)columns * sizeof(float));
        ptrdiff_t r = start;
        for (; r + 4 <= stop; r += 4, x += 4 * columns)
            for (ptrdiff_t c = 0; c < columns; ++c)
                partial[c] += (x[c] + x[columns + c]) + (x[2 * columns + c] + x[3 * columns + c]);
        for (; r < stop; ++r, x += columns)
            for (ptrdiff_t c = 0; c < columns; ++c)
                partial[c] += x[c];
        for (ptrdiff_t c = 0; c < columns; ++c)
            to[c] += partial[c];
    }
}

/* The sums of chunks of rows of x (groups, rows, columns), and a row's room for each thread. */
typedef struct {
    double *sums;
    const float *x;
    ptrdiff_t rows, columns, part, chunks;
    float *partial;
} Chunks;

static void share_of_sums(const void *what, ptrdiff_t i, int thread)
{
    const Chunks *k = what;
    const ptrdiff_t start = i % k->chunks * k->part;
    chunk_sum(k->sums + i * k->columns, k->x + (i / k->chunks * k->rows + start) * k->columns,
              least(k->part, k->rows - start), k->columns, k->partial + thread * k->columns);
}

int row_sums(float *out, const float *x, ptrdiff_t groups, ptrdiff_t rows, ptrdiff_t columns)
{
    const int threads = threads_at_hand();
    const ptrdiff_t part = least(MOST_ROWS, most(LEAST_ROWS, groups * rows / (8 * threads)));
    const ptrdiff_t chunks = (rows + part - 1) / part;
    double *sums = malloc((size_t)(groups * chunks * columns) * sizeof(double)
                          + (size_t)(threads * columns) * sizeof(float));
    if (!sums)
        return 1;
    const Chunks k = {sums, x, rows, columns, part, chunks,
                      (float *)(sums + groups * chunks * columns)};
    in_parts(share_of_sums, &k, groups * chunks, threads);
    for (ptrdiff_t g = 0; g < groups; ++g)
        for (ptrdiff_t c = 0; c < columns; ++c) {
            double all = 0;
            for (ptrdiff_t i = g * chunks; i < (g + 1) * chunks; ++i)
                all += sums[i * columns + c];
            out[g * columns + c] = (float)all;
        }
    free(sums);
    return 0;
}
