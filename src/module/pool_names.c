/* What the files of pools and futures share: the names that atoll._pool defines, a pool's state, and why it is broken. */
#include "module/pool.h"

static const char *const names[ATOLL_P_NAMES] = {"Future", "_BaseFuture", "CancelledError", "_broken",
                                                 "_start", "_submit_to",  "_call_async",    "_end_guest"};

PyObject *atoll_pool_name_get(atoll_state *state, atoll_pool_name name) {
    if (state->pool_names[name] == NULL) {
        PyObject *module = PyImport_ImportModule("atoll._pool");
        for (int i = 0; module != NULL && i < ATOLL_P_NAMES; i++) {
            PyObject *value = PyObject_GetAttrString(module, names[i]);
            if (value == NULL) {
                break;
            }
            Py_XSETREF(state->pool_names[i], value);
        }
        Py_XDECREF(module);
    }
    return PyErr_Occurred() ? NULL : state->pool_names[name];
}

atoll_state *atoll_pool_state(atoll_pool_object *pool) {
    if (pool->state == NULL || pool->state->entry == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the current interpreter is being finalized");
        return NULL;
    }
    return pool->state;
}

PyObject *atoll_pool_broken(atoll_pool_object *self) {
    atoll_state *state = atoll_pool_state(self);
    PyObject *broken = state != NULL ? atoll_pool_name_get(state, ATOLL_P_BROKEN) : NULL;
    return broken != NULL ? PyObject_CallOneArg(broken, (PyObject *)self) : NULL;
}
