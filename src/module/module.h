/* What the files of the module layer share. */
#ifndef ATOLL_MODULE_H
#define ATOLL_MODULE_H

#include "core/queue/queue.h"
#include "py/interp/interp.h"
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
/* closing.c: Interpreter.close() and __exit__(). */
PyObject *atoll_pyclosing_close(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *atoll_pyclosing_exit(PyObject *self, PyObject *args);
extern const char atoll_pyclosing_close_doc[];
/* The module state is about to be freed: the objects that are left forget it. */
void atoll_interpreter_forget(atoll_state *state);

/* The object for a new queue. */
PyObject *atoll_pyqueue_create(atoll_state *state, PyObject *args, PyObject *kwargs);
/* A list of objects for all queues of the process. */
PyObject *atoll_pyqueue_list(atoll_state *state);
int atoll_pyqueue_add(atoll_state *state, PyObject *module);
/* A borrowed reference to something of atoll._queues.names; NULL with an exception. */
PyObject *atoll_pyqueue_name_get(atoll_state *state, atoll_pyqueue_name name);
/* The state behind a Queue object; NULL with an exception when its module was cleared. */
atoll_state *atoll_pyqueue_state(PyObject *self);
/* unbounditems as the core has it: `otherwise` for NULL.  0 with an exception for what is none. */
uint8_t atoll_pyqueue_unbound_of(atoll_state *state, PyObject *items, uint8_t otherwise);

/* create.c: create(), prewarm(). */
extern PyMethodDef atoll_pycreate_methods[];

/* signals.c */
extern PyMethodDef atoll_pysignal_methods[];

/* stats.c: what is counted; Interpreter.stats(). */
extern PyMethodDef atoll_pystats_methods[];
extern const char atoll_pystats_doc[];
PyObject *atoll_pystats_of(PyObject *self, PyObject *ignored);

/* queue_ops.c */
extern PyMethodDef atoll_pyqueue_ops[];
PyObject *atoll_pyqueue_next(PyObject *self);

/* queue_wait.c */
PyObject *atoll_pyqueue_method_put_async(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                         PyObject *kwnames);
PyObject *atoll_pyqueue_method_get_async(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                         PyObject *kwnames);
PyObject *atoll_pyqueue_method_fileno(PyObject *self, PyObject *ignored);
PyObject *atoll_pyqueue_method_watch(PyObject *self, PyObject *put);
PyObject *atoll_pyqueue_method_unwatch(PyObject *self, PyObject *put);
extern const char atoll_pyqueue_put_async_doc[];
extern const char atoll_pyqueue_get_async_doc[];
extern const char atoll_pyqueue_fileno_doc[];
PyObject *atoll_pyqueue_select_objects(atoll_state *state, PyObject *args, PyObject *kwargs);

/* Adds InterpreterError, InterpreterNotFoundError, NotShareableError and ExecutionFailed. */
int atoll_exceptions_add(atoll_state *state, PyObject *module);

/* frozen.c: adds freeze() and its like, and the type of areas.  The module state is about to be freed. */
int atoll_pyfrozen_add(atoll_state *state, PyObject *module);
void atoll_pyfrozen_forget(atoll_state *state);

/* trace.c: adds the type of traces. */
int atoll_pytrace_add(PyObject *module);

/* registered.c: adds register_shareable() and its like. */
int atoll_pyregistered_add(atoll_state *state, PyObject *module);

/* lent_types.c: adds SharedArrow and its like.  share() of what offers Arrow, or DLPack: 1 and a new reference, 0 when obj does not, or -1 with an
 * exception. */
int atoll_lent_add(atoll_state *state, PyObject *module);
int atoll_lent_share(atoll_state *state, PyObject *obj, bool tensors, PyObject **out);

/* Adds SharedBuffer, SharedArray and the functions that make them. */
int atoll_pyshared_add(atoll_state *state, PyObject *module);

/* Adds the type that carries shared memory, and the hook that makes memoryview cross. */
int atoll_sharedview_add(atoll_state *state, PyObject *module);

/* Fills values[n], all NULL before, from a vectorcall's arguments: the first `positional` may be given by position, the
 * first `required` must be given.  Borrowed references.  0, or -1 with TypeError. */
int atoll_parse(const char *name, const char *const *keywords, Py_ssize_t n, Py_ssize_t positional,
                Py_ssize_t required, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                PyObject **values);

/* An argument that is an int of 64 bits: 0, or -1 with TypeError or OverflowError, which names it. */
int atoll_argument_int(PyObject *value, const char *name, int64_t *number);
/* Reading it as an int has failed: when it is none, TypeError names it. */
void atoll_argument_not_int(PyObject *value, const char *name);
/* 0, or -1 with TypeError that names an argument which cannot be iterated. */
int atoll_argument_iterable(PyObject *value, const char *name);

/* __reduce__() of types that are made by Atoll only (exceptions.c). */
PyObject *atoll_unpicklable(PyObject *self, PyObject *ignored);

/* Adds Lock, RLock, Condition, Event, Semaphore, BoundedSemaphore, Barrier and AtomicInt. */
int atoll_pysync_add(atoll_state *state, PyObject *module);
/* Adds SharedDict. */
int atoll_shareddict_add(atoll_state *state, PyObject *module);
/* The module state is about to be freed: objects of what is shared lose it. */
void atoll_things_forget(atoll_state *state);

extern PyModuleDef atoll_module_def;

#endif
