/* Taking items from a Queue.
 *
 * A get takes the record first, detached while it waits, and decodes it afterwards: an item that cannot be rebuilt here is consumed,
 * and reported.  What is no fault of the item, an interrupt or want of memory, puts it back to the front.
 */
#include "module/queue_ops.h"
#include "py/interp/interp.h"

#include <math.h>
#include <stdlib.h>

#define MANY_BYTES (64 * 1024)
#define LEAST_BYTES 4096

typedef union {
    atoll_record record;
    uint8_t room[sizeof(atoll_record) + ATOLL_RECORD_INLINE];
} one_record;

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

PyObject *atoll_pyqueue_receive(atoll_state *state, atoll_queue *queue, const atoll_record *record) {
    if (record->kind == ATOLL_RECORD_UNBOUND) {
        if (record->unbound == ATOLL_UNBOUND_ERROR) {
            atoll_pyqueue_raise(state, ATOLL_Q_DESTROYED,
                                "queue %lld: the interpreter that put the item has ended", queue);
            return NULL;
        }
        return Py_XNewRef(atoll_pyqueue_name_get(state, ATOLL_Q_UNBOUND));
    }
    const atoll_message msg = atoll_record_message(record);
    if (state->entry != NULL) { /* else the module was cleared meanwhile */
        atoll_stat_add(state->entry->stats, ATOLL_STAT_RECEIVED, 1);
        atoll_stat_add(state->entry->stats, ATOLL_STAT_RECEIVED_BYTES, msg.body.len);
    }
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
    if (result == ATOLL_QUEUE_AGAIN && deadline != ATOLL_NO_WAIT) {
        atoll_blocking b;
        atoll_blocking_begin(&b, state, deadline, ATOLL_WAITS_GET, atoll_queue_id(queue));
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
        atoll_pyqueue_count_wait(queue, ATOLL_QUEUE_GET, &b);
    }
#undef TAKE
    return result == ATOLL_QUEUE_OK ? 0 : atoll_pyqueue_raise_result(state, queue, ATOLL_QUEUE_GET, result);
}

int atoll_pyqueue_take(atoll_state *state, atoll_queue *queue, atoll_record *out, double deadline) {
    return take(state, queue, out, NULL, 1, NULL, deadline);
}

static PyObject *get_one(PyObject *self, double deadline) {
    atoll_state *state = atoll_pyqueue_state(self);
    one_record out;
    if (state == NULL || atoll_pyqueue_take(state, atoll_pyqueue_of(self), &out.record, deadline) < 0) {
        return NULL;
    }
    PyObject *obj = atoll_pyqueue_receive(state, atoll_pyqueue_of(self), &out.record);
    /* What is no fault of the item puts it back to the front of the queue. */
    if (obj != NULL || !atoll_error_is_urgent() ||
        atoll_queue_return_one(atoll_pyqueue_of(self), &out.record) < 0) {
        atoll_record_release(&out.record);
    }
    return obj;
}

const char atoll_pyqueue_get_doc[] = PyDoc_STR(
    "get($self, block=True, timeout=None)\n--\n\n"
    "Take the first object of the queue and return it; wait while there is none (PEP 734).\n\n"
    "timeout is in seconds; without one, or with None, it waits for ever. With block=False it does not "
    "wait.\n"
    "Raises QueueEmpty, QueueShutDown (when nothing is left), ItemInterpreterDestroyed, ValueError for a\n"
    "negative timeout, and QueueError for an item that cannot be rebuilt in this interpreter, which is gone "
    "then.");

PyObject *atoll_pyqueue_method_get(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                   PyObject *kwnames) {
    if (nargs == 0 && kwnames == NULL) {
        return get_one(self, INFINITY);
    }
    static const char *const keywords[] = {"block", "timeout"};
    PyObject *values[2] = {0};
    double deadline;
    if (atoll_parse("get", keywords, 2, 2, 0, args, nargs, kwnames, values) < 0 ||
        atoll_pyqueue_deadline(values[0], values[1], &deadline) < 0) {
        return NULL;
    }
    return get_one(self, deadline);
}

const char atoll_pyqueue_get_nowait_doc[] =
    PyDoc_STR("get_nowait($self, /)\n--\n\n"
              "get(block=False): raises QueueEmpty instead of waiting.");

PyObject *atoll_pyqueue_method_get_nowait(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return get_one(self, ATOLL_NO_WAIT);
}

PyObject *atoll_pyqueue_next(PyObject *self) {
    PyObject *obj = get_one(self, INFINITY);
    if (obj == NULL && PyErr_Occurred()) {
        atoll_state *state = ((atoll_thing *)self)->state;
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
        deadline = ATOLL_NO_WAIT;
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
            PyObject *obj = atoll_pyqueue_receive(state, queue, record);
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

const char atoll_pyqueue_get_many_doc[] = PyDoc_STR(
    "get_many($self, most=None, block=True, timeout=None)\n--\n\n"
    "Wait for an object, then take what is there, at most `most`, and return it as a list.\n\n"
    "One lock serves for many objects. timeout is in seconds. An item that cannot be received ends the list\n"
    "before it, and is raised by the next call.\n"
    "Raises what get() raises, and ValueError when most is less than 1.");

PyObject *atoll_pyqueue_method_get_many(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                        PyObject *kwnames) {
    static const char *const keywords[] = {"most", "block", "timeout"};
    PyObject *values[3] = {0};
    double deadline;
    atoll_state *state = atoll_pyqueue_state(self);
    if (state == NULL || atoll_parse("get_many", keywords, 3, 3, 0, args, nargs, kwnames, values) < 0 ||
        atoll_pyqueue_deadline(values[1], values[2], &deadline) < 0) {
        return NULL;
    }
    size_t most = SIZE_MAX; /* what is there */
    if (values[0] != NULL && values[0] != Py_None) {
        int64_t given;
        if (atoll_argument_int(values[0], "most", &given) < 0) {
            return NULL;
        }
        if (given < 1) {
            PyErr_Format(PyExc_ValueError, "most must be at least 1, got %R", values[0]);
            return NULL;
        }
        most = (size_t)given;
    }
    haul all = {0};
    PyObject *list = NULL;
    if (take_many(state, atoll_pyqueue_of(self), most, deadline, &all) == 0) {
        list = unpack(state, atoll_pyqueue_of(self), &all);
    }
    free(all.runs);
    return list;
}
