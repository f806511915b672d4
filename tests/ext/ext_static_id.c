/* Remembers the interpreter that it was first initialised in, in a static variable, and refuses every other one: what
 * PyO3 and Cython do. */
#include "ext.h"

static int64_t first = -1;

static int exec_module(PyObject *Py_UNUSED(made)) {
    int64_t here = PyInterpreterState_GetID(PyInterpreterState_Get());
    if (first == -1) {
        first = here;
    }
    if (first != here) {
        PyErr_SetString(PyExc_ImportError, "this module can only be loaded into one interpreter per process");
        return -1;
    }
    return 0;
}

static PyObject *get_first(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    return PyLong_FromLongLong(first);
}

static PyMethodDef methods[] = {EXT_METHODS, {"first", get_first, METH_NOARGS, NULL}, EXT_METHODS_END};
static PyModuleDef_Slot slots[] = {{Py_mod_exec, exec_module}, {0, NULL}};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_static_id", NULL, 0, methods, slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_ext_static_id(void) { return PyModuleDef_Init(&module); }
