/* Convolutions, for Python. */

#define NO_IMPORT_ARRAY
#include "binding.h"
#include "vectors.h"
#include "winograd.h"

/* Images (images, channels, height, width) with the channels innermost and no gaps. */
static int is_channels_last(const Array *array)
{
    static const int order[] = {1, 3, 2, 0};
    ptrdiff_t step = sizeof(float);
    for (int i = 0; i < 4; step *= array->shape[order[i]], ++i)
        if (array->shape[order[i]] != 1 && array->strides[order[i]] != step)
            return 0;
    return 1;
}

/* The geometry of a convolution of x to y, both channels-last; 0 if there is none. */
static int geometry_of(Geometry *at, PyObject *y, int y_written, PyObject *x, PyObject *top,
                       PyObject *left)
{
    Array to, from;
    at->top = PyLong_AsSsize_t(top);
    at->left = PyLong_AsSsize_t(left);
    if (PyErr_Occurred() || !see(&to, y, y_written) || !see(&from, x, 0) || to.rank != 4
        || from.rank != 4 || !is_channels_last(&to) || !is_channels_last(&from))
        return 0;
    at->images = from.shape[0];
    at->channels = from.shape[1];
    at->height = from.shape[2];
    at->width = from.shape[3];
    at->results = to.shape[1];
    at->high = to.shape[2];
    at->wide = to.shape[3];
    return to.shape[0] == at->images && at->images && at->channels && at->results && at->high
        && at->wide && at->channels % LANES == 0 && at->results % LANES == 0;
}

static PyObject *convolve(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Array arrays[MOST_ARRAYS];
    const Array *all[MOST_ARRAYS];
    Geometry at;
    const Program *tail = NULL;
    int refused;
    (void)self;
    if (count < 6)
        return wrong("the result, images, kernels, top, left and a tail or None are needed");
    if (args[5] != Py_None && !(tail = PyCapsule_GetPointer(args[5], PROGRAM)))
        return NULL;
    if (count - 6 != (tail ? tail->operands - 1 : 0) || (tail && tail->results != 1))
        return wrong("a tail needs what it reads besides the convolution's result");
    if (!geometry_of(&at, args[0], 1, args[1], args[3], args[4])
        || !is_dense(args[2], NPY_FLOAT, 0)
        || size_of(args[2]) != POINTS * at.channels * at.results
        || !see(arrays, args[0], 1)
        || !see_all(arrays + 1, all + 1, args + 6, count - 6))
        return PyErr_Occurred() ? NULL : PyBool_FromLong(1);
    all[0] = all[count - 5] = arrays;
    float *y = data_of(args[0]);
    const float *x = data_of(args[1]), *u = data_of(args[2]);
    Py_BEGIN_ALLOW_THREADS
    refused = winograd(&at, y, x, u, tail, all);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(refused);
}

static PyObject *convolve_weights(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Geometry at;
    int refused;
    (void)self;
    if (count != 5)
        return wrong("the result, images, the gradient, top and left are needed");
    if (!geometry_of(&at, args[2], 0, args[1], args[3], args[4])
        || !is_dense(args[0], NPY_FLOAT, 1)
        || size_of(args[0]) != TAPS * TAPS * at.channels * at.results)
        return PyErr_Occurred() ? NULL : PyBool_FromLong(1);
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
    {"convolve", FAST(convolve),
     "convolve(y, x, kernels at the points, top, left, tail or None, *what the tail reads)"},
    {"convolve_weights", FAST(convolve_weights), "convolve_weights(w, x, g, top, left)"},
    {"kernels_at_points", FAST(kernels_at_points), "kernels_at_points(u, w)"},
    {0},
};
