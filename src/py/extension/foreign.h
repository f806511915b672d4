/* What clones call instead of the functions of CPython that mean the main interpreter (core/clone/shim.h). */
#ifndef ATOLL_PY_EXTENSION_FOREIGN_H
#define ATOLL_PY_EXTENSION_FOREIGN_H

#include "core/clone/clone.h"
#include "py/compat.h"
#include "py/extension/declare.h"

typedef enum {
    ATOLL_FOREIGN_OPEN,
    ATOLL_FOREIGN_SHUT,
    ATOLL_FOREIGN_ENDING,
    ATOLL_FOREIGN_ENDED
} atoll_foreign_phase;

typedef struct {
    atoll_shim shim; /* what the shim calls; its owner is this struct */
    PyInterpreterState *interp;
    atoll_clones *clones;
    bool has_clones;        /* or could have: it counts among those that share the processors */
    atoll_natives *natives; /* theirs */
    _Atomic(int) phase;
    _Atomic(long) inside; /* threads that have a thread state here, or are about to ask for one */
    _Atomic(pthread_t) closer;
    atoll_mutex lock; /* guards the exit functions, and sleeping on `changed`; a leaf */
    atoll_cond changed;
    void (**exits)(void);
    size_t nexits;
    size_t exits_room;
    atoll_declared *declared;
    void *view; /* PEP 788's of the interpreter; NULL: there was no memory, or there is no such thing */
} atoll_foreign;

/* For the interpreter that is attached; whether it loads clones. */
void atoll_foreign_init(atoll_foreign *foreign, atoll_clones *clones, bool has_clones);
void atoll_foreign_free(atoll_foreign *foreign);

/* Keeps foreign threads out and waits, with the GIL given back, until those that are inside have left.  false: one is
 * still inside after so many seconds; reopen() then.  The interpreter's thread state is attached. */
bool atoll_foreign_shut(atoll_foreign *foreign, double patience);
void atoll_foreign_reopen(atoll_foreign *foreign);
/* The interpreter is about to end for good.  Its thread state is attached. */
void atoll_foreign_ending(atoll_foreign *foreign);
/* It is gone: calls what Py_AtExit() was given.  No thread state is attached. */
void atoll_foreign_ended(atoll_foreign *foreign);

/* Holds its lock while the process is forked; in the child it is the only one, and only the calling thread is left. */
void atoll_foreign_fork(atoll_foreign *foreign, atoll_fork_moment when);
/* PyModule_FromDefAndSpec2() for a definition in a clone: whether it declares support does not matter. */
PyObject *atoll_foreign_module_from(atoll_foreign *foreign, PyModuleDef *definition, PyObject *spec,
                                    int version);

/* foreign_modules.c, foreign_natives.c: the shim's functions for these. */
void atoll_foreign_makes_modules(atoll_shim *shim);
void atoll_foreign_uses_natives(atoll_shim *shim);

/* How many interpreters have clones, or could, and so share the processors; in a forked child, so many. */
void atoll_foreign_count_more(int change);
void atoll_foreign_count(int count);

/* The full name of the module that this thread is initialising, or NULL; returns what it was before. */
const char *atoll_foreign_set_package(const char *name);

#endif
