/* All steps of a loop, one after the other, with nothing in between: what a step does is the same for all
   of them but for where its arrays are and how many rows they have.

   Sequences are sorted, the longest first, so the rows of any two frames begin with the same
   sequences. */

#include "loop.h"

#include <stdatomic.h>

#include "threads.h"

enum { THREAD_ROWS = 4 }; /* of a frame that are worth a thread */

/* A step for the sequences from `row` to `stop`: it has `rows` of them, from `here` on in the whole. There
   are no frames where it is only looked what a step is to be: then all other frames have as many rows
   (`among`), or none. */
typedef struct {
    const Frames *frames;
    ptrdiff_t turn, row, stop, rows, here;
    int among;
} Step;

static ptrdiff_t rows_of(const Frames *f, ptrdiff_t t)
{
    return t < 0 || t >= f->count ? 0 : f->starts[t + 1] - f->starts[t];
}

/* How many of the sequences the frame `back` steps back has, and where they begin in the whole. */
static ptrdiff_t rows_at(const Step *s, ptrdiff_t back, ptrdiff_t *start)
{
    const Frames *f = s->frames;
    *start = 0;
    if (!f)
        return s->among ? s->rows : 0;
    const ptrdiff_t turn = s->turn - back, t = f->step > 0 ? turn : f->count - 1 - turn;
    const ptrdiff_t rows = most(0, least(s->stop, rows_of(f, t)) - s->row);
    if (rows)
        *start = f->starts[t] + s->row;
    return rows;
}

static Step step_of(const Frames *f, ptrdiff_t turn, ptrdiff_t row, ptrdiff_t stop)
{
    Step s = {.frames = f, .turn = turn, .row = row, .stop = stop};
    s.rows = rows_at(&s, 0, &s.here);
    return s;
}

static void narrow(Array *own, int axis, ptrdiff_t start, ptrdiff_t size)
{
    own->shape[axis] = size;
    own->data += start * own->strides[axis];
}

/* Which of a ring's arrays it is, `back` steps back. */
static int in_ring(const Place *ring, const Step *s, ptrdiff_t back)
{
    return ring->source + (int)((s->turn + ring->size - back) % ring->size);
}

/* Returns 1 for a part that the value does not have. */
static int see_value(const Place *place, Array *own, const Array *values, const Array *arrays,
                     const Step *s)
{
    if (place->rule == PART) {
        const Array *from = &values[place->source];
        const int axis = from->rank + place->axis;
        if (axis < 0 || axis >= from->rank || place->start + place->size > from->shape[axis])
            return 1;
        *own = *from;
        narrow(own, axis, place->start, place->size);
        return 0;
    }
    int source = place->source;
    ptrdiff_t row = s->row, start;
    if (place->rule == FRAME)
        row = s->here;
    else if (place->rule == RING)
        source = in_ring(place, s, place->start);
    else if (place->rule == BEFORE || place->rule == AFTER) {
        if (rows_at(s, place->rule == AFTER ? -1 : place->start, &start) >= s->rows)
            row = start;
        else
            source = place->spare;
    }
    *own = arrays[source];
    if (place->rule != WHOLE)
        narrow(own, 0, row, s->rows);
    return 0;
}

/* Copies rows of an array, from one on, to rows of another. */
static void copy_rows(const Loop *loop, const Array *to, ptrdiff_t at, const Array *from, ptrdiff_t row,
                      ptrdiff_t rows)
{
    if (rows <= 0)
        return;
    Array read = *from, written = *to;
    narrow(&read, 0, row, rows);
    narrow(&written, 0, at, rows);
    const Array *both[] = {&read, &written};
    run_program(loop->copy, both, 0);
}

/* Where a sequence begins, what a delay reads is its initial state. */
static void begin(const Loop *loop, const Array *arrays, const Step *s)
{
    for (const Start *d = loop->starts; d < loop->starts + loop->started; ++d) {
        const Place *place = &d->place;
        ptrdiff_t start;
        const ptrdiff_t before = rows_at(s, d->back, &start);
        const Array *to = &arrays[place->rule == BEFORE ? place->spare
                                  : place->rule == RING ? in_ring(place, s, d->back)
                                                        : place->source];
        if (before >= s->rows)
            continue;
        if (place->rule == BEFORE)
            copy_rows(loop, to, s->row, &arrays[place->source], start, before);
        copy_rows(loop, to, (place->rule == FRAME ? s->here : s->row) + before, &arrays[d->initial],
                  s->row + before, s->rows - before);
    }
}

/* Where a sequence ends, or the loop does, what was to be the next frame's is in a spare array. */
static void end(const Loop *loop, const Array *arrays, const Array *values, const Step *s)
{
    ptrdiff_t later, start;
    const ptrdiff_t after = rows_at(s, -1, &later);
    for (const Place *p = loop->places; p < loop->places + loop->values && after < s->rows; ++p)
        if (p->rule == AFTER)
            copy_rows(loop, &arrays[p->source], later, &arrays[p->spare], s->row, after);
    const ptrdiff_t go_on = rows_at(s, -s->frames->step, &start);
    for (const End *e = loop->ends; e < loop->ends + loop->ended; ++e)
        copy_rows(loop, &arrays[e->array], s->row + go_on, &values[e->value], go_on, s->rows - go_on);
}

/* Does a step, or if `only_look` sees whether it can be done. Returns 0 or, if an instruction refuses,
   1. */
static int do_step(const Loop *loop, Array *values, const Array *arrays, const Array *prepared,
                   const Step *s, int only_look)
{
    const Array *operands[MOST_ARRAYS];
    for (int v = 0; v < loop->values; ++v)
        if (see_value(&loop->places[v], &values[v], values, arrays, s))
            return 1;
    for (const Instruction *i = loop->instructions; i < loop->instructions + loop->count; ++i) {
        for (int k = 0; k < i->count; ++k)
            operands[k] = &values[loop->operands[i->first + k]];
        if (i->product ? matrix_product(i->product, operands, &prepared[i->prepared], only_look)
            : i->convolution ? convolution(i->convolution, operands, &prepared[i->prepared], only_look)
                             : run_program(i->program, operands, only_look))
            return 1;
    }
    return 0;
}

/* Takes the sequences from `row` to `stop` through all steps. Returns 0, or 1 if there was no memory on
   the way. */
static int go(const Loop *loop, const Array *arrays, const Array *prepared, const Frames *frames,
              ptrdiff_t row, ptrdiff_t stop)
{
    Array values[MOST_LOOP_VALUES];
    for (ptrdiff_t turn = 0; turn < frames->count; ++turn) {
        const Step s = step_of(frames, turn, row, stop);
        if (s.rows <= 0)
            continue;
        begin(loop, arrays, &s);
        if (do_step(loop, values, arrays, prepared, &s, 0))
            return 1;
        end(loop, arrays, values, &s);
    }
    return 0;
}

/* The first sequences that have `part` of `parts` of all rows. */
static ptrdiff_t first_with(const Frames *f, ptrdiff_t part, ptrdiff_t parts)
{
    ptrdiff_t low = 0, high = rows_of(f, 0);
    while (low < high) {
        const ptrdiff_t middle = (low + high) / 2;
        ptrdiff_t rows = 0;
        for (ptrdiff_t t = 0; t < f->count; ++t)
            rows += least(middle, rows_of(f, t));
        if (rows * parts < f->starts[f->count] * part)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

typedef struct {
    const Loop *loop;
    const Array *arrays;
    const Array *prepared;
    const Frames *frames;
    ptrdiff_t parts;
    atomic_int *refused;
} Going;

static void share_of_sequences(const void *what, ptrdiff_t part, int thread)
{
    const Going *g = what;
    (void)thread;
    if (go(g->loop, g->arrays, g->prepared, g->frames, first_with(g->frames, part, g->parts),
           first_with(g->frames, part + 1, g->parts)))
        *g->refused = 1;
}

/* Whether an array has so many rows. */
static int has_rows(const Array *array, ptrdiff_t rows)
{
    return array->rank > 0 && array->shape[0] >= rows;
}

/* Whether the arrays of a place have all rows that a frame may ask for. */
static int is_there(const Place *place, const Array *arrays, ptrdiff_t most_rows, ptrdiff_t all)
{
    const Array *source = &arrays[place->source];
    switch (place->rule) {
    case PART:
    case WHOLE:
        return 1;
    case FRAME:
        return has_rows(source, all);
    case BEFORE:
    case AFTER:
        return has_rows(source, all) && has_rows(&arrays[place->spare], most_rows);
    case RING:
        for (int i = 0; i < place->size; ++i)
            if (!has_rows(source + i, most_rows))
                return 0;
        return 1;
    default:
        return has_rows(source, most_rows);
    }
}

static int are_there(const Loop *loop, const Array *arrays, ptrdiff_t most_rows, ptrdiff_t all)
{
    int good = 1;
    for (int v = 0; v < loop->values; ++v)
        good = good && is_there(&loop->places[v], arrays, most_rows, all);
    for (int i = 0; i < loop->started; ++i)
        good = good && is_there(&loop->starts[i].place, arrays, most_rows, all)
            && has_rows(&arrays[loop->starts[i].initial], most_rows);
    for (int i = 0; i < loop->ended; ++i)
        good = good && has_rows(&arrays[loop->ends[i].array], most_rows);
    return good;
}

/* No sequence has anything to do with another, so where there are enough, each thread takes its own
   through all frames. Else each call is shared out by itself. */
int run_loop(const Loop *loop, const Array *arrays, const Array *prepared, const Frames *frames)
{
    Array values[MOST_LOOP_VALUES];
    const ptrdiff_t most_rows = rows_of(frames, 0), all = frames->starts[frames->count];
    if (!are_there(loop, arrays, most_rows, all))
        return 1;
    for (int among = 0; among < 2; ++among) {
        const Step any = {.rows = most_rows, .among = among};
        if (do_step(loop, values, arrays, prepared, &any, 1))
            return 1;
    }
    const ptrdiff_t rows = all / frames->count;
    atomic_int refused = 0;
    const Going going = {loop, arrays, prepared, frames, least(threads_at_hand(), rows / THREAD_ROWS),
                         &refused};
    if (going.parts < 2)
        return 2 * go(loop, arrays, prepared, frames, 0, most_rows);
    in_parts(share_of_sequences, &going, going.parts, (int)going.parts);
    return 2 * refused;
}
