/* Runs programs of pointwise operations over arrays, block by block.

   A block's intermediate values stay in the first-level cache, so a program costs one pass over
   memory. */

#include "interpreter.h"

#include <string.h>

#include "operations.h"
#include "threads.h"

enum { BLOCK = 1024, SHORT = 64, LARGE = 1 << 15 };
/* Operations on elements that are worth a thread; elements of a result that are many. */
enum { OPERATIONS = 1 << 13, MUCH = 1 << 18 };
_Static_assert(MOST_VALUES * BLOCK * sizeof(float) <= ROOM, "a thread has room for a block's values");

static const ptrdiff_t NUMBER = sizeof(float);

typedef struct {
    const Path *path;
    float (*scratch)[BLOCK];
    ptrdiff_t filled[MOST_ARRAYS]; /* rows of an operand that is the same for all, copied already */
    float *at[MOST_VALUES];        /* where each value of the block is */
    int large; /* is it worth fetching the next block? One is a page, and hardware looks no further */
} State;

/* Finds the path through the arrays; 1 if there is one that it can't take. */
static int follow(Path *path, const Program *program, const Array *const *all)
{
    const int arrays = path->arrays = program->operands + program->results;
    const Array *first = all[program->operands];
    if (!room_of_thread())
        return 1;
    const int rank = first->rank;
    int order[MOST_AXES], axes = 0;
    for (int i = 0; i < rank; ++i)
        if (first->shape[i] != 1) {
            int place = axes++;
            for (; place && first->strides[order[place - 1]] < first->strides[i]; --place)
                order[place] = order[place - 1];
            order[place] = i;
        }
    for (int i = 0; i < axes; ++i)
        path->shape[i] = first->shape[order[i]];
    for (int k = 0; k < arrays; ++k) {
        const Array *array = all[k];
        if (array->rank > rank || (k >= program->operands && array->rank != rank))
            return 1;
        for (int i = 0; i < array->rank; ++i) {
            ptrdiff_t whole = first->shape[rank - array->rank + i];
            if (array->shape[i] != whole && (array->shape[i] != 1 || k >= program->operands))
                return 1;
        }
        path->data[k] = array->data;
        for (int i = 0; i < axes; ++i) {
            int own = order[i] - (rank - array->rank);
            path->strides[k][i] = own < 0 || array->shape[own] == 1 ? 0 : array->strides[own];
        }
    }
    int last = 0;
    for (int i = 1; i < axes; ++i) { /* neighbours that all arrays go through as one are joined */
        int joined = 1;
        for (int k = 0; k < arrays && joined; ++k)
            joined = path->strides[k][last] == path->strides[k][i] * path->shape[i];
        if (joined)
            path->shape[last] *= path->shape[i];
        else
            path->shape[++last] = path->shape[i];
        for (int k = 0; k < arrays; ++k)
            path->strides[k][last] = path->strides[k][i];
    }
    path->axes = axes ? last + 1 : 0;
    while (path->axes < 2) { /* there always are rows and columns */
        for (int i = path->axes++; i; --i) {
            path->shape[i] = path->shape[i - 1];
            for (int k = 0; k < arrays; ++k)
                path->strides[k][i] = path->strides[k][i - 1];
        }
        path->shape[0] = 1;
        for (int k = 0; k < arrays; ++k)
            path->strides[k][0] = 0;
    }
    return 0;
}

static void gather(float *to, const char *from, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t down,
                   ptrdiff_t along)
{
    for (ptrdiff_t r = 0; r < rows; ++r, from += down, to += columns)
        if (along == NUMBER)
            memcpy(to, from, (size_t)(columns * NUMBER));
        else if (along == 0)
            for (ptrdiff_t c = 0; c < columns; ++c)
                to[c] = *(const float *)from;
        else
            for (ptrdiff_t c = 0; c < columns; ++c)
                to[c] = *(const float *)(from + c * along);
}

static void scatter(char *to, const float *from, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t down,
                    ptrdiff_t along)
{
    for (ptrdiff_t r = 0; r < rows; ++r, to += down, from += columns)
        for (ptrdiff_t c = 0; c < columns; ++c)
            *(float *)(to + c * along) = from[c];
}

static inline void prefetch(const float *from, const float *to)
{
    for (; from < to; from += 64 / sizeof(float))
        __builtin_prefetch(from);
}

static void block(const Program *program, State *state, const ptrdiff_t *outer, ptrdiff_t row,
                  ptrdiff_t rows, ptrdiff_t column, ptrdiff_t columns)
{
    const Path *path = state->path;
    const int down = path->axes - 2, along = path->axes - 1;
    char *begin[MOST_ARRAYS];
    for (int k = 0; k < path->arrays; ++k) {
        const ptrdiff_t *strides = path->strides[k];
        begin[k] = path->data[k] + outer[k] + row * strides[down] + column * strides[along];
        int direct = strides[along] == NUMBER
            && (rows == 1 || strides[down] == columns * NUMBER);
        if (k >= program->operands) /* what it takes the place of may still be read */
            for (int i = 0; i < program->operands; ++i)
                direct = direct && begin[i] != begin[k];
        state->at[k] = direct ? (float *)begin[k] : state->scratch[k];
        if (direct || k >= program->operands || state->filled[k] >= rows)
            continue;
        gather(state->scratch[k], begin[k], rows, columns, strides[down], strides[along]);
        int same = columns == path->shape[along];
        for (int i = 0; i <= down; ++i)
            same = same && strides[i] == 0;
        state->filled[k] = same ? rows : 0;
    }
    const int *step = program->code;
    const ptrdiff_t size = rows * columns;
    for (int i = 0; i < program->steps; ++i, step += 5) {
        for (int k = 0; k < path->arrays && state->large; ++k)
            if (state->at[k] == (float *)begin[k] && path->strides[k][along])
                prefetch(state->at[k] + size + size * i / program->steps,
                         state->at[k] + size + size * (i + 1) / program->steps);
        operations[step[0]](state->at[step[1]], state->at[step[2]], state->at[step[3]],
                            state->at[step[4]], size);
    }
    for (int k = program->operands; k < path->arrays; ++k)
        if (state->at[k] != (float *)begin[k])
            scatter(begin[k], state->at[k], rows, columns, path->strides[k][down],
                    path->strides[k][along]);
}

/* Computes the results from `start` to `stop` along an axis; the path is then that of these. */
static void stretch(const Program *program, Path *path, int axis, ptrdiff_t start, ptrdiff_t stop)
{
    const int down = path->axes - 2, along = path->axes - 1, values = path->arrays + program->registers;
    path->shape[axis] = stop - start;
    for (int k = 0; k < path->arrays; ++k)
        path->data[k] += start * path->strides[k][axis];
    ptrdiff_t size = 1;
    for (int i = 0; i < path->axes; ++i)
        size *= path->shape[i];
    if (size == 0)
        return;

    float(*scratch)[BLOCK] = room_of_thread(); /* `follow` has seen to it */
    State state = {path, scratch, {0}, {0}, size >= LARGE};
    for (int v = path->arrays; v < values; ++v)
        state.at[v] = scratch[v];
    const ptrdiff_t rows = path->shape[down], columns = path->shape[along];
    const ptrdiff_t width = columns < BLOCK ? columns : BLOCK;
    int copied = columns < SHORT; /* is a block of several rows worth the copies of what has gaps? */
    int gapless = columns <= BLOCK; /* or are there none, but for rows that are all the same? */
    for (int k = 0; k < path->arrays; ++k)
        gapless = gapless && (path->strides[k][down] == 0
                              || path->strides[k][down] == columns * NUMBER);
    const ptrdiff_t height = copied || gapless ? BLOCK / columns : 1;
    ptrdiff_t index[MOST_AXES] = {0}, outer[MOST_ARRAYS] = {0};
    for (;;) {
        for (ptrdiff_t r = 0; r < rows; r += height)
            for (ptrdiff_t c = 0; c < columns; c += width)
                block(program, &state, outer, r, rows - r < height ? rows - r : height, c,
                      columns - c < width ? columns - c : width);
        int i = down - 1;
        for (; i >= 0; --i) {
            if (++index[i] < path->shape[i]) {
                for (int k = 0; k < path->arrays; ++k)
                    outer[k] += path->strides[k][i];
                break;
            }
            for (int k = 0; k < path->arrays; ++k)
                outer[k] -= path->strides[k][i] * (path->shape[i] - 1);
            index[i] = 0;
        }
        if (i < 0)
            return;
    }
}

int rows_and_columns(Path *path, const Program *tail, const Array *const *arrays, ptrdiff_t rows,
                     ptrdiff_t columns)
{
    if (follow(path, tail, arrays) || path->axes != 2)
        return 0;
    if (path->shape[0] == rows && path->shape[1] == columns)
        return 1;
    if (path->shape[0] != 1 || path->shape[1] != rows * columns)
        return 0;
    path->shape[0] = rows;
    path->shape[1] = columns;
    for (int k = 0; k < path->arrays; ++k)
        path->strides[k][0] = path->strides[k][1] * columns;
    return 1;
}

void rectangle(const Program *tail, Path path, float *from, ptrdiff_t line, ptrdiff_t row,
               ptrdiff_t rows, ptrdiff_t column, ptrdiff_t columns)
{
    for (int k = 1; k < path.arrays; ++k)
        path.data[k] += row * path.strides[k][0] + column * path.strides[k][1];
    path.data[0] = (char *)from;
    path.strides[0][0] = line * NUMBER;
    path.strides[0][1] = NUMBER;
    int flat = 1;
    for (int k = 0; k < path.arrays; ++k)
        flat = flat && path.strides[k][0] == path.strides[k][1] * columns;
    path.shape[1] = flat ? rows * columns : columns;
    stretch(tail, &path, 0, 0, flat ? 1 : rows);
}

typedef struct {
    const Program *program;
    const Path *path;
    int parts;
} Shared;

/* Computes a share of the results. */
static void share(const void *what, ptrdiff_t part, int thread)
{
    const Shared *s = what;
    (void)thread;
    Path path = *s->path;
    int axis = 0; /* that is shared out: the outermost that is long enough */
    while (axis < path.axes - 1 && path.shape[axis] < s->parts)
        ++axis;
    const ptrdiff_t size = path.shape[axis];
    stretch(s->program, &path, axis, size * part / s->parts, size * (part + 1) / s->parts);
}

/* In how many shares a program is worth being done: where there is much, more than there are threads, so
   that one that is held up leaves some to the others. */
static int shares_of(const Program *program, const Path *path)
{
    ptrdiff_t size = 1;
    for (int i = 0; i < path->axes; ++i)
        size *= path->shape[i];
    if (size >= MUCH)
        return 8 * threads_at_hand();
    return (int)least(threads_at_hand(), most(1, size * program->steps / OPERATIONS));
}

int run_program(const Program *program, const Array *const *arrays, int only_look)
{
    Path path;
    if (follow(&path, program, arrays))
        return 1;
    if (only_look)
        return 0;
    const Shared shared = {program, &path, shares_of(program, &path)};
    if (shared.parts > 1)
        in_parts(share, &shared, shared.parts, threads_at_hand());
    else
        stretch(program, &path, 0, 0, path.shape[0]);
    return 0;
}
