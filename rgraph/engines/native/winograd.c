/* Convolutions with kernels of 3x3 and their gradients, by minimal filtering: S. Winograd, Arithmetic
   Complexity of Computations, 1980; A. Lavin and S. Gray, Fast Algorithms for Convolutional Neural
   Networks, 2015 (arXiv 1509.09308).

   A tile of 4x4 results comes from a window of 6x6 of the operand. Both, and the kernel, are turned
   into their values at 6x6 points, where the convolution is a product, number by number: 36
   multiplications for 144. Over channels these are 36 products of matrices. The points along an
   axis are 0, A, -A, B, -B and infinity: with these A and B rounding costs least.

   Arrays are dense, (images, height, width, channels). Channels come in whole vectors. */

#include <unistd.h>

enum { TAPS = 3, TILE = 4, WINDOW = 6, POINTS = WINDOW * WINDOW };

#define A 0.70710678118654752
#define B 1.41421356237309505
static const float a1 = A, a2 = A * A, a3 = A * A * A, b1 = B, b2 = B * B, b3 = B * B * B;

/* Kernels at the points: their values there, over the products of the points' distances. */
#define NEAR (2 * A * A * (A * A - B * B))
#define FAR (2 * B * B * (B * B - A * A))
static const float KERNEL[WINDOW][TAPS] = {
    {1 / (A * A * B * B), 0, 0},
    {1 / NEAR, A / NEAR, A * A / NEAR},
    {1 / NEAR, -A / NEAR, A * A / NEAR},
    {1 / FAR, B / FAR, B * B / FAR},
    {1 / FAR, -B / FAR, B * B / FAR},
    {0, 0, 1},
};

/* Images of the operand and of the result, and how much of zeros is before the operand. */
typedef struct {
    ptrdiff_t images, channels, results, height, width, high, wide, top, left;
} Geometry;

/* How the work is cut: lines of tiles, so many to a unit that a unit's numbers stay in the
   second-level cache. A plane is one point's numbers of all tiles in a unit. */
typedef struct {
    ptrdiff_t down, across, lines, together, units, operand, result;
} Cut;

static Cut cut(const Geometry *at, int threads)
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
static ptrdiff_t room(const Geometry *at, const Cut *c, int gradient)
{
    const ptrdiff_t strip = TILE * TILE * c->result;
    const ptrdiff_t sums = gradient ? POINTS * at->channels * at->results : 0;
    return most(POINTS * c->operand, strip) + POINTS * c->result + sums;
}

static float *scratch_of(const Geometry *at, const Cut *c, int threads, int gradient)
{
    return aligned_alloc(64, (threads * room(at, c, gradient) * sizeof(float) + 63) / 64 * 64);
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

static void window_at_points(float *to, ptrdiff_t plane, const float *from, const View *view)
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

static void tile_at_points(float *to, ptrdiff_t plane, const float *from, const View *view)
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

static void tile_from_points(float *to, const View *view, const float *from, ptrdiff_t plane)
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
                  at->width * at->channels, at->channels, most(0, -top),
                  least(WINDOW, at->height - top), most(0, -left), least(WINDOW, at->width - left)};
}

INLINE View tile_of(const Geometry *at, const Cut *c, ptrdiff_t tile)
{
    const ptrdiff_t line = tile / c->across, image = line / c->down;
    const ptrdiff_t top = line % c->down * TILE, left = tile % c->across * TILE;
    return (View){((image * at->high + top) * at->wide + left) * at->results,
                  at->wide * at->results, at->results, 0, least(TILE, at->high - top), 0,
                  least(TILE, at->wide - left)};
}

static ptrdiff_t first_of(const Cut *c, ptrdiff_t unit)
{
    return least(unit * c->together, c->lines) * c->across;
}

typedef struct {
    const Geometry *at;
    float *to;
    const float *w;
} Kernels;

static void share_of_kernels(const void *what, ptrdiff_t part, int thread)
{
    const Kernels *of = what;
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

/* Kernels (results, channels, 3, 3) at the points: (points, pairs of vectors of results, channels,
   two vectors), with one vector where no more is left. */
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
            product(tiles, width / LANES, 0, result + p * c->result + o, results,
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
} Convolution;

static void share_of_convolution(const void *what, ptrdiff_t unit, int thread)
{
    const Convolution *k = what;
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

/* Computes y from x and kernels at the points; then, if there is one, the tail, unit by unit.

   objects: the tail's, of which the first is not read: it stands for the convolution's result and
   has the form of the last, the tail's. Returns 1 for arrays that the tail can't take: nothing has
   been done then. */
int winograd(const Geometry *at, float *y, const float *x, const float *u, const Program *tail,
             void *const *objects)
{
    const int threads = threads_at_hand();
    Convolution k = {at, cut(at, threads), y, NULL, x, u, tail};
    const ptrdiff_t rows = at->images * at->high * at->wide;
    if (tail && !rows_and_columns(&k.path, tail, objects, rows, at->results))
        return 1;
    k.scratch = scratch_of(at, &k.c, threads, 0);
    if (!k.scratch)
        return 1;
    in_parts(share_of_convolution, &k, k.c.units, threads);
    free(k.scratch);
    return 0;
}
