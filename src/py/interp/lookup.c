/* Questions about interpreters, Atoll's and others'.
 *
 * An interpreter with an entry is looked at through the entry's gate, so it cannot go away meanwhile.  One that others
 * made and that never imported Atoll has none: CPython finds it by id, under its own lock, and whoever
 * made it must not end it at that very moment, as with CPython's own modules.
 */
#include "py/interp/lifecycle_internal.h"

int atoll_interp_exists(atoll_state *from, int64_t id, long *whence) {
    atoll_entry *entry = atoll_registry_find(id);
    if (entry != NULL) {
        bool open = atoll_entry_is_being_closed(entry) || entry->interp == from->interp;
        bool owned = entry->owned;
        PyInterpreterState *interp = entry->interp;
        if (open) {
            *whence = owned ? ATOLL_WHENCE_ATOLL : atoll_compat_interp_whence(interp);
        }
        atoll_entry_release(entry);
        return open;
    }
    PyInterpreterState *interp = atoll_interp_lookup(id);
    if (interp == NULL) {
        PyErr_Clear();
        return 0;
    }
    *whence = atoll_compat_interp_whence(interp);
    return 1;
}

int atoll_interp_running(atoll_state *from, int64_t id) {
    atoll_entry *entry = atoll_registry_find(id);
    int running = -1;
    if (entry != NULL) {
        if (atoll_entry_guard(entry)) {
            running = atoll_entry_is_busy(entry) || atoll_interp_is_running(entry->interp);
            atoll_entry_unguard(entry);
        } else if (atoll_entry_is_being_closed(entry)) {
            running = 0;
        }
        atoll_entry_release(entry);
    } else {
        PyInterpreterState *interp = atoll_interp_lookup(id);
        PyErr_Clear();
        running = interp != NULL ? atoll_interp_is_running(interp) : -1;
    }
    if (running < 0) {
        atoll_raise_not_found(from, id);
    }
    return running;
}

PyObject *atoll_interp_list(atoll_state *from) {
    PyObject *list = PyList_New(0);
    if (list == NULL) {
        return NULL;
    }
    atoll_interp_sweep(from);
    /* CPython's list is only safe to walk while nobody adds or removes: Atoll's own users wait. */
    atoll_lifecycle_lock();
    for (PyInterpreterState *interp = PyInterpreterState_Head(); interp != NULL;
         interp = PyInterpreterState_Next(interp)) {
        int64_t id = PyInterpreterState_GetID(interp);
        long whence = 0;
        if (!atoll_compat_interp_is_ready(interp) || atoll_interp_exists(from, id, &whence) <= 0) {
            continue;
        }
        PyObject *item = Py_BuildValue("Ll", (long long)id, whence);
        if (item == NULL || PyList_Append(list, item) < 0) {
            Py_XDECREF(item);
            Py_CLEAR(list);
            break;
        }
        Py_DECREF(item);
    }
    atoll_lifecycle_unlock();
    if (list != NULL && PyList_Sort(list) < 0) {
        Py_CLEAR(list);
    }
    return list;
}
