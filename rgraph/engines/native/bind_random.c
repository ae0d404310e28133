/* The Mersenne twister's words of 64 bits (Matsumoto and Nishimura, 1998), for Python. */

#define NO_IMPORT_ARRAY
#include "binding.h"

enum { SIZE = 312, MIDDLE = 156 };

static void twist(uint64_t *x)
{
    for (int i = 0; i < SIZE; ++i) {
        const uint64_t y = (x[i] & 0xFFFFFFFF80000000u) | (x[(i + 1) % SIZE] & 0x7FFFFFFFu);
        x[i] = x[(i + MIDDLE) % SIZE] ^ y >> 1 ^ (y & 1 ? 0xB5026F5AA96619E9u : 0);
    }
}

static uint64_t tempered(uint64_t x)
{
    x ^= x >> 29 & 0x5555555555555555u;
    x ^= x << 17 & 0x71D67FFFEDA60000u;
    x ^= x << 37 & 0xFFF7EEE000000000u;
    return x ^ x >> 43;
}

static PyObject *mersenne(PyObject *self, PyObject *args)
{
    PyObject *state, *words;
    (void)self;
    if (!PyArg_ParseTuple(args, "OO", &state, &words))
        return NULL;
    if (!is_dense(state, NPY_UINT64, 1) || !is_dense(words, NPY_UINT64, 1)
        || size_of(state) != SIZE || size_of(words) % SIZE)
        return wrong("the twister has a state of 312 words, and gives as many at a time");
    uint64_t *const x = data_of(state), *const out = data_of(words);
    const ptrdiff_t count = size_of(words);
    Py_BEGIN_ALLOW_THREADS
    for (ptrdiff_t begin = 0; begin < count; begin += SIZE) {
        twist(x);
        for (int i = 0; i < SIZE; ++i)
            out[begin + i] = tempered(x[i]);
    }
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(0);
}

PyMethodDef random_methods[] = {
    {"mersenne", mersenne, METH_VARARGS,
     "mersenne(state, words): fills words with the next ones, and changes the state"},
    {0},
};
