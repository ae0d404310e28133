/* The gradient of a convolution by minimal filtering to its kernels: see `winograd.c`. */

#include <stdlib.h>

#include "tiles.h"

/* In two works: each part's sums over its units at the points, and then
   the sums of these. */
typedef struct {
    const Geometry *at;
    Cut c;
    float *w, *scratch; /* room for each part */
    const float *x, *g;
    int parts;
} Gradient;

static float *sums_of(const Gradient *k, ptrdiff_t part)
{
    const ptrdiff_t own = room(k->at, &k->c, 1);
    return k->scratch + (part + 1) * own - POINTS * k->at->channels * k->at->results;
}

static void share_of_gradient(const void *what, ptrdiff_t part, int thread)
{
    const Gradient *k = what;
    (void)thread;
    const Geometry *at = k->at;
    const Cut *c = &k->c;
    const ptrdiff_t channels = at->channels, results = at->results, point = channels * results;
    float *operand = k->scratch + part * room(at, c, 1), *result = operand + POINTS * c->operand;
    float *sum = sums_of(k, part);
    memset(sum, 0, (size_t)(POINTS * point) * sizeof(float));
    const ptrdiff_t end = c->units * (part + 1) / k->parts;
    for (ptrdiff_t unit = c->units * part / k->parts; unit < end; ++unit) {
        const ptrdiff_t first = first_of(c, unit), tiles = first_of(c, unit + 1) - first;
        for (ptrdiff_t t = 0; t < tiles; ++t) {
            const View window = window_of(at, c, first + t), tile = tile_of(at, c, first + t);
            for (ptrdiff_t i = 0; i < channels; i += LANES)
                window_at_points(operand + t * channels + i, c->operand, k->x + i, &window);
            for (ptrdiff_t i = 0; i < results; i += LANES)
                tile_at_points(result + t * results + i, c->result, k->g + i, &tile);
        }
        for (int p = 0; p < POINTS; ++p)
            for (ptrdiff_t o = 0; o < results; o += 2 * LANES)
                product(channels, (int)(least(2 * LANES, results - o) / LANES), 1, sum + p * point + o,
                        results, operand + p * c->operand, 1, channels,
                        result + p * c->result + o, results, tiles);
    }
}

static void share_of_gradient_sums(const void *what, ptrdiff_t number, int thread)
{
    const Gradient *k = what;
    (void)thread;
    const ptrdiff_t channels = k->at->channels, results = k->at->results;
    const ptrdiff_t point = channels * results, i = number * LANES;
    Vector half[WINDOW * TAPS], line[WINDOW], taps[TAPS];
    for (int p = 0; p < WINDOW; ++p) {
        for (int q = 0; q < WINDOW; ++q) {
            line[q] = (Vector){0};
            for (int part = 0; part < k->parts; ++part)
                line[q] += LOAD(sums_of(k, part) + (p * WINDOW + q) * point + i);
        }
        kernel_from_points(half + p * TAPS, line, 1);
    }
    for (int j = 0; j < TAPS; ++j) {
        kernel_from_points(taps, half + j, TAPS);
        for (int t = 0; t < TAPS; ++t)
            for (int lane = 0; lane < LANES; ++lane) {
                const ptrdiff_t o = i % results + lane, c = i / results;
                k->w[((o * channels + c) * TAPS + t) * TAPS + j] = taps[t][lane];
            }
    }
}

int winograd_gradient(const Geometry *at, float *w, const float *x, const float *g)
{
    const int threads = threads_at_hand();
    Gradient k = {at, cut(at, threads), w, NULL, x, g, threads};
    k.scratch = lines_of_memory((size_t)(threads * room(at, &k.c, 1)) * sizeof(float));
    if (!k.scratch)
        return 1;
    in_parts(share_of_gradient, &k, threads, threads);
    in_parts(share_of_gradient_sums, &k, at->channels * at->results / LANES, threads);
    free(k.scratch);
    return 0;
}
