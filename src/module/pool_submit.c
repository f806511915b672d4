/* What submits to a pool.
 *
 * A call is encoded where it is submitted (pool_encode.c) and queued; whatever cannot be sent makes a future that has failed.
 *
 * Everything here runs attached.  Encoding may run Python code; no lock is held meanwhile.
 */
#include "module/pool.h"

#include "core/trace/trace.h"
#include "py/pool/pool.h"

static atoll_pypool *cast(PyObject *self) { return (atoll_pypool *)self; }

static void raise_broken(atoll_pypool *self) {
    PyObject *exc = atoll_pypool_broken(self);
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
}

/* The interpreter that it works in is closed, or about to be. */
static void raise_closing(atoll_pypool *self) {
    const atoll_entry *entry = ((const atoll_pool_settings *)self->pool->settings)->of;
    if (atoll_entry_is_open(entry)) {
        atoll_label label;
        PyErr_Format(self->state->error, "cannot submit to interpreter %s: it is being closed",
                     atoll_entry_label(entry, &label));
    } else {
        (void)atoll_raise_not_found(self->state, entry->id);
    }
}

/* Queues a task, whose reference it takes over; its future, or NULL with an exception: then it was not queued. */
static PyObject *queue_task(atoll_pypool *self, atoll_task *task, bool late) {
    PyObject *future = atoll_future_new(self, task);
    if (future == NULL) {
        return NULL;
    }
    atoll_pool_result result =
        late ? atoll_pool_submit_late(self->pool, task) : atoll_pool_submit(self->pool, task);
    if (result != ATOLL_POOL_OK) {
        Py_CLEAR(future);
    }
    switch (result) {
    case ATOLL_POOL_OK:
        break;
    case ATOLL_POOL_SHUT:
        PyErr_SetString(PyExc_RuntimeError, "cannot schedule new futures after shutdown");
        break;
    case ATOLL_POOL_CLOSING:
        raise_closing(self);
        break;
    case ATOLL_POOL_NO_THREAD:
        PyErr_SetString(PyExc_RuntimeError, "can't start new thread");
        break;
    case ATOLL_POOL_BROKEN:
        raise_broken(self);
        break;
    }
    return future;
}

/* The same in the trace, where it began then. */
static PyObject *queue_traced(atoll_pypool *self, atoll_task *task, bool late, uint64_t began,
                              PyObject *callable) {
    uint64_t arrow = began != 0 ? atoll_trace_arrow() : 0;
    task->arrow = arrow;
    PyObject *future = queue_task(self, task, late);
    atoll_traced_call(began, ATOLL_TRACE_SUBMIT, callable, self->state->interp_id, (int64_t)arrow);
    return future;
}

/* What cannot be sent is the future's business, what interrupts the submitter is not. */
static PyObject *refuse(atoll_pypool *self) {
    if (!PyErr_ExceptionMatches(PyExc_Exception) || PyErr_ExceptionMatches(PyExc_MemoryError)) {
        return NULL;
    }
    return atoll_future_failed(self);
}

static atoll_state *usable(atoll_pypool *self) {
    atoll_state *state = atoll_pypool_state(self);
    if (state != NULL && atoll_pool_is_foreign(self->pool)) {
        raise_broken(self);
        return NULL;
    }
    return state;
}

PyObject *atoll_pypool_method_submit(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                                     PyObject *kwnames) {
    uint64_t began = atoll_trace_begin();
    atoll_pypool *self = cast(op);
    atoll_state *state = usable(self);
    if (state == NULL) {
        return NULL;
    }
    if (nargs < 1) {
        PyErr_SetString(PyExc_TypeError, "submit() needs a callable");
        return NULL;
    }
    if (PyUnicode_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "scripts not supported");
        return NULL;
    }
    if (atomic_load_explicit(&self->pool->shut, memory_order_relaxed) &&
        !atomic_load_explicit(&self->pool->broken, memory_order_relaxed)) {
        PyErr_SetString(PyExc_RuntimeError, "cannot schedule new futures after shutdown");
        return NULL;
    }
    atoll_task *task = atoll_pypool_encode(self, state, args[0], args + 1, nargs - 1, kwnames);
    return task != NULL ? queue_traced(self, task, false, began, args[0]) : refuse(self);
}

/* prepare(callable): what submit_chunk() takes for it. */
PyObject *atoll_pypool_method_prepare(PyObject *op, PyObject *callable) {
    atoll_pypool *self = cast(op);
    atoll_state *state = usable(self);
    return state != NULL ? atoll_pypool_prepare(self, state, callable) : NULL;
}

/* A future of the list of results of these items; NULL with an exception. */
static PyObject *submit_items(atoll_pypool *self, atoll_state *state, PyObject *callable, PyObject *items,
                              Py_ssize_t count, bool star, bool divide, bool late) {
    uint64_t began = atoll_trace_begin();
    atoll_task *task = atoll_pypool_encode(self, state, callable, &items, 1, NULL);
    if (task == NULL) {
        return refuse(self);
    }
    task->kind = star ? ATOLL_CALL_EACH_STAR : ATOLL_CALL_EACH;
    task->items = (uint32_t)count;
    task->divisible = divide;
    task->bytes = atoll_pypool_weight(&task->call);
    return queue_traced(self, task, late, began, callable);
}

/* What is left of (items, at) when `count` more have been sent, or NULL with an exception. */
static PyObject *rest_of(PyObject *items, Py_ssize_t at, Py_ssize_t count, Py_ssize_t length) {
    if (at + count < length) {
        return Py_BuildValue("(On)", items, at + count);
    }
    PyObject *none = PyList_New(0);
    return none != NULL ? Py_BuildValue("(Nn)", none, (Py_ssize_t)0) : NULL;
}

/* Of source.ready: a new reference to the items, a list or a range, where the next is among them, and how many there are; NULL with an
 * exception. */
static PyObject *ready_items(PyObject *source, Py_ssize_t *at, Py_ssize_t *length) {
    PyObject *ready = PyObject_GetAttrString(source, "ready");
    PyObject *items = NULL;
    if (ready != NULL && PyTuple_CheckExact(ready) && PyArg_ParseTuple(ready, "On:ready", &items, at)) {
        Py_INCREF(items);
        if (!PyList_CheckExact(items) && !PyRange_Check(items)) {
            PyErr_SetString(PyExc_TypeError, "what is ready is a list or a range");
            Py_CLEAR(items);
        } else if ((*length = PyObject_Size(items)) < 0) {
            Py_CLEAR(items);
        }
    }
    Py_XDECREF(ready);
    return items;
}

/* Both or neither: a future in window.futures, and another source.ready. */
static int take_note(PyObject *window, PyObject *future, PyObject *source, PyObject *rest) {
    PyObject *futures = rest != NULL ? PyObject_GetAttrString(window, "futures") : NULL;
    PyObject *added = futures != NULL ? PyObject_CallMethod(futures, "append", "O", future) : NULL;
    int rc = added != NULL ? PyObject_SetAttrString(source, "ready", rest) : -1;
    Py_XDECREF(futures);
    Py_XDECREF(added);
    return rc;
}

/* submit_chunk(callable, source, count, star, divide, late, window): sends the next `count` items of a source, with one future for
 * all, which is appended to window.futures while the source goes on: both or neither, whatever interrupts the
 * caller.  Of several that cannot be sent neither is done. */
PyObject *atoll_pypool_method_submit_chunk(PyObject *op, PyObject *const *args, Py_ssize_t nargs) {
    atoll_pypool *self = cast(op);
    atoll_state *state = usable(self);
    if (state == NULL) {
        return NULL;
    }
    Py_ssize_t count = nargs == 7 && PyLong_Check(args[2]) ? PyLong_AsSsize_t(args[2]) : -1;
    Py_ssize_t at = 0;
    Py_ssize_t length = 0;
    PyObject *items = count >= 1 ? ready_items(args[1], &at, &length) : NULL;
    if (items == NULL || at < 0 || count > length - at) {
        Py_XDECREF(items);
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError,
                            "submit_chunk() takes a callable, a source, how many of its items, "
                            "three bools and a window");
        }
        return NULL;
    }
    PyObject *some = PySequence_GetSlice(items, at, at + count);
    PyObject *future = some != NULL ? submit_items(self, state, args[0], some, count, args[3] == Py_True,
                                                   args[4] == Py_True, args[5] == Py_True)
                                    : NULL;
    Py_XDECREF(some);
    if (future != NULL && (count == 1 || !atoll_future_is_refused(future))) {
        PyObject *rest = rest_of(items, at, count, length);
        if (take_note(args[6], future, args[1], rest) < 0) {
            Py_CLEAR(future);
        }
        Py_XDECREF(rest);
    }
    Py_DECREF(items);
    return future;
}
