/* What the files of pools and futures share: the names that atoll._pool.executor defines, a pool's state, and why it is broken. */
#include "module/pool.h"

static const char *const names[ATOLL_P_NAMES] = {"Future", "_BaseFuture", "CancelledError", "_broken",
                                                 "_start", "_submit_to",  "_call_async",    "_end_guest"};

PyObject *atoll_pool_name_get(atoll_state *state, atoll_pool_name name) {
    return atoll_state_name(state->pool_names, "atoll._pool.executor", names, ATOLL_P_NAMES, name);
}

atoll_state *atoll_pool_state(atoll_pool_object *pool) { return atoll_state_live(pool->state); }

PyObject *atoll_pool_broken(atoll_pool_object *self) {
    atoll_state *state = atoll_pool_state(self);
    PyObject *broken = state != NULL ? atoll_pool_name_get(state, ATOLL_P_BROKEN) : NULL;
    return broken != NULL ? PyObject_CallOneArg(broken, (PyObject *)self) : NULL;
}
