#define _GNU_SOURCE
/* A function that is chosen while the library is loaded (IFUNC): code of it runs during relocation. */
#include "ext.h"

#include <dlfcn.h>
#include <string.h>

static char file[4096];

/* What a constructor finds out about its library, to find what lies beside it. */
__attribute__((constructor)) static void construct(void) {
    Dl_info info;
    if (dladdr(&file, &info) != 0) {
        strncpy(file, info.dli_fname, sizeof file - 1);
    }
}

static PyObject *constructed_in(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    return PyUnicode_DecodeFSDefault(file);
}

static long plain(long value) { return value + 1; }
__attribute__((used)) static long (*choose(void))(long) { return plain; }
long ext_ifunc_next(long value) __attribute__((ifunc("choose")));

static PyObject *next(PyObject *Py_UNUSED(self), PyObject *arg) {
    return PyLong_FromLong(ext_ifunc_next(PyLong_AsLong(arg)));
}

static PyMethodDef methods[] = {EXT_METHODS,
                                {"next", next, METH_O, NULL},
                                {"constructed_in", constructed_in, METH_NOARGS, NULL},
                                EXT_METHODS_END};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_ifunc", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_ext_ifunc(void) { return PyModule_Create(&module); }
