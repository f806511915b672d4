/* A Py_mod_create slot that makes the module itself, here an object that is no module, as the slot may. */
#include "ext.h"

static PyMethodDef methods[] = {EXT_METHODS, EXT_METHODS_END};

static PyObject *create_module(PyObject *spec, PyModuleDef *Py_UNUSED(definition)) {
    PyObject *types = PyImport_ImportModule("types");
    PyObject *made = types == NULL ? NULL : PyObject_CallMethod(types, "SimpleNamespace", NULL);
    Py_XDECREF(types);
    if (made == NULL) {
        return NULL;
    }
    PyObject *name = PyObject_GetAttrString(spec, "name");
    int failed = name == NULL || PyObject_SetAttrString(made, "made_for", name) < 0;
    Py_XDECREF(name);
    for (PyMethodDef *method = methods; !failed && method->ml_name != NULL; method++) {
        PyObject *function = PyCFunction_New(method, NULL);
        failed = function == NULL || PyObject_SetAttrString(made, method->ml_name, function) < 0;
        Py_XDECREF(function);
    }
    if (failed) {
        Py_DECREF(made);
        return NULL;
    }
    return made;
}

static PyModuleDef_Slot slots[] = {{Py_mod_create, create_module}, {0, NULL}};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_create", NULL, 0, NULL, slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_ext_create(void) { return PyModuleDef_Init(&module); }
