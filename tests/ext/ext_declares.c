/* Declares support for a GIL per interpreter, and keeps what it says: nothing but an atomic count is static.  Every
 * interpreter could use the one library. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdatomic.h>

static atomic_long count;

static PyObject *bump(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    return PyLong_FromLong(atomic_fetch_add(&count, 1) + 1);
}

static PyObject *address(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    return PyLong_FromVoidPtr(&count);
}

static PyObject *owner(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    return PyLong_FromLongLong(PyInterpreterState_GetID(PyInterpreterState_Get()));
}

/* remember(name): the name of the first call, interned. */
static PyObject *remember(PyObject *Py_UNUSED(self), PyObject *name) {
    static PyObject *first;
    if (first == NULL) {
        first = Py_NewRef(name);
        PyUnicode_InternInPlace(&first);
    }
    const char *text = PyUnicode_AsUTF8(first);
    return text != NULL ? PyBytes_FromString(text) : NULL;
}

static PyMethodDef methods[] = {{"bump", bump, METH_NOARGS, NULL},
                                {"address", address, METH_NOARGS, NULL},
                                {"owner", owner, METH_NOARGS, NULL},
                                {"remember", remember, METH_O, NULL},
                                {NULL, NULL, 0, NULL}};
static PyModuleDef_Slot slots[] = {{Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
                                   {0, NULL}};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_declares", NULL, 0, methods, slots, NULL, NULL, NULL};

#ifndef INIT_NAME
#define INIT_NAME PyInit_ext_declares
#endif
PyMODINIT_FUNC INIT_NAME(void) { return PyModuleDef_Init(&module); }
