/* Python objects for what is shared: one for each thing in an interpreter, so that identity, equality and hash are the thing's.
 *
 * An object has one reference to its thing.  The table leads from the thing to the object, and has no reference to it.  When the
 * module goes first, which happens at the end of an interpreter, the objects lose their things.
 */
#include "module/things.h"

#include <structmember.h>

PyMemberDef atoll_thing_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(atoll_thing, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static atoll_thing **chain_of(atoll_things *things, const void *what) {
    uint64_t hash = (uint64_t)(uintptr_t)what * 0x9E3779B97F4A7C15U; /* its upper bits are the good ones */
    return &things->chains[(hash >> 32) & (things->slots - 1)];
}

PyObject *atoll_thing_find(atoll_state *state, const void *what) {
    if (state->things.slots == 0) {
        return NULL;
    }
    atoll_thing *thing = *chain_of(&state->things, what);
    while (thing != NULL && thing->what != what) {
        thing = thing->next;
    }
    return Py_XNewRef((PyObject *)thing);
}

/* Room for one more. */
static int grow(atoll_things *things) {
    if (things->count < things->slots) {
        return 0;
    }
    atoll_things fresh = {.slots = things->slots != 0 ? things->slots * 2 : 8, .count = things->count};
    fresh.chains = PyMem_RawCalloc(fresh.slots, sizeof(atoll_thing *));
    if (fresh.chains == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < things->slots; i++) {
        atoll_thing *next;
        for (atoll_thing *thing = things->chains[i]; thing != NULL; thing = next) {
            next = thing->next;
            atoll_thing **chain = chain_of(&fresh, thing->what);
            thing->next = *chain;
            *chain = thing;
        }
    }
    PyMem_RawFree(things->chains);
    *things = fresh;
    return 0;
}

PyObject *atoll_thing_new(atoll_state *state, PyTypeObject *type, const atoll_handle_class *cls, void *what) {
    /* May run the garbage collector, and so other code: before the table is touched. */
    atoll_thing *thing = (atoll_thing *)type->tp_alloc(type, 0);
    if (thing == NULL) {
        return NULL;
    }
    if (grow(&state->things) < 0) {
        Py_DECREF(thing);
        return NULL;
    }
    atoll_thing **chain = chain_of(&state->things, what);
    cls->retain(what);
    thing->cls = cls;
    thing->what = what;
    thing->state = state;
    thing->next = *chain;
    *chain = thing;
    state->things.count++;
    return (PyObject *)thing;
}

int atoll_thing_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    return 0;
}

void atoll_thing_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    atoll_thing *thing = (atoll_thing *)self;
    atoll_state *state = thing->state;
    if (state != NULL) {
        atoll_thing **at = chain_of(&state->things, thing->what);
        while (*at != thing) {
            at = &(*at)->next;
        }
        *at = thing->next;
        state->things.count--;
    }
    /* What is called for them may receive the thing once more: it gets another object. */
    if (thing->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    if (state != NULL) {
        thing->cls->release(thing->what);
    }
    type->tp_free(self);
    Py_DECREF(type);
}

void atoll_things_forget(atoll_state *state) {
    for (size_t i = 0; i < state->things.slots; i++) {
        for (atoll_thing *thing = state->things.chains[i]; thing != NULL; thing = thing->next) {
            thing->state = NULL;
            thing->cls->release(thing->what);
        }
    }
    PyMem_RawFree(state->things.chains);
    state->things = (atoll_things){0};
}
