/* What future.c and future_attributes.c share. */
#ifndef ATOLL_MODULE_FUTURE_H
#define ATOLL_MODULE_FUTURE_H

#include "module/pool.h"

typedef enum { NATIVE, PENDING, RUNNING, CANCELLED, NOTIFIED, FINISHED } future_status;

typedef struct {
    PyObject_HEAD
    atoll_pypool *pool; /* NULL for one that never had a task */
    atoll_task *task;   /* a reference; NULL when it is resolved */
    PyObject *result;
    PyObject *exception;
    PyObject *condition; /* heavy */
    PyObject *waiters;
    PyObject *callbacks;
    PyObject *parts; /* of a chunk that a worker has divided: a list of futures, or NULL */
    size_t bytes;
    uint32_t count; /* of a chunk: how many calls */
    float seconds;
    uint8_t status; /* NATIVE: what the task says */
    bool renewed;   /* in a forked child: its condition is one of this process */
} future_object;

/* The status now, a future_status: a light one whose task is over is resolved first.  -1 with an exception when that was interrupted:
 * then it is as it was. */
int atoll_future_status(future_object *self);
/* Makes it heavy: it has a condition from then on, and the thread that delivers tells it.  0 or -1. */
int atoll_future_become_heavy(future_object *self);

extern PyGetSetDef atoll_future_getset[];

#endif
