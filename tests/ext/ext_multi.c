/* Multi-phase initialisation that says nothing about interpreters, with module state and a heap type made of it. */
#include "ext.h"

typedef struct {
    PyObject *type;
    long made;
} state;

static long execs;

static int point_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static void point_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *point_count(PyObject *Py_UNUSED(self), PyTypeObject *defining,
                             PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(nargs),
                             PyObject *Py_UNUSED(names)) {
    state *at = (state *)PyType_GetModuleState(defining);
    return at == NULL ? NULL : PyLong_FromLong(++at->made);
}

static PyMethodDef point_methods[] = {
    {"count", (PyCFunction)(void (*)(void))point_count, METH_METHOD | METH_FASTCALL | METH_KEYWORDS, NULL},
    EXT_METHODS_END};

static PyType_Slot point_slots[] = {{Py_tp_traverse, point_traverse},
                                    {Py_tp_dealloc, point_dealloc},
                                    {Py_tp_methods, point_methods},
                                    {0, NULL}};

static PyType_Spec point_spec = {"ext_multi.Point", sizeof(PyObject), 0,
                                 Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE, point_slots};

static PyObject *get_execs(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    return PyLong_FromLong(execs);
}

static int exec_module(PyObject *made) {
    state *at = (state *)PyModule_GetState(made);
    execs++;
    at->type = PyType_FromModuleAndSpec(made, &point_spec, NULL);
    if (at->type == NULL || PyModule_AddObjectRef(made, "Point", at->type) < 0) {
        return -1;
    }
    return PyModule_AddIntConstant(made, "__test_constant__", 42);
}

static int traverse(PyObject *self, visitproc visit, void *arg) {
    state *at = (state *)PyModule_GetState(self);
    Py_VISIT(at->type);
    return 0;
}

static int clear(PyObject *self) {
    state *at = (state *)PyModule_GetState(self);
    Py_CLEAR(at->type);
    return 0;
}

static void free_state(void *self) { clear((PyObject *)self); }

static PyMethodDef methods[] = {EXT_METHODS, {"execs", get_execs, METH_NOARGS, NULL}, EXT_METHODS_END};
static PyModuleDef_Slot slots[] = {{Py_mod_exec, exec_module}, {0, NULL}};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_multi", NULL, sizeof(state), methods, slots, traverse, clear, free_state};

PyMODINIT_FUNC PyInit_ext_multi(void) { return PyModuleDef_Init(&module); }
