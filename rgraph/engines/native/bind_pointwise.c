/* Pointwise programs, sums, and what runs along rows, for Python. */

#define NO_IMPORT_ARRAY
#include "binding.h"
#include "operations.h"
#include "rows.h"
#include "sums.h"

static PyObject *make_program(PyObject *self, PyObject *args)
{
    PyObject *code;
    int operands, results, registers;
    (void)self;
    if (!PyArg_ParseTuple(args, "O!iii", &PyTuple_Type, &code, &operands, &results, &registers))
        return NULL;
    const Py_ssize_t size = PyTuple_Size(code);
    if (operands < 0 || operands > MOST_ARRAYS || results < 1 || results > MOST_ARRAYS - operands
        || registers < 0 || registers > MOST_VALUES - operands - results || size % 5
        || size > 5 << 20)
        return wrong("a program that is too large, or whose code is not five numbers to a step");
    Program *program = PyMem_Malloc(sizeof *program + (size_t)size * sizeof(int));
    if (!program)
        return PyErr_NoMemory();
    *program = (Program){(int)(size / 5), operands, results, registers};
    if (!whole_numbers(code, program->code, (int)size, 1 << 30)) {
        PyMem_Free(program);
        return NULL;
    }
    for (int i = 0; i < size; ++i) {
        const int limit = i % 5 ? operands + results + registers : operations_count;
        if (program->code[i] >= limit || (i % 5 == 1 && program->code[i] < operands)) {
            PyMem_Free(program);
            return wrong("a program's code names an operation or a value that it does not have");
        }
    }
    return capsule_of(program, PROGRAM, NULL);
}

static PyObject *run(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Array arrays[MOST_ARRAYS];
    const Array *all[MOST_ARRAYS];
    int refused;
    (void)self;
    const Program *program = count ? PyCapsule_GetPointer(args[0], PROGRAM) : NULL;
    if (!program)
        return PyErr_Occurred() ? NULL : wrong("there is no program");
    if (count - 1 != program->operands + program->results)
        return wrong("a program needs as many arrays as it has operands and results");
    if (!see_all(arrays, all, args + 1, count - 1)
        || !are_writeable(args + 1 + program->operands, program->results))
        return PyBool_FromLong(1);
    Py_BEGIN_ALLOW_THREADS
    refused = run_program(program, all, 0);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(refused);
}

static PyObject *sum_rows(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    int refused;
    (void)self;
    if (count != 2)
        return wrong("the result (groups, columns) and what is summed are needed");
    if (!is_dense(args[0], NPY_FLOAT, 1) || !is_dense(args[1], NPY_FLOAT, 0)
        || PyArray_NDIM((PyArrayObject *)args[0]) != 2 || !size_of(args[0])
        || size_of(args[1]) % size_of(args[0]))
        return PyBool_FromLong(1);
    const ptrdiff_t groups = PyArray_DIM((PyArrayObject *)args[0], 0);
    const ptrdiff_t columns = PyArray_DIM((PyArrayObject *)args[0], 1);
    const ptrdiff_t rows = size_of(args[1]) / size_of(args[0]);
    float *to = data_of(args[0]);
    const float *from = data_of(args[1]);
    Py_BEGIN_ALLOW_THREADS
    refused = row_sums(to, from, groups, rows, columns);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(refused);
}

static PyObject *rows(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    const long what = count < 2 ? -1 : PyLong_AsLong(args[0]);
    const Py_ssize_t length = count < 2 ? -1 : PyLong_AsSsize_t(args[1]);
    (void)self;
    if (PyErr_Occurred())
        return NULL;
    if (what < 0 || what >= ALONG_ROWS || length < 1 || count != 4 + (what == ENTROPY))
        return wrong("what is done along rows, their length, the result and what it is of are needed");
    for (int i = 2; i < count; ++i)
        if (!is_dense(args[i], NPY_FLOAT, i == 2))
            return PyBool_FromLong(1);
    const ptrdiff_t size = size_of(args[3]), number = size / length;
    if (size % length || size_of(args[2]) != (what == ENTROPY ? number : size)
        || size_of(args[count - 1]) != size)
        return PyBool_FromLong(1);
    float *to = data_of(args[2]);
    const float *x = data_of(args[3]), *t = data_of(args[count - 1]);
    Py_BEGIN_ALLOW_THREADS
    along_rows((int)what, to, x, t, number, length);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(0);
}

PyMethodDef pointwise_methods[] = {
    {"program", make_program, METH_VARARGS,
     "program(code, operands, results, registers): code has (operation, target, a, b, c) of each step"},
    {"run", FAST(run), "run(program, *operands, *results)"},
    {"rows", FAST(rows), "rows(what, length, result, x), and of the entropy the target"},
    {"sum_rows", FAST(sum_rows), "sum_rows(result, x): (groups, columns), (groups, rows, columns)"},
    {0},
};
