/* Numbers from text, for Python. */

#define NO_IMPORT_ARRAY
#include "binding.h"
#include <stdlib.h>

#include "text.h"

/* A stream's arrays; 0 if they have not the types and sizes that its samples need. */
static int stream_of(struct text_stream *to, PyObject *tuple)
{
    PyObject *name, *values, *columns, *ends, *lines;
    char *letters;
    Py_ssize_t name_size, dimension;
    int sparse;
    if (!PyArg_ParseTuple(tuple, "SnpOOOO", &name, &dimension, &sparse, &values, &columns, &ends,
                          &lines)
        || PyBytes_AsStringAndSize(name, &letters, &name_size))
        return 0;
    int good = dimension >= 0 && dimension <= INT32_MAX && is_dense(lines, NPY_INT32, 1)
        && is_dense(values, NPY_FLOAT, 1);
    if (good && sparse)
        good = is_dense(columns, NPY_INT32, 1) && is_dense(ends, NPY_INT64, 1)
            && size_of(columns) == size_of(values) && size_of(ends) == size_of(lines);
    else
        good = good && (!size_of(lines) || size_of(values) / size_of(lines) >= dimension);
    if (!good) {
        wrong("a stream's arrays have other types or sizes than its samples need");
        return 0;
    }
    to->name = letters;
    to->name_size = name_size;
    to->dimension = dimension;
    to->sparse = sparse;
    to->sample_room = size_of(lines);
    to->number_room = size_of(values);
    to->values = data_of(values);
    to->columns = sparse ? data_of(columns) : NULL;
    to->ends = sparse ? data_of(ends) : NULL;
    to->lines = data_of(lines);
    to->samples = to->numbers = 0;
    return 1;
}

static PyObject *parse(PyObject *self, PyObject *args)
{
    char *text;
    Py_ssize_t size;
    PyObject *bytes, *given;
    int64_t where = 0;
    int fault;
    (void)self;
    if (!PyArg_ParseTuple(args, "SO!", &bytes, &PyTuple_Type, &given)
        || PyBytes_AsStringAndSize(bytes, &text, &size))
        return NULL;
    const Py_ssize_t count = PyTuple_Size(given);
    PyObject *found = PyTuple_New(count);
    struct text_stream *streams = calloc((size_t)count + 1, sizeof *streams);
    if (!found || !streams) {
        Py_XDECREF(found);
        free(streams);
        return PyErr_NoMemory();
    }
    for (Py_ssize_t i = 0; i < count; ++i)
        if (!stream_of(streams + i, PyTuple_GetItem(given, i))) {
            Py_DECREF(found);
            free(streams);
            return NULL;
        }
    Py_BEGIN_ALLOW_THREADS
    fault = parse_text(text, size, streams, (int)count, &where);
    Py_END_ALLOW_THREADS
    for (Py_ssize_t i = 0; i < count; ++i)
        PyTuple_SetItem(found, i, Py_BuildValue("LL", (long long)streams[i].samples,
                                                (long long)streams[i].numbers));
    free(streams);
    return Py_BuildValue("iLN", fault, (long long)where, found);
}

PyMethodDef text_methods[] = {
    {"parse_text", parse, METH_VARARGS,
     "parse_text(text, ((name, dimension, sparse, values, columns, ends, lines), ...)): what is wrong, "
     "where, and of each stream (samples, numbers)"},
    {0},
};
