/* What the files of the Queue type share: the names that atoll._queues.names defines, and an object's state. */
#include "module/module.h"

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

atoll_state *atoll_pyqueue_state(PyObject *self) { return atoll_state_live(((atoll_pyqueue *)self)->state); }
