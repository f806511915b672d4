/* Makes its module itself, from a definition that CPython has not seen, with PyModule_FromDefAndSpec(); submodules, too.
 * None of the definitions declares anything. */
#include "ext.h"

static PyObject *make(PyObject *Py_UNUSED(self), PyObject *spec);

static PyMethodDef methods[] = {EXT_METHODS, {"make", make, METH_O, NULL}, EXT_METHODS_END};

static int execute(PyObject *module) { return PyModule_AddIntConstant(module, "executed", 1); }

static PyModuleDef_Slot inner_slots[] = {{Py_mod_exec, execute}, {0, NULL}};
static struct PyModuleDef inner = {PyModuleDef_HEAD_INIT, "inner", "made by hand", 8,   methods,
                                   inner_slots,           NULL,    NULL,           NULL};
static struct PyModuleDef bare = {PyModuleDef_HEAD_INIT, "bare", NULL, 0, methods, NULL, NULL, NULL, NULL};

static PyObject *create_module(PyObject *spec, PyModuleDef *Py_UNUSED(definition)) {
    return PyModule_FromDefAndSpec(&bare, spec);
}

/* make(spec): one more module, executed. */
static PyObject *make(PyObject *Py_UNUSED(self), PyObject *spec) {
    PyObject *made = PyModule_FromDefAndSpec(&inner, spec);
    if (made != NULL && PyModule_ExecDef(made, &inner) < 0) {
        Py_CLEAR(made);
    }
    return made;
}

static PyModuleDef_Slot slots[] = {{Py_mod_create, create_module}, {0, NULL}};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_from_spec", NULL, 0, NULL, slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_ext_from_spec(void) { return PyModuleDef_Init(&module); }
