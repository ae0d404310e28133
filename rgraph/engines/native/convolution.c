/* Convolutions as products with patches: each result's channels are the product of what its window sees, a
   row, and the kernels. Rows are brought together for some lines of the result at a time, so that they stay in
   the cache; the matrix of all patches never exists.

   A column is what the kernel sees at one place of the last axis. Where lines are long, the columns of a line
   are written once and a patch is some of them in a row: patches overlap. Where lines are short, or the last
   axis is dilated, each patch is written by itself, and the patches of several lines are rows of one
   product.

   Arrays are dense, the channels innermost. */

#include "convolution.h"

#include <stdlib.h>
#include <string.h>

#include "products.h"
#include "threads.h"
#include "winograd.h"

/* Numbers that the patches of a unit of lines take at most, and what they become; the rows that a unit should
   have; and the length of lines that are long, in kernels. */
enum { UNIT = 1 << 16, UNIT_ROWS = 4 * ROWS, LONG = 4 };

static const ptrdiff_t NUMBER = sizeof(float);

int is_channels_last(const Array *array)
{
    ptrdiff_t step = NUMBER;
    for (int i = 0; i < array->rank; ++i) { /* from the innermost out */
        const int axis = i == 0 ? 1 : i == array->rank - 1 ? 0 : array->rank - i;
        if (array->shape[axis] != 1 && array->strides[axis] != step)
            return 0;
        step *= array->shape[axis];
    }
    return array->rank > 2;
}

void sizes_of(const Convolution *of, const Array *images, ptrdiff_t *size)
{
    const int before = SPACE - of->axes;
    for (int i = 0; i < SPACE; ++i)
        size[i] = i < before ? 1 : images->shape[2 + i - before];
}

/* Sizes: of the operand, and of the result; how lines become rows: `columns` of a line, `line` numbers apart from
   the next, and a patch begins `step` after the one before. */
typedef struct {
    const Convolution *of;
    ptrdiff_t images, channels, results, size[SPACE], out[SPACE], depth, column;
    int overlap, direct;
    ptrdiff_t lines, columns, line, step;
} Patches;

static int patches_of(Patches *p, const Convolution *of, const Array *y, const Array *x)
{
    if (x->rank != of->axes + 2 || y->rank != x->rank || x->shape[0] != y->shape[0] || !is_channels_last(x)
        || !is_channels_last(y))
        return 0;
    *p = (Patches){.of = of, .images = x->shape[0], .channels = x->shape[1], .results = y->shape[1]};
    ptrdiff_t numbers = p->images * p->channels * p->results, plain = 1;
    sizes_of(of, x, p->size);
    sizes_of(of, y, p->out);
    for (int i = 0; i < SPACE; ++i) {
        numbers *= p->size[i] * p->out[i];
        plain = plain && of->taps[i] == 1 && of->strides[i] == 1 && !of->low[i] && p->size[i] == p->out[i];
    }
    p->column = of->taps[0] * of->taps[1] * p->channels;
    p->depth = of->taps[2] * p->column;
    p->lines = p->images * p->out[0] * p->out[1];
    p->direct = (int)plain;
    p->overlap = of->dilation[2] == 1 && p->out[2] >= LONG * of->taps[2];
    p->step = p->overlap ? of->strides[2] * p->column : p->depth;
    p->columns = p->overlap ? (p->out[2] - 1) * of->strides[2] + of->taps[2] : p->out[2] * of->taps[2];
    p->line = p->columns * p->column;
    return numbers > 0;
}

/* Copies pixels, or zeros where `from` is NULL. */
static void copy_pixels(float *to, ptrdiff_t step, const float *from, ptrdiff_t from_step, ptrdiff_t count,
                        ptrdiff_t channels)
{
    if (from && step == channels && from_step == channels) { /* nothing is between them */
        channels *= count;
        count = 1;
    }
#define PIXELS(n) \
    for (ptrdiff_t i = 0; i < count; ++i) \
        for (ptrdiff_t c = 0; c < (n); ++c) \
            to[i * step + c] = from[i * from_step + c];
    if (!from)
        for (ptrdiff_t i = 0; i < count; ++i)
            memset(to + i * step, 0, (size_t)(channels * NUMBER));
    else
        switch (channels) {
        case 1: PIXELS(1) break;
        case 2: PIXELS(2) break;
        case 3: PIXELS(3) break;
        case 4: PIXELS(4) break;
        default:
            if (channels % LANES)
                for (ptrdiff_t i = 0; i < count; ++i)
                    memcpy(to + i * step, from + i * from_step, (size_t)(channels * NUMBER));
            else
                for (ptrdiff_t i = 0; i < count; ++i)
                    for (ptrdiff_t c = 0; c < channels; c += LANES)
                        STORE(to + i * step + c, LOAD(from + i * from_step + c));
        }
}

/* What one tap sees along a line: `count` pixels from the place `first` on, which may be outside, `stride`
   apart. `from` is the operand's line; NULL: that is outside. */
static void see_line(const Patches *p, float *to, ptrdiff_t step, const float *from, ptrdiff_t first,
                     ptrdiff_t stride, ptrdiff_t count)
{
    const ptrdiff_t inside = p->size[2] - first; /* places up to the end */
    ptrdiff_t begin = most(0, -first), end = most(0, inside);
    if (stride > 1) { /* divisions take long */
        begin = (begin + stride - 1) / stride;
        end = (end + stride - 1) / stride;
    }
    begin = least(begin, count);
    end = least(end, count);
    if (!from || end <= begin)
        begin = end = count;
    if (begin)
        copy_pixels(to, step, NULL, 0, begin, p->channels);
    if (end > begin)
        copy_pixels(to + begin * step, step, from + (first + begin * stride) * p->channels,
                    stride * p->channels, end - begin, p->channels);
    if (end < count)
        copy_pixels(to + end * step, step, NULL, 0, count - end, p->channels);
}

/* The patches of a line of the result. */
static void see_patches(const Patches *p, float *to, const float *x, ptrdiff_t line)
{
    const Convolution *of = p->of;
    const ptrdiff_t plane = line / p->out[1], image = plane / p->out[0];
    const ptrdiff_t deepest = (plane - image * p->out[0]) * of->strides[0] - of->low[0];
    const ptrdiff_t highest = (line - plane * p->out[1]) * of->strides[1] - of->low[1];
    for (ptrdiff_t a = 0; a < of->taps[0]; ++a)
        for (ptrdiff_t b = 0; b < of->taps[1]; ++b, to += p->channels) {
            const ptrdiff_t deep = deepest + a * of->dilation[0], high = highest + b * of->dilation[1];
            const int outside = deep < 0 || deep >= p->size[0] || high < 0 || high >= p->size[1];
            const ptrdiff_t start = (image * p->size[0] + deep) * p->size[1] + high;
            const float *from = outside ? NULL : x + start * p->size[2] * p->channels;
            if (p->overlap)
                see_line(p, to, p->column, from, -of->low[2], 1, p->columns);
            else
                for (ptrdiff_t k = 0; k < of->taps[2]; ++k)
                    see_line(p, to + k * p->column, p->depth, from, k * of->dilation[2] - of->low[2],
                             of->strides[2], p->out[2]);
        }
}

/* How the lines are cut into units, and the numbers of scratch memory that each needs for patches and for
   results. */
typedef struct {
    ptrdiff_t lines, units, patches, results;
} Units;

static Units units_of(const Patches *p, int threads)
{
    Units u;
    const ptrdiff_t width = p->out[2] * strip_line(p->results, p->depth);
    const ptrdiff_t few = (UNIT_ROWS + p->out[2] - 1) / p->out[2];
    u.lines = most(few, least(UNIT / p->line, UNIT / width));
    u.lines = most(1, least(u.lines, (p->lines + threads - 1) / threads));
    u.units = (p->lines + u.lines - 1) / u.lines;
    u.patches = p->direct ? 0 : (u.lines * p->line + LANES - 1) / LANES * LANES;
    u.results = strip_room(u.lines * p->out[2], p->results, p->depth);
    return u;
}

typedef struct {
    Patches p;
    Units u;
    float *y, *scratch;
    const float *x, *kernels;
    const Program *tail;
    Path path;
} Shared;

static void share_of_patches(const void *what, ptrdiff_t unit, int thread)
{
    const Shared *k = what;
    const Patches *p = &k->p;
    float *mine = k->scratch + thread * (k->u.patches + k->u.results), *strip = mine + k->u.patches;
    const ptrdiff_t first = p->lines * unit / k->u.units, last = p->lines * (unit + 1) / k->u.units;
    const ptrdiff_t wide = p->out[2], row = first * wide, rows = (last - first) * wide;
    const float *patches = mine;
    if (p->direct)
        patches = k->x + row * p->channels;
    else
        for (ptrdiff_t line = first; line < last; ++line)
            see_patches(p, mine + (line - first) * p->line, k->x, line);
    const int in_place = !k->tail && p->results % PANEL == 0;
    float *c = in_place ? k->y + row * p->results : strip;
    const ptrdiff_t apart = in_place ? p->results : strip_line(p->results, p->depth);
    if (p->overlap && !p->direct)
        for (ptrdiff_t line = 0; line < last - first; ++line)
            rows_of_product(wide, 0, p->results, c + line * wide * apart, apart, patches + line * p->line,
                            p->step, 1, k->kernels, p->depth);
    else
        rows_of_product(rows, 0, p->results, c, apart, patches, p->depth, 1, k->kernels, p->depth);
    if (k->tail)
        rectangle(k->tail, k->path, strip, apart, row, rows, 0, p->results);
    else if (!in_place)
        copy_pixels(k->y + row * p->results, p->results, strip, apart, rows, p->results);
}

static int by_patches(const Convolution *of, const Array *const *arrays, const Array *kernels, int only_look)
{
    const Array *x = arrays[1], *y = arrays[2];
    Shared k = {.y = (float *)y->data, .x = (const float *)x->data, .tail = of->tail,
                .kernels = (const float *)kernels->data};
    Patches *p = &k.p;
    if (!patches_of(p, of, y, x) || kernels->rank != 2 || kernels->shape[0] != p->depth
        || kernels->shape[1] != in_panels(p->results) || kernels->strides[1] != NUMBER
        || (p->depth > 1 && kernels->strides[0] != kernels->shape[1] * NUMBER))
        return 1;
    const ptrdiff_t rows = p->lines * p->out[2];
    if (of->tail && !rows_and_columns(&k.path, of->tail, arrays + 2, rows, p->results))
        return 1;
    if (only_look)
        return 0;
    const int threads = (int)least(threads_at_hand(), most(1, rows * p->depth * p->results / SHARE));
    k.u = units_of(p, threads);
    k.scratch = workspace_of_thread((size_t)(threads * (k.u.patches + k.u.results) * NUMBER));
    if (!k.scratch)
        return 1;
    in_parts(share_of_patches, &k, k.u.units, threads);
    return 0;
}

/* The gradient to the kernels: each part's sums over its lines, and then the sums of these. */
typedef struct {
    Patches p;
    Units u;
    float *w, *scratch;
    const float *x, *g;
    ptrdiff_t room; /* of each part: patches, the gradient in whole vectors, sums */
    int parts;
} Gradient;

static ptrdiff_t in_vectors(ptrdiff_t numbers)
{
    return (numbers + LANES - 1) / LANES * LANES;
}

static const float *sums_of(const Gradient *k, ptrdiff_t part)
{
    return k->scratch + (part + 1) * k->room - k->p.depth * in_vectors(k->p.results);
}

static void share_of_gradient(const void *what, ptrdiff_t part, int thread)
{
    const Gradient *k = what;
    const Patches *p = &k->p;
    (void)thread;
    const ptrdiff_t results = p->results, line = in_vectors(results), wide = p->out[2];
    float *patches = k->scratch + part * k->room, *whole = patches + k->u.patches, *sums = (float *)sums_of(k, part);
    memset(sums, 0, (size_t)(p->depth * line * NUMBER));
    const ptrdiff_t end = p->lines * (part + 1) / k->parts;
    for (ptrdiff_t first = p->lines * part / k->parts, lines; first < end; first += lines) {
        lines = least(k->u.lines, end - first);
        const float *g = k->g + first * wide * results, *x = patches;
        if (p->direct)
            x = k->x + first * wide * p->channels;
        else
            for (ptrdiff_t i = 0; i < lines; ++i)
                see_patches(p, patches + i * p->line, k->x, first + i);
        if (line != results) {
            for (ptrdiff_t r = 0; r < lines * wide; ++r) {
                memcpy(whole + r * line, g + r * results, (size_t)(results * NUMBER));
                memset(whole + r * line + results, 0, (size_t)((line - results) * NUMBER));
            }
            g = whole;
        }
        const int by_lines = p->overlap && !p->direct;
        const ptrdiff_t rows = by_lines ? wide : lines * wide, step = by_lines ? p->step : p->depth;
        for (ptrdiff_t i = 0; i < (by_lines ? lines : 1); ++i)
            for (ptrdiff_t o = 0; o < line; o += PANEL)
                product(p->depth, line - o > LANES ? 2 : 1, 1, sums + o, line, x + i * p->line, 1, step,
                        g + i * wide * line + o, line, rows);
    }
}

static void share_of_sums(const void *what, ptrdiff_t channel, int thread)
{
    const Gradient *k = what;
    const ptrdiff_t *taps = k->p.of->taps, before = taps[0] * taps[1], line = in_vectors(k->p.results);
    (void)thread;
    for (ptrdiff_t i = 0; i < before; ++i)
        for (ptrdiff_t j = 0; j < taps[2]; ++j) {
            const ptrdiff_t row = (j * before + i) * k->p.channels + channel;
            float *to = k->w + (channel * before + i) * taps[2] + j;
            for (ptrdiff_t o = 0; o < k->p.results; ++o) {
                float sum = 0;
                for (int part = 0; part < k->parts; ++part)
                    sum += sums_of(k, part)[row * line + o];
                to[o * k->p.channels * before * taps[2]] = sum;
            }
        }
}

int convolution_gradient(const Convolution *of, float *w, const Array *x, const Array *g, int filtered)
{
    Geometry at;
    if (filtered)
        return !geometry_of(&at, g, x, of->low[1], of->low[2]) || winograd_gradient(&at, w, (float *)x->data, (float *)g->data);
    Gradient k = {.w = w, .x = (const float *)x->data, .g = (const float *)g->data};
    if (!patches_of(&k.p, of, g, x))
        return 1;
    const ptrdiff_t rows = k.p.lines * k.p.out[2], line = in_vectors(k.p.results);
    k.parts = (int)least(least(threads_at_hand(), k.p.lines), most(1, rows * k.p.depth * k.p.results / SHARE));
    k.u = units_of(&k.p, k.parts);
    k.room = k.u.patches + k.p.depth * line + (line == k.p.results ? 0 : k.u.lines * k.p.out[2] * line);
    k.scratch = lines_of_memory((size_t)(k.parts * k.room * NUMBER));
    if (!k.scratch)
        return 1;
    in_parts(share_of_gradient, &k, k.parts, k.parts);
    in_parts(share_of_sums, &k, k.p.channels, k.parts);
    free(k.scratch);
    return 0;
}

int convolution(const Convolution *of, const Array *const *arrays, const Array *u, int only_look)
{
    const int at_points = u->rank == 2 && u->shape[0] == POINTS
        && u->shape[1] == arrays[1]->shape[1] * arrays[2]->shape[1];
    return (at_points ? winograd : by_patches)(of, arrays, u, only_look);
}

typedef struct {
    float *to;
    const Array *w;
    ptrdiff_t depth;
} Kernels;

static void share_of_kernels(const void *what, ptrdiff_t panel, int thread)
{
    const Kernels *k = what;
    const Array *w = k->w;
    (void)thread;
    float *to = k->to + panel * k->depth * PANEL;
    const ptrdiff_t results = least(PANEL, w->shape[0] - panel * PANEL), channels = w->shape[1];
    const int axes = w->rank - 2;
    ptrdiff_t taps[SPACE], strides[SPACE];
    for (int i = 0; i < SPACE; ++i) {
        const int axis = i - (SPACE - axes);
        taps[i] = axis < 0 ? 1 : w->shape[2 + axis];
        strides[i] = axis < 0 ? 0 : w->strides[2 + axis];
    }
    memset(to, 0, (size_t)(k->depth * PANEL * NUMBER));
    for (ptrdiff_t o = 0; o < results; ++o)
        for (ptrdiff_t c = 0; c < channels; ++c) {
            const char *from = w->data + (panel * PANEL + o) * w->strides[0] + c * w->strides[1];
            for (ptrdiff_t i = 0; i < taps[0] * taps[1]; ++i)
                for (ptrdiff_t j = 0; j < taps[2]; ++j) {
                    const ptrdiff_t at = (j * taps[0] * taps[1] + i) * channels + c;
                    const ptrdiff_t place = i / taps[1] * strides[0] + i % taps[1] * strides[1] + j * strides[2];
                    to[at * PANEL + o] = *(const float *)(from + place);
                }
        }
}

int kernels_in_panels(const Array *w, const Array *to)
{
    if (w->rank < 3 || w->rank > 2 + SPACE)
        return 1;
    Kernels k = {(float *)to->data, w, 1};
    for (int i = 1; i < w->rank; ++i)
        k.depth *= w->shape[i];
    if (k.depth * w->shape[0] == 0 || to->rank != 2 || to->shape[0] != k.depth
        || to->shape[1] != in_panels(w->shape[0]) || to->strides[1] != NUMBER
        || (k.depth > 1 && to->strides[0] != to->shape[1] * NUMBER))
        return 1;
    const ptrdiff_t panels = to->shape[1] / PANEL, size = k.depth * to->shape[1];
    in_parts(share_of_kernels, &k, panels, (int)least(threads_at_hand(), most(1, size / (1 << 14))));
    return 0;
}
