/* What the files of the module layer share. */
#ifndef ATOLL_MODULE_MODULE_H
#define ATOLL_MODULE_MODULE_H

#include "py/lifecycle.h"
#include "py/session.h"
#include "py/state.h"

/* An Interpreter object.  Linked into its interpreter's state, so that each id has one object there. */
typedef struct atoll_interpreter {
    PyObject_HEAD
    atoll_state *state; /* NULL once the module is gone, which at the end of an interpreter may come first */
    int64_t id;
    long whence;        /* CPython's number, or ATOLL_WHENCE_ATOLL */
    atoll_entry *entry; /* a user's reference; NULL for an interpreter Atoll has no entry for */
    PyObject *weakrefs;
    struct atoll_interpreter *prev;
    struct atoll_interpreter *next;
} atoll_interpreter;

/* The object for an interpreter that exists: a new reference, or NULL with InterpreterNotFoundError. */
PyObject *atoll_interpreter_get(atoll_state *state, int64_t id);
int atoll_interpreter_add(atoll_state *state, PyObject *module);
/* The module state is about to be freed: the objects that are left forget it. */
void atoll_interpreter_forget(atoll_state *state);

/* Adds InterpreterError, InterpreterNotFoundError, NotShareableError and ExecutionFailed. */
int atoll_exceptions_add(atoll_state *state, PyObject *module);

/* Adds the type that carries shared memory, and the hook that makes memoryview cross. */
int atoll_shared_view_add(atoll_state *state, PyObject *module);

extern PyModuleDef atoll_module_def;

#endif
