/* Declares support for a GIL per interpreter and remembers, in memory of its own, the types that it has met: what a registry
 * in C++ does.  The next one to ask is told of the type that was met first. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdlib.h>

static PyObject **registry;

static PyObject *meet(PyObject *Py_UNUSED(self), PyObject *type) {
    if (registry == NULL) {
        registry = malloc(sizeof(PyObject *));
        if (registry == NULL) {
            return PyErr_NoMemory();
        }
        *registry = Py_NewRef(type);
    }
    return PyObject_GetAttrString(*registry, "__name__");
}

static PyMethodDef methods[] = {{"meet", meet, METH_O, NULL}, {NULL, NULL, 0, NULL}};
static PyModuleDef_Slot slots[] = {{Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
                                   {0, NULL}};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_keeps", NULL, 0, methods, slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_ext_keeps(void) { return PyModuleDef_Init(&module); }
