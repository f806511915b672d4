/* SIZE bytes of read-only data. */
#include "ext.h"

static const unsigned char data[SIZE] = {[0] = 3, [SIZE / 2] = 4, [SIZE - 1] = 5};

/* read(step): the sum of every step-th byte, and of the three that are not zero. */
static PyObject *read_data(PyObject *Py_UNUSED(self), PyObject *arg) {
    const volatile unsigned char *seen = data;
    long total = 0, step = PyLong_AsLong(arg);
    for (long at = 1; at < SIZE; at += step) {
        total += seen[at];
    }
    return PyLong_FromLong(total + seen[0] + seen[SIZE / 2] + seen[SIZE - 1]);
}

static PyMethodDef methods[] = {EXT_METHODS, {"read", read_data, METH_O, NULL}, EXT_METHODS_END};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_large", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_ext_large(void) { return PyModule_Create(&module); }
