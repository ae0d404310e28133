/* Tapes, for Python. */

#define NO_IMPORT_ARRAY
#include "binding.h"
#include <stdlib.h>
#include <string.h>

#include "tape.h"

/* A place from its six numbers: `values` are there before it, for it to be a part of. */
static int place_of(Place *to, PyObject *tuple, int values, int arrays)
{
    if (!PyArg_ParseTuple(tuple, "iiinni", &to->rule, &to->source, &to->axis, &to->start, &to->size,
                          &to->spare))
        return 0;
    const int turns = to->rule == TURN || to->rule == OTHER_TURN;
    const int spare = to->rule == BEFORE || to->rule == AFTER;
    const int sources = to->rule == PART ? values : arrays - turns;
    if (to->rule < WHOLE || to->rule > PART || to->source < 0 || to->source >= sources
        || (spare && (to->spare < 0 || to->spare >= arrays)) || to->start < 0 || to->size < 0) {
        wrong("a place that a tape does not have");
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
    if (place->rule == TURN || place->rule == OTHER_TURN)
        written[place->source + 1] = 1;
    if (place->rule == BEFORE || place->rule == AFTER)
        written[place->spare] = 1;
}

/* A call and its operands, to `operands`, where `first` are; 0 and an exception for one that fits
   nothing. */
static int entry_of(Entry *to, int *operands, int first, char *written, const Place *places, int values,
                    int products, PyObject *tuple)
{
    PyObject *what, *numbers;
    if (!PyArg_ParseTuple(tuple, "OO!", &what, &PyTuple_Type, &numbers))
        return 0;
    const int count = (int)PyTuple_Size(numbers);
    *to = (Entry){NULL, NULL, products, first, count};
    int result, wanted;
    if (PyCapsule_IsValid(what, PRODUCT)) {
        to->product = PyCapsule_GetPointer(what, PRODUCT);
        wanted = arrays_of(to->product);
        result = 2;
    } else {
        to->program = PyCapsule_GetPointer(what, PROGRAM);
        if (!to->program)
            return 0;
        result = to->program->operands;
        wanted = result + to->program->results;
    }
    if (count != wanted) {
        wrong("a call on a tape has other values than it needs");
        return 0;
    }
    if (!whole_numbers(numbers, operands + first, count, values))
        return 0;
    if (to->product && to->product->tail && operands[first + count - 1] != operands[first + 2]) {
        wrong("a product's tail has its result where the product has it");
        return 0;
    }
    for (int i = result; i < (to->product ? 3 : count); ++i)
        note_written(written, places, places + operands[first + i]);
    return 1;
}

static int fill_tape(const Tape *tape, Place *places, Entry *entries, Delay *delays, Last *lasts,
                     int *operands, char *written, PyObject *const *given)
{
    for (int i = 0; i < tape->values; ++i)
        if (!place_of(places + i, PyTuple_GetItem(given[0], i), i, tape->arrays))
            return 0;
    for (int i = 0, first = 0, products = 0; i < tape->calls; ++i) {
        if (!entry_of(entries + i, operands, first, written, places, tape->values, products,
                      PyTuple_GetItem(given[1], i)))
            return 0;
        first += entries[i].count;
        products += entries[i].product != NULL;
    }
    for (int i = 0; i < tape->delayed; ++i) {
        PyObject *place;
        if (!PyArg_ParseTuple(PyTuple_GetItem(given[2], i), "O!i", &PyTuple_Type, &place,
                              &delays[i].initial)
            || !place_of(&delays[i].place, place, 0, tape->arrays))
            return 0;
        note_written(written, places, &delays[i].place);
        if (delays[i].initial < 0 || delays[i].initial >= tape->arrays) {
            wrong("a delay's initial state is none of the tape's arrays");
            return 0;
        }
    }
    for (int i = 0; i < tape->kept; ++i) {
        if (!PyArg_ParseTuple(PyTuple_GetItem(given[3], i), "ii", &lasts[i].value, &lasts[i].array))
            return 0;
        if (lasts[i].value < 0 || lasts[i].value >= tape->values || lasts[i].array < 0
            || lasts[i].array >= tape->arrays) {
            wrong("a value that is kept is none of the tape's, or has no array");
            return 0;
        }
        written[lasts[i].array] = 1;
    }
    return 1;
}

static PyObject *make_tape(PyObject *self, PyObject *args)
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
    Py_ssize_t sizes[4], operands = 0, products = 0;
    for (int i = 0; i < 4; ++i)
        sizes[i] = PyTuple_Size(given[i]);
    if (program->operands != 1 || program->results != 1 || sizes[0] > MOST_VALUES || arrays < 0
        || arrays > 1 << 16 || sizes[1] > 1 << 16 || sizes[2] > 1 << 16 || sizes[3] > 1 << 16)
        return wrong("a tape that is too large, or whose copy is none");
    for (Py_ssize_t i = 0; i < sizes[1]; ++i) {
        PyObject *what, *values;
        if (!PyArg_ParseTuple(PyTuple_GetItem(given[1], i), "OO!", &what, &PyTuple_Type, &values))
            return NULL;
        operands += PyTuple_Size(values);
        products += PyCapsule_IsValid(what, PRODUCT);
    }
    if (operands > 1 << 22)
        return wrong("a tape that is too large");
    /* one piece of memory, what is aligned most first */
    const size_t size = sizeof(Tape) + (size_t)sizes[1] * sizeof(Entry) + (size_t)sizes[0] * sizeof(Place)
        + (size_t)sizes[2] * sizeof(Delay) + (size_t)sizes[3] * sizeof(Last)
        + (size_t)operands * sizeof(int) + (size_t)arrays;
    Tape *tape = PyMem_Malloc(size);
    if (!tape)
        return PyErr_NoMemory();
    memset(tape, 0, size);
    Entry *entries = (Entry *)(tape + 1);
    Place *places = (Place *)(entries + sizes[1]);
    Delay *delays = (Delay *)(places + sizes[0]);
    Last *lasts = (Last *)(delays + sizes[2]);
    int *numbers = (int *)(lasts + sizes[3]);
    char *written = (char *)(numbers + operands);
    *tape = (Tape){places, entries, numbers, delays, lasts, written, program, (int)sizes[0],
                   (int)sizes[1], (int)sizes[2], (int)sizes[3], arrays, (int)products};
    if (!fill_tape(tape, places, entries, delays, lasts, numbers, written, given)) {
        PyMem_Free(tape);
        return NULL;
    }
    return capsule_of(tape, TAPE, args);
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

static PyObject *go_through(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    int refused = 0;
    (void)self;
    const Tape *tape = count == 5 ? PyCapsule_GetPointer(args[0], TAPE) : NULL;
    if (!tape)
        return PyErr_Occurred() ? NULL : wrong("a tape, arrays, panels, starts and a step are needed");
    const long step = PyLong_AsLong(args[4]);
    if (PyErr_Occurred())
        return NULL;
    if (!PyTuple_Check(args[1]) || PyTuple_Size(args[1]) != tape->arrays || !PyTuple_Check(args[2])
        || PyTuple_Size(args[2]) != tape->products || !is_dense(args[3], NPY_INTP, 0)
        || PyArray_NDIM((PyArrayObject *)args[3]) != 1 || size_of(args[3]) < 2
        || (step != 1 && step != -1))
        return wrong("other arrays than the tape's, or other starts or another step than a loop's");
    const Frames frames = {data_of(args[3]), size_of(args[3]) - 1, step};
    if (!are_starts(frames.starts, frames.count))
        return wrong("frames that don't begin one after the other");
    Array *arrays = malloc((size_t)(tape->arrays + tape->products + 1) * sizeof *arrays);
    if (!arrays)
        return PyErr_NoMemory();
    for (int i = 0; i < tape->arrays; ++i)
        refused = refused || !see(arrays + i, PyTuple_GetItem(args[1], i), tape->written[i]);
    for (int i = 0; i < tape->products; ++i)
        refused = refused || !see(arrays + tape->arrays + i, PyTuple_GetItem(args[2], i), 0);
    if (!refused) {
        Py_BEGIN_ALLOW_THREADS
        refused = run_tape(tape, arrays, arrays + tape->arrays, &frames);
        Py_END_ALLOW_THREADS
    }
    free(arrays);
    return refused == 2 ? PyErr_NoMemory() : PyBool_FromLong(refused);
}

PyMethodDef tape_methods[] = {
    {"tape", make_tape, METH_VARARGS,
     "tape(places, ((program or product, values), ...), ((place, initial), ...), ((value, array), ...), "
     "copy, arrays): see plan.tape"},
    {"go_through", FAST(go_through), "go_through(tape, arrays, panels, starts, step)"},
    {0},
};
