/* What of frozen data belongs to an interpreter: arrays, and what leads to them.
 *
 * Frozen memory is nobody's, so nothing in it may refer to what is an interpreter's.  SharedArray and SharedBuffer are: their memory is the process's, their
 * types and objects are not.  So of data that has arrays in it
 *
 *   an array               becomes an object of the interpreter that shows a copy in shared memory which is fixed (core/shared): read-only for all, for good
 *   what leads to arrays   tuples and mappings, from the root on, are ordinary objects of the interpreter: counted, collected, made anew where they are received
 *   everything else        is frozen memory, to which these refer
 *
 * and all of it is immutable, which is what is_frozen() says: no part of it can become another.  Of a tuple and a frozendict that follows from what is in
 * them, whoever has made them.  A mapping proxy shows a dict that others might have: that of a frozen one is of a type of its own, which nobody else makes and
 * which refuses assignment.  (It has dict's other methods: who gets at it by tricks can change it, as all dicts behind proxies.)
 *
 * Ownership: these objects are freed with their last reference, and an array's memory with the last in any interpreter; the frozen parts are kept
 * by the interpreter, which has seen their areas.  Nothing is shared but memory, so there is no lock; thread state: attached.
 * At the end of an interpreter they go as all its objects do; a fork copies them as all else.
 */
#include "py/frozen/own.h"

#include "py/frozen/table.h"
#include "py/state.h"

#include <stdlib.h>

static const atoll_frozen_arrays *arrays;

void atoll_frozen_init_arrays(const atoll_frozen_arrays *functions) { arrays = functions; }

int atoll_frozen_own_array(PyObject *obj, PyObject **frozen) { return arrays->freeze(obj, frozen); }

/* ---- mappings ---- */

#if ATOLL_HAS_FROZENDICT

int atoll_frozen_add_own(atoll_state *state) {
    (void)state;
    return 0;
}

static bool is_own_proxy(PyObject *obj) {
    (void)obj;
    return false;
}

PyObject *atoll_frozen_own_dict(void) { return PyDict_New(); }

PyObject *atoll_frozen_own_mapping(PyObject *dict) { return PyFrozenDict_New(dict); }

#else

static int refuse_change(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(key), PyObject *Py_UNUSED(value)) {
    PyErr_SetString(PyExc_TypeError, "this dict is frozen");
    return -1;
}

static PyType_Slot dict_slots[] = {
    {Py_tp_doc, "The dict behind a frozen mapping with arrays in it."},
    {Py_mp_ass_subscript, refuse_change},
    {0, NULL},
};

static PyType_Spec dict_spec = {
    .name = "atoll._atoll.FrozenDict",
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = dict_slots,
};

int atoll_frozen_add_own(atoll_state *state) {
    state->frozen_dict_type = (PyTypeObject *)PyType_FromSpecWithBases(&dict_spec, (PyObject *)&PyDict_Type);
    return state->frozen_dict_type != NULL ? 0 : -1;
}

static bool is_own_dict(PyObject *obj) {
    const PyMappingMethods *methods = Py_TYPE(obj)->tp_as_mapping;
    return methods != NULL && methods->mp_ass_subscript == refuse_change;
}

static bool is_own_proxy(PyObject *obj) {
    return Py_IS_TYPE(obj, &PyDictProxy_Type) && is_own_dict(((atoll_mapping_proxy *)obj)->mapping);
}

PyObject *atoll_frozen_own_dict(void) {
    atoll_state *state = atoll_state_live(atoll_state_of(PyInterpreterState_Get()));
    PyObject *none = state != NULL ? PyTuple_New(0) : NULL;
    PyObject *dict = none != NULL ? PyDict_Type.tp_new(state->frozen_dict_type, none, NULL) : NULL;
    Py_XDECREF(none);
    return dict;
}

PyObject *atoll_frozen_own_mapping(PyObject *dict) { return PyDictProxy_New(dict); }

#endif

bool atoll_frozen_is_own_part(PyObject *obj) { return is_own_proxy(obj) || arrays->is(obj); }

/* ---- is it? ---- */

/* What is still to be looked at, and what has been: a tuple may occur in many places. */
typedef struct {
    PyObject **todo;
    size_t count, room;
    atoll_frozen_memo seen;
    bool has_own;
} look;

/* 1: there is nothing against it; 0: it is not frozen; -1 without memory. */
static int look_at(look *l, PyObject *obj) {
    if (atoll_frozen_is(obj)) {
        return 1;
    }
    if (atoll_frozen_is_own_part(obj)) {
        l->has_own = true;
        return 1;
    }
    if (!PyTuple_CheckExact(obj) && !(ATOLL_HAS_FROZENDICT && Py_IS_TYPE(obj, atoll_frozen_dict_type))) {
        return 0;
    }
    bool found;
    if (atoll_frozen_memo_at(&l->seen, obj, &found) == NULL) {
        return -1;
    }
    if (found) {
        return 1;
    }
    if (l->count == l->room) {
        size_t room = l->room != 0 ? l->room * 2 : 32;
        PyObject **grown = realloc(l->todo, room * sizeof *grown);
        if (grown == NULL) {
            return -1;
        }
        l->todo = grown;
        l->room = room;
    }
    l->todo[l->count++] = obj;
    return 1;
}

static int look_into(look *l, PyObject *obj) {
    int rc = 1;
    if (PyTuple_CheckExact(obj)) {
        for (Py_ssize_t i = 0; rc > 0 && i < PyTuple_GET_SIZE(obj); i++) {
            rc = look_at(l, PyTuple_GET_ITEM(obj, i));
        }
        return rc;
    }
    Py_ssize_t at = 0;
    PyObject *key;
    PyObject *value;
    while (rc > 0 && PyDict_Next(obj, &at, &key, &value)) {
        rc = look_at(l, key);
        rc = rc > 0 ? look_at(l, value) : rc;
    }
    return rc;
}

int atoll_frozen_is_all(PyObject *obj) {
    look l = {0};
    int rc = look_at(&l, obj);
    while (rc > 0 && l.count > 0) {
        rc = look_into(&l, l.todo[--l.count]);
    }
    bool has_parts = l.seen.used != 0;
    free(l.todo);
    atoll_frozen_memo_free(&l.seen);
    if (rc < 0) {
        PyErr_NoMemory();
        return -1;
    }
    return rc > 0 && (l.has_own || !has_parts);
}
