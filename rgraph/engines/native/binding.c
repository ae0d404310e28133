/* What the functions for Python have in common. */

#define NO_IMPORT_ARRAY
#include "binding.h"

const char PROGRAM[] = "rgraph.program", PRODUCT[] = "rgraph.product",
           CONVOLUTION[] = "rgraph.convolution", LOOP[] = "rgraph.loop";

PyObject *wrong(const char *what)
{
    PyErr_SetString(PyExc_ValueError, what);
    return NULL;
}

static void let_go(PyObject *capsule)
{
    Py_XDECREF((PyObject *)PyCapsule_GetContext(capsule));
    PyMem_Free(PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule)));
}

PyObject *capsule_of(void *memory, const char *name, PyObject *refers_to)
{
    PyObject *capsule = PyCapsule_New(memory, name, let_go);
    if (!capsule) {
        PyMem_Free(memory);
        return NULL;
    }
    Py_XINCREF(refers_to);
    PyCapsule_SetContext(capsule, refers_to);
    return capsule;
}

/* Whether an object is an array of that type that C can read, and write if it is to be written. */
static int is_array(PyObject *object, int type, int written)
{
    if (!PyArray_CheckExact(object))
        return 0;
    PyArrayObject *array = (PyArrayObject *)object;
    return PyArray_TYPE(array) == type && PyArray_NDIM(array) <= MOST_AXES
        && (written ? PyArray_ISBEHAVED(array) : PyArray_ISBEHAVED_RO(array));
}

int is_dense(PyObject *object, int type, int written)
{
    return is_array(object, type, written) && PyArray_IS_C_CONTIGUOUS((PyArrayObject *)object);
}

ptrdiff_t size_of(PyObject *array) { return PyArray_SIZE((PyArrayObject *)array); }
void *data_of(PyObject *array) { return PyArray_DATA((PyArrayObject *)array); }

int see(Array *to, PyObject *object, int written)
{
    if (!is_array(object, NPY_FLOAT, written))
        return 0;
    PyArrayObject *array = (PyArrayObject *)object;
    to->data = PyArray_DATA(array);
    to->rank = PyArray_NDIM(array);
    for (int i = 0; i < to->rank; ++i) {
        to->shape[i] = PyArray_DIM(array, i);
        to->strides[i] = PyArray_STRIDE(array, i);
    }
    return 1;
}

int see_all(Array *to, const Array **all, PyObject *const *objects, ptrdiff_t count)
{
    for (ptrdiff_t i = 0; i < count; ++i) {
        if (!see(to + i, objects[i], 0))
            return 0;
        all[i] = to + i;
    }
    return 1;
}

int are_writeable(PyObject *const *arrays, ptrdiff_t count)
{
    for (ptrdiff_t i = 0; i < count; ++i)
        if (!PyArray_ISWRITEABLE((PyArrayObject *)arrays[i]))
            return 0;
    return 1;
}

int whole_numbers(PyObject *tuple, int *to, int count, int limit)
{
    for (int i = 0; i < count; ++i) {
        const long number = PyLong_AsLong(PyTuple_GetItem(tuple, i));
        if (PyErr_Occurred())
            return 0;
        if (number < 0 || number >= limit) {
            wrong("a number that is none of a program's or a loop's");
            return 0;
        }
        to[i] = (int)number;
    }
    return 1;
}

int with_tail(const Program *tail)
{
    return tail ? 3 + tail->operands : 3;
}

int tail_of(PyObject *tail, const Program **program)
{
    *program = NULL;
    if (tail == Py_None)
        return 1;
    const Program *found = PyCapsule_GetPointer(tail, PROGRAM);
    if (!found)
        return 0;
    if (found->operands < 1 || found->results != 1 || found->operands > MOST_ARRAYS - 3) {
        wrong("a tail has one result, and reads what it is the tail of");
        return 0;
    }
    *program = found;
    return 1;
}
