/* Static types, one derived from another, with the caches that such modules have: an exception, a singleton, interned
 * names, a free list of instances. */
#include "ext.h"

typedef struct {
    PyObject_HEAD
    long value;
    PyObject *other;
} node;

#define FREE_MAX 64
static node *free_nodes[FREE_MAX];
static int nfree;
static long reused;
static PyObject *error, *singleton, *name_value;

static PyTypeObject node_type;

static node *make(PyTypeObject *type, long value) {
    node *made;
    if (type == &node_type && nfree > 0) {
        made = (node *)PyObject_Init((PyObject *)free_nodes[--nfree], type);
        reused++;
    } else {
        made = (node *)type->tp_alloc(type, 0);
        if (made == NULL) {
            return NULL;
        }
        PyObject_GC_UnTrack(made);
    }
    made->value = value;
    made->other = NULL;
    PyObject_GC_Track(made);
    return made;
}

static PyObject *node_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(names)) {
    long value = 0;
    if (!PyArg_ParseTuple(args, "|l", &value)) {
        return NULL;
    }
    if (value < 0) {
        return PyErr_Format(error, "%ld is negative", value);
    }
    return (PyObject *)make(type, value);
}

static int node_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(((node *)self)->other);
    return 0;
}

static int node_clear(PyObject *self) {
    Py_CLEAR(((node *)self)->other);
    return 0;
}

static void node_dealloc(PyObject *self) {
    PyObject_GC_UnTrack(self);
    node_clear(self);
    if (Py_TYPE(self) == &node_type && nfree < FREE_MAX) {
        free_nodes[nfree++] = (node *)self;
    } else {
        Py_TYPE(self)->tp_free(self);
    }
}

static PyObject *node_value(PyObject *self, void *Py_UNUSED(closure)) {
    return PyLong_FromLong(((node *)self)->value);
}

static PyObject *node_add(PyObject *left, PyObject *right) {
    if (!PyObject_TypeCheck(left, &node_type) || !PyObject_TypeCheck(right, &node_type)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    return (PyObject *)make(&node_type, ((node *)left)->value + ((node *)right)->value);
}

static PyObject *node_link(PyObject *self, PyObject *other) {
    Py_INCREF(other);
    Py_XSETREF(((node *)self)->other, other);
    Py_RETURN_NONE;
}

static PyGetSetDef node_getset[] = {{"value", node_value, NULL, NULL, NULL}, {NULL, NULL, NULL, NULL, NULL}};
static PyMethodDef node_methods[] = {{"link", node_link, METH_O, NULL}, EXT_METHODS_END};
static PyNumberMethods node_number = {.nb_add = node_add};

static PyTypeObject node_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "ext_static_types.Node",
    .tp_basicsize = sizeof(node),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .tp_new = node_new,
    .tp_dealloc = node_dealloc,
    .tp_traverse = node_traverse,
    .tp_clear = node_clear,
    .tp_getset = node_getset,
    .tp_methods = node_methods,
    .tp_as_number = &node_number,
};

static PyTypeObject leaf_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "ext_static_types.Leaf",
    .tp_basicsize = sizeof(node),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_base = &node_type,
};

static PyObject *get_reused(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    return PyLong_FromLong(reused);
}

static PyObject *get_singleton(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(unused)) {
    return Py_NewRef(singleton);
}

/* The sum of 0 to n - 1, by attribute look-ups through the cached name. */
static PyObject *sum(PyObject *Py_UNUSED(self), PyObject *arg) {
    long total = 0, count = PyLong_AsLong(arg);
    for (long i = 0; i < count; i++) {
        PyObject *one = (PyObject *)make(i % 2 ? &node_type : &leaf_type, i);
        PyObject *value = one == NULL ? NULL : PyObject_GetAttr(one, name_value);
        Py_XDECREF(one);
        if (value == NULL) {
            return NULL;
        }
        total += PyLong_AsLong(value);
        Py_DECREF(value);
    }
    return PyLong_FromLong(total);
}

static PyMethodDef methods[] = {EXT_METHODS,
                                {"reused", get_reused, METH_NOARGS, NULL},
                                {"singleton", get_singleton, METH_NOARGS, NULL},
                                {"sum", sum, METH_O, NULL},
                                EXT_METHODS_END};

static int exec_module(PyObject *made) {
    if (PyType_Ready(&node_type) < 0 || PyType_Ready(&leaf_type) < 0) {
        return -1;
    }
    if (error == NULL) {
        error = PyErr_NewException("ext_static_types.NodeError", PyExc_ValueError, NULL);
        singleton = (PyObject *)make(&leaf_type, 1);
        name_value = PyUnicode_InternFromString("value");
    }
    if (error == NULL || singleton == NULL || name_value == NULL) {
        return -1;
    }
    return PyModule_AddObjectRef(made, "Node", (PyObject *)&node_type) < 0 ||
                   PyModule_AddObjectRef(made, "Leaf", (PyObject *)&leaf_type) < 0
               ? -1
               : PyModule_AddObjectRef(made, "NodeError", error);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, exec_module}, {0, NULL}};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ext_static_types", NULL, 0, methods, slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_ext_static_types(void) { return PyModuleDef_Init(&module); }
