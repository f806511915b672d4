/* Waiting for queues otherwise than in put() and get(): several at once, by file descriptor, in an event loop. */
#include "module/queue_ops.h"
#include "py/interp/interp.h"

/* One use more of an event. */
static PyObject *event_of(PyObject *self, atoll_queue_side side) {
    if (atoll_pyqueue_state(self) == NULL) {
        return NULL;
    }
    atoll_queue *queue = atoll_pyqueue_of(self);
    int fd = atoll_queue_event(queue, side);
    PyObject *number = fd >= 0 ? PyLong_FromLong(fd) : PyErr_SetFromErrno(PyExc_OSError);
    if (fd >= 0 && number == NULL) {
        atoll_queue_event_end(queue, side);
    }
    return number;
}

const char atoll_pyqueue_fileno_doc[] =
    PyDoc_STR("fileno($self, /)\n--\n\n"
              "Return a file descriptor that is readable while there are items (or the queue is shut\n"
              "down), for select, poll, epoll and event loops. It is the queue's: do not read or close\n"
              "it, and keep the Queue as long as it is used. Until then it makes each put() and get() that\n"
              "changes whether there are items dearer. Raises OSError when there is none left.");

static void retain_queue(void *queue) { atoll_queue_retain(queue); }

static void release_with_event(void *queue) {
    atoll_queue_event_end(queue, ATOLL_QUEUE_GET);
    atoll_queue_release(queue);
}

/* What a Queue has whose fileno() was called: the queue, and one use of its event. */
static const atoll_handle_class with_event = {"queue", retain_queue, release_with_event};

PyObject *atoll_pyqueue_method_fileno(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    atoll_thing *thing = (atoll_thing *)self;
    PyObject *number = event_of(self, ATOLL_QUEUE_GET);
    if (number != NULL && thing->cls == &with_event) { /* once is enough */
        atoll_queue_event_end(thing->what, ATOLL_QUEUE_GET);
    }
    if (number != NULL) {
        thing->cls = &with_event;
    }
    return number;
}

static atoll_queue_side side_of(PyObject *put) { return put == Py_True ? ATOLL_QUEUE_PUT : ATOLL_QUEUE_GET; }

PyObject *atoll_pyqueue_method_watch(PyObject *self, PyObject *put) { return event_of(self, side_of(put)); }

PyObject *atoll_pyqueue_method_unwatch(PyObject *self, PyObject *put) {
    if (atoll_pyqueue_state(self) == NULL) {
        return NULL;
    }
    atoll_queue_event_end(atoll_pyqueue_of(self), side_of(put));
    Py_RETURN_NONE;
}

/* Calls a coroutine function of atoll._queues.names with self before the arguments. */
static PyObject *call_named(PyObject *self, atoll_pyqueue_name name, PyObject *const *args, Py_ssize_t nargs,
                            PyObject *kwnames) {
    atoll_state *state = atoll_pyqueue_state(self);
    PyObject *function = state != NULL ? atoll_pyqueue_name_get(state, name) : NULL;
    PyObject *bound = function != NULL ? PyMethod_New(function, self) : NULL;
    PyObject *result = bound != NULL ? PyObject_Vectorcall(bound, args, (size_t)nargs, kwnames) : NULL;
    Py_XDECREF(bound);
    return result;
}

const char atoll_pyqueue_put_async_doc[] =
    PyDoc_STR("put_async($self, obj, *, unbounditems=None)\n--\n\n"
              "A coroutine: put(obj), waiting in the running asyncio loop without a thread.");

PyObject *atoll_pyqueue_method_put_async(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                         PyObject *kwnames) {
    return call_named(self, ATOLL_Q_PUT_ASYNC, args, nargs, kwnames);
}

const char atoll_pyqueue_get_async_doc[] =
    PyDoc_STR("get_async($self, /)\n--\n\n"
              "A coroutine: get(), waiting in the running asyncio loop without a thread. When it is\n"
              "cancelled it has taken nothing.");

PyObject *atoll_pyqueue_method_get_async(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                         PyObject *kwnames) {
    return call_named(self, ATOLL_Q_GET_ASYNC, args, nargs, kwnames);
}

PyObject *atoll_pyqueue_select_objects(atoll_state *state, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"queues", "timeout", NULL};
    PyObject *iterable;
    PyObject *timeout = NULL;
    double deadline;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:select", keywords, &iterable, &timeout) ||
        atoll_argument_iterable(iterable, "queues") < 0 || atoll_deadline(timeout, &deadline) < 0) {
        return NULL;
    }
    if (Py_IS_TYPE(iterable,
                   state->queue_type)) { /* to go through it would take its items, until it is shut down */
        PyErr_SetString(PyExc_TypeError, "queues must be an iterable of queues, not a Queue");
        return NULL;
    }
    PyObject *queues = PySequence_Tuple(iterable);
    Py_ssize_t n = queues != NULL ? PyTuple_GET_SIZE(queues) : 0;
    atoll_watch *watches = queues != NULL ? PyMem_Calloc((size_t)n + 1, sizeof *watches) : NULL;
    PyObject *ready = NULL;
    if (watches == NULL) {
        Py_XDECREF(queues);
        return queues != NULL ? PyErr_NoMemory() : NULL;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *object = PyTuple_GET_ITEM(queues, i);
        if (!Py_IS_TYPE(object, state->queue_type) || atoll_pyqueue_state(object) == NULL) {
            PyErr_Format(PyExc_TypeError, "queues[%zd] must be a Queue, not %.200s", i,
                         Py_TYPE(object)->tp_name);
            goto done;
        }
        watches[i].queue = atoll_pyqueue_of(object);
    }
    atoll_blocking b;
    atoll_blocking_begin(&b, state, deadline, ATOLL_WAITS_SELECT, 0);
    for (bool found = false; !found;) {
        atoll_wait_result why = atoll_queue_select(watches, (size_t)n, &b.waiter, b.deadline);
        for (Py_ssize_t i = 0; i < n; i++) {
            found |= watches[i].ready;
        }
        if (why == ATOLL_WAIT_TIMEOUT) {
            break;
        }
        if (!found && why == ATOLL_WAIT_SIGNAL && atoll_blocking_interrupted(&b) < 0) {
            goto done;
        }
    }
    atoll_blocking_end(&b);
    ready = PyList_New(0);
    for (Py_ssize_t i = 0; ready != NULL && i < n; i++) {
        if (watches[i].ready && PyList_Append(ready, PyTuple_GET_ITEM(queues, i)) < 0) {
            Py_CLEAR(ready);
        }
    }
done:
    PyMem_Free(watches);
    Py_DECREF(queues);
    return ready;
}
