/* What the functions for Python have in common.

   They check what Python hands over, types and sizes: arrays that don't suit are refused, by True, with
   nothing done to them; all else that is wrong raises. Programs, products,
   convolutions and loops are capsules, each with what it refers to as its context. */
#pragma once

/* One build serves Python 3.10 and all later, whichever it was made by. So no '#' in formats and no
   Py_RETURN_TRUE or the like: what headers of 3.12 and later make of these, older Pythons don't take. */
#define Py_LIMITED_API 0x030A0000
#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#define NPY_TARGET_VERSION NPY_2_0_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL rgraph_array_api
#include <Python.h>
#include <numpy/arrayobject.h>

#include "arrays.h"
#include "products.h"

_Static_assert(sizeof(npy_intp) == sizeof(ptrdiff_t), "NumPy's sizes are those of C");

extern const char PROGRAM[], PRODUCT[], CONVOLUTION[], LOOP[]; /* the capsules' names */

/* The functions, by the file that has them; each ends with one that is all zeros. */
extern PyMethodDef pointwise_methods[], product_methods[], convolution_methods[], loop_methods[],
    text_methods[], random_methods[];

#define FAST(function) ((PyCFunction)(void (*)(void))(function)), METH_FASTCALL

/* Raises ValueError; returns NULL. */
PyObject *wrong(const char *what);

/* A capsule that owns the memory, and what that refers to. */
PyObject *capsule_of(void *memory, const char *name, PyObject *refers_to);

/* Whether an object is an array of that type without gaps that C can read, and write if it is to be
   written. */
int is_dense(PyObject *object, int type, int written);

ptrdiff_t size_of(PyObject *array);
void *data_of(PyObject *array);

/* Returns 0 for what is no array of float. */
int see(Array *to, PyObject *object, int written);

/* Returns 0 if one is no array of float. */
int see_all(Array *to, const Array **all, PyObject *const *objects, ptrdiff_t count);

int are_writeable(PyObject *const *arrays, ptrdiff_t count);

/* Whole numbers from a tuple, from 0 up to a limit each; 0 and an exception for others. */
int whole_numbers(PyObject *tuple, int *to, int count, int limit);

/* How many arrays a product or a convolution has: both operands, the result, and with a tail what else that
   reads and the result again. */
int with_tail(const Program *tail);

/* Reads a tail: NULL for None; 0 and an exception for what can't be one. */
int tail_of(PyObject *tail, const Program **program);
