/* Has exported variables and functions that it uses itself, through the dynamic linker.  When another copy of it was
 * loaded with RTLD_GLOBAL, they must still be its own. */
#include "ext.h"

#define EXPORTED __attribute__((visibility("default")))

EXPORTED long ext_global_count;
EXPORTED PyObject *ext_global_list;
EXPORTED long ext_global_bump(void);
EXPORTED long ext_global_bump(void) { return ++ext_global_count; }
EXPORTED long (*ext_global_pointer)(void) = ext_global_bump; /* a relocation by name, in data */

/* global_bump(): three calls' worth, each by another way. */
static PyObject *global_bump(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    ext_global_bump();
    ext_global_pointer();
    return PyLong_FromLong(++ext_global_count);
}

static PyObject *global_append(PyObject *Py_UNUSED(self), PyObject *item) {
    if (ext_global_list == NULL && (ext_global_list = PyList_New(0)) == NULL) {
        return NULL;
    }
    return PyList_Append(ext_global_list, item) < 0 ? NULL : Py_NewRef(ext_global_list);
}

static PyMethodDef methods[] = {EXT_METHODS,
                                {"global_bump", global_bump, METH_NOARGS, NULL},
                                {"global_append", global_append, METH_O, NULL},
                                EXT_METHODS_END};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_global", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_ext_global(void) { return PyModule_Create(&module); }
