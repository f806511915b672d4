/* select(): waiting for several queues at once. */
#include "module/module.h"
#include "py/blocking.h"

PyObject *atoll_queue_select_objects(atoll_state *state, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"queues", "timeout", NULL};
    PyObject *iterable;
    PyObject *timeout = NULL;
    double deadline;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:select", keywords, &iterable, &timeout) ||
        atoll_deadline(timeout, &deadline) < 0) {
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
        if (!Py_IS_TYPE(object, state->queue_type) || atoll_queue_state(object) == NULL) {
            PyErr_Format(PyExc_TypeError, "queues[%zd] must be a Queue, not %.200s", i,
                         Py_TYPE(object)->tp_name);
            goto done;
        }
        watches[i].queue = ((atoll_queue_object *)object)->queue;
    }
    atoll_blocking b;
    atoll_blocking_begin(&b, state, deadline);
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
