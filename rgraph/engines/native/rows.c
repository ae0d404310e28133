/* What runs along rows, each while it is in the cache. */

#include "rows.h"

#include <math.h>
#include <string.h>

#include "arrays.h"
#include "functions.h"
#include "threads.h"
#include "vectors.h"

/* Numbers that are added as floats before they are added as doubles; elements that are worth a thread;
   vectors that need not wait for one another. */
enum { PART = 256, ELEMENTS = 1 << 12, BESIDE = 4 };

typedef int Mask __attribute__((vector_size(sizeof(Vector))));

static inline Vector larger(Vector a, Vector b)
{
    const Mask stays = (Mask)(a >= b) | (Mask)(a != a);
    return (Vector)(((Mask)a & stays) | ((Mask)b & ~stays));
}

/* The largest; NaN where there is one. */
static float top_of(const float *x, ptrdiff_t length)
{
    float top = x[0];
    ptrdiff_t i = 0;
    if (length >= BESIDE * LANES) {
        Vector wide[BESIDE];
        for (int b = 0; b < BESIDE; ++b, i += LANES)
            wide[b] = LOAD(x + i);
        while (i + BESIDE * LANES <= length)
            for (int b = 0; b < BESIDE; ++b, i += LANES)
                wide[b] = larger(wide[b], LOAD(x + i));
        for (int b = 1; b < BESIDE; ++b)
            wide[0] = larger(wide[0], wide[b]);
        for (int k = 0; k < LANES; ++k)
            top = top != top || top >= wide[0][k] ? top : wide[0][k];
    }
    for (; i < length; ++i)
        top = top != top || top >= x[i] ? top : x[i];
    return top;
}

static inline float below(float top, float x) { return x == top ? 0.0f : x - top; }

static float sum_of(const float *x, ptrdiff_t length)
{
    Vector wide = {0};
    float sum = 0;
    ptrdiff_t i = 0;
    for (; i + LANES <= length; i += LANES)
        wide += LOAD(x + i);
    for (; i < length; ++i)
        sum += x[i];
    for (int k = 0; k < LANES; ++k)
        sum += wide[k];
    return sum;
}

/* The sum of e to what each is below the top; these powers are written to `to`, or where that is NULL
   nowhere. */
static double sum_of_powers(float *to, const float *x, float top, ptrdiff_t length)
{
    float room[PART];
    double sum = 0;
    for (ptrdiff_t i = 0; i < length; i += PART) {
        const ptrdiff_t count = least(PART, length - i);
        float *powers = to ? to + i : room;
        for (ptrdiff_t k = 0; k < count; ++k)
            powers[k] = exp(below(top, x[i + k]));
        sum += sum_of(powers, count);
    }
    return sum;
}

static void hardmax(float *to, const float *x, float top, ptrdiff_t length)
{
    ptrdiff_t first = 0;
    for (int found = 0; length - first > PART; first += PART) {
        for (int k = 0; k < PART; ++k)
            found |= (x[first + k] == top) | (x[first + k] != x[first + k]);
        if (found)
            break;
    }
    while (x[first] != top && x[first] == x[first])
        ++first;
    memset(to, 0, (size_t)length * sizeof(float));
    to[first] = 1;
}

/* The scores' distances from the largest count, not how large they are: but where the target's sum is
   not 1. What the target is 0 of, an infinity too, is nothing. */
static float entropy(const float *x, const float *t, float top, ptrdiff_t length)
{
    float room[PART];
    double own = 0, all = 0;
    for (ptrdiff_t i = 0; i < length; i += PART) {
        const ptrdiff_t count = least(PART, length - i);
        for (ptrdiff_t k = 0; k < count; ++k)
            room[k] = t[i + k] == 0 ? 0.0f : t[i + k] * below(top, x[i + k]);
        own += sum_of(room, count);
        all += sum_of(t + i, count);
    }
    const double loss = log((float)sum_of_powers(NULL, x, top, length)) - own;
    return (float)((float)all == 1.0f ? loss : loss + (1 - all) * top);
}

typedef struct {
    int what;
    float *out;
    const float *x, *t;
    ptrdiff_t rows, length, parts;
} Rows;

static void share_of_rows(const void *given, ptrdiff_t part, int thread)
{
    const Rows *s = given;
    const ptrdiff_t length = s->length;
    (void)thread;
    for (ptrdiff_t r = s->rows * part / s->parts; r < s->rows * (part + 1) / s->parts; ++r) {
        const float *x = s->x + r * length;
        float *out = s->out + r * length;
        const float top = top_of(x, length);
        if (s->what == HARDMAX)
            hardmax(out, x, top, length);
        else if (s->what == ENTROPY)
            s->out[r] = entropy(x, s->t + r * length, top, length);
        else if (s->what == SOFTMAX) {
            const float sum = (float)sum_of_powers(out, x, top, length);
            for (ptrdiff_t i = 0; i < length; ++i)
                out[i] /= sum;
        } else {
            const float sum = log((float)sum_of_powers(NULL, x, top, length));
            for (ptrdiff_t i = 0; i < length; ++i)
                out[i] = below(top, x[i]) - sum;
        }
    }
}

void along_rows(int what, float *out, const float *x, const float *t, ptrdiff_t rows, ptrdiff_t length)
{
    const int threads = threads_at_hand();
    const ptrdiff_t worth = most(1, rows * length / ELEMENTS);
    const Rows s = {what, out, x, t, rows, length, least(rows, least(worth, 8 * threads))};
    in_parts(share_of_rows, &s, s.parts, threads);
}
