/* What of an interpreter's module state others need: see state.h. */
#include "py/state.h"

PyObject *atoll_raise_not_found(atoll_state *state, int64_t id) {
    PyErr_Format(state->not_found, "unrecognized interpreter ID %lld", (long long)id);
    return NULL;
}

void atoll_raise_unrecognized(atoll_state *state, const char *what, int64_t id) {
    bool is_main = id == PyInterpreterState_GetID(PyInterpreterState_Main());
    PyErr_Format(state->error, "cannot %s unrecognized interpreter %lld: %s", what, (long long)id,
                 is_main ? "it is the main one, where only call() and call_in_thread() work"
                         : "Atoll did not make it");
}

atoll_state *atoll_state_of(PyInterpreterState *interp) {
    atoll_entry *entry = atoll_registry_find(PyInterpreterState_GetID(interp));
    atoll_state *state = entry != NULL ? entry->state : NULL;
    if (entry != NULL) {
        atoll_entry_release(entry); /* its interpreter is attached, so it stays in the registry */
    }
    return state;
}
