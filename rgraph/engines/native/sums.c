/* Sums over rows. */

/* Rows of a thread's share, and that are summed in float one after the other: more lose digits. */
enum { MOST_ROWS = 4096, LEAST_ROWS = 64, IN_A_ROW = 128 };

static void chunk_sum(double *to, const float *x, ptrdiff_t rows, ptrdiff_t columns, float *partial)
{
    for (ptrdiff_t c = 0; c < columns; ++c)
        to[c] = 0;
    for (ptrdiff_t start = 0; start < rows; start += IN_A_ROW) {
        const ptrdiff_t stop = least(rows, start + IN_A_ROW);
        memset(partial, 0, columns * sizeof(float));
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

/* out (groups, columns) from x (groups, rows, columns), both dense. Returns 1 if there is no memory
   for it. */
int row_sums(float *out, const float *x, ptrdiff_t groups, ptrdiff_t rows, ptrdiff_t columns)
{
    const int threads = omp_get_max_threads();
    const ptrdiff_t part = least(MOST_ROWS, most(LEAST_ROWS, groups * rows / (8 * threads)));
    const ptrdiff_t chunks = (rows + part - 1) / part;
    double *sums = malloc(groups * chunks * columns * sizeof(double) + threads * columns * sizeof(float));
    if (!sums)
        return 1;
    float *partial = (float *)(sums + groups * chunks * columns);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (ptrdiff_t i = 0; i < groups * chunks; ++i) {
        const ptrdiff_t start = i % chunks * part;
        chunk_sum(sums + i * columns, x + (i / chunks * rows + start) * columns,
                  least(part, rows - start), columns, partial + omp_get_thread_num() * columns);
    }
    for (ptrdiff_t g = 0; g < groups; ++g)
        for (ptrdiff_t c = 0; c < columns; ++c) {
            double all = 0;
            for (ptrdiff_t i = g * chunks; i < (g + 1) * chunks; ++i)
                all += sums[i * columns + c];
            out[g * columns + c] = all;
        }
    free(sums);
    return 0;
}
