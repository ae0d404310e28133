/* Tiles of images at the points of minimal filtering: see `winograd.c`. */
#pragma once

#include <string.h>
#include <unistd.h>

#include "arrays.h"
#include "threads.h"
#include "vectors.h"
#include "winograd.h"

#define A 0.70710678118654752
#define B 1.41421356237309505
static const float a1 = (float)A, a2 = (float)(A * A), a3 = (float)(A * A * A);
static const float b1 = (float)B, b2 = (float)(B * B), b3 = (float)(B * B * B);

/* Kernels at the points: their values there, over the products of the points' distances. */
#define NEAR (2 * A * A * (A * A - B * B))
#define FAR (2 * B * B * (B * B - A * A))
static const float KERNEL[WINDOW][TAPS] = {
    {(float)(1 / (A * A * B * B)), 0, 0},
    {(float)(1 / NEAR), (float)(A / NEAR), (float)(A * A / NEAR)},
    {(float)(1 / NEAR), (float)(-A / NEAR), (float)(A * A / NEAR)},
    {(float)(1 / FAR), (float)(B / FAR), (float)(B * B / FAR)},
    {(float)(1 / FAR), (float)(-B / FAR), (float)(B * B / FAR)},
    {0, 0, 1},
};

/* How the work is cut: lines of tiles, so many to a unit that a unit's numbers stay in the
   second-level cache. A plane is one point's numbers of all tiles in a unit. */
typedef struct {
    ptrdiff_t down, across, lines, together, units, operand, result;
} Cut;

INLINE Cut cut(const Geometry *at, int threads)
{
    Cut c;
    c.down = (at->high + TILE - 1) / TILE;
    c.across = (at->wide + TILE - 1) / TILE;
    c.lines = at->images * c.down;
    ptrdiff_t cache = 1 << 20;
#ifdef _SC_LEVEL2_CACHE_SIZE
    const ptrdiff_t known = sysconf(_SC_LEVEL2_CACHE_SIZE); /* not everywhere */
    cache = known > 0 ? known : cache;
#endif
    const ptrdiff_t line = POINTS * sizeof(float) * (at->channels + at->results) * c.across;
    c.together = most(1, least(cache / 2 / line, (c.lines + threads - 1) / threads));
    c.units = (c.lines + c.together - 1) / c.together;
    /* Planes that are a power of two apart would meet in few places of the first-level cache. */
    c.operand = c.together * c.across * at->channels + 16;
    c.result = c.together * c.across * at->results + 16;
    return c;
}

/* Numbers of scratch memory that a thread needs: both kinds of planes, or the operand's and in its
   place a unit's results before their tail; for the gradient to the kernels its sums too. */
INLINE ptrdiff_t room(const Geometry *at, const Cut *c, int gradient)
{
    const ptrdiff_t strip = TILE * TILE * c->result;
    const ptrdiff_t sums = gradient ? POINTS * at->channels * at->results : 0;
    return most(POINTS * c->operand, strip) + POINTS * c->result + sums;
}

/* A window's values at the points, along one axis. */
INLINE void at_points(Vector *to, const Vector *x, int step)
{
    const Vector even_a = x[4 * step] - b2 * x[2 * step], odd_a = a1 * (x[3 * step] - b2 * x[step]);
    const Vector even_b = x[4 * step] - a2 * x[2 * step], odd_b = b1 * (x[3 * step] - a2 * x[step]);
    to[0] = a2 * b2 * x[0] - (a2 + b2) * x[2 * step] + x[4 * step];
    to[1] = even_a + odd_a;
    to[2] = even_a - odd_a;
    to[3] = even_b + odd_b;
    to[4] = even_b - odd_b;
    to[5] = a2 * b2 * x[step] - (a2 + b2) * x[3 * step] + x[5 * step];
}

/* A tile of results from their values at the points, along one axis. */
INLINE void from_points(Vector *to, const Vector *m, int step)
{
    const Vector even_a = m[step] + m[2 * step], odd_a = m[step] - m[2 * step];
    const Vector even_b = m[3 * step] + m[4 * step], odd_b = m[3 * step] - m[4 * step];
    to[0] = m[0] + even_a + even_b;
    to[1] = a1 * odd_a + b1 * odd_b;
    to[2] = a2 * even_a + b2 * even_b;
    to[3] = a3 * odd_a + b3 * odd_b + m[5 * step];
}

/* The transposed of that: a tile of the results' gradient at the points. */
INLINE void gradient_at_points(Vector *to, const Vector *y, int step)
{
    const Vector even_a = y[0] + a2 * y[2 * step], odd_a = a1 * y[step] + a3 * y[3 * step];
    const Vector even_b = y[0] + b2 * y[2 * step], odd_b = b1 * y[step] + b3 * y[3 * step];
    to[0] = y[0];
    to[1] = even_a + odd_a;
    to[2] = even_a - odd_a;
    to[3] = even_b + odd_b;
    to[4] = even_b - odd_b;
    to[5] = y[3 * step];
}

/* A kernel at the points, along one axis, and the transposed of that. */
INLINE void kernel_at_points(Vector *to, const Vector *w, int step)
{
    for (int p = 0; p < WINDOW; ++p)
        to[p] = KERNEL[p][0] * w[0] + KERNEL[p][1] * w[step] + KERNEL[p][2] * w[2 * step];
}

INLINE void kernel_from_points(Vector *to, const Vector *u, int step)
{
    for (int k = 0; k < TAPS; ++k) {
        to[k] = KERNEL[0][k] * u[0];
        for (int p = 1; p < WINDOW; ++p)
            to[k] += KERNEL[p][k] * u[p * step];
    }
}

/* The part of an image that a window or a tile sees: from where, and its rows and columns that are
   inside the image. */
typedef struct {
    ptrdiff_t start, down, along;
    int top, bottom, left, right;
} View;

INLINE void load(Vector *to, const float *from, const View *view, int size)
{
    const Vector zero = {0};
    from += view->start;
    if (view->top == 0 && view->left == 0 && view->bottom == size && view->right == size)
        for (int i = 0; i < size; ++i)
            for (int j = 0; j < size; ++j)
                to[i * size + j] = LOAD(from + i * view->down + j * view->along);
    else
        for (int i = 0; i < size; ++i)
            for (int j = 0; j < size; ++j) {
                int inside = i >= view->top && i < view->bottom && j >= view->left && j < view->right;
                to[i * size + j] = inside ? LOAD(from + i * view->down + j * view->along) : zero;
            }
}

INLINE void window_at_points(float *to, ptrdiff_t plane, const float *from, const View *view)
{
    Vector x[POINTS], half[POINTS], line[WINDOW];
    load(x, from, view, WINDOW);
    for (int j = 0; j < WINDOW; ++j)
        at_points(half + j * WINDOW, x + j, WINDOW);
    for (int i = 0; i < WINDOW; ++i) {
        at_points(line, half + i, WINDOW);
        for (int j = 0; j < WINDOW; ++j)
            STORE(to + (i * WINDOW + j) * plane, line[j]);
    }
}

INLINE void tile_at_points(float *to, ptrdiff_t plane, const float *from, const View *view)
{
    Vector y[TILE * TILE], half[TILE * WINDOW], line[WINDOW];
    load(y, from, view, TILE);
    for (int j = 0; j < TILE; ++j)
        gradient_at_points(half + j * WINDOW, y + j, TILE);
    for (int i = 0; i < WINDOW; ++i) {
        gradient_at_points(line, half + i, WINDOW);
        for (int j = 0; j < WINDOW; ++j)
            STORE(to + (i * WINDOW + j) * plane, line[j]);
    }
}

INLINE void tile_from_points(float *to, const View *view, const float *from, ptrdiff_t plane)
{
    Vector m[WINDOW], half[WINDOW * TILE], line[TILE];
    for (int j = 0; j < WINDOW; ++j) {
        for (int i = 0; i < WINDOW; ++i)
            m[i] = LOAD(from + (i * WINDOW + j) * plane);
        from_points(half + j * TILE, m, 1);
    }
    to += view->start;
    for (int i = 0; i < view->bottom; ++i) {
        from_points(line, half + i, TILE);
        for (int j = 0; j < TILE; ++j)
            if (j < view->right)
                STORE(to + i * view->down + j * view->along, line[j]);
    }
}

INLINE View window_of(const Geometry *at, const Cut *c, ptrdiff_t tile)
{
    const ptrdiff_t line = tile / c->across, image = line / c->down;
    const ptrdiff_t top = line % c->down * TILE - at->top, left = tile % c->across * TILE - at->left;
    return (View){((image * at->height + top) * at->width + left) * at->channels,
                  at->width * at->channels, at->channels, (int)most(0, -top),
                  (int)least(WINDOW, at->height - top), (int)most(0, -left), (int)least(WINDOW, at->width - left)};
}

INLINE View tile_of(const Geometry *at, const Cut *c, ptrdiff_t tile)
{
    const ptrdiff_t line = tile / c->across, image = line / c->down;
    const ptrdiff_t top = line % c->down * TILE, left = tile % c->across * TILE;
    return (View){((image * at->high + top) * at->wide + left) * at->results,
                  at->wide * at->results, at->results, 0, (int)least(TILE, at->high - top), 0,
                  (int)least(TILE, at->wide - left)};
}

INLINE ptrdiff_t first_of(const Cut *c, ptrdiff_t unit)
{
    return least(unit * c->together, c->lines) * c->across;
}
