/* Linked with the helper libraries, which it finds through $ORIGIN.  Built as three submodules of a package: with a
 * RUNPATH, with the older RPATH, and with the library in the middle alone, which brings in the other. */
#include "ext.h"
#include "libs.h"

static PyObject *append(PyObject *Py_UNUSED(self), PyObject *item) { return lib_state_append(item); }

static PyObject *lib_bump(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    return PyLong_FromLong(LIB_BUMP());
}

static PyObject *built_in(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    return PyLong_FromLongLong(lib_state_built_in());
}

/* Where the library with Python state is, and where the other one is: the plain one, or that in the middle. */
static PyObject *lib_addresses(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    return Py_BuildValue("NN", PyLong_FromVoidPtr(lib_state_address()),
                         PyLong_FromVoidPtr(LIB_OTHER_ADDRESS()));
}

static PyMethodDef methods[] = {EXT_METHODS,
                                {"append", append, METH_O, NULL},
                                {"lib_bump", lib_bump, METH_NOARGS, NULL},
                                {"built_in", built_in, METH_NOARGS, NULL},
                                {"lib_addresses", lib_addresses, METH_NOARGS, NULL},
                                EXT_METHODS_END};

#define STRING(name) #name
#define MODULE(name)                                                                                         \
    static struct PyModuleDef module = {                                                                     \
        PyModuleDef_HEAD_INIT, STRING(name), NULL, -1, methods, NULL, NULL, NULL, NULL};                     \
    PyMODINIT_FUNC PyInit_##name(void) { return PyModule_Create(&module); }
#define MODULE_OF(name) MODULE(name)

MODULE_OF(NAME)
