/* What the files of locks and the like share: sync.c, and a file for each type or two. */
#ifndef ATOLL_MODULE_SYNC_H
#define ATOLL_MODULE_SYNC_H

#include "core/sync/sync.h"
#include "module/things.h"

typedef struct {
    atoll_thing thing;
    uint64_t interp; /* the serial number of this interpreter's entry */
} atoll_pysync;

static inline atoll_sync *atoll_pysync_of(PyObject *self) { return ((atoll_pysync *)self)->thing.what; }

static inline atoll_sync_who atoll_pysync_who(PyObject *self) {
    return (atoll_sync_who){((atoll_pysync *)self)->interp, atoll_sync_thread()};
}

/* NULL with an exception when its module was cleared: then there is no sync. */
static inline atoll_state *atoll_pysync_state(PyObject *self) {
    return atoll_state_live(((atoll_thing *)self)->state);
}

/* An object for a new sync, whose only reference it takes over (NULL: no memory).  NULL with an exception. */
PyObject *atoll_pysync_new(atoll_state *state, atoll_sync *sync);
/* The object for one that exists. */
PyObject *atoll_pysync_for(atoll_state *state, atoll_sync *sync);

/* A timeout as threading has it: seconds, negative as good as 0, None for ever.  0, or -1 with TypeError. */
int atoll_pysync_deadline(PyObject *timeout, double *deadline);
/* The only argument of a method, which is optional: NULL when it was not given.  0, or -1 with TypeError. */
int atoll_pysync_argument(const char *method, const char *name, PyObject *const *args, Py_ssize_t nargs,
                          PyObject *kwnames, PyObject **value);

/* Takes a lock or a semaphore: 1; 0 when it could not until the deadline; -1 with an exception. */
int atoll_pysync_take(PyObject *self, double deadline);
/* For a lock that was lost: LockOwnerLost.  -1. */
int atoll_pysync_raise_lost(PyObject *self);
/* An event's or a number's await(): 1, 0 or -1. */
int atoll_pysync_wait(PyObject *self, int64_t expected, double deadline,
                      atoll_sync_result (*await)(atoll_sync *sync, atoll_sync_wait *wait,
                                                 atoll_waiter *waiter, double deadline));

/* lock.c, for conditions, which have these methods of their lock. */
PyObject *atoll_pylock_acquire(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);
PyObject *atoll_pylock_release(PyObject *self, PyObject *ignored);
PyObject *atoll_pylock_exit(PyObject *self, PyObject *const *args, Py_ssize_t nargs);
PyObject *atoll_pylock_locked(PyObject *self, PyObject *ignored);
/* wait() could not take the lock again, which this thread had taken so many times. */
void atoll_pylock_is_missing(const atoll_sync *lock, uint32_t times);

/* barrier.c: what travels beside its handle. */
int atoll_pybarrier_encode(atoll_encoder *enc, PyObject *self);
int atoll_pybarrier_decode(atoll_reader *rd, PyObject *self);

/* Their types. */
extern PyType_Spec atoll_pylock_spec, atoll_pyrlock_spec, atoll_pycondition_spec, atoll_pyevent_spec,
    atoll_pysemaphore_spec, atoll_pysemaphore_bounded_spec, atoll_pybarrier_spec, atoll_pyatomic_spec;

#endif
