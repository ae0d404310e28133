/* Convolutions with kernels of 3x3 and their gradients, by minimal filtering: S. Winograd, Arithmetic
   Complexity of Computations, 1980; A. Lavin and S. Gray, Fast Algorithms for Convolutional Neural
   Networks, 2015 (arXiv 1509.09308).

   A tile of 4x4 results comes from a window of 6x6 of the operand. Both, and the kernel, are turned
   into their values at 6x6 points, where the convolution is a product, number by number: 36
   multiplications for 144. Over channels these are 36 products of matrices. The points along an
   axis are 0, A, -A, B, -B and infinity: with these A and B rounding costs least.

   Arrays are dense, (images, height, width, channels). Channels come in whole vectors. */

#include "winograd.h"

#include "tiles.h"

typedef struct {
    const Geometry *at;
    float *to;
    const float *w;
} Kernels;

static void share_of_kernels(const void *what, ptrdiff_t part, int thread)
{
    const Kernels *of = what;
    (void)thread;
    const ptrdiff_t channels = of->at->channels, results = of->at->results, o = part * LANES;
    const ptrdiff_t pair = o / (2 * LANES) * 2 * LANES, width = least(2 * LANES, results - pair);
    for (ptrdiff_t c = 0; c < channels; ++c) {
        Vector taps[TAPS * TAPS], half[TAPS * WINDOW], line[WINDOW];
        for (int k = 0; k < TAPS * TAPS; ++k)
            for (int lane = 0; lane < LANES; ++lane)
                taps[k][lane] = of->w[((o + lane) * channels + c) * TAPS * TAPS + k];
        for (int j = 0; j < TAPS; ++j)
            kernel_at_points(half + j * WINDOW, taps + j, TAPS);
        float *own = of->to + pair * channels + c * width + o - pair;
        for (int i = 0; i < WINDOW; ++i) {
            kernel_at_points(line, half + i, WINDOW);
            for (int j = 0; j < WINDOW; ++j)
                STORE(own + (i * WINDOW + j) * channels * results, line[j]);
        }
    }
}

void winograd_kernels(const Geometry *at, float *to, const float *w)
{
    const Kernels k = {at, to, w};
    in_parts(share_of_kernels, &k, at->results / LANES, threads_at_hand());
}

/* The results of a unit, from `x` to `y`: where that begins at the unit's first result, `start` is
   its number, else 0. */
static void unit_results(const Geometry *at, const Cut *c, ptrdiff_t unit, float *y, ptrdiff_t start,
                         const float *x, const float *u, float *scratch)
{
    const ptrdiff_t first = first_of(c, unit), tiles = first_of(c, unit + 1) - first;
    const ptrdiff_t channels = at->channels, results = at->results;
    float *operand = scratch, *result = scratch + room(at, c, 0) - POINTS * c->result;
    for (ptrdiff_t t = 0; t < tiles; ++t) {
        const View view = window_of(at, c, first + t);
        for (ptrdiff_t i = 0; i < channels; i += LANES)
            window_at_points(operand + t * channels + i, c->operand, x + i, &view);
    }
    for (int p = 0; p < POINTS; ++p)
        for (ptrdiff_t o = 0; o < results; o += 2 * LANES) {
            const ptrdiff_t width = least(2 * LANES, results - o);
            product(tiles, (int)(width / LANES), 0, result + p * c->result + o, results,
                    operand + p * c->operand, channels, 1, u + (p * results + o) * channels, width,
                    channels);
        }
    for (ptrdiff_t t = 0; t < tiles; ++t) {
        View view = tile_of(at, c, first + t);
        view.start -= start;
        for (ptrdiff_t i = 0; i < results; i += LANES)
            tile_from_points(y + i, &view, result + t * results + i, c->result);
    }
}

typedef struct {
    const Geometry *at;
    Cut c;
    float *y, *scratch;
    const float *x, *u;
    const Program *tail;
    Path path;
} Shared;

static void share_of_convolution(const void *what, ptrdiff_t unit, int thread)
{
    const Shared *k = what;
    const Geometry *at = k->at;
    const Cut *c = &k->c;
    float *mine = k->scratch + thread * room(at, c, 0);
    if (!k->tail) {
        unit_results(at, c, unit, k->y, 0, k->x, k->u, mine);
        return;
    }
    const ptrdiff_t all = at->images * at->high * at->wide * at->results;
    const ptrdiff_t start = tile_of(at, c, first_of(c, unit)).start;
    const ptrdiff_t end = unit + 1 < c->units ? tile_of(at, c, first_of(c, unit + 1)).start : all;
    unit_results(at, c, unit, mine, start, k->x, k->u, mine);
    rectangle(k->tail, k->path, mine, at->results, start / at->results, (end - start) / at->results,
              0, at->results);
}

int geometry_of(Geometry *at, const Array *y, const Array *x, ptrdiff_t top, ptrdiff_t left)
{
    if (y->rank != 4 || x->rank != 4 || !is_channels_last(y) || !is_channels_last(x))
        return 0;
    *at = (Geometry){.images = x->shape[0], .channels = x->shape[1], .results = y->shape[1],
                     .height = x->shape[2], .width = x->shape[3], .high = y->shape[2],
                     .wide = y->shape[3], .top = top, .left = left};
    return y->shape[0] == at->images && at->images && at->channels && at->results && at->high && at->wide
        && at->channels % LANES == 0 && at->results % LANES == 0;
}

int winograd(const Convolution *of, const Array *const *arrays, const Array *u, int only_look)
{
    const Array *x = arrays[1], *y = arrays[2];
    Geometry at;
    if (!geometry_of(&at, y, x, of->low[1], of->low[2]) || u->rank != 2 || u->shape[0] != POINTS
        || u->shape[1] != at.channels * at.results || u->strides[1] != sizeof(float)
        || u->strides[0] != u->shape[1] * (ptrdiff_t)sizeof(float))
        return 1;
    const int threads = threads_at_hand();
    Shared k = {&at, cut(&at, threads), (float *)y->data, NULL, (const float *)x->data,
                (const float *)u->data, of->tail, {0}};
    const ptrdiff_t rows = at.images * at.high * at.wide;
    if (of->tail && !rows_and_columns(&k.path, of->tail, arrays + 2, rows, at.results))
        return 1;
    if (only_look)
        return 0;
    k.scratch = workspace_of_thread((size_t)(threads * room(&at, &k.c, 0)) * sizeof(float));
    if (!k.scratch)
        return 1;
    in_parts(share_of_convolution, &k, k.c.units, threads);
    return 0;
}
