/* The results of a chunk that are numbers: a sequence, whose items are made when they are asked for (py/codec/unpack.c).
 *
 * It reads the task's message, and so holds the task, which is over.  It never changes, and refers to no object.
 */
#include "module/pool.h"

#include "py/interp/interp.h"

typedef struct {
    PyObject_HEAD
    atoll_task *task; /* a reference */
    atoll_row row;
} row_object;

static row_object *cast(PyObject *self) { return (row_object *)self; }

PyObject *atoll_pyrow_new(atoll_state *state, atoll_task *task) {
    atoll_row row;
    if (!atoll_row_of(&task->result, &row)) {
        return NULL;
    }
    PyObject *op = state->row_type->tp_alloc(state->row_type, 0);
    if (op != NULL) {
        atoll_task_retain(task);
        cast(op)->task = task;
        cast(op)->row = row;
    }
    return op;
}

PyObject *atoll_pyrow_item(PyObject *op, Py_ssize_t i) { return atoll_row_item(&cast(op)->row, i); }

Py_ssize_t atoll_pyrow_length(PyObject *op) { return cast(op)->row.n; }

static PyObject *row_item(PyObject *op, Py_ssize_t i) {
    if (i < 0 || i >= cast(op)->row.n) {
        PyErr_SetString(PyExc_IndexError, "index out of range");
        return NULL;
    }
    return atoll_pyrow_item(op, i);
}

static int row_traverse(PyObject *op, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(op));
    return 0;
}

static void row_dealloc(PyObject *op) {
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    atoll_task *task = cast(op)->task;
    type->tp_free(op);
    Py_DECREF(type);
    atoll_task_release(task);
}

PyDoc_STRVAR(row_doc, "The results of a chunk that are numbers of one kind.");

bool atoll_pyrow_check(PyObject *obj) { return Py_TYPE(obj)->tp_dealloc == row_dealloc; }

static PyType_Slot row_slots[] = {
    {Py_tp_doc, (void *)row_doc},       {Py_tp_dealloc, row_dealloc}, {Py_tp_traverse, row_traverse},
    {Py_sq_length, atoll_pyrow_length}, {Py_sq_item, row_item},       {0, NULL},
};

static PyType_Spec row_spec = {
    .name = "atoll._atoll._Row",
    .basicsize = sizeof(row_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = row_slots,
};

int atoll_pyrow_add(atoll_state *state, PyObject *module) {
    state->row_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &row_spec, NULL);
    return state->row_type != NULL ? PyModule_AddType(module, state->row_type) : -1;
}
