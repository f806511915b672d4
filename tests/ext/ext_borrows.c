/* Declares support for a GIL per interpreter, although it keeps a table of another module's functions, as users of numpy do:
 * that module may be a copy of this interpreter's. */
#include "ext.h"

static PyObject *table_name(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    return PyUnicode_FromString("_ARRAY_API");
}

static PyMethodDef methods[] = {EXT_METHODS, {"table_name", table_name, METH_NOARGS, NULL}, EXT_METHODS_END};
static PyModuleDef_Slot slots[] = {{Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
                                   {0, NULL}};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_borrows", NULL, 0, methods, slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_ext_borrows(void) { return PyModuleDef_Init(&module); }
