/* Python objects for what is shared, such as queues and locks: see things.c. */
#ifndef ATOLL_MODULE_THINGS_H
#define ATOLL_MODULE_THINGS_H

#include "module/module.h"

/* The beginning of such an object. */
typedef struct atoll_thing {
    PyObject_HEAD
    atoll_state *state; /* NULL once the module is gone, and then it has no thing */
    const atoll_handle_class *cls;
    void *what; /* a reference */
    PyObject *weakrefs;
    struct atoll_thing *next; /* in its chain */
} atoll_thing;

/* The object for a thing: a new reference, or NULL (no exception). */
PyObject *atoll_thing_find(atoll_state *state, const void *what);
/* One for a thing that has none yet; the caller keeps its own reference.  NULL with MemoryError. */
PyObject *atoll_thing_new(atoll_state *state, PyTypeObject *type, const atoll_handle_class *cls, void *what);
/* Their tp_dealloc and tp_traverse.  All such types have garbage collection: through their type they lead to the module, and so to whatever that
 * has of an interpreter, which else could not end. */
void atoll_thing_dealloc(PyObject *self);
int atoll_thing_traverse(PyObject *self, visitproc visit, void *arg);
/* The tp_members of all of them: weak references. */
extern PyMemberDef atoll_thing_members[];

#endif
