/* Pooling with windows of one to three axes. */

#include "pooling.h"

#include <math.h>
#include <string.h>

#include "threads.h"

enum { CHANNELS = 256, WORK = 1 << 15 }; /* channels at a time; numbers of an operand that are worth a thread */

typedef struct {
    const Convolution *of;
    int kind, include_pad;
    ptrdiff_t images, channels, size[SPACE], out[SPACE];
    float *result;
    const float *value, *guide;
} Pooling;

/* A window's places inside the operand: from `first`, so many along each axis. */
typedef struct {
    ptrdiff_t first[SPACE], count[SPACE];
} Window;

static ptrdiff_t numbers(const ptrdiff_t *size)
{
    return size[0] * size[1] * size[2];
}

static Window window_at(const Pooling *p, ptrdiff_t number)
{
    const ptrdiff_t place[SPACE] = {number / (p->out[1] * p->out[2]), number / p->out[2] % p->out[1],
                                    number % p->out[2]};
    Window w;
    for (int i = 0; i < SPACE; ++i) {
        const ptrdiff_t begin = place[i] * p->of->strides[i] - p->of->low[i];
        w.first[i] = most(0, begin);
        w.count[i] = most(0, least(p->size[i], begin + p->of->taps[i]) - w.first[i]);
    }
    return w;
}

/* Where one of a window's places is in its image. */
static ptrdiff_t start_of(const Pooling *p, const Window *w, ptrdiff_t place)
{
    const ptrdiff_t deep = w->first[0] + place / (w->count[1] * w->count[2]);
    const ptrdiff_t high = w->first[1] + place / w->count[2] % w->count[1];
    const ptrdiff_t wide = w->first[2] + place % w->count[2];
    return ((deep * p->size[1] + high) * p->size[2] + wide) * p->channels;
}

/* NaN is the largest. */
static void largest(const Pooling *p, const Window *w, const float *x, float *y)
{
    const ptrdiff_t count = numbers(w->count);
    for (ptrdiff_t c = 0; c < p->channels; ++c)
        y[c] = -INFINITY;
    for (ptrdiff_t i = 0; i < count; ++i) {
        const float *from = x + start_of(p, w, i);
        for (ptrdiff_t c = 0; c < p->channels; ++c)
            y[c] = from[c] > y[c] || from[c] != from[c] ? from[c] : y[c];
    }
}

/* Adds a window's gradient to the first of its places that has the largest number. */
static void place(const Pooling *p, const Window *w, const float *x, const float *g, float *to)
{
    const ptrdiff_t count = numbers(w->count);
    for (ptrdiff_t begin = 0; begin < p->channels; begin += CHANNELS) {
        const ptrdiff_t some = least(CHANNELS, p->channels - begin);
        float best[CHANNELS];
        int at[CHANNELS];
        for (ptrdiff_t c = 0; c < some; ++c) {
            best[c] = -INFINITY;
            at[c] = 0;
        }
        for (int i = 0; i < count; ++i) {
            const float *from = x + start_of(p, w, i) + begin;
            for (ptrdiff_t c = 0; c < some; ++c) {
                const int better = from[c] > best[c] || from[c] != from[c];
                best[c] = better ? from[c] : best[c];
                at[c] = better ? i : at[c];
            }
        }
        for (ptrdiff_t c = 0; c < some; ++c)
            at[c] = best[c] == best[c] ? at[c] : -1; /* no place has what is not a number */
        for (int i = 0; i < count; ++i) {
            float *there = to + start_of(p, w, i) + begin;
            for (ptrdiff_t c = 0; c < some; ++c)
                there[c] += at[c] == i ? g[begin + c] : 0;
        }
    }
}

static ptrdiff_t divisor(const Pooling *p, const Window *w)
{
    return numbers(p->include_pad ? p->of->taps : w->count);
}

static void mean(const Pooling *p, const Window *w, const float *x, float *y)
{
    const ptrdiff_t count = numbers(w->count);
    const float over = (float)divisor(p, w);
    memset(y, 0, (size_t)p->channels * sizeof(float));
    for (ptrdiff_t i = 0; i < count; ++i) {
        const float *from = x + start_of(p, w, i);
        for (ptrdiff_t c = 0; c < p->channels; ++c)
            y[c] += from[c];
    }
    for (ptrdiff_t c = 0; c < p->channels; ++c)
        y[c] /= over;
}

static void spread(const Pooling *p, const Window *w, const float *g, float *to)
{
    const ptrdiff_t count = numbers(w->count);
    const float over = (float)divisor(p, w);
    for (ptrdiff_t i = 0; i < count; ++i) {
        float *there = to + start_of(p, w, i);
        for (ptrdiff_t c = 0; c < p->channels; ++c)
            there[c] += g[c] / over;
    }
}

static void share_of_images(const void *what, ptrdiff_t image, int thread)
{
    const Pooling *p = what;
    (void)thread;
    const ptrdiff_t windows = numbers(p->out), outer = windows * p->channels;
    const ptrdiff_t inner = numbers(p->size) * p->channels;
    const int back = p->kind == PLACED || p->kind == SPREAD;
    float *result = p->result + image * (back ? inner : outer);
    const float *value = p->value + image * (back ? outer : inner);
    if (back)
        memset(result, 0, (size_t)inner * sizeof(float));
    for (ptrdiff_t i = 0; i < windows; ++i) {
        const Window w = window_at(p, i);
        const ptrdiff_t at = i * p->channels;
        switch (p->kind) {
        case LARGEST: largest(p, &w, value, result + at); break;
        case PLACED: place(p, &w, p->guide + image * inner, value + at, result); break;
        case MEAN: mean(p, &w, value, result + at); break;
        default: spread(p, &w, value + at, result);
        }
    }
}

static int are_alike(const Array *a, const Array *b)
{
    int alike = a->rank == b->rank;
    for (int i = 0; alike && i < a->rank; ++i)
        alike = a->shape[i] == b->shape[i];
    return alike;
}

int pool(const Convolution *of, int kind, const Array *result, const Array *value, const Array *guide,
         int include_pad)
{
    const int back = kind == PLACED || kind == SPREAD;
    const Array *inner = back ? result : value, *outer = back ? value : result;
    if (inner->rank != of->axes + 2 || outer->rank != inner->rank || outer->shape[0] != inner->shape[0]
        || outer->shape[1] != inner->shape[1] || !is_channels_last(inner) || !is_channels_last(outer)
        || (guide && (!are_alike(guide, inner) || !is_channels_last(guide))))
        return 1;
    Pooling p = {of, kind, include_pad, inner->shape[0], inner->shape[1], {0}, {0}, (float *)result->data,
                 (const float *)value->data, guide ? (const float *)guide->data : NULL};
    sizes_of(of, inner, p.size);
    sizes_of(of, outer, p.out);
    const ptrdiff_t work = p.images * p.channels * numbers(p.size);
    in_parts(share_of_images, &p, p.images, (int)least(threads_at_hand(), most(1, work / WORK)));
    return 0;
}
