/* What the files of the Queue type share: the names that atoll._queues.names defines, an object's state, errors and arguments. */
#include "module/queue_ops.h"

#include "py/interp/interp.h"

static const char *const names[ATOLL_Q_NAMES] = {
    "QueueError", "QueueNotFoundError", "QueueEmpty",
    "QueueFull",  "QueueShutDown",      "ItemInterpreterDestroyed",
    "UNBOUND",    "UNBOUND_ERROR",      "UNBOUND_REMOVE",
    "put_async",  "get_async"};

PyObject *atoll_pyqueue_name_get(atoll_state *state, atoll_pyqueue_name name) {
    return atoll_state_name(state->queue_names, "atoll._queues.names", names, ATOLL_Q_NAMES, name);
}

uint8_t atoll_pyqueue_unbound_of(atoll_state *state, PyObject *items, uint8_t otherwise) {
    if (items == NULL) {
        return otherwise;
    }
    PyObject *replace = atoll_pyqueue_name_get(state, ATOLL_Q_UNBOUND);
    if (replace == NULL) {
        return 0;
    }
    if (items == replace) {
        return ATOLL_UNBOUND_REPLACE;
    }
    if (items == state->queue_names[ATOLL_Q_UNBOUND_ERROR]) {
        return ATOLL_UNBOUND_ERROR;
    }
    if (items == state->queue_names[ATOLL_Q_UNBOUND_REMOVE]) {
        return ATOLL_UNBOUND_REMOVE;
    }
    PyErr_Format(PyExc_NotImplementedError,
                 "unbounditems must be UNBOUND, UNBOUND_ERROR or UNBOUND_REMOVE, not %R", items);
    return 0;
}

atoll_state *atoll_pyqueue_state(PyObject *self) { return atoll_state_live(((atoll_thing *)self)->state); }

int atoll_pyqueue_raise(atoll_state *state, atoll_pyqueue_name name, const char *format, atoll_queue *queue) {
    PyObject *type = atoll_pyqueue_name_get(state, name);
    if (type != NULL) {
        PyErr_Format(type, format, (long long)atoll_queue_id(queue));
    }
    return -1;
}

int atoll_pyqueue_raise_result(atoll_state *state, atoll_queue *queue, atoll_queue_side side,
                               atoll_queue_result result) {
    if (result == ATOLL_QUEUE_SHUT) {
        return atoll_pyqueue_raise(state, ATOLL_Q_SHUT, "queue %lld is shut down", queue);
    }
    if (result == ATOLL_QUEUE_NO_MEMORY) {
        PyErr_NoMemory();
        return -1;
    }
    if (side == ATOLL_QUEUE_PUT) {
        return atoll_pyqueue_raise(state, ATOLL_Q_FULL, "queue %lld is full", queue);
    }
    return atoll_pyqueue_raise(state, ATOLL_Q_EMPTY, "queue %lld is empty", queue);
}

int atoll_pyqueue_deadline(PyObject *block, PyObject *timeout, double *deadline) {
    int wait = block == NULL ? 1 : PyObject_IsTrue(block);
    if (wait <= 0) {
        *deadline = ATOLL_NO_WAIT;
        return wait;
    }
    return atoll_deadline(timeout, deadline);
}
