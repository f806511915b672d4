/* The base of the iterator that map() returns: it gives out the results of a chunk one by one.
 *
 * Which chunk is next, and waiting for it, is Python's business (atoll._map), once for a chunk; what is done for each item is
 * done here.  An item that was given out is held no longer.
 *
 * The list is nobody else's: _more() hands it over.
 */
#include "module/pool.h"

typedef struct {
    PyObject_HEAD
    PyObject *values; /* a list, or NULL */
    Py_ssize_t next;
} results_object;

static results_object *cast(PyObject *self) { return (results_object *)self; }

/* Asks for the next chunk: 1, or 0 when there is none, with or without an exception. */
static int fetch(results_object *self) {
    PyObject *values = PyObject_CallMethod((PyObject *)self, "_more", NULL);
    if (values == NULL) {
        return 0;
    }
    if (!PyList_CheckExact(values)) {
        if (values != Py_None) {
            PyErr_SetString(PyExc_TypeError, "_more() returns a list or None");
        }
        Py_DECREF(values);
        return 0;
    }
    Py_XSETREF(self->values, values);
    self->next = 0;
    return 1;
}

static PyObject *results_next(PyObject *op) {
    results_object *self = cast(op);
    while (self->values == NULL || self->next >= PyList_GET_SIZE(self->values)) {
        if (!fetch(self)) {
            return NULL;
        }
    }
    PyObject *value = PyList_GET_ITEM(self->values, self->next);
    PyList_SET_ITEM(self->values, self->next++, Py_NewRef(Py_None));
    return value;
}

PyDoc_STRVAR(forget_doc, "_forget($self, /)\n--\n\nGive out nothing more of the chunk.");

static PyObject *results_forget(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    Py_CLEAR(cast(op)->values);
    Py_RETURN_NONE;
}

static int results_traverse(PyObject *op, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(cast(op)->values);
    return 0;
}

static int results_clear(PyObject *op) {
    Py_CLEAR(cast(op)->values);
    return 0;
}

static void results_dealloc(PyObject *op) {
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    (void)results_clear(op);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMethodDef results_methods[] = {
    {"_forget", results_forget, METH_NOARGS, forget_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(results_doc, "The base of the iterator that map() returns: see atoll._map.");

static PyType_Slot results_slots[] = {
    {Py_tp_doc, (void *)results_doc},   {Py_tp_dealloc, results_dealloc},
    {Py_tp_traverse, results_traverse}, {Py_tp_clear, results_clear},
    {Py_tp_methods, results_methods},   {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, results_next},     {0, NULL},
};

static PyType_Spec results_spec = {
    .name = "atoll._atoll._Results",
    .basicsize = sizeof(results_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = results_slots,
};

int atoll_results_add(PyObject *module) {
    PyObject *type = PyType_FromModuleAndSpec(module, &results_spec, NULL);
    int rc = type != NULL ? PyModule_AddObjectRef(module, "_Results", type) : -1;
    Py_XDECREF(type);
    return rc;
}
