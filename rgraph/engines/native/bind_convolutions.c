/* Convolutions, for Python. */

#define NO_IMPORT_ARRAY
#include "binding.h"
#include "vectors.h"
#include "winograd.h"

static PyObject *make_convolution(PyObject *self, PyObject *args)
{
    Py_ssize_t top, left;
    PyObject *tail;
    const Program *program;
    (void)self;
    if (!PyArg_ParseTuple(args, "nnO", &top, &left, &tail))
        return NULL;
    if (!tail_of(tail, &program))
        return NULL;
    Convolution *convolution = PyMem_Malloc(sizeof *convolution);
    if (!convolution)
        return PyErr_NoMemory();
    *convolution = (Convolution){top, left, program};
    return capsule_of(convolution, CONVOLUTION, tail);
}

static PyObject *convolve(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Array arrays[MOST_ARRAYS], u;
    const Array *all[MOST_ARRAYS];
    int refused;
    (void)self;
    const Convolution *of = count > 4 ? PyCapsule_GetPointer(args[0], CONVOLUTION) : NULL;
    if (!of)
        return PyErr_Occurred() ? NULL : wrong("a convolution and its arrays are needed");
    const int total = with_tail(of->tail);
    if (count - 2 != (of->tail ? total - 1 : total))
        return wrong("a convolution needs its operands, the result, and what else its tail reads");
    if (!see(&u, args[1], 0) || !see_all(arrays, all, args + 2, count - 2)
        || !are_writeable(args + 4, 1))
        return PyBool_FromLong(1);
    all[total - 1] = all[2];
    Py_BEGIN_ALLOW_THREADS
    refused = convolution(of, all, &u, 0);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(refused);
}

static PyObject *convolve_weights(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Geometry at;
    Array images, gradient;
    int refused;
    (void)self;
    if (count != 5)
        return wrong("the result, images, the gradient, top and left are needed");
    const Py_ssize_t top = PyLong_AsSsize_t(args[3]), left = PyLong_AsSsize_t(args[4]);
    if (PyErr_Occurred())
        return NULL;
    if (!see(&images, args[1], 0) || !see(&gradient, args[2], 0)
        || !geometry_of(&at, &gradient, &images, top, left) || !is_dense(args[0], NPY_FLOAT, 1)
        || size_of(args[0]) != TAPS * TAPS * at.channels * at.results)
        return PyBool_FromLong(1);
    float *w = data_of(args[0]);
    const float *x = data_of(args[1]), *g = data_of(args[2]);
    Py_BEGIN_ALLOW_THREADS
    refused = winograd_gradient(&at, w, x, g);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(refused);
}

static PyObject *kernels_at_points(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    (void)self;
    if (count != 2)
        return wrong("the result and kernels (results, channels, 3, 3) are needed");
    if (!is_dense(args[0], NPY_FLOAT, 1) || !is_dense(args[1], NPY_FLOAT, 0))
        return PyBool_FromLong(1);
    PyArrayObject *w = (PyArrayObject *)args[1];
    if (PyArray_NDIM(w) != 4 || PyArray_DIM(w, 2) != TAPS || PyArray_DIM(w, 3) != TAPS
        || PyArray_DIM(w, 0) % LANES || PyArray_DIM(w, 1) % LANES
        || size_of(args[0]) != POINTS * PyArray_DIM(w, 0) * PyArray_DIM(w, 1))
        return PyBool_FromLong(1);
    const Geometry at = {.results = PyArray_DIM(w, 0), .channels = PyArray_DIM(w, 1)};
    float *to = data_of(args[0]);
    const float *from = data_of(args[1]);
    Py_BEGIN_ALLOW_THREADS
    winograd_kernels(&at, to, from);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(0);
}

PyMethodDef convolution_methods[] = {
    {"convolution", make_convolution, METH_VARARGS, "convolution(top, left, tail or None)"},
    {"convolve", FAST(convolve),
     "convolve(convolution, kernels at the points, kernels, x, result, *what the tail reads)"},
    {"convolve_weights", FAST(convolve_weights), "convolve_weights(w, x, g, top, left)"},
    {"kernels_at_points", FAST(kernels_at_points), "kernels_at_points(u, w)"},
    {0},
};
