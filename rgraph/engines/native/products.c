/* Products with a matrix that comes again and again, as in the steps of a loop, and those of two
   matrices over all their rows, as in the gradient of such a matrix.

   The right factor is in panels of two vectors' width, which stay in the first-level cache while the
   left factor's rows go by, a block of them at a time, as many as the registers hold sums of. In a loop,
   rows are shared out as those of what is pointwise are: what a thread has computed it finds in its own
   cache. */

#include "products.h"

#include <string.h>

#include "threads.h"
#include "vectors.h"

/* How far ahead of a block's vectors the next are fetched. */
enum { AHEAD = 16 };

static const ptrdiff_t NUMBER = sizeof(float);

/* c (rows, vectors), or what is added to it: the product of a (rows, depth), whose strides are
   given, and b (depth, vectors). */
INLINE void block_product(const int rows, const int vectors, int add, float *c, ptrdiff_t c_row,
                          const float *a, ptrdiff_t a_row, ptrdiff_t a_depth, const float *b,
                          ptrdiff_t b_depth, ptrdiff_t depth)
{
    Vector sum[ROWS][2];
    const float *third[(ROWS + 2) / 3]; /* an address is one of these and up to twice the stride: few registers */
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
        for (int v = 0; v < vectors; ++v)
            sum[r][v] = (Vector){0};
        if (r % 3 == 0)
            third[r / 3] = a + r * a_row;
    }
    for (ptrdiff_t d = 0; d < depth; ++d, b += b_depth) {
        for (int v = 0; v < vectors; ++v)
            __builtin_prefetch(b + AHEAD * b_depth + v * LANES);
        const Vector left = LOAD(b), right = vectors > 1 ? LOAD(b + LANES) : left;
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) {
            const float factor = third[r / 3][r % 3 * a_row];
            sum[r][0] += factor * left;
            if (vectors > 1)
                sum[r][1] += factor * right;
        }
#pragma GCC unroll 16
        for (int r = 0; r < rows; r += 3)
            third[r / 3] += a_depth;
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r)
        for (int v = 0; v < vectors; ++v) {
            float *place = c + r * c_row + v * LANES;
            STORE(place, add ? LOAD(place) + sum[r][v] : sum[r][v]);
        }
}

/* One function for each number of rows and vectors, so that what a block needs is on the stack once. */
#define BLOCK_OF(n, v) \
    static void block_##n##_##v(int add, float *c, ptrdiff_t c_row, const float *a, ptrdiff_t a_row, \
                                ptrdiff_t a_depth, const float *b, ptrdiff_t b_depth, ptrdiff_t depth) \
    { \
        block_product(n, v, add, c, c_row, a, a_row, a_depth, b, b_depth, depth); \
    }
#define BLOCKS_OF(n) BLOCK_OF(n, 1) BLOCK_OF(n, 2)
#define NAMES_OF(n) {block_##n##_1, block_##n##_2},
typedef void Block(int, float *, ptrdiff_t, const float *, ptrdiff_t, ptrdiff_t, const float *, ptrdiff_t, ptrdiff_t);
#if defined(__AVX512F__)
#define EACH(_) _(1) _(2) _(3) _(4) _(5) _(6) _(7) _(8) _(9) _(10) _(11) _(12) _(13) _(14)
#else
#define EACH(_) _(1) _(2) _(3) _(4) _(5) _(6)
#endif
EACH(BLOCKS_OF)
static Block *const blocks_of[ROWS][2] = {EACH(NAMES_OF)};

/* In blocks of about one size. */
void product(ptrdiff_t rows, int vectors, int add, float *c, ptrdiff_t c_row, const float *a,
             ptrdiff_t a_row, ptrdiff_t a_depth, const float *b, ptrdiff_t b_depth, ptrdiff_t depth)
{
    const ptrdiff_t blocks = (rows + ROWS - 1) / ROWS;
    for (ptrdiff_t i = 0, r = 0, next; i < blocks; ++i, r = next) {
        next = rows * (i + 1) / blocks;
        blocks_of[next - r - 1][vectors - 1](add, c + r * c_row, c_row, a + r * a_row, a_row, a_depth, b, b_depth,
                                             depth);
    }
}

/* Numbers that are worth a thread if they are packed. */
enum { PACKED = 1 << 14 };
enum { DEPTH = 512, SLAB_SIZE = 1 << 15, FEW_ROWS = 16 };
/* Of a product over all rows: how many are packed at a time, and the sizes at which libraries are slower
   (measured beside oneDNN). */
enum { CHUNK = 256, MOST_NARROW = 128, LEAST_WIDE = 256 };

/* Sizes, and the left factor's strides in numbers. */
typedef struct {
    ptrdiff_t rows, depth, columns, a_row, a_depth;
} Factors;

static ptrdiff_t panels_of(ptrdiff_t columns)
{
    return (columns + PANEL - 1) / PANEL;
}

ptrdiff_t in_panels(ptrdiff_t columns)
{
    return panels_of(columns) * PANEL;
}

/* How a product is shared out: row parts by column parts, each in slabs of rows that stay in the
   second-level cache. */
typedef struct {
    ptrdiff_t down, across, slab, room;
} Shares;

static Shares shares(const Factors *f, int threads)
{
    Shares s;
    s.down = most(1, least(threads, f->rows / FEW_ROWS));
    s.across = least(panels_of(f->columns), (threads + s.down - 1) / s.down);
    const ptrdiff_t width = (panels_of(f->columns) + s.across - 1) / s.across * PANEL;
    s.slab = least((f->rows + s.down - 1) / s.down, most(ROWS, SLAB_SIZE / width));
    s.room = strip_room(s.slab, width, f->depth);
    return s;
}

/* Without gaps if each number is written once: what is behind a row is written over then. */
ptrdiff_t strip_line(ptrdiff_t columns, ptrdiff_t depth)
{
    return depth <= DEPTH ? columns : (columns + LANES - 1) / LANES * LANES;
}

ptrdiff_t strip_room(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t depth)
{
    return rows * strip_line(columns, depth) + PANEL;
}

void rows_of_product(ptrdiff_t rows, ptrdiff_t first, ptrdiff_t end, float *c, ptrdiff_t line, const float *a,
                     ptrdiff_t a_row, ptrdiff_t a_depth, const float *b, ptrdiff_t depth)
{
    const ptrdiff_t begin = first / PANEL, last = panels_of(end);
    for (ptrdiff_t d = 0, some; d < depth; d += some) {
        some = least(DEPTH, depth - d);
        for (ptrdiff_t p = last; p-- > begin;) /* what is written behind a row is the next one's beginning */
            product(rows, end - p * PANEL > LANES ? 2 : 1, d > 0, c + (p - begin) * PANEL, line,
                    a + d * a_depth, a_row, a_depth, b + (p * depth + d) * PANEL, PANEL, some);
    }
}

/* The product of a and b to c, whose rows are dense, and the tail along that path, slab by slab. */
typedef struct {
    Factors f;
    Shares s;
    float *c, *scratch;
    const float *a, *b;
    const Program *tail;
    Path path;
} SharedProduct;

static void share_of_product(const void *what, ptrdiff_t part, int thread)
{
    const SharedProduct *p = what;
    const Factors *f = &p->f;
    const Shares *s = &p->s;
    const ptrdiff_t across = part % s->across, down = part / s->across;
    const ptrdiff_t column = panels_of(f->columns) * across / s->across * PANEL;
    const ptrdiff_t last = least(panels_of(f->columns) * (across + 1) / s->across * PANEL, f->columns);
    const ptrdiff_t end = f->rows * (down + 1) / s->down, width = last - column;
    float *strip = p->scratch + thread * s->room;
    for (ptrdiff_t row = f->rows * down / s->down, rows; row < end; row += rows) {
        float *to = p->c + row * f->columns + column;
        const int direct = !p->tail && width % PANEL == 0;
        const ptrdiff_t line = direct ? f->columns : strip_line(width, f->depth);
        rows = least(s->slab, end - row);
        rows_of_product(rows, column, last, direct ? to : strip, line, p->a + row * f->a_row, f->a_row,
                        f->a_depth, p->b, f->depth);
        if (p->tail)
            rectangle(p->tail, p->path, strip, line, row, rows, column, width);
        else if (!direct)
            for (ptrdiff_t r = 0; r < rows; ++r)
                memcpy(to + r * f->columns, strip + r * line, (size_t)(width * NUMBER));
    }
}

static int is_matrix(const Array *array)
{
    return array->rank == 2 && array->shape[0] && array->shape[1];
}

static ptrdiff_t stride(const Array *array, int axis)
{
    return array->strides[axis] / NUMBER;
}

static int is_in_panels(const Array *array, ptrdiff_t depth, ptrdiff_t columns)
{
    return array->rank == 2 && array->shape[0] == depth && array->shape[1] == in_panels(columns)
        && (depth == 1 || array->strides[0] == array->shape[1] * NUMBER) && array->strides[1] == NUMBER;
}

/* A factor (depth, columns) that is brought into panels, and its strides in numbers. */
typedef struct {
    float *to;
    const float *from;
    ptrdiff_t depth, columns, down, along;
} Packing;

static void share_of_packing(const void *what, ptrdiff_t p, int thread)
{
    const Packing *k = what;
    (void)thread;
    const float *own = k->from + p * PANEL * k->along;
    float *panel = k->to + p * k->depth * PANEL;
    const ptrdiff_t width = least(PANEL, k->columns - p * PANEL);
    for (ptrdiff_t d = 0; d < k->depth; ++d, panel += PANEL) {
        if (k->along == 1)
            memcpy(panel, own + d * k->down, (size_t)(width * NUMBER));
        else
            for (ptrdiff_t c = 0; c < width; ++c)
                panel[c] = own[d * k->down + c * k->along];
        memset(panel + width, 0, (size_t)((PANEL - width) * NUMBER));
    }
}

int packed_factor(const Product *p, const Array *b, const Array *to)
{
    const int turned = p->right_transposed;
    if (!is_matrix(b) || !is_in_panels(to, b->shape[turned], b->shape[!turned]))
        return 1;
    const Packing k = {(float *)to->data, (const float *)b->data, b->shape[turned],
                       b->shape[!turned], stride(b, turned), stride(b, !turned)};
    const int threads = (int)least(threads_at_hand(), most(1, k.depth * k.columns / PACKED));
    in_parts(share_of_packing, &k, panels_of(k.columns), threads);
    return 0;
}

int matrix_product(const Product *p, const Array *const *arrays, const Array *panels, int only_look)
{
    const Array *a = arrays[p->exchanged], *b = arrays[!p->exchanged], *c = arrays[2];
    if (!is_matrix(a) || !is_matrix(b) || !is_matrix(c))
        return 1;
    const int left = p->left_transposed, right = p->right_transposed;
    const Factors f = {a->shape[left], a->shape[!left], b->shape[!right], stride(a, left),
                       stride(a, !left)};
    if (b->shape[right] != f.depth || c->shape[0] != f.rows || c->shape[1] != f.columns
        || (f.columns > 1 && stride(c, 1) != 1) || (f.rows > 1 && stride(c, 0) != f.columns)
        || !is_in_panels(panels, f.depth, f.columns))
        return 1;
    const int threads = (int)least(threads_at_hand(), most(1, f.rows * f.depth * f.columns / SHARE));
    SharedProduct shared = {f, shares(&f, threads), (float *)c->data, NULL, (const float *)a->data,
                            (const float *)panels->data, p->tail, {0}};
    if (p->tail && !rows_and_columns(&shared.path, p->tail, arrays + 2, f.rows, f.columns))
        return 1;
    if (only_look)
        return 0;
    shared.scratch = workspace_of_thread((size_t)(threads * shared.s.room * NUMBER));
    if (!shared.scratch)
        return 1;
    in_parts(share_of_product, &shared, shared.s.down * shared.s.across, threads);
    return 0;
}

/* Some panels of c, the product over all rows of a (depth, rows) and b (depth, columns), whose rows are
   `line` apart; `packed` is room for a chunk of b. */
static void product_over_rows(const Factors *f, float *c, const float *a, const float *b, ptrdiff_t line,
                              ptrdiff_t first, ptrdiff_t last, float *packed)
{
    for (ptrdiff_t d = 0, depth; d < f->depth; d += depth) {
        depth = least(CHUNK, f->depth - d);
        for (ptrdiff_t r = 0; r < depth; ++r)
            for (ptrdiff_t p = first; p < last; ++p)
                memcpy(packed + ((p - first) * depth + r) * PANEL, b + (d + r) * line + p * PANEL,
                       PANEL * sizeof(float));
        for (ptrdiff_t p = first; p < last; ++p)
            product(f->rows, 2, d > 0, c + p * PANEL, f->columns, a + d * f->a_depth, f->a_row,
                    f->a_depth, packed + (p - first) * depth * PANEL, PANEL, depth);
    }
}

typedef struct {
    Factors f;
    float *c, *packed; /* room for each part */
    const float *a, *b;
    ptrdiff_t line, room;
    int parts;
} Contraction;

static void share_of_contraction(const void *what, ptrdiff_t part, int thread)
{
    const Contraction *k = what;
    (void)thread;
    const ptrdiff_t panels = panels_of(k->f.columns);
    product_over_rows(&k->f, k->c, k->a, k->b, k->line, panels * part / k->parts,
                      panels * (part + 1) / k->parts, k->packed + part * k->room);
}

int contraction(const Array *a, const Array *b, const Array *c)
{
    if (!is_matrix(a) || !is_matrix(b) || !is_matrix(c))
        return 1;
    const Factors f = {a->shape[1], a->shape[0], b->shape[1], stride(a, 1), stride(a, 0)};
    if (f.rows > MOST_NARROW || f.columns < LEAST_WIDE || f.columns % PANEL || stride(b, 1) != 1
        || b->shape[0] != f.depth || c->shape[0] != f.rows || c->shape[1] != f.columns
        || (f.rows > 1 && stride(c, 0) != f.columns) || stride(c, 1) != 1)
        return 1;
    const ptrdiff_t panels = panels_of(f.columns), work = f.rows * f.depth * f.columns;
    const int threads = (int)least(least(threads_at_hand(), panels), most(1, work / SHARE));
    const ptrdiff_t room = CHUNK * PANEL * ((panels + threads - 1) / threads);
    float *packed = workspace_of_thread((size_t)(threads * room * NUMBER));
    if (!packed)
        return 1;
    const Contraction k = {f, (float *)c->data, packed, (const float *)a->data,
                           (const float *)b->data, stride(b, 0), room, threads};
    in_parts(share_of_contraction, &k, threads, threads);
    return 0;
}
