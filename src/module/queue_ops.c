/* What a Queue does: putting, and what is asked of it; queue_get.c has getting, queue_wait.c waiting in event loops.
 *
 * A put encodes first, with the thread state attached, and touches the queue only when it has the whole item, so an
 * item that cannot be sent leaves the queue as it was.  When a queue is full the thread state is detached for the wait
 * (py/interp/blocking.h).
 */
#include "module/queue_ops.h"
#include "py/interp/interp.h"

#include <math.h>
#include <stdlib.h>

#define KEEP_BYTES (256 * 1024) /* storage kept for the next put */

/* ---- putting ---- */

int atoll_pyqueue_put_batch(atoll_state *state, atoll_queue *queue, atoll_batch *batch, double deadline) {
    size_t all = batch->count;
    atoll_queue_result result = atoll_queue_put(queue, batch);
    bool interrupted = false;
    if (result == ATOLL_QUEUE_AGAIN && deadline != ATOLL_NO_WAIT) {
        atoll_blocking b;
        atoll_blocking_begin(&b, state, deadline, ATOLL_WAITS_PUT, atoll_queue_id(queue));
        while (!interrupted && (result = atoll_queue_put(queue, batch)) == ATOLL_QUEUE_AGAIN) {
            atoll_wait_result why = atoll_queue_wait(queue, ATOLL_QUEUE_PUT, &b.waiter, b.deadline);
            if (why == ATOLL_WAIT_TIMEOUT) {
                break;
            }
            interrupted = atoll_blocking_look(&b, why) && atoll_blocking_interrupted(&b) < 0;
        }
        if (!interrupted) {
            atoll_blocking_end(&b);
        }
        atoll_pyqueue_count_wait(queue, ATOLL_QUEUE_PUT, &b);
    }
    if (state->entry != NULL) { /* else the module was cleared meanwhile */
        atoll_stat_add(state->entry->stats, ATOLL_STAT_SENT, all - batch->count);
    }
    return interrupted                ? -1
           : result == ATOLL_QUEUE_OK ? 0
                                      : atoll_pyqueue_raise_result(state, queue, ATOLL_QUEUE_PUT, result);
}

/* What becomes of an item.  Where nobody says, those of a pool's worker outlive it: its interpreter is the pool's, which ends
 * it when it likes, and results and log records are not to be lost for that.  0 with an exception. */
static uint8_t unbound_for(atoll_state *state, const atoll_queue *queue, PyObject *items) {
    if (items != NULL && items != Py_None) {
        return atoll_pyqueue_unbound_of(state, items, 0);
    }
    uint8_t said = atoll_queue_unbound(queue);
    return said != 0 ? said : atomic_load(&state->entry->pooled) ? ATOLL_UNBOUND_KEEP : ATOLL_UNBOUND_REPLACE;
}

/* Appends an object to a batch.  0, or -1 with an exception and the batch as it was. */
static int append(atoll_state *state, atoll_batch *batch, PyObject *obj, uint8_t unbound, const char *root) {
    size_t start = atoll_batch_begin(batch);
    if (start == SIZE_MAX) {
        PyErr_NoMemory();
        return -1;
    }
    if (atoll_encode(state->codec, &batch->msg, obj, root) < 0 ||
        (unbound == ATOLL_UNBOUND_KEEP && atoll_export_keep_bytes(&batch->msg) < 0)) {
        atoll_message_rewind(&batch->msg, start, 0);
        return -1;
    }
    if (state->entry != NULL) {
        atoll_stat_add(state->entry->stats, ATOLL_STAT_SENT_BYTES,
                       batch->msg.body.len - start - sizeof(atoll_record));
    }
    if (atoll_batch_end(batch, start, state->interp_id, unbound) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

/* A batch to fill: the state's, whose storage is warm, unless an encoding that has not ended uses it (a put inside of a
 * __reduce__, or in another thread).  own must be zero. */
static atoll_batch *batch_begin(atoll_state *state, atoll_batch *own) {
    if (state->batch_in_use) {
        return own;
    }
    state->batch_in_use = true;
    return &state->batch;
}

/* Releases what was not put. */
static void batch_done(atoll_state *state, atoll_batch *batch) {
    atoll_batch_reset(batch);
    if (batch != &state->batch) {
        atoll_message_clear(&batch->msg);
        return;
    }
    if (batch->msg.body.cap > KEEP_BYTES) {
        atoll_message_reset(&batch->msg, KEEP_BYTES);
    }
    state->batch_in_use = false;
}

static PyObject *put_one(PyObject *self, PyObject *obj, PyObject *items, double deadline) {
    atoll_state *state = atoll_pyqueue_state(self);
    if (state == NULL) {
        return NULL;
    }
    atoll_queue *queue = atoll_pyqueue_of(self);
    uint8_t unbound = unbound_for(state, queue, items);
    if (unbound == 0) {
        return NULL;
    }
    atoll_batch own = {0};
    atoll_batch *batch = batch_begin(state, &own);
    int rc = append(state, batch, obj, unbound, "obj");
    if (rc == 0) {
        rc = atoll_pyqueue_put_batch(state, queue, batch, deadline);
    }
    batch_done(state, batch);
    return rc == 0 ? Py_NewRef(Py_None) : NULL;
}

PyDoc_STRVAR(
    put_doc,
    "put($self, obj, block=True, timeout=None, *, unbounditems=None)\n--\n\n"
    "Put an object into the queue; wait while it is full (PEP 734).\n\n"
    "timeout is in seconds; without one, or with None, it waits for ever. With block=False it does not "
    "wait.\n"
    "The object crosses as in Interpreter.call(). unbounditems overrides the queue's.\n"
    "Raises NotShareableError for what cannot cross, QueueFull, QueueShutDown, ValueError for a negative\n"
    "timeout. Whatever it raises, the queue is unchanged.");

static PyObject *queue_put(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    if (nargs == 1 && kwnames == NULL) {
        return put_one(self, args[0], NULL, INFINITY);
    }
    static const char *const keywords[] = {"obj", "block", "timeout", "unbounditems"};
    PyObject *values[4] = {0};
    double deadline;
    if (atoll_parse("put", keywords, 4, 3, 1, args, nargs, kwnames, values) < 0 ||
        atoll_pyqueue_deadline(values[1], values[2], &deadline) < 0) {
        return NULL;
    }
    return put_one(self, values[0], values[3], deadline);
}

PyDoc_STRVAR(put_nowait_doc, "put_nowait($self, obj, *, unbounditems=None)\n--\n\n"
                             "put(obj, block=False): raises QueueFull instead of waiting.");

static PyObject *queue_put_nowait(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                  PyObject *kwnames) {
    static const char *const keywords[] = {"obj", "unbounditems"};
    PyObject *values[2] = {0};
    if (atoll_parse("put_nowait", keywords, 2, 1, 1, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    return put_one(self, values[0], values[1], ATOLL_NO_WAIT);
}

/* After put_many() failed: the exception's `count`. */
static void note_count(size_t count) {
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *number = PyLong_FromSize_t(count);
    if (number == NULL || PyObject_SetAttrString(exc, "count", number) < 0) {
        PyErr_Clear();
    }
    Py_XDECREF(number);
    PyErr_SetRaisedException(exc);
}

PyDoc_STRVAR(
    put_many_doc,
    "put_many($self, iterable, block=True, timeout=None, *, unbounditems=None)\n--\n\n"
    "Put the objects of an iterable, in order, with the cost of one put for many.\n\n"
    "All are encoded before the first is put: one that cannot cross is named, as items[3], and nothing was\n"
    "put. They go in as there is room; when QueueFull (timeout, in seconds, or block=False) or "
    "QueueShutDown\n"
    "ends it early, the exception's attribute count says how many were put.");

static PyObject *queue_put_many(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    static const char *const keywords[] = {"iterable", "block", "timeout", "unbounditems"};
    PyObject *values[4] = {0};
    double deadline;
    atoll_state *state = atoll_pyqueue_state(self);
    if (state == NULL || atoll_parse("put_many", keywords, 4, 3, 1, args, nargs, kwnames, values) < 0 ||
        atoll_argument_iterable(values[0], "iterable") < 0 ||
        atoll_pyqueue_deadline(values[1], values[2], &deadline) < 0) {
        return NULL;
    }
    atoll_queue *queue = atoll_pyqueue_of(self);
    uint8_t unbound = unbound_for(state, queue, values[3]);
    PyObject *iterator = unbound != 0 ? PyObject_GetIter(values[0]) : NULL;
    if (iterator == NULL) {
        return NULL;
    }
    atoll_batch own = {0};
    atoll_batch *batch = batch_begin(state, &own);
    PyObject *item;
    int rc = 0;
    while (rc == 0 && (item = PyIter_Next(iterator)) != NULL) {
        rc = append(state, batch, item, unbound, "items");
        if (rc < 0 && PyErr_ExceptionMatches(state->not_shareable)) {
            /* Once more, for its place in the message: too dear to write down for each. */
            char root[40];
            (void)snprintf(root, sizeof root, "items[%zu]", batch->count);
            PyErr_Clear();
            rc = append(state, batch, item, unbound, root);
        }
        Py_DECREF(item);
    }
    Py_DECREF(iterator);
    if (rc == 0 && PyErr_Occurred()) {
        rc = -1;
    }
    size_t all = batch->count;
    if (rc == 0 && all != 0 && atoll_pyqueue_put_batch(state, queue, batch, deadline) < 0) {
        note_count(all - batch->count);
        rc = -1;
    }
    batch_done(state, batch);
    return rc == 0 ? Py_NewRef(Py_None) : NULL;
}

/* ---- the rest ---- */

static PyObject *queue_qsize(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return atoll_pyqueue_state(self) != NULL
               ? PyLong_FromUnsignedLongLong(atoll_queue_count(atoll_pyqueue_of(self)))
               : NULL;
}

static PyObject *queue_empty(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return atoll_pyqueue_state(self) != NULL ? PyBool_FromLong(atoll_queue_count(atoll_pyqueue_of(self)) == 0)
                                             : NULL;
}

static PyObject *queue_full(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return atoll_pyqueue_state(self) != NULL ? PyBool_FromLong(atoll_queue_is_full(atoll_pyqueue_of(self)))
                                             : NULL;
}

PyDoc_STRVAR(
    shutdown_doc,
    "shutdown($self, /, immediate=False)\n--\n\n"
    "Refuse further items; wake everybody who waits.\n\n"
    "put() then raises QueueShutDown, and get() when nothing is left. With immediate=True what is left\n"
    "is dropped. As queue.Queue.shutdown() of 3.13.");

static PyObject *queue_shutdown(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    static const char *const keywords[] = {"immediate"};
    PyObject *values[1] = {0};
    if (atoll_pyqueue_state(self) == NULL ||
        atoll_parse("shutdown", keywords, 1, 1, 0, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    int drop = values[0] != NULL ? PyObject_IsTrue(values[0]) : 0;
    if (drop < 0) {
        return NULL;
    }
    atoll_queue_shutdown(atoll_pyqueue_of(self), drop);
    Py_RETURN_NONE;
}

#define FAST(function) (PyCFunction)(void (*)(void))(function), METH_FASTCALL | METH_KEYWORDS

static PyObject *reduce(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    PyObject *number = PyObject_GetAttrString(self, "id");
    return number != NULL ? Py_BuildValue("O(N)", Py_TYPE(self), number) : NULL;
}

PyMethodDef atoll_pyqueue_ops[] = {
    {"put", FAST(queue_put), put_doc},
    {"put_nowait", FAST(queue_put_nowait), put_nowait_doc},
    {"put_many", FAST(queue_put_many), put_many_doc},
    {"put_async", FAST(atoll_pyqueue_method_put_async), atoll_pyqueue_put_async_doc},
    {"get", FAST(atoll_pyqueue_method_get), atoll_pyqueue_get_doc},
    {"get_nowait", atoll_pyqueue_method_get_nowait, METH_NOARGS, atoll_pyqueue_get_nowait_doc},
    {"get_many", FAST(atoll_pyqueue_method_get_many), atoll_pyqueue_get_many_doc},
    {"get_async", FAST(atoll_pyqueue_method_get_async), atoll_pyqueue_get_async_doc},
    {"qsize", queue_qsize, METH_NOARGS, "qsize($self, /)\n--\n\nReturn how many items are there."},
    {"empty", queue_empty, METH_NOARGS, "empty($self, /)\n--\n\nReturn whether there is no item."},
    {"full", queue_full, METH_NOARGS, "full($self, /)\n--\n\nReturn whether there are maxsize items."},
    {"shutdown", FAST(queue_shutdown), shutdown_doc},
    {"fileno", atoll_pyqueue_method_fileno, METH_NOARGS, atoll_pyqueue_fileno_doc},
    {"_watch", atoll_pyqueue_method_watch, METH_O,
     PyDoc_STR("_watch($self, put, /)\n--\n\nAs fileno(), or with True for room to put, until _unwatch().")},
    {"_unwatch", atoll_pyqueue_method_unwatch, METH_O,
     PyDoc_STR("_unwatch($self, put, /)\n--\n\nEnds one _watch().")},
    {"__reduce__", reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
