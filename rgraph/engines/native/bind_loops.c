/* Loops, for Python. */

#define NO_IMPORT_ARRAY
#include "binding.h"
#include <stdlib.h>
#include <string.h>

#include "loop.h"

/* A place from its six numbers: `values` are there before it, for it to be a part of. */
static int place_of(Place *to, PyObject *tuple, int values, int arrays)
{
    if (!PyArg_ParseTuple(tuple, "iiinni", &to->rule, &to->source, &to->axis, &to->start, &to->size,
                          &to->spare))
        return 0;
    const int spare = to->rule == BEFORE || to->rule == AFTER;
    const ptrdiff_t more = to->rule == RING ? to->size - 1 : 0;
    const int sources = to->rule == PART ? values : arrays;
    if (to->rule < WHOLE || to->rule > PART || to->start < 0 || to->start > 1 << 30 || to->size < 0
        || to->source < 0 || to->source >= sources || more < 0 || more >= sources - to->source
        || (to->rule == RING && to->start >= to->size) || (to->rule == BEFORE && to->start < 1)
        || (spare && (to->spare < 0 || to->spare >= arrays))) {
        wrong("a place that a loop does not have");
        return 0;
    }
    return 1;
}

/* Notes which arrays are written where a value is. */
static void note_written(char *written, const Place *places, const Place *place)
{
    while (place->rule == PART)
        place = places + place->source;
    written[place->source] = 1;
    for (int i = 1; place->rule == RING && i < place->size; ++i)
        written[place->source + i] = 1;
    if (place->rule == BEFORE || place->rule == AFTER)
        written[place->spare] = 1;
}

/* An instruction and its operands, to `operands`, where `first` are; 0 and an exception for one that fits
   nothing. */
static int instruction_of(Instruction *to, int *operands, int first, char *written, const Place *places,
                          int values, int prepared, PyObject *tuple)
{
    PyObject *what, *numbers;
    if (!PyArg_ParseTuple(tuple, "OO!", &what, &PyTuple_Type, &numbers))
        return 0;
    const int count = (int)PyTuple_Size(numbers);
    *to = (Instruction){NULL, NULL, NULL, prepared, first, count};
    int result = 2, wanted;
    const Program *tail = NULL;
    if (PyCapsule_IsValid(what, PRODUCT)) {
        to->product = PyCapsule_GetPointer(what, PRODUCT);
        tail = to->product->tail;
        wanted = with_tail(tail);
    } else if (PyCapsule_IsValid(what, CONVOLUTION)) {
        to->convolution = PyCapsule_GetPointer(what, CONVOLUTION);
        tail = to->convolution->tail;
        wanted = with_tail(tail);
    } else {
        to->program = PyCapsule_GetPointer(what, PROGRAM);
        if (!to->program)
            return 0;
        result = to->program->operands;
        wanted = result + to->program->results;
    }
    if (count != wanted) {
        wrong("an instruction has other values than it needs");
        return 0;
    }
    if (!whole_numbers(numbers, operands + first, count, values))
        return 0;
    if (tail && operands[first + count - 1] != operands[first + 2]) {
        wrong("a tail has its result where that has it which it is the tail of");
        return 0;
    }
    for (int i = result; i < (to->program ? count : 3); ++i)
        note_written(written, places, places + operands[first + i]);
    return 1;
}

static int needs_preparing(PyObject *what)
{
    return PyCapsule_IsValid(what, PRODUCT) || PyCapsule_IsValid(what, CONVOLUTION);
}

static int is_array_of(const Loop *loop, int number)
{
    if (number >= 0 && number < loop->arrays)
        return 1;
    wrong("an array that a loop does not have");
    return 0;
}

static int fill_loop(const Loop *loop, Place *places, Instruction *instructions, Start *starts, End *ends,
                     int *operands, char *written, PyObject *const *given)
{
    for (int i = 0; i < loop->values; ++i) {
        if (!place_of(places + i, PyTuple_GetItem(given[0], i), i, loop->arrays))
            return 0;
        if (places[i].rule == AFTER)
            note_written(written, places, places + i);
    }
    for (int i = 0, first = 0, prepared = 0; i < loop->count; ++i) {
        if (!instruction_of(instructions + i, operands, first, written, places, loop->values, prepared,
                            PyTuple_GetItem(given[1], i)))
            return 0;
        first += instructions[i].count;
        prepared += !instructions[i].program;
    }
    for (int i = 0; i < loop->started; ++i) {
        PyObject *place;
        Start *start = starts + i;
        if (!PyArg_ParseTuple(PyTuple_GetItem(given[2], i), "O!ii", &PyTuple_Type, &place, &start->back,
                              &start->initial)
            || !place_of(&start->place, place, 0, loop->arrays) || !is_array_of(loop, start->initial))
            return 0;
        const int rule = start->place.rule;
        if ((rule != BEFORE && rule != RING && rule != FRAME) || start->back < 1
            || (rule != FRAME && start->back != start->place.start)) {
            wrong("a place that is no delay's");
            return 0;
        }
        note_written(written, places, &start->place);
    }
    for (int i = 0; i < loop->ended; ++i) {
        if (!PyArg_ParseTuple(PyTuple_GetItem(given[3], i), "ii", &ends[i].value, &ends[i].array)
            || !is_array_of(loop, ends[i].array))
            return 0;
        if (ends[i].value < 0 || ends[i].value >= loop->values) {
            wrong("a value that a loop does not have");
            return 0;
        }
        written[ends[i].array] = 1;
    }
    return 1;
}

static PyObject *make_loop(PyObject *self, PyObject *args)
{
    PyObject *given[4], *copy;
    int arrays;
    (void)self;
    if (!PyArg_ParseTuple(args, "O!O!O!O!Oi", &PyTuple_Type, given, &PyTuple_Type, given + 1,
                          &PyTuple_Type, given + 2, &PyTuple_Type, given + 3, &copy, &arrays))
        return NULL;
    const Program *program = PyCapsule_GetPointer(copy, PROGRAM);
    if (!program)
        return NULL;
    Py_ssize_t sizes[4], operands = 0, prepared = 0;
    for (int i = 0; i < 4; ++i)
        sizes[i] = PyTuple_Size(given[i]);
    if (program->operands != 1 || program->results != 1 || sizes[0] > MOST_LOOP_VALUES || arrays < 0
        || arrays > 1 << 16 || sizes[1] > 1 << 16 || sizes[2] > 1 << 16 || sizes[3] > 1 << 16)
        return wrong("a loop that is too large, or whose copy is none");
    for (Py_ssize_t i = 0; i < sizes[1]; ++i) {
        PyObject *what, *values;
        if (!PyArg_ParseTuple(PyTuple_GetItem(given[1], i), "OO!", &what, &PyTuple_Type, &values))
            return NULL;
        operands += PyTuple_Size(values);
        prepared += needs_preparing(what);
    }
    if (operands > 1 << 22)
        return wrong("a loop that is too large");
    /* one piece of memory, what is aligned most first */
    const size_t size = sizeof(Loop) + (size_t)sizes[1] * sizeof(Instruction)
        + (size_t)sizes[0] * sizeof(Place) + (size_t)sizes[2] * sizeof(Start)
        + (size_t)sizes[3] * sizeof(End) + (size_t)operands * sizeof(int) + (size_t)arrays;
    Loop *loop = PyMem_Malloc(size);
    if (!loop)
        return PyErr_NoMemory();
    memset(loop, 0, size);
    Instruction *instructions = (Instruction *)(loop + 1);
    Place *places = (Place *)(instructions + sizes[1]);
    Start *starts = (Start *)(places + sizes[0]);
    End *ends = (End *)(starts + sizes[2]);
    int *numbers = (int *)(ends + sizes[3]);
    char *written = (char *)(numbers + operands);
    *loop = (Loop){places, instructions, numbers, starts, ends, written, program, (int)sizes[0],
                   (int)sizes[1], (int)sizes[2], (int)sizes[3], arrays, (int)prepared};
    if (!fill_loop(loop, places, instructions, starts, ends, numbers, written, given)) {
        PyMem_Free(loop);
        return NULL;
    }
    return capsule_of(loop, LOOP, args);
}

/* Whether they are where frames begin: each has as many rows as the one before or fewer. */
static int are_starts(const ptrdiff_t *starts, ptrdiff_t count)
{
    if (starts[0])
        return 0;
    for (ptrdiff_t t = 0; t < count; ++t)
        if (starts[t + 1] < starts[t] || (t && starts[t + 1] - starts[t] > starts[t] - starts[t - 1]))
            return 0;
    return 1;
}

static PyObject *go_through_loop(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    int refused = 0;
    (void)self;
    const Loop *loop = count == 5 ? PyCapsule_GetPointer(args[0], LOOP) : NULL;
    if (!loop)
        return PyErr_Occurred() ? NULL : wrong("a loop, arrays, what is prepared, starts and a step are needed");
    const long step = PyLong_AsLong(args[4]);
    if (PyErr_Occurred())
        return NULL;
    if (!PyTuple_Check(args[1]) || PyTuple_Size(args[1]) != loop->arrays || !PyTuple_Check(args[2])
        || PyTuple_Size(args[2]) != loop->prepared || !is_dense(args[3], NPY_INTP, 0)
        || PyArray_NDIM((PyArrayObject *)args[3]) != 1 || size_of(args[3]) < 2
        || (step != 1 && step != -1))
        return wrong("other arrays than the loop's, or other starts or another step than a loop's");
    const Frames frames = {data_of(args[3]), size_of(args[3]) - 1, step};
    if (!are_starts(frames.starts, frames.count))
        return wrong("frames that don't begin one after the other");
    Array *arrays = malloc((size_t)(loop->arrays + loop->prepared + 1) * sizeof *arrays);
    if (!arrays)
        return PyErr_NoMemory();
    for (int i = 0; i < loop->arrays; ++i)
        refused = refused || !see(arrays + i, PyTuple_GetItem(args[1], i), loop->written[i]);
    for (int i = 0; i < loop->prepared; ++i)
        refused = refused || !see(arrays + loop->arrays + i, PyTuple_GetItem(args[2], i), 0);
    if (!refused) {
        Py_BEGIN_ALLOW_THREADS
        refused = run_loop(loop, arrays, arrays + loop->arrays, &frames);
        Py_END_ALLOW_THREADS
    }
    free(arrays);
    return refused == 2 ? PyErr_NoMemory() : PyBool_FromLong(refused);
}

PyMethodDef loop_methods[] = {
    {"loop", make_loop, METH_VARARGS,
     "loop(places, ((program, product or convolution, values), ...), ((place, back, initial), ...), "
     "((value, array), ...), copy, arrays): see plan.program"},
    {"go_through", FAST(go_through_loop), "go_through(loop, arrays, prepared, starts, step)"},
    {0},
};
