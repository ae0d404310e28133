/* Frames of a loop, one after the other, with nothing in between: what a frame calls is the same for
   all of them but for where its arrays are. */

enum { WHOLE, FIRST_ROWS, FRAME, BEFORE, AFTER, TURN, OTHER_TURN, PART };

/* Where a value is: in an array, as it is (WHOLE); in its first rows (FIRST_ROWS), or those of the
   frame, of the frame before or of the one after; in one of two arrays in turn, or in the other; or it
   is a part of another value along an axis. `source` numbers the arrays, for a part the values. */
typedef struct {
    int rule, source, axis;
    ptrdiff_t start, size;
} Place;

/* One call: a program, or a product with the panels of that number. */
typedef struct {
    const void *what;
    int product, panels, first, count; /* its operands */
} Entry;

typedef struct {
    const Place *places;
    const Entry *entries;
    const int *operands;
    int values, calls;
} Tape;

/* What looks like a NumPy array to all that reads its fields. */
typedef struct {
    const void *type;
    Fields fields;
    ptrdiff_t shape[MOST_AXES], strides[MOST_AXES];
} Seen;

/* The frames of a loop: `starts` are those of frames in rows of the whole, `step` is 1 or -1. */
typedef struct {
    const ptrdiff_t *starts;
    ptrdiff_t rows, first, count, step;
} Frames;

static int see(const Tape *tape, Seen *values, int number, void *const *arrays,
               const Frames *frames, ptrdiff_t turn)
{
    const Place *place = &tape->places[number];
    const ptrdiff_t t = frames->first + turn * frames->step;
    Seen *own = &values[number];
    const int two = place->rule == TURN ? turn % 2 : place->rule == OTHER_TURN ? 1 - turn % 2 : 0;
    const Fields *from = place->rule == PART
        ? &values[place->source].fields
        : fields(arrays[place->source + two]);
    if (!from || from->rank > MOST_AXES)
        return 1;
    own->type = arrays_are.type;
    own->fields = *from;
    own->fields.shape = own->shape;
    own->fields.strides = own->strides;
    for (int i = 0; i < from->rank; ++i) { /* a number's are nowhere, where `memcpy` may not read */
        own->shape[i] = from->shape[i];
        own->strides[i] = from->strides[i];
    }
    if (place->rule == PART) {
        const int axis = from->rank + place->axis;
        own->shape[axis] = place->size;
        own->fields.data += place->start * own->strides[axis];
    } else if (place->rule != WHOLE) {
        const ptrdiff_t frame = place->rule == BEFORE ? t - frames->step : t + frames->step;
        own->shape[0] = frames->rows;
        if (place->rule == FRAME)
            own->fields.data += frames->starts[t] * own->strides[0];
        else if (place->rule == BEFORE || place->rule == AFTER)
            own->fields.data += frames->starts[frame] * own->strides[0];
    }
    return 0;
}

/* Does the frames. Returns 0; 1 for arrays that a call can't take: nothing has been done then; or 2 if
   there was no memory on the way. */
int run_tape(const Tape *tape, void *const *arrays, const float *const *panels,
             const Frames *frames)
{
    Seen values[MOST_VALUES];
    void *objects[MOST_ARRAYS];
    for (ptrdiff_t turn = -1; turn < frames->count; ++turn) { /* first, it only looks */
        for (int v = 0; v < tape->values; ++v)
            if (see(tape, values, v, arrays, frames, most(turn, 0)))
                return 1;
        for (int i = 0; i < tape->calls; ++i) {
            const Entry *entry = &tape->entries[i];
            for (int k = 0; k < entry->count; ++k)
                objects[k] = (char *)&values[tape->operands[entry->first + k]].fields - arrays_are.head;
            const int refused = entry->product
                ? matrix_product(entry->what, objects, panels[entry->panels], turn < 0)
                : run(entry->what, objects, turn < 0);
            if (refused)
                return turn < 0 ? 1 : 2;
        }
    }
    return 0;
}
