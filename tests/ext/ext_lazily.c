/* Calls a function that nobody defines, if it is told to: where functions are bound when they are first called, that is no error
 * before. */
#include "ext.h"

void ext_lazily_missing(void);

static PyObject *call(PyObject *Py_UNUSED(self), PyObject *arg) {
    if (PyObject_IsTrue(arg) == 1) {
        ext_lazily_missing();
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {EXT_METHODS, {"call", call, METH_O, NULL}, EXT_METHODS_END};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_lazily", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_ext_lazily(void) { return PyModule_Create(&module); }
