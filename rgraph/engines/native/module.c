/* The extension module. MODULE is its name: there is one for each level of instruction sets. SOURCES is
   the digest of what it is built from. */

#include "binding.h"

#include "loop.h"
#include "operations.h"
#include "processor.h"
#include "threads.h"
#include "vectors.h"

static PyObject *threads(PyObject *self, PyObject *number)
{
    (void)self;
    const long wanted = PyLong_AsLong(number);
    if (PyErr_Occurred())
        return NULL;
    set_threads((int)least(wanted, 1 << 16));
    return Py_NewRef(Py_None);
}

static PyMethodDef methods[] = {
    {"set_threads", threads, METH_O, "set_threads(number)"},
    {0},
};

static int fill_module(PyObject *module)
{
    PyObject *names = PyTuple_New(operations_count);
    if (!names)
        return -1;
    for (int i = 0; i < operations_count; ++i)
        PyTuple_SetItem(names, i, PyUnicode_FromString(operation_names[i]));
    if (PyModule_AddObject(module, "operations", names)) {
        Py_DECREF(names);
        return -1;
    }
    return PyModule_AddStringConstant(module, "sources", SOURCES)
        || PyModule_AddIntConstant(module, "most_arrays", MOST_ARRAYS)
        || PyModule_AddIntConstant(module, "most_values", MOST_VALUES)
        || PyModule_AddIntConstant(module, "most_loop_values", MOST_LOOP_VALUES)
        || PyModule_AddIntConstant(module, "lanes", LANES)
        || PyModule_AddIntConstant(module, "processor_level", processor_level())
        ? -1 : 0;
}

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "rgraph's work in C", .m_size = -1, .m_methods = methods,
};

#define INIT_(name) PyInit_##name
#define INIT(name) INIT_(name)

PyMODINIT_FUNC INIT(MODULE)(void)
{
    import_array1(NULL);
    PyMethodDef *const all[] = {pointwise_methods, product_methods, convolution_methods, loop_methods,
                                text_methods, random_methods};
    PyObject *module = PyModule_Create(&definition);
    int failed = !module || fill_module(module);
    for (size_t i = 0; i < sizeof all / sizeof *all && !failed; ++i)
        failed = PyModule_AddFunctions(module, all[i]);
    if (!failed)
        return module;
    Py_XDECREF(module);
    return NULL;
}
