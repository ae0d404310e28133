/* Products, for Python. */

#define NO_IMPORT_ARRAY
#include "binding.h"
#include <stdlib.h>

#include "threads.h"

static PyObject *make_product(PyObject *self, PyObject *args)
{
    int exchanged, left, right;
    PyObject *tail;
    const Program *program;
    (void)self;
    if (!PyArg_ParseTuple(args, "pppO", &exchanged, &left, &right, &tail))
        return NULL;
    if (!tail_of(tail, &program))
        return NULL;
    Product *product = PyMem_Malloc(sizeof *product);
    if (!product)
        return PyErr_NoMemory();
    *product = (Product){exchanged, left, right, program};
    return capsule_of(product, PRODUCT, tail);
}

static PyObject *pack(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Array from, to;
    int refused;
    (void)self;
    const Product *product = count == 3 ? PyCapsule_GetPointer(args[0], PRODUCT) : NULL;
    if (!product)
        return PyErr_Occurred() ? NULL : wrong("a product, a factor and its panels are needed");
    if (!see(&from, args[1], 0) || !see(&to, args[2], 1))
        return PyBool_FromLong(1);
    Py_BEGIN_ALLOW_THREADS
    refused = packed_factor(product, &from, &to);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(refused);
}

/* Brings the right factor into panels first. */
static int packed_product(const Product *product, const Array *const *arrays)
{
    const Array *b = arrays[!product->exchanged];
    if (b->rank != 2)
        return 1;
    const ptrdiff_t depth = b->shape[product->right_transposed];
    const ptrdiff_t width = in_panels(b->shape[!product->right_transposed]);
    const ptrdiff_t number = sizeof(float);
    Array panels = {NULL, 2, {depth, width}, {width * number, number}};
    panels.data = lines_of_memory((size_t)(depth * width * number));
    const int refused = !panels.data || packed_factor(product, b, &panels)
        || matrix_product(product, arrays, &panels, 0);
    free(panels.data);
    return refused;
}

static PyObject *multiply(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Array arrays[MOST_ARRAYS], panels;
    const Array *all[MOST_ARRAYS];
    int refused;
    (void)self;
    const Product *product = count > 2 ? PyCapsule_GetPointer(args[0], PRODUCT) : NULL;
    if (!product)
        return PyErr_Occurred() ? NULL : wrong("there is no product");
    const int total = with_tail(product->tail), packed = args[1] != Py_None;
    if (count - 2 != (product->tail ? total - 1 : total))
        return wrong("a product needs its operands, the result, and what else its tail reads");
    if (!see_all(arrays, all, args + 2, count - 2) || !are_writeable(args + 4, 1)
        || (packed && !see(&panels, args[1], 0)))
        return PyBool_FromLong(1);
    all[total - 1] = all[2];
    Py_BEGIN_ALLOW_THREADS
    refused = packed ? matrix_product(product, all, &panels, 0) : packed_product(product, all);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(refused);
}

static PyObject *multiply_over_rows(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Array arrays[3];
    const Array *all[3];
    int refused;
    (void)self;
    if (count != 3)
        return wrong("two matrices and the result are needed");
    if (!see_all(arrays, all, args, 3) || !are_writeable(args + 2, 1))
        return PyBool_FromLong(1);
    Py_BEGIN_ALLOW_THREADS
    refused = contraction(all[0], all[1], all[2]);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(refused);
}

PyMethodDef product_methods[] = {
    {"product", make_product, METH_VARARGS,
     "product(exchanged, left_transposed, right_transposed, tail or None)"},
    {"pack", FAST(pack), "pack(product, right, panels): the right factor, (depth, whole panels)"},
    {"multiply", FAST(multiply), "multiply(product, panels or None, a, b, result, *what the tail reads)"},
    {"multiply_over_rows", FAST(multiply_over_rows),
     "multiply_over_rows(a, b, result): (rows, narrow), (rows, wide), (narrow, wide)"},
    {0},
};
