/* What locks, conditions, events, semaphores, barriers and numbers have in common as Python objects; core/sync/sync.h says what they
 * are, lock.c, condition.c, semaphore.c, event.c, barrier.c and atomic.c have the types.
 *
 * An object is one reference to a sync, and an interpreter has one object for each (things.c).  How they cross is sync_types.c's.
 *
 * Waiting is py/interp/blocking.h's: the GIL is given back before a thread sleeps, signals, interrupts and the end of an interpreter
 * bring it back, and while it looks at them it is in no list.  Where nobody has to wait the GIL is kept, and no system call is
 * made.
 */
#include "module/sync.h"

#include "py/interp/interp.h"

#include <math.h>

PyObject *atoll_pysync_for(atoll_state *state, atoll_sync *sync) {
    PyObject *object = atoll_thing_find(state, sync);
    if (object != NULL) {
        return object;
    }
    object = atoll_thing_new(state, state->sync_types[atoll_sync_kind_of(sync)], &atoll_sync_class, sync);
    if (object != NULL && state->entry != NULL) {
        ((atoll_pysync *)object)->interp = state->entry->serial;
    }
    return object;
}

PyObject *atoll_pysync_new(atoll_state *state, atoll_sync *sync) {
    if (sync == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *object = atoll_pysync_for(state, sync);
    atoll_sync_release(sync);
    return object;
}

/* ---- arguments ---- */

int atoll_pysync_deadline(PyObject *timeout, double *deadline) {
    double seconds;
    if (atoll_timeout(timeout, &seconds) < 0) {
        return -1;
    }
    if (isnan(seconds)) {
        PyErr_SetString(PyExc_ValueError, "timeout must be a number of seconds, got nan");
        return -1;
    }
    *deadline = seconds > 0 ? atoll_deadline_after(seconds) : ATOLL_NO_WAIT;
    return 0;
}

int atoll_pysync_argument(const char *method, const char *name, PyObject *const *args, Py_ssize_t nargs,
                          PyObject *kwnames, PyObject **value) {
    *value = NULL;
    if (nargs == 1 && kwnames == NULL) {
        *value = args[0];
        return 0;
    }
    return nargs == 0 && kwnames == NULL ? 0
                                         : atoll_parse(method, &name, 1, 1, 0, args, nargs, kwnames, value);
}

/* ---- waiting ---- */

int atoll_pysync_raise_lost(PyObject *self) {
    atoll_state *state = ((atoll_thing *)self)->state;
    PyErr_Format(state->lock_owner_lost,
                 "interpreter %lld was closed while it held this %s: what the lock guards may be half done. "
                 "The lock is free now",
                 (long long)atoll_sync_lock_lost(atoll_pysync_of(self)), Py_TYPE(self)->tp_name);
    return -1;
}

static atoll_sync_result try_once(atoll_sync *sync, const atoll_sync_who *who) {
    return atoll_sync_kind_of(sync) <= ATOLL_SYNC_RLOCK ? atoll_sync_lock_try(sync, who)
                                                        : atoll_sync_semaphore_try(sync);
}

static atoll_sync_result await_once(atoll_sync *sync, atoll_sync_wait *wait, atoll_blocking *b) {
    return atoll_sync_kind_of(sync) <= ATOLL_SYNC_RLOCK
               ? atoll_sync_lock_await(sync, wait, &b->waiter, b->deadline)
               : atoll_sync_semaphore_await(sync, wait, &b->waiter, b->deadline);
}

/* A wait's result as the core's waits have it, for atoll_blocking_look(). */
static atoll_wait_result why(atoll_sync_result result) {
    return result == ATOLL_SYNC_SIGNAL ? ATOLL_WAIT_SIGNAL : ATOLL_WAIT_OK;
}

static atoll_waits_for kind_of_wait(const atoll_sync *sync) {
    switch (atoll_sync_kind_of(sync)) {
    case ATOLL_SYNC_SEMAPHORE:
    case ATOLL_SYNC_BOUNDED_SEMAPHORE:
        return ATOLL_WAITS_SEMAPHORE;
    case ATOLL_SYNC_EVENT:
        return ATOLL_WAITS_EVENT;
    case ATOLL_SYNC_ATOMIC:
        return ATOLL_WAITS_ATOMIC;
    default:
        return ATOLL_WAITS_LOCK;
    }
}

int atoll_pysync_take(PyObject *self, double deadline) {
    atoll_state *state = atoll_pysync_state(self);
    if (state == NULL) {
        return -1;
    }
    atoll_sync *sync = atoll_pysync_of(self);
    atoll_sync_wait wait = {.who = atoll_pysync_who(self)};
    atoll_sync_result result = try_once(sync, &wait.who);
    if (result == ATOLL_SYNC_OK) {
        return 1;
    }
    if (result == ATOLL_SYNC_AGAIN && deadline != ATOLL_NO_WAIT &&
        atoll_sync_kind_of(sync) <= ATOLL_SYNC_RLOCK) {
        result = atoll_sync_lock_try_soon(sync, &wait.who); /* giving the GIL back takes longer */
    }
    if (result == ATOLL_SYNC_AGAIN && deadline != ATOLL_NO_WAIT) {
        atoll_blocking b;
        atoll_sync_retain(sync); /* its module may be cleared meanwhile */
        atoll_blocking_begin(&b, state, deadline, kind_of_wait(sync), 0);
        while ((result = try_once(sync, &wait.who)) == ATOLL_SYNC_AGAIN) {
            result = await_once(sync, &wait, &b);
            if (result == ATOLL_SYNC_OK || result == ATOLL_SYNC_TIMEOUT) {
                break;
            }
            if (atoll_blocking_look(&b, why(result)) && atoll_blocking_interrupted(&b) < 0) {
                atoll_sync_release(sync);
                return -1;
            }
        }
        atoll_blocking_end(&b);
        atoll_sync_release(sync);
        if (result == ATOLL_SYNC_LOST && atoll_pysync_state(self) == NULL) {
            return -1;
        }
    }
    return result == ATOLL_SYNC_OK ? 1 : result == ATOLL_SYNC_LOST ? atoll_pysync_raise_lost(self) : 0;
}

int atoll_pysync_wait(PyObject *self, int64_t expected, double deadline,
                      atoll_sync_result (*await)(atoll_sync *sync, atoll_sync_wait *wait,
                                                 atoll_waiter *waiter, double deadline)) {
    atoll_state *state = atoll_pysync_state(self);
    if (state == NULL) {
        return -1;
    }
    atoll_sync *sync = atoll_pysync_of(self);
    atoll_sync_wait wait = {.who = atoll_pysync_who(self), .expected = expected};
    atoll_blocking b;
    atoll_sync_retain(sync);
    atoll_blocking_begin(&b, state, deadline, kind_of_wait(sync), 0);
    atoll_sync_result result;
    while ((result = await(sync, &wait, &b.waiter, b.deadline)) == ATOLL_SYNC_SIGNAL) {
        if (atoll_blocking_interrupted(&b) < 0) {
            atoll_sync_release(sync);
            return -1;
        }
    }
    atoll_blocking_end(&b);
    atoll_sync_release(sync);
    return result == ATOLL_SYNC_OK;
}
