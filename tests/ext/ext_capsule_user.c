/* Uses ext_capsule's table, which it keeps in a static variable. */
#include "ext.h"

static void **api;

static PyObject *call_api(PyObject *Py_UNUSED(self), PyObject *arg) {
    long number = PyLong_AsLong(arg);
    if (number < 0) {
        PyErr_SetString((PyObject *)api[2], "through the table");
        return NULL;
    }
    PyObject *(*function)(long);
    memcpy(&function, &api[1],
           sizeof(function)); /* ISO C has no cast from an object's to a function's pointer */
    return function(number);
}

static PyObject *count_there(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    return PyLong_FromLong(*(long *)api[0]);
}

static int exec_module(PyObject *Py_UNUSED(made)) {
    api = (void **)PyCapsule_Import("ext_capsule.api", 0);
    return api == NULL ? -1 : 0;
}

static PyMethodDef methods[] = {EXT_METHODS,
                                {"call_api", call_api, METH_O, NULL},
                                {"count_there", count_there, METH_NOARGS, NULL},
                                EXT_METHODS_END};
static PyModuleDef_Slot slots[] = {{Py_mod_exec, exec_module}, {0, NULL}};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_capsule_user", NULL, 0, methods, slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_ext_capsule_user(void) { return PyModuleDef_Init(&module); }
