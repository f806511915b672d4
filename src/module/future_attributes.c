/* The attributes of a future: those that concurrent.futures.Future has, through which its code changes one that is heavy (see
 * future.c), and what map() asks about a chunk.
 */
#include "module/future.h"

static const char *const status_words[] = {
    "", "PENDING", "RUNNING", "CANCELLED", "CANCELLED_AND_NOTIFIED", "FINISHED"};

static future_object *cast(PyObject *self) { return (future_object *)self; }

static PyObject *get_state(PyObject *op, void *Py_UNUSED(closure)) {
    int status = atoll_future_status(cast(op));
    return status < 0 ? NULL : PyUnicode_InternFromString(status_words[status]);
}

static int set_state(PyObject *op, PyObject *value, void *Py_UNUSED(closure)) {
    future_object *self = cast(op);
    for (int status = PENDING; value != NULL && PyUnicode_Check(value) && status <= FINISHED; status++) {
        if (PyUnicode_CompareWithASCIIString(value, status_words[status]) == 0) {
            self->status = (uint8_t)status;
            if (self->task != NULL) {
                atoll_task *task = self->task;
                self->task = NULL;
                atoll_task_release(task);
            }
            return 0;
        }
    }
    PyErr_SetString(PyExc_ValueError, "not a state of a future");
    return -1;
}

static PyObject *get_condition(PyObject *op, void *Py_UNUSED(closure)) {
    future_object *self = cast(op);
    if (!self->renewed && atoll_pool_is_foreign(self->pool->pool)) {
        self->renewed = true;
        Py_CLEAR(self->condition); /* a thread that is not there may have it */
        Py_CLEAR(self->waiters);
        Py_CLEAR(self->callbacks);
    }
    if (self->condition == NULL && atoll_future_become_heavy(self) < 0) {
        return NULL;
    }
    return Py_NewRef(self->condition);
}

static PyObject *list_at(PyObject **slot) {
    if (*slot == NULL) {
        *slot = PyList_New(0);
    }
    return Py_XNewRef(*slot);
}

static PyObject *get_waiters(PyObject *op, void *Py_UNUSED(closure)) { return list_at(&cast(op)->waiters); }

static PyObject *get_callbacks(PyObject *op, void *Py_UNUSED(closure)) {
    return list_at(&cast(op)->callbacks);
}

static PyObject *get_seconds(PyObject *op, void *Py_UNUSED(closure)) {
    return PyFloat_FromDouble((double)cast(op)->seconds);
}

static PyObject *get_count(PyObject *op, void *Py_UNUSED(closure)) {
    return PyLong_FromUnsignedLong(cast(op)->count);
}

static PyObject *get_bytes(PyObject *op, void *Py_UNUSED(closure)) {
    return PyLong_FromSize_t(cast(op)->bytes);
}

static PyObject *get_parts(PyObject *op, void *Py_UNUSED(closure)) {
    if (atoll_future_status(cast(op)) < 0) {
        return NULL;
    }
    return cast(op)->parts != NULL ? Py_NewRef(cast(op)->parts) : PyList_New(0);
}

/* Whether it never had a task; of one that was just made. */
static PyObject *get_is_refused(PyObject *op, void *Py_UNUSED(closure)) {
    return PyBool_FromLong(cast(op)->task == NULL);
}

static PyObject *get_result(PyObject *op, void *Py_UNUSED(closure)) {
    if (atoll_future_status(cast(op)) < 0) {
        return NULL;
    }
    return Py_NewRef(cast(op)->result != NULL ? cast(op)->result : Py_None);
}

static PyObject *get_exception(PyObject *op, void *Py_UNUSED(closure)) {
    if (atoll_future_status(cast(op)) < 0) {
        return NULL;
    }
    return Py_NewRef(cast(op)->exception != NULL ? cast(op)->exception : Py_None);
}

static int set_slot(PyObject **slot, PyObject *value) {
    Py_XSETREF(*slot, value == Py_None ? NULL : Py_XNewRef(value));
    return 0;
}

static int set_result(PyObject *op, PyObject *value, void *Py_UNUSED(closure)) {
    return set_slot(&cast(op)->result, value);
}

static int set_exception(PyObject *op, PyObject *value, void *Py_UNUSED(closure)) {
    return set_slot(&cast(op)->exception, value);
}

static PyObject *get_is_guests(PyObject *op, void *Py_UNUSED(closure)) {
    const future_object *self = cast(op);
    return PyBool_FromLong(self->pool != NULL && self->pool->pool->line != NULL);
}

PyGetSetDef atoll_future_getset[] = {
    {"_state", get_state, set_state, NULL, NULL},
    {"_condition", get_condition, NULL, NULL, NULL},
    {"_waiters", get_waiters, NULL, NULL, NULL},
    {"_done_callbacks", get_callbacks, NULL, NULL, NULL},
    {"_result", get_result, set_result, NULL, NULL},
    {"_exception", get_exception, set_exception, NULL, NULL},
    {"_seconds", get_seconds, NULL, NULL, NULL},
    {"_count", get_count, NULL, NULL, NULL},
    {"_bytes", get_bytes, NULL, NULL, NULL},
    {"_parts", get_parts, NULL, NULL, NULL},
    {"_is_refused", get_is_refused, NULL, NULL, NULL},
    {"_is_guests", get_is_guests, NULL, NULL, NULL}, /* of a call that Interpreter.submit() made */
    {NULL, NULL, NULL, NULL, NULL},
};
