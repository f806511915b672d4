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

/* Queues a task that has a future.  0, or -1 with an exception: then it was not queued. */
static int queue_task(atoll_pypool *self, atoll_task *task, bool late) {
    atoll_pool_result result =
        late ? atoll_pool_submit_late(self->pool, task) : atoll_pool_submit(self->pool, task);
    switch (result) {
    case ATOLL_POOL_OK:
        return 0;
    case ATOLL_POOL_SHUT:
        PyErr_SetString(PyExc_RuntimeError, "cannot schedule new futures after shutdown");
        break;
    case ATOLL_POOL_CLOSING:
        atoll_session_raise_shut(self->state, ((const atoll_pool_settings *)self->pool->settings)->of,
                                 "submit to");
        break;
    case ATOLL_POOL_NO_THREAD:
        PyErr_SetString(PyExc_RuntimeError, "can't start new thread");
        break;
    case ATOLL_POOL_BROKEN:
        raise_broken(self);
        break;
    }
    return -1;
}

/* The same in the trace, where it began then. */
static int queue_traced(atoll_pypool *self, atoll_task *task, bool late, uint64_t began, PyObject *callable) {
    uint64_t arrow = began != 0 ? atoll_trace_arrow() : 0;
    task->arrow = arrow;
    int rc = queue_task(self, task, late);
    atoll_traced_call(began, ATOLL_TRACE_SUBMIT, callable, self->state->interp_id, (int64_t)arrow);
    return rc;
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
    if (task == NULL) {
        return refuse(self);
    }
    PyObject *future = atoll_future_new(self, task);
    if (future != NULL && queue_traced(self, task, false, began, args[0]) < 0) {
        Py_CLEAR(future);
    }
    return future;
}

/* prepare(callable): what submit_chunk() takes for it. */
PyObject *atoll_pypool_method_prepare(PyObject *op, PyObject *callable) {
    atoll_pypool *self = cast(op);
    atoll_state *state = usable(self);
    return state != NULL ? atoll_pypool_prepare(self, state, callable) : NULL;
}

/* ---- chunks of map() ---- */

/* The next items of a source, and what changes when they are sent. */
typedef struct {
    PyObject *source;  /* borrowed */
    PyObject *futures; /* of the window */
    PyObject *ready;   /* "ready" and "pop": taking back what was noted needs no memory */
    PyObject *pop;
    PyObject *before; /* source.ready */
    PyObject *after;
    PyObject *items;
    Py_ssize_t count;
} portion;

static void portion_clear(portion *p) {
    Py_CLEAR(p->futures);
    Py_CLEAR(p->ready);
    Py_CLEAR(p->pop);
    Py_CLEAR(p->before);
    Py_CLEAR(p->after);
    Py_CLEAR(p->items);
}

/* What is left of (items, at) when `count` more have been sent, or NULL with an exception. */
static PyObject *rest_of(PyObject *items, Py_ssize_t at, Py_ssize_t count, Py_ssize_t length) {
    if (at + count < length) {
        return Py_BuildValue("(On)", items, at + count);
    }
    PyObject *none = PyList_New(0);
    return none != NULL ? Py_BuildValue("(Nn)", none, (Py_ssize_t)0) : NULL;
}

/* Of what is ready, a list or a range and the place of the next among its items: those of the chunk, and what is left then.  0, or -1
 * with an exception. */
static int portion_cut(portion *p) {
    PyObject *all; /* borrowed from what is ready */
    Py_ssize_t at;
    if (!PyTuple_CheckExact(p->before) || !PyArg_ParseTuple(p->before, "On:ready", &all, &at) ||
        !(PyList_CheckExact(all) || PyRange_Check(all))) {
        PyErr_SetString(PyExc_TypeError, "what is ready is a list or a range, and the place of the next");
        return -1;
    }
    Py_ssize_t length = PyObject_Size(all);
    if (length < 0) {
        return -1;
    }
    if (at < 0 || p->count < 1 || p->count > length - at) {
        PyErr_Format(PyExc_ValueError, "%zd items cannot be taken from %zd", p->count, length - at);
        return -1;
    }
    p->items = PySequence_GetSlice(all, at, at + p->count);
    p->after = p->items != NULL ? rest_of(all, at, p->count, length) : NULL;
    return p->after != NULL ? 0 : -1;
}

/* Changes nothing.  0, or -1 with an exception; clear it in either case. */
static int portion_take(portion *p, PyObject *source, Py_ssize_t count, PyObject *window) {
    *p = (portion){.source = source, .count = count};
    p->ready = PyUnicode_InternFromString("ready");
    p->pop = p->ready != NULL ? PyUnicode_InternFromString("pop") : NULL;
    p->futures = p->pop != NULL ? PyObject_GetAttrString(window, "futures") : NULL;
    p->before = p->futures != NULL ? PyObject_GetAttr(source, p->ready) : NULL;
    return p->before != NULL ? portion_cut(p) : -1;
}

/* A future in window.futures, and another source.ready: both, or neither and -1 with an exception. */
static int portion_note(const portion *p, PyObject *future) {
    if (PyObject_SetAttr(p->source, p->ready, p->after) < 0) {
        return -1;
    }
    PyObject *added = PyObject_CallMethod(p->futures, "append", "O", future);
    if (added == NULL) {
        PyObject *exc = PyErr_GetRaisedException();
        (void)PyObject_SetAttr(p->source, p->ready, p->before);
        PyErr_SetRaisedException(exc);
        return -1;
    }
    Py_DECREF(added);
    return 0;
}

/* With an exception, which stays. */
static void portion_take_back(const portion *p) {
    PyObject *exc = PyErr_GetRaisedException();
    Py_XDECREF(PyObject_CallMethodNoArgs(p->futures, p->pop));
    (void)PyObject_SetAttr(p->source, p->ready, p->before);
    PyErr_SetRaisedException(exc);
}

/* The future of a chunk of items, which is noted before it is queued: whatever fails then, no call is made that nobody knows of.
 * NULL with an exception. */
static PyObject *send_portion(atoll_pypool *self, const portion *p, PyObject *callable, atoll_task *task,
                              bool late, uint64_t began) {
    PyObject *future = atoll_future_new(self, task);
    if (future == NULL || portion_note(p, future) < 0) {
        Py_XDECREF(future);
        return NULL;
    }
    if (queue_traced(self, task, late, began, callable) < 0) {
        portion_take_back(p);
        Py_CLEAR(future);
    }
    return future;
}

/* With the exception that says why one item cannot be sent: says it as a call does, which knows of no chunks. */
static void refuse_as_call(atoll_pypool *self, atoll_state *state, const portion *p, PyObject *callable,
                           bool star) {
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *item = PySequence_GetItem(p->items, 0);
    PyObject *args = item == NULL ? NULL : star ? PySequence_Tuple(item) : PyTuple_Pack(1, item);
    atoll_task *task = args == NULL
                           ? NULL
                           : atoll_pypool_encode(self, state, callable, ((PyTupleObject *)args)->ob_item,
                                                 PyTuple_GET_SIZE(args), NULL);
    if (task != NULL) { /* now it can */
        atoll_task_release(task);
    }
    if (PyErr_Occurred()) {
        Py_CLEAR(exc);
    } else {
        PyErr_SetRaisedException(exc);
    }
    Py_XDECREF(args);
    Py_XDECREF(item);
}

/* What cannot be sent: a future that says so, which is noted if it is of one item. */
static PyObject *refuse_portion(atoll_pypool *self, atoll_state *state, const portion *p, PyObject *callable,
                                bool star) {
    if (p->count == 1 && PyErr_ExceptionMatches(state->not_shareable)) {
        refuse_as_call(self, state, p, callable, star);
    }
    PyObject *future = refuse(self);
    if (future != NULL && p->count == 1 && portion_note(p, future) < 0) {
        Py_CLEAR(future);
    }
    return future;
}

/* submit_chunk(callable, source, count, star, divide, late, window): sends the next `count` items of a source, with one future for
 * all, which is appended to window.futures while the source goes on: all of this or nothing, whatever interrupts the
 * caller.  Of several that cannot be sent neither is done. */
PyObject *atoll_pypool_method_submit_chunk(PyObject *op, PyObject *const *args, Py_ssize_t nargs) {
    atoll_pypool *self = cast(op);
    atoll_state *state = usable(self);
    if (state == NULL) {
        return NULL;
    }
    if (nargs != 7 || !PyLong_Check(args[2])) {
        PyErr_SetString(PyExc_TypeError, "submit_chunk() takes a callable, a source, how many of its items, "
                                         "three bools and a window");
        return NULL;
    }
    uint64_t began = atoll_trace_begin();
    PyObject *future = NULL;
    portion p;
    Py_ssize_t count = PyLong_AsSsize_t(args[2]); /* -1 is no count either */
    PyErr_Clear();
    if (portion_take(&p, args[1], count, args[6]) == 0) {
        atoll_task *task = atoll_pypool_encode(self, state, args[0], &p.items, 1, NULL);
        if (task != NULL) {
            task->kind = args[3] == Py_True ? ATOLL_CALL_EACH_STAR : ATOLL_CALL_EACH;
            task->items = (uint32_t)count;
            task->divisible = args[4] == Py_True;
            task->bytes = atoll_pypool_weight(&task->call);
            future = send_portion(self, &p, args[0], task, args[5] == Py_True, began);
        } else {
            future = refuse_portion(self, state, &p, args[0], args[3] == Py_True);
        }
    }
    portion_clear(&p);
    return future;
}
