/* What the files of the Queue type share. */
#ifndef ATOLL_MODULE_QUEUE_OPS_H
#define ATOLL_MODULE_QUEUE_OPS_H

#include "module/things.h"
#include "py/interp/interp.h"

static inline atoll_queue *atoll_pyqueue_of(PyObject *self) { return ((atoll_thing *)self)->what; }

/* The object for a queue; the caller keeps its own reference.  NULL with MemoryError. */
PyObject *atoll_pyqueue_for(atoll_state *state, atoll_queue *queue);

/* An exception of this name about the queue, whose number the format has; for what the core said.  -1. */
int atoll_pyqueue_raise(atoll_state *state, atoll_pyqueue_name name, const char *format, atoll_queue *queue);
int atoll_pyqueue_raise_result(atoll_state *state, atoll_queue *queue, atoll_queue_side side,
                               atoll_queue_result result);
/* (…, block=True, timeout=None) as a deadline.  0, or -1 with an exception. */
int atoll_pyqueue_deadline(PyObject *block, PyObject *timeout, double *deadline);

/* Attached again: a wait for the queue is over. */
static inline void atoll_pyqueue_count_wait(const atoll_queue *queue, atoll_queue_side side,
                                            const atoll_blocking *b) {
    atoll_stats_queue *stats = atoll_queue_stats_of(queue);
    atoll_stats_add_shared(&stats->waits[side], 1);
    atoll_stats_add_shared(&stats->wait_ticks[side], atoll_ticks_since(b->began));
}

/* Puts a batch; what is left in it when this fails was not put.  0, or -1 with an exception. */
int atoll_pyqueue_put_batch(atoll_state *state, atoll_queue *queue, atoll_batch *batch, double deadline);

/* queue_get.c */
/* Takes an item; `out` has room for a record with ATOLL_RECORD_INLINE bytes.  0, or -1 with an exception. */
int atoll_pyqueue_take(atoll_state *state, atoll_queue *queue, atoll_record *out, double deadline);
/* The object of a record, which stays the caller's. */
PyObject *atoll_pyqueue_receive(atoll_state *state, atoll_queue *queue, const atoll_record *record);
PyObject *atoll_pyqueue_method_get(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                   PyObject *kwnames);
PyObject *atoll_pyqueue_method_get_nowait(PyObject *self, PyObject *ignored);
PyObject *atoll_pyqueue_method_get_many(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                        PyObject *kwnames);
extern const char atoll_pyqueue_get_doc[];
extern const char atoll_pyqueue_get_nowait_doc[];
extern const char atoll_pyqueue_get_many_doc[];

#endif
