/* Convolutions, for Python. */

#define NO_IMPORT_ARRAY
#include "binding.h"
#include "vectors.h"
#include "pooling.h"
#include "winograd.h"

enum { MOST = 1 << 20 }; /* size, stride, dilation or padding */

/* As many whole numbers of each axis as there are, behind those of the axes that there are not; 0 and an
   exception for others. */
static int of_axes(PyObject *tuple, ptrdiff_t *to, int axes, ptrdiff_t other, ptrdiff_t smallest)
{
    if (!PyTuple_Check(tuple) || PyTuple_Size(tuple) != axes) {
        wrong("a convolution needs one number for each axis");
        return 0;
    }
    for (int i = 0; i < SPACE; ++i) {
        const int axis = i - (SPACE - axes);
        to[i] = axis < 0 ? other : PyLong_AsSsize_t(PyTuple_GetItem(tuple, axis));
        if (PyErr_Occurred())
            return 0;
        if (to[i] < smallest || to[i] > MOST) {
            wrong("a kernel, a stride, a dilation or a padding that no convolution has");
            return 0;
        }
    }
    return 1;
}

static PyObject *make_convolution(PyObject *self, PyObject *args)
{
    PyObject *taps, *strides, *dilation, *low, *tail;
    Convolution of;
    (void)self;
    if (!PyArg_ParseTuple(args, "O!OOOO", &PyTuple_Type, &taps, &strides, &dilation, &low, &tail))
        return NULL;
    of.axes = (int)PyTuple_Size(taps);
    if (of.axes < 1 || of.axes > SPACE)
        return wrong("a convolution has one to three axes");
    if (!of_axes(taps, of.taps, of.axes, 1, 1) || !of_axes(strides, of.strides, of.axes, 1, 1)
        || !of_axes(dilation, of.dilation, of.axes, 1, 1) || !of_axes(low, of.low, of.axes, 0, -MOST)
        || !tail_of(tail, &of.tail))
        return NULL;
    Convolution *convolution = PyMem_Malloc(sizeof *convolution);
    if (!convolution)
        return PyErr_NoMemory();
    *convolution = of;
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
    Array images, gradient;
    int refused;
    (void)self;
    const Convolution *of = count == 5 ? PyCapsule_GetPointer(args[0], CONVOLUTION) : NULL;
    if (!of)
        return PyErr_Occurred() ? NULL : wrong("a convolution, the result, images, the gradient and how are needed");
    const int filtered = PyObject_IsTrue(args[4]);
    if (filtered < 0)
        return NULL;
    if (!see(&images, args[2], 0) || !see(&gradient, args[3], 0) || images.rank < 3 || gradient.rank < 3
        || !is_dense(args[1], NPY_FLOAT, 1)
        || size_of(args[1]) != of->taps[0] * of->taps[1] * of->taps[2] * images.shape[1] * gradient.shape[1])
        return PyBool_FromLong(1);
    float *w = data_of(args[1]);
    Py_BEGIN_ALLOW_THREADS
    refused = convolution_gradient(of, w, &images, &gradient, filtered);
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

static PyObject *pack_kernels(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Array to, from;
    int refused;
    (void)self;
    if (count != 2)
        return wrong("the panels and kernels (results, channels, ...) are needed");
    if (!see(&to, args[0], 1) || !see(&from, args[1], 0))
        return PyBool_FromLong(1);
    Py_BEGIN_ALLOW_THREADS
    refused = kernels_in_panels(&from, &to);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(refused);
}

static PyObject *pool_images(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Array result, value, guide;
    int refused;
    (void)self;
    const Convolution *of = count == 6 ? PyCapsule_GetPointer(args[0], CONVOLUTION) : NULL;
    if (!of)
        return PyErr_Occurred() ? NULL : wrong("windows, a kind, the result, a value, a guide and a flag are needed");
    const long kind = PyLong_AsLong(args[1]);
    const int include_pad = PyObject_IsTrue(args[5]), guided = args[4] != Py_None;
    if (PyErr_Occurred())
        return NULL;
    if (kind < LARGEST || kind > SPREAD || guided != (kind == PLACED))
        return wrong("no kind of pooling, or one without its guide");
    if (!see(&result, args[2], 1) || !see(&value, args[3], 0) || (guided && !see(&guide, args[4], 0)))
        return PyBool_FromLong(1);
    Py_BEGIN_ALLOW_THREADS
    refused = pool(of, (int)kind, &result, &value, guided ? &guide : NULL, include_pad);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(refused);
}

PyMethodDef convolution_methods[] = {
    {"convolution", make_convolution, METH_VARARGS,
     "convolution(kernel's size, strides, dilation, zeros before, tail or None)"},
    {"convolve", FAST(convolve),
     "convolve(convolution, prepared kernels, kernels, x, result, *what the tail reads)"},
    {"convolve_weights", FAST(convolve_weights), "convolve_weights(convolution, w, x, g, by filtering?)"},
    {"kernels_at_points", FAST(kernels_at_points), "kernels_at_points(u, w)"},
    {"kernels_in_panels", FAST(pack_kernels), "kernels_in_panels(panels, w)"},
    {"pool", FAST(pool_images),
     "pool(windows as a convolution, kind, result, value, guide or None, are means over what is outside?)"},
    {0},
};
