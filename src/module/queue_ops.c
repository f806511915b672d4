/* What a Queue does: putting, getting, waiting.
 *
 * A put encodes first, with the thread state attached, and touches the queue only when it has the whole item, so an
 * item that cannot be sent leaves the queue as it was.  A get takes the record first and decodes it afterwards:
 * an item that cannot be rebuilt here is consumed, and reported.  When a queue is full or empty the thread state is
 * detached for the wait (py/interp/blocking.h).
 */
#include "module/module.h"
#include "py/interp/interp.h"

#include <math.h>
#include <stdlib.h>

#define NO_WAIT (-1.0) /* instead of a deadline */
#define MANY_BYTES (64 * 1024)
#define KEEP_BYTES (256 * 1024) /* storage kept for the next put */
#define LEAST_BYTES 4096

typedef union {
    atoll_record record;
    uint8_t room[sizeof(atoll_record) + ATOLL_RECORD_INLINE];
} one_record;

static atoll_queue *queue_of(PyObject *self) { return ((atoll_pyqueue *)self)->queue; }

/* ---- errors ---- */

static int raise_named(atoll_state *state, atoll_pyqueue_name name, const char *format, atoll_queue *queue) {
    PyObject *type = atoll_pyqueue_name_get(state, name);
    if (type != NULL) {
        PyErr_Format(type, format, (long long)atoll_queue_id(queue));
    }
    return -1;
}

/* For what the core said. -1. */
static int raise_result(atoll_state *state, atoll_queue *queue, atoll_queue_side side,
                        atoll_queue_result result) {
    if (result == ATOLL_QUEUE_SHUT) {
        return raise_named(state, ATOLL_Q_SHUT, "queue %lld is shut down", queue);
    }
    if (result == ATOLL_QUEUE_NO_MEMORY) {
        PyErr_NoMemory();
        return -1;
    }
    if (side == ATOLL_QUEUE_PUT) {
        return raise_named(state, ATOLL_Q_FULL, "queue %lld is full", queue);
    }
    return raise_named(state, ATOLL_Q_EMPTY, "queue %lld is empty", queue);
}

/* Replaces the exception of an item that cannot be rebuilt, which becomes its cause. */
static void raise_undecodable(atoll_state *state, atoll_queue *queue, int64_t sender) {
    if (atoll_error_is_urgent()) {
        return;
    }
    PyObject *cause = PyErr_GetRaisedException();
    PyObject *type = atoll_pyqueue_name_get(state, ATOLL_Q_ERROR);
    if (type == NULL) {
        Py_DECREF(cause);
        return;
    }
    PyErr_Format(type, "queue %lld: an item put by interpreter %lld cannot be received here: %s: %S",
                 (long long)atoll_queue_id(queue), (long long)sender, Py_TYPE(cause)->tp_name, cause);
    PyObject *exc = PyErr_GetRaisedException();
    PyException_SetCause(exc, Py_NewRef(cause));
    PyException_SetContext(exc, cause);
    PyErr_SetRaisedException(exc);
}

/* ---- arguments ---- */

/* (…, block=True, timeout=None) as a deadline.  0, or -1 with an exception. */
static int deadline_of(PyObject *block, PyObject *timeout, double *deadline) {
    int wait = block == NULL ? 1 : PyObject_IsTrue(block);
    if (wait <= 0) {
        *deadline = NO_WAIT;
        return wait;
    }
    return atoll_deadline(timeout, deadline);
}

/* ---- putting ---- */

/* Puts a batch; what is left in it when this fails was not put.  0, or -1 with an exception. */
static int put_batch(atoll_state *state, atoll_queue *queue, atoll_batch *batch, double deadline) {
    atoll_queue_result result = atoll_queue_put(queue, batch);
    if (result == ATOLL_QUEUE_AGAIN && deadline != NO_WAIT) {
        atoll_blocking b;
        atoll_blocking_begin(&b, state, deadline);
        while ((result = atoll_queue_put(queue, batch)) == ATOLL_QUEUE_AGAIN) {
            atoll_wait_result why = atoll_queue_wait(queue, ATOLL_QUEUE_PUT, &b.waiter, b.deadline);
            if (why == ATOLL_WAIT_TIMEOUT) {
                break;
            }
            if (atoll_blocking_look(&b, why) && atoll_blocking_interrupted(&b) < 0) {
                return -1;
            }
        }
        atoll_blocking_end(&b);
    }
    return result == ATOLL_QUEUE_OK ? 0 : raise_result(state, queue, ATOLL_QUEUE_PUT, result);
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
    atoll_queue *queue = queue_of(self);
    uint8_t unbound = unbound_for(state, queue, items);
    if (unbound == 0) {
        return NULL;
    }
    atoll_batch own = {0};
    atoll_batch *batch = batch_begin(state, &own);
    int rc = append(state, batch, obj, unbound, "obj");
    if (rc == 0) {
        rc = put_batch(state, queue, batch, deadline);
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
        deadline_of(values[1], values[2], &deadline) < 0) {
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
    return put_one(self, values[0], values[1], NO_WAIT);
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
        deadline_of(values[1], values[2], &deadline) < 0) {
        return NULL;
    }
    atoll_queue *queue = queue_of(self);
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
    if (rc == 0 && all != 0 && put_batch(state, queue, batch, deadline) < 0) {
        note_count(all - batch->count);
        rc = -1;
    }
    batch_done(state, batch);
    return rc == 0 ? Py_NewRef(Py_None) : NULL;
}

/* ---- getting ---- */

/* The object of a record, which stays the caller's. */
static PyObject *receive(atoll_state *state, atoll_queue *queue, const atoll_record *record) {
    if (record->kind == ATOLL_RECORD_UNBOUND) {
        if (record->unbound == ATOLL_UNBOUND_ERROR) {
            raise_named(state, ATOLL_Q_DESTROYED, "queue %lld: the interpreter that put the item has ended",
                        queue);
            return NULL;
        }
        return Py_XNewRef(atoll_pyqueue_name_get(state, ATOLL_Q_UNBOUND));
    }
    const atoll_message msg = atoll_record_message(record);
    PyObject *obj = atoll_decode(state->codec, &msg);
    if (obj == NULL) {
        raise_undecodable(state, queue, record->sender);
    }
    return obj;
}

/* Takes one record (chunk == NULL), or as many as fit and are wanted.  0, or -1 with an exception. */
static int take(atoll_state *state, atoll_queue *queue, atoll_record *out, atoll_chunk *chunk, size_t most,
                size_t *count, double deadline) {
#define TAKE (chunk != NULL ? atoll_queue_get_many(queue, most, chunk, count) : atoll_queue_get(queue, out))
    atoll_queue_result result = TAKE;
    if (result == ATOLL_QUEUE_AGAIN && deadline != NO_WAIT) {
        atoll_blocking b;
        atoll_blocking_begin(&b, state, deadline);
        while ((result = TAKE) == ATOLL_QUEUE_AGAIN) {
            atoll_wait_result why = atoll_queue_wait(queue, ATOLL_QUEUE_GET, &b.waiter, b.deadline);
            if (why == ATOLL_WAIT_TIMEOUT) {
                break;
            }
            if (atoll_blocking_look(&b, why) && atoll_blocking_interrupted(&b) < 0) {
                return -1;
            }
        }
        atoll_blocking_end(&b);
    }
#undef TAKE
    return result == ATOLL_QUEUE_OK ? 0 : raise_result(state, queue, ATOLL_QUEUE_GET, result);
}

static PyObject *get_one(PyObject *self, double deadline) {
    atoll_state *state = atoll_pyqueue_state(self);
    one_record out;
    if (state == NULL || take(state, queue_of(self), &out.record, NULL, 1, NULL, deadline) < 0) {
        return NULL;
    }
    PyObject *obj = receive(state, queue_of(self), &out.record);
    /* What is no fault of the item puts it back to the front of the queue. */
    if (obj != NULL || !atoll_error_is_urgent() || atoll_queue_return_one(queue_of(self), &out.record) < 0) {
        atoll_record_release(&out.record);
    }
    return obj;
}

PyDoc_STRVAR(
    get_doc,
    "get($self, block=True, timeout=None)\n--\n\n"
    "Take the first object of the queue and return it; wait while there is none (PEP 734).\n\n"
    "timeout is in seconds; without one, or with None, it waits for ever. With block=False it does not "
    "wait.\n"
    "Raises QueueEmpty, QueueShutDown (when nothing is left), ItemInterpreterDestroyed, ValueError for a\n"
    "negative timeout, and QueueError for an item that cannot be rebuilt in this interpreter, which is gone "
    "then.");

static PyObject *queue_get(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    if (nargs == 0 && kwnames == NULL) {
        return get_one(self, INFINITY);
    }
    static const char *const keywords[] = {"block", "timeout"};
    PyObject *values[2] = {0};
    double deadline;
    if (atoll_parse("get", keywords, 2, 2, 0, args, nargs, kwnames, values) < 0 ||
        deadline_of(values[0], values[1], &deadline) < 0) {
        return NULL;
    }
    return get_one(self, deadline);
}

PyDoc_STRVAR(get_nowait_doc, "get_nowait($self, /)\n--\n\n"
                             "get(block=False): raises QueueEmpty instead of waiting.");

static PyObject *queue_get_nowait(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return get_one(self, NO_WAIT);
}

PyObject *atoll_pyqueue_next(PyObject *self) {
    PyObject *obj = get_one(self, INFINITY);
    if (obj == NULL && PyErr_Occurred()) {
        atoll_state *state = ((atoll_pyqueue *)self)->state;
        PyObject *shut = state != NULL ? state->queue_names[ATOLL_Q_SHUT] : NULL;
        if (shut != NULL && PyErr_ExceptionMatches(shut)) {
            PyErr_Clear(); /* the end of the iteration */
        }
    }
    return obj;
}

/* What get_many() has taken and not yet handed out. */
typedef struct {
    struct {
        atoll_chunk *chunk;
        size_t count;
    } *runs;
    size_t first; /* those before it are done with */
    size_t n;
} haul;

/* Takes what is there, at most `most`; SIZE_MAX: as many as there are now, because those who put may be faster than
 * this.  Waits for the first only.  0, or -1 with an exception and nothing taken. */
static int take_many(atoll_state *state, atoll_queue *queue, size_t most, double deadline, haul *all) {
    for (size_t left = most; left > 0;) {
        size_t there = atoll_queue_count(queue);
        size_t wanted = left == SIZE_MAX ? there : left;
        size_t bytes = wanted > MANY_BYTES / 32 ? MANY_BYTES : wanted * 32 + LEAST_BYTES;
        void *grown = realloc(all->runs, (all->n + 1) * sizeof *all->runs);
        atoll_chunk *chunk = atoll_chunk_new((uint32_t)bytes);
        all->runs = grown != NULL ? grown : all->runs;
        size_t count = 0;
        int rc = -1;
        if (grown == NULL || chunk == NULL) {
            PyErr_NoMemory();
        } else {
            rc = take(state, queue, NULL, chunk, left, &count, deadline);
        }
        if (rc < 0) {
            free(chunk);
            if (all->n == 0) {
                return -1;
            }
            PyErr_Clear(); /* nothing more to be had without waiting */
            break;
        }
        all->runs[all->n].chunk = chunk;
        all->runs[all->n++].count = count;
        left = left == SIZE_MAX && there > 0 ? there : left;
        left = left != SIZE_MAX && left > count ? left - count : 0;
        deadline = NO_WAIT;
    }
    return 0;
}

/* Gives back what was not released. */
static void return_rest(atoll_queue *queue, haul *all) {
    while (all->n > all->first) { /* the last goes to the front first */
        all->n--;
        atoll_queue_return(queue, all->runs[all->n].chunk, all->runs[all->n].count);
    }
}

/* Releases the first `done` records, and the chunks that held nothing else. */
static void release_done(haul *all, size_t done) {
    while (done > 0 && all->first < all->n) {
        atoll_chunk *chunk = all->runs[all->first].chunk;
        size_t *count = &all->runs[all->first].count;
        for (; done > 0 && *count > 0; done--, (*count)--) {
            atoll_record_release(atoll_chunk_next(chunk));
        }
        if (*count == 0) {
            free(chunk);
            all->first++;
        }
    }
}

/* Rebuilds the objects.  No record is released before it is known how far that went: an item that cannot be had ends
 * the list before it, and goes back with those behind it, unless it is the very first, which is raised.  What is
 * no fault of the item (KeyboardInterrupt, MemoryError) is raised, and all go back. */
static PyObject *unpack(atoll_state *state, atoll_queue *queue, haul *all) {
    PyObject *list = PyList_New(0);
    bool failed = list == NULL;
    for (size_t run = 0; run < all->n && !failed; run++) {
        atoll_chunk *chunk = all->runs[run].chunk;
        const atoll_record *record;
        while (!failed && (record = atoll_chunk_next(chunk)) != NULL) {
            PyObject *obj = receive(state, queue, record);
            failed = obj == NULL || PyList_Append(list, obj) < 0;
            Py_XDECREF(obj);
        }
        chunk->at = 0;
    }
    bool bad = PyErr_Occurred() && !atoll_error_is_urgent();
    PyObject *exc = PyErr_GetRaisedException();
    size_t done = list != NULL ? (size_t)PyList_GET_SIZE(list) : 0;
    if (exc != NULL && !bad) {
        done = 0; /* all go back */
    } else if (bad && done == 0) {
        done = 1; /* it is consumed */
    } else if (bad) {
        Py_CLEAR(exc);
    }
    release_done(all, done);
    return_rest(queue, all);
    if (exc != NULL) {
        Py_CLEAR(list);
        PyErr_SetRaisedException(exc);
    }
    return list;
}

PyDoc_STRVAR(
    get_many_doc,
    "get_many($self, most=None, block=True, timeout=None)\n--\n\n"
    "Wait for an object, then take what is there, at most `most`, and return it as a list.\n\n"
    "One lock serves for many objects. timeout is in seconds. An item that cannot be received ends the list\n"
    "before it, and is raised by the next call.\n"
    "Raises what get() raises, and ValueError when most is less than 1.");

static PyObject *queue_get_many(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    static const char *const keywords[] = {"most", "block", "timeout"};
    PyObject *values[3] = {0};
    double deadline;
    atoll_state *state = atoll_pyqueue_state(self);
    if (state == NULL || atoll_parse("get_many", keywords, 3, 3, 0, args, nargs, kwnames, values) < 0 ||
        deadline_of(values[1], values[2], &deadline) < 0) {
        return NULL;
    }
    size_t most = SIZE_MAX; /* what is there */
    if (values[0] != NULL && values[0] != Py_None) {
        Py_ssize_t given = PyNumber_AsSsize_t(values[0], PyExc_OverflowError);
        if (given < 1) {
            if (!PyErr_Occurred()) {
                PyErr_Format(PyExc_ValueError, "most must be at least 1, got %R", values[0]);
            }
            return NULL;
        }
        most = (size_t)given;
    }
    haul all = {0};
    PyObject *list = NULL;
    if (take_many(state, queue_of(self), most, deadline, &all) == 0) {
        list = unpack(state, queue_of(self), &all);
    }
    free(all.runs);
    return list;
}

/* ---- the rest ---- */

static PyObject *queue_qsize(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return atoll_pyqueue_state(self) != NULL ? PyLong_FromUnsignedLongLong(atoll_queue_count(queue_of(self)))
                                             : NULL;
}

static PyObject *queue_empty(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return atoll_pyqueue_state(self) != NULL ? PyBool_FromLong(atoll_queue_count(queue_of(self)) == 0) : NULL;
}

static PyObject *queue_full(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return atoll_pyqueue_state(self) != NULL ? PyBool_FromLong(atoll_queue_is_full(queue_of(self))) : NULL;
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
    atoll_queue_shutdown(queue_of(self), drop);
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
    {"get", FAST(queue_get), get_doc},
    {"get_nowait", queue_get_nowait, METH_NOARGS, get_nowait_doc},
    {"get_many", FAST(queue_get_many), get_many_doc},
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
