/* What pool.c, pool_submit.c and future.c share. */
#ifndef ATOLL_MODULE_POOL_H
#define ATOLL_MODULE_POOL_H

#include "core/pool/pool.h"
#include "module/module.h"

enum { ATOLL_FUNCTIONS_KEPT = 64 };

/* A pool as the interpreter sees it that made it. */
typedef struct {
    PyObject_HEAD
    PyObject *module;                                /* keeps `state` */
    atoll_state *state;                              /* borrowed */
    atoll_pool *pool;                                /* a reference */
    atoll_function *functions[ATOLL_FUNCTIONS_KEPT]; /* by number: what has been sent in full */
    bool delivers;                                   /* the thread that delivers was started */
    PyObject *owner; /* what it belongs to, weakly: it shuts the pool when it goes; NULL: that is shut */
    PyObject *weakrefs;
} atoll_pypool;

/* The exception for what is asked of a pool that is broken: a new reference, or NULL with an exception. */
PyObject *atoll_pypool_broken(atoll_pypool *self);
/* pool_encode.c: a call as a new task, or NULL with an exception; a callable that is encoded now, for tasks to come, or itself where
 * it cannot be: a new reference, or NULL with an exception. */
atoll_task *atoll_pypool_encode(atoll_pypool *self, atoll_state *state, PyObject *callable,
                                PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *atoll_pypool_prepare(atoll_pypool *self, atoll_state *state, PyObject *callable);
/* row.c: the results of a chunk that is over, where they are nothing but numbers: a new sequence, or NULL, with an exception or without one.
 * Whether obj is one.  One of its items, which there is: a new reference, or NULL with MemoryError. */
PyObject *atoll_pyrow_new(atoll_state *state, atoll_task *task);
bool atoll_pyrow_check(PyObject *obj);
PyObject *atoll_pyrow_item(PyObject *op, Py_ssize_t i);
Py_ssize_t atoll_pyrow_length(PyObject *op);
int atoll_pyrow_add(atoll_state *state, PyObject *module);

/* How many bytes a message holds on to, those that are lent included. */
size_t atoll_pypool_weight(const atoll_message *message);
/* The state behind a pool; NULL with an exception when its module was cleared. */
atoll_state *atoll_pypool_state(atoll_pypool *pool);
/* A future for a task, whose reference it takes over, also on failure. */
PyObject *atoll_future_new(atoll_pypool *pool, atoll_task *task);
/* The same for a call that could not be sent: takes over the exception that is set. */
PyObject *atoll_future_failed(atoll_pypool *pool);
/* outcome.c: decodes the outcome of a task that is over: *value or *exc is set, of a chunk that failed both.  0, or -1 with an
 * exception that is no outcome (Ctrl-C, no memory). */
int atoll_future_decode(atoll_pypool *pool, atoll_task *task, PyObject **value, PyObject **exc);
/* A task that was observed is over: tells its future, if it has one.  Never leaves an exception. */
void atoll_future_deliver(atoll_task *task);
/* The same for one that was cancelled.  0, or -1 with what a callback has raised: it is told all the same. */
int atoll_future_deliver_cancel(atoll_task *task);

/* pool_submit.c */
PyObject *atoll_pypool_method_submit(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                                     PyObject *kwnames);
PyObject *atoll_pypool_method_prepare(PyObject *op, PyObject *callable);
PyObject *atoll_pypool_method_submit_chunk(PyObject *op, PyObject *const *args, Py_ssize_t nargs);

int atoll_future_add(PyObject *module, PyGetSetDef *attributes);
int atoll_results_add(PyObject *module);
int atoll_pypool_add(atoll_state *state, PyObject *module);

/* A borrowed reference to something of atoll._pool.executor; NULL with an exception. */
PyObject *atoll_pypool_name_get(atoll_state *state, atoll_pypool_name name);

#endif
