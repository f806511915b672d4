/* The base of the iterator that map() returns: it gives out the results of a chunk one by one.
 *
 * Which chunk is next, and waiting for it, is Python's business (atoll._pool.map), once for a chunk; what is done for each item is
 * done here.  Results that are numbers are a row, of which each is made when it is given out (row.c); others are a list, and one that was given
 * out is held no longer.
 *
 * They are nobody else's: _more() hands it over with _give().  Several threads may ask: whoever finds nothing asks
 * _more(), which lets one at a time ask for the next chunk and sends the others back to look again.
 */
#include "module/pool.h"

typedef struct {
    PyObject_HEAD
    PyObject *values; /* a list, a row, or NULL */
    bool is_row;
    Py_ssize_t next;
    Py_ssize_t count;
} results_object;

static results_object *cast(PyObject *self) { return (results_object *)self; }

/* StopIteration out of a call would say that there are no more results: it becomes what it becomes in a generator (PEP 479), as
 * concurrent.futures has one. */
static void replace_stop(void) {
    PyObject *stop = PyErr_GetRaisedException();
    PyErr_SetString(PyExc_RuntimeError, "generator raised StopIteration");
    PyObject *exc = PyErr_GetRaisedException();
    PyException_SetCause(exc, Py_NewRef(stop));
    PyException_SetContext(exc, stop); /* each takes a reference */
    PyErr_SetRaisedException(exc);
}

/* Asks for the next chunk: 1 when it is worth looking again, 0 when there is none, with or without an exception. */
static int fetch(results_object *self) {
    PyObject *more = PyObject_CallMethod((PyObject *)self, "_more", NULL);
    if (more == NULL && PyErr_ExceptionMatches(PyExc_StopIteration)) {
        replace_stop();
    }
    int rc = more != NULL && PyObject_IsTrue(more) > 0;
    Py_XDECREF(more);
    return rc;
}

/* A list may have become shorter: whoever goes through all objects that there are can change it. */
static bool has_some(const results_object *self) {
    return self->next < self->count && (self->is_row || self->next < PyList_GET_SIZE(self->values));
}

static PyObject *results_next(PyObject *op) {
    results_object *self = cast(op);
    while (!has_some(self)) {
        if (!fetch(self)) {
            return NULL;
        }
    }
    if (self->is_row) {
        PyObject *value = atoll_pyrow_item(self->values, self->next);
        self->next += value != NULL;
        return value;
    }
    PyObject *value = PyList_GET_ITEM(self->values, self->next);
    PyList_SET_ITEM(self->values, self->next++, Py_NewRef(Py_None));
    return value;
}

PyDoc_STRVAR(give_doc,
             "_give($self, values=None, /)\n--\n\nGive out these results, and nothing of those before.");

static PyObject *results_give(PyObject *op, PyObject *const *args, Py_ssize_t nargs) {
    results_object *self = cast(op);
    bool is_row = nargs == 1 && atoll_pyrow_check(args[0]);
    if (nargs > 1 || (nargs == 1 && !is_row && !PyList_CheckExact(args[0]))) {
        PyErr_SetString(PyExc_TypeError, "_give() takes a list or a row");
        return NULL;
    }
    PyObject *before = self->values;
    self->values = nargs == 1 ? Py_NewRef(args[0]) : NULL;
    self->is_row = is_row;
    self->next = 0;
    self->count = nargs == 0 ? 0 : is_row ? atoll_pyrow_length(args[0]) : PyList_GET_SIZE(args[0]);
    Py_XDECREF(before); /* runs code that may ask for more */
    Py_RETURN_NONE;
}

PyDoc_STRVAR(has_some_doc,
             "_has_some($self, /)\n--\n\nReturn whether there are results that were not given out.");

static PyObject *results_has_some(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    return PyBool_FromLong(has_some(cast(op)));
}

PyDoc_STRVAR(last_doc, "_last($self, /)\n--\n\nReturn what _give() was called with last, or None.");

static PyObject *results_last(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    return Py_NewRef(cast(op)->values != NULL ? cast(op)->values : Py_None);
}

static int results_traverse(PyObject *op, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(cast(op)->values);
    return 0;
}

static int results_clear(PyObject *op) {
    cast(op)->count = 0;
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
    {"_give", (PyCFunction)(void (*)(void))results_give, METH_FASTCALL, give_doc},
    {"_last", results_last, METH_NOARGS, last_doc},
    {"_has_some", results_has_some, METH_NOARGS, has_some_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(results_doc, "The base of the iterator that map() returns: see atoll._pool.map.");

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
