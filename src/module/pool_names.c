/* What the files of pools and futures share: the names that atoll._pool.executor defines, a pool's state, and why it is broken. */
#include "module/pool.h"

static const char *const names[ATOLL_P_NAMES] = {"Future", "_BaseFuture", "CancelledError", "_broken",
                                                 "_start", "_submit_to",  "_call_async",    "_end_guest"};

PyObject *atoll_pypool_name_get(atoll_state *state, atoll_pypool_name name) {
    return atoll_state_name(state->pool_names, "atoll._pool.executor", names, ATOLL_P_NAMES, name);
}

atoll_state *atoll_pypool_state(atoll_pypool *pool) { return atoll_state_live(pool->state); }

PyObject *atoll_pypool_broken(atoll_pypool *self) {
    atoll_state *state = atoll_pypool_state(self);
    PyObject *broken = state != NULL ? atoll_pypool_name_get(state, ATOLL_P_BROKEN) : NULL;
    return broken != NULL ? PyObject_CallOneArg(broken, (PyObject *)self) : NULL;
}
