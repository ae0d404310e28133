/* All frames of a loop, one after the other, with nothing in between: what a frame calls is the same
   for all of them but for where its arrays are and how many rows they have.

   Sequences are sorted, the longest first, so the rows of any two frames begin with the same
   sequences. */

#include "tape.h"

#include <stdatomic.h>

#include "threads.h"

enum { THREAD_ROWS = 4 }; /* of a frame that are worth a thread */

/* The rows of a frame that belong to some sequences, `row` being the first of these; how many the
   frames before and after have of them, and where those of all three begin in the whole. */
typedef struct {
    ptrdiff_t turn, row, rows, before, after, here, earlier, later;
} Window;

static ptrdiff_t rows_of(const Frames *f, ptrdiff_t t)
{
    return t < 0 || t >= f->count ? 0 : f->starts[t + 1] - f->starts[t];
}

static Window window(const Frames *f, ptrdiff_t turn, ptrdiff_t row, ptrdiff_t end)
{
    const ptrdiff_t t = f->step > 0 ? turn : f->count - 1 - turn;
    const ptrdiff_t earlier = t - f->step, later = t + f->step;
    Window w = {.turn = turn, .row = row};
    w.rows = least(end, rows_of(f, t)) - row;
    w.before = most(0, least(end, rows_of(f, earlier)) - row);
    w.after = most(0, least(end, rows_of(f, later)) - row);
    w.here = f->starts[t] + row;
    w.earlier = w.before ? f->starts[earlier] + row : 0;
    w.later = w.after ? f->starts[later] + row : 0;
    return w;
}

static void narrow(Array *own, int axis, ptrdiff_t start, ptrdiff_t size)
{
    own->shape[axis] = size;
    own->data += start * own->strides[axis];
}

/* Returns 1 for a part that the value does not have. */
static int see_value(const Place *place, Array *own, const Array *values, const Array *arrays,
                     const Window *w)
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
    ptrdiff_t row = w->row;
    if (place->rule == FRAME)
        row = w->here;
    else if (place->rule == TURN || place->rule == OTHER_TURN)
        source += (int)((w->turn + (place->rule == OTHER_TURN)) % 2);
    else if (place->rule == BEFORE && w->before >= w->rows)
        row = w->earlier;
    else if (place->rule == AFTER && w->after >= w->rows)
        row = w->later;
    else if (place->rule == BEFORE || place->rule == AFTER)
        source = place->spare;
    *own = arrays[source];
    if (place->rule != WHOLE)
        narrow(own, 0, row, w->rows);
    return 0;
}

/* Copies rows of an array, from one on, to rows of another. */
static void copy_rows(const Tape *tape, const Array *to, ptrdiff_t at, const Array *from,
                      ptrdiff_t row, ptrdiff_t rows)
{
    if (rows <= 0)
        return;
    Array read = *from, written = *to;
    narrow(&read, 0, row, rows);
    narrow(&written, 0, at, rows);
    const Array *both[] = {&read, &written};
    run_program(tape->copy, both, 0);
}

/* Where a sequence begins, what a delay reads is its initial state. */
static void begin(const Tape *tape, const Array *arrays, const Window *w)
{
    for (const Delay *d = tape->delays; d < tape->delays + tape->delayed && w->before < w->rows; ++d) {
        const Place *place = &d->place;
        const Array *to = &arrays[place->rule == BEFORE ? place->spare
                                  : place->rule == TURN ? place->source + (w->turn + 1) % 2
                                                : place->source];
        if (place->rule == BEFORE)
            copy_rows(tape, to, w->row, &arrays[place->source], w->earlier, w->before);
        copy_rows(tape, to, (place->rule == AFTER ? w->here : w->row) + w->before,
                  &arrays[d->initial], w->row + w->before, w->rows - w->before);
    }
}

/* Where a sequence ends, or the loop does, what was to be the next frame's is in a spare array. */
static void end(const Tape *tape, const Array *arrays, const Array *values, const Window *w,
                ptrdiff_t step)
{
    for (const Delay *d = tape->delays; d < tape->delays + tape->delayed && w->after < w->rows; ++d)
        if (d->place.rule == AFTER)
            copy_rows(tape, &arrays[d->place.source], w->later, &arrays[d->place.spare], w->row,
                      w->after);
    const ptrdiff_t go_on = step > 0 ? w->after : w->before;
    for (const Last *l = tape->lasts; l < tape->lasts + tape->kept; ++l)
        copy_rows(tape, &arrays[l->array], w->row + go_on, &values[l->value], go_on,
                  w->rows - go_on);
}

/* Does what a frame calls, or if `only_look` sees whether it can be done. Returns 0 or, if a call
   refuses, 1. */
static int calls(const Tape *tape, Array *values, const Array *arrays, const Array *panels,
                 const Window *w, int only_look)
{
    const Array *operands[MOST_ARRAYS];
    for (int v = 0; v < tape->values; ++v)
        if (see_value(&tape->places[v], &values[v], values, arrays, w))
            return 1;
    for (const Entry *entry = tape->entries; entry < tape->entries + tape->calls; ++entry) {
        for (int k = 0; k < entry->count; ++k)
            operands[k] = &values[tape->operands[entry->first + k]];
        if (entry->product
                ? matrix_product(entry->product, operands, &panels[entry->panels], only_look)
                : run_program(entry->program, operands, only_look))
            return 1;
    }
    return 0;
}

/* Takes the sequences from `row` to `stop` through all frames. Returns 0, or 1 if there was no memory on
   the way. */
static int go(const Tape *tape, const Array *arrays, const Array *panels, const Frames *frames,
              ptrdiff_t row, ptrdiff_t stop)
{
    Array values[MOST_VALUES];
    for (ptrdiff_t turn = 0; turn < frames->count; ++turn) {
        const Window w = window(frames, turn, row, stop);
        if (w.rows <= 0)
            continue;
        begin(tape, arrays, &w);
        if (calls(tape, values, arrays, panels, &w, 0))
            return 1;
        end(tape, arrays, values, &w, frames->step);
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
    const Tape *tape;
    const Array *arrays;
    const Array *panels;
    const Frames *frames;
    ptrdiff_t parts;
    atomic_int *refused;
} Going;

static void share_of_sequences(const void *what, ptrdiff_t part, int thread)
{
    const Going *g = what;
    (void)thread;
    if (go(g->tape, g->arrays, g->panels, g->frames, first_with(g->frames, part, g->parts),
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
    case TURN:
    case OTHER_TURN:
        return has_rows(source, most_rows) && has_rows(source + 1, most_rows);
    default:
        return has_rows(source, most_rows);
    }
}

static int are_there(const Tape *tape, const Array *arrays, ptrdiff_t most_rows, ptrdiff_t all)
{
    int good = 1;
    for (int v = 0; v < tape->values; ++v)
        good = good && is_there(&tape->places[v], arrays, most_rows, all);
    for (int i = 0; i < tape->delayed; ++i)
        good = good && is_there(&tape->delays[i].place, arrays, most_rows, all)
            && has_rows(&arrays[tape->delays[i].initial], most_rows);
    for (int i = 0; i < tape->kept; ++i)
        good = good && has_rows(&arrays[tape->lasts[i].array], most_rows);
    return good;
}

/* No sequence has anything to do with another, so where there are enough, each thread takes its own
   through all frames. Else each call is shared out by itself. */
int run_tape(const Tape *tape, const Array *arrays, const Array *panels, const Frames *frames)
{
    Array values[MOST_VALUES];
    const ptrdiff_t most_rows = rows_of(frames, 0), all = frames->starts[frames->count];
    if (!are_there(tape, arrays, most_rows, all))
        return 1;
    const Window alone = {.rows = most_rows};
    const Window among = {.rows = most_rows, .before = most_rows, .after = most_rows};
    if (calls(tape, values, arrays, panels, &alone, 1) || calls(tape, values, arrays, panels, &among, 1))
        return 1;
    const ptrdiff_t rows = all / frames->count;
    atomic_int refused = 0;
    const Going going = {tape, arrays, panels, frames, least(threads_at_hand(), rows / THREAD_ROWS),
                         &refused};
    if (going.parts < 2)
        return 2 * go(tape, arrays, panels, frames, 0, most_rows);
    in_parts(share_of_sequences, &going, going.parts, (int)going.parts);
    return 2 * refused;
}
