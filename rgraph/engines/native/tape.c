/* All frames of a loop, one after the other, with nothing in between: what a frame calls is the same
   for all of them but for where its arrays are and how many rows they have.

   Sequences are sorted, the longest first, so the rows of any two frames begin with the same
   sequences. */

enum { WHOLE, FIRST_ROWS, FRAME, BEFORE, AFTER, TURN, OTHER_TURN, PART };

enum { THREAD_ROWS = 4 }; /* of a frame that are worth a thread */

/* Where a value is: in an array, as it is (WHOLE); in its first rows (FIRST_ROWS), or those of the
   frame, of the frame before or of the one after, if that frame has as many, else in the first rows of
   a spare one; in one of two arrays in turn, or in the other; or it is a part of another value along an
   axis. `source` numbers the arrays, for a part the values. */
typedef struct {
    int rule, source, axis;
    ptrdiff_t start, size;
    int spare;
} Place;

/* One call: a program, or a product with the panels of that number. */
typedef struct {
    const void *what;
    int product, panels, first, count; /* its operands */
} Entry;

/* What a delay reads: `place` is its source's if that is kept whole (BEFORE), or written where the next
   frame has the delay's (AFTER), or else in two arrays in turn (TURN). `initial` numbers an array with
   a row for each sequence. */
typedef struct {
    Place place;
    int initial;
} Delay;

/* A value that is kept, in an array with a row for each sequence, as it was when that ended. */
typedef struct {
    int value, array;
} Last;

typedef struct {
    const Place *places;
    const Entry *entries;
    const int *operands;
    const Delay *delays;
    const Last *lasts;
    const Program *copy; /* of an array to another */
    int values, calls, delayed, kept, arrays;
} Tape;

/* What looks like a NumPy array to all that reads its fields. */
typedef struct {
    const void *type;
    Fields fields;
    ptrdiff_t shape[MOST_AXES], strides[MOST_AXES];
} Seen;

/* The frames of a loop: `starts` has the row of the whole that each begins with, and the end; `step` is
   1 or -1. */
typedef struct {
    const ptrdiff_t *starts;
    ptrdiff_t count, step;
} Frames;

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
    Window w = {turn, row};
    w.rows = least(end, rows_of(f, t)) - row;
    w.before = most(0, least(end, rows_of(f, earlier)) - row);
    w.after = most(0, least(end, rows_of(f, later)) - row);
    w.here = f->starts[t] + row;
    w.earlier = w.before ? f->starts[earlier] + row : 0;
    w.later = w.after ? f->starts[later] + row : 0;
    return w;
}

static void see(Seen *own, const Fields *from)
{
    own->type = arrays_are.type;
    own->fields = *from;
    own->fields.shape = own->shape;
    own->fields.strides = own->strides;
    for (int i = 0; i < from->rank; ++i) { /* a number's are nowhere, where `memcpy` may not read */
        own->shape[i] = from->shape[i];
        own->strides[i] = from->strides[i];
    }
}

static void narrow(Seen *own, int axis, ptrdiff_t start, ptrdiff_t size)
{
    own->shape[axis] = size;
    own->fields.data += start * own->strides[axis];
}

static void see_value(const Place *place, Seen *own, const Seen *values, void *const *arrays,
                      const Window *w)
{
    if (place->rule == PART) {
        const Fields *from = &values[place->source].fields;
        see(own, from);
        narrow(own, from->rank + place->axis, place->start, place->size);
        return;
    }
    int source = place->source;
    ptrdiff_t row = w->row;
    if (place->rule == FRAME)
        row = w->here;
    else if (place->rule == TURN || place->rule == OTHER_TURN)
        source += (w->turn + (place->rule == OTHER_TURN)) % 2;
    else if (place->rule == BEFORE && w->before >= w->rows)
        row = w->earlier;
    else if (place->rule == AFTER && w->after >= w->rows)
        row = w->later;
    else if (place->rule == BEFORE || place->rule == AFTER)
        source = place->spare;
    see(own, fields(arrays[source]));
    if (place->rule != WHOLE)
        narrow(own, 0, row, w->rows);
}

static void *object_of(Seen *seen)
{
    return (char *)&seen->fields - arrays_are.head;
}

/* Copies rows of an array, from one on, to rows of another. */
static void copy_rows(const Tape *tape, void *to, ptrdiff_t at, const Fields *from, ptrdiff_t row,
                      ptrdiff_t rows)
{
    Seen read, written;
    if (rows <= 0)
        return;
    see(&read, from);
    see(&written, fields(to));
    narrow(&read, 0, row, rows);
    narrow(&written, 0, at, rows);
    void *objects[] = {object_of(&read), object_of(&written)};
    run(tape->copy, objects, 0);
}

/* Where a sequence begins, what a delay reads is its initial state. */
static void begin(const Tape *tape, void *const *arrays, const Window *w)
{
    for (const Delay *d = tape->delays; d < tape->delays + tape->delayed && w->before < w->rows; ++d) {
        const Place *place = &d->place;
        void *to = arrays[place->rule == BEFORE ? place->spare
                          : place->rule == TURN ? place->source + (w->turn + 1) % 2
                                                : place->source];
        if (place->rule == BEFORE)
            copy_rows(tape, to, w->row, fields(arrays[place->source]), w->earlier, w->before);
        copy_rows(tape, to, (place->rule == AFTER ? w->here : w->row) + w->before,
                  fields(arrays[d->initial]), w->row + w->before, w->rows - w->before);
    }
}

/* Where a sequence ends, or the loop does, what was to be the next frame's is in a spare array. */
static void end(const Tape *tape, void *const *arrays, const Seen *values, const Window *w,
                ptrdiff_t step)
{
    for (const Delay *d = tape->delays; d < tape->delays + tape->delayed && w->after < w->rows; ++d)
        if (d->place.rule == AFTER)
            copy_rows(tape, arrays[d->place.source], w->later, fields(arrays[d->place.spare]), w->row,
                      w->after);
    const ptrdiff_t go_on = step > 0 ? w->after : w->before;
    for (const Last *l = tape->lasts; l < tape->lasts + tape->kept; ++l)
        copy_rows(tape, arrays[l->array], w->row + go_on, &values[l->value].fields, go_on,
                  w->rows - go_on);
}

/* Does what a frame calls, or if `only_look` sees whether it can be done. Returns 0 or, if a call
   refuses, 1. */
static int calls(const Tape *tape, Seen *values, void *const *arrays, const float *const *panels,
                 const Window *w, int only_look)
{
    void *objects[MOST_ARRAYS];
    for (int v = 0; v < tape->values; ++v)
        see_value(&tape->places[v], &values[v], values, arrays, w);
    for (const Entry *entry = tape->entries; entry < tape->entries + tape->calls; ++entry) {
        for (int k = 0; k < entry->count; ++k)
            objects[k] = object_of(&values[tape->operands[entry->first + k]]);
        if (entry->product ? matrix_product(entry->what, objects, panels[entry->panels], only_look)
                           : run(entry->what, objects, only_look))
            return 1;
    }
    return 0;
}

/* Takes the sequences from `row` to `stop` through all frames. Returns 0, or 1 if there was no memory on
   the way. */
static int go(const Tape *tape, void *const *arrays, const float *const *panels, const Frames *frames,
              ptrdiff_t row, ptrdiff_t stop)
{
    Seen values[MOST_VALUES];
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
    void *const *arrays;
    const float *const *panels;
    const Frames *frames;
    ptrdiff_t parts;
    atomic_int *refused;
} Going;

static void share_of_sequences(const void *what, ptrdiff_t part, int thread)
{
    const Going *g = what;
    if (go(g->tape, g->arrays, g->panels, g->frames, first_with(g->frames, part, g->parts),
           first_with(g->frames, part + 1, g->parts)))
        *g->refused = 1;
}

/* Does the frames. Returns 0; 1 for arrays that a call can't take: nothing has been done then; or 2 if
   there was no memory on the way.

   No sequence has anything to do with another, so where there are enough, each thread takes its own
   through all frames. Else each call is shared out by itself. */
int run_tape(const Tape *tape, void *const *arrays, const float *const *panels,
             const Frames *frames)
{
    Seen values[MOST_VALUES];
    for (int i = 0; i < tape->arrays; ++i)
        if (!fields(arrays[i]) || fields(arrays[i])->rank > MOST_AXES)
            return 1;
    const ptrdiff_t most_rows = rows_of(frames, 0);
    const Window alone = {0, 0, most_rows}, among = {0, 0, most_rows, most_rows, most_rows};
    if (calls(tape, values, arrays, panels, &alone, 1) || calls(tape, values, arrays, panels, &among, 1))
        return 1;
    const ptrdiff_t rows = frames->starts[frames->count] / frames->count;
    atomic_int refused = 0;
    const Going going = {tape, arrays, panels, frames, least(threads_at_hand(), rows / THREAD_ROWS),
                         &refused};
    if (going.parts < 2)
        return 2 * go(tape, arrays, panels, frames, 0, most_rows);
    in_parts(share_of_sequences, &going, going.parts, going.parts);
    return 2 * refused;
}
