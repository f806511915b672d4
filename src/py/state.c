/* What of an interpreter's module state others need: see state.h. */
#include "py/state.h"

PyObject *atoll_raise_not_found(atoll_state *state, int64_t id) {
    PyErr_Format(state->not_found, "unrecognized interpreter ID %lld", (long long)id);
    return NULL;
}

void atoll_raise_unrecognized(atoll_state *state, const char *what, int64_t id) {
    bool is_main = id == PyInterpreterState_GetID(PyInterpreterState_Main());
    PyErr_Format(state->error,
                 is_main
                     ? "cannot %s interpreter %lld, the main one: only call() and call_in_thread() work there"
                     : "cannot %s unrecognized interpreter %lld: Atoll did not make it",
                 what, (long long)id);
}

PyObject *atoll_python_module_loaded(const char *name) {
    PyObject *key = PyUnicode_FromString(name);
    PyObject *module = key != NULL ? PyImport_GetModule(key) : NULL;
    Py_XDECREF(key);
    PyErr_Clear();
    return module;
}

atoll_state *atoll_state_of(PyInterpreterState *interp) {
    atoll_entry *entry = atoll_registry_find(PyInterpreterState_GetID(interp));
    atoll_state *state = entry != NULL ? entry->state : NULL;
    if (entry != NULL) {
        atoll_entry_release(entry); /* its interpreter is attached, so it stays in the registry */
    }
    return state;
}

static atoll_state *(*make_state)(void);

void atoll_state_init(atoll_state *(*make)(void)) { make_state = make; }

atoll_state *atoll_state_ensure(void) {
    atoll_state *state = atoll_state_of(PyInterpreterState_Get());
    return state != NULL ? state : make_state();
}

PyObject *atoll_state_main(atoll_state *state) {
    PyObject *main = state->main_dict == NULL ? PyImport_AddModule("__main__") : NULL; /* borrowed */
    return main != NULL ? PyModule_GetDict(main) : state->main_dict;
}

void atoll_state_let_go(atoll_state *state) {
    if (state != NULL) {
        Py_CLEAR(state->main_dict);
    }
    if (state != NULL && state->kept) {
        state->kept = false;
        Py_DECREF(state->module);
    }
}

atoll_state *atoll_state_live(atoll_state *state) {
    if (state == NULL || state->entry == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the current interpreter is being finalized");
        return NULL;
    }
    return state;
}

PyObject *atoll_state_name(PyObject **slots, const char *module_name, const char *const *names, int n,
                           int which) {
    if (slots[which] == NULL) {
        PyObject *module = PyImport_ImportModule(module_name);
        for (int i = 0; module != NULL && i < n; i++) {
            PyObject *value = PyObject_GetAttrString(module, names[i]);
            if (value == NULL) {
                break;
            }
            Py_XSETREF(slots[i], value);
        }
        Py_XDECREF(module);
    }
    return PyErr_Occurred() ? NULL : slots[which];
}
