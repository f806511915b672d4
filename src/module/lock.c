/* Lock and RLock: threading's, for threads of all interpreters.
 *
 * A Lock may be given back by any thread, an RLock by the thread that took it, as with threading.  An OS thread is the same one in
 * whatever interpreter it runs: code that is called with an RLock held may take it once more.
 *
 * A Condition's wait() may come back without the lock.  Whoever called it with the lock held would give it back now, although it may be
 * another's; so that is noted, for the thread, until it has been given back as often as it was taken.
 */
#include "module/sync.h"

#include "py/interp/interp.h"

#include <math.h>

#define TIMEOUT_MOST 9223372036.0 /* threading.TIMEOUT_MAX */

/* (blocking=True, timeout=-1), as a deadline.  0, or -1 with an exception. */
static int deadline_of(PyObject *blocking, PyObject *timeout, double *deadline) {
    int wait = blocking == NULL ? 1 : PyObject_IsTrue(blocking);
    if (wait < 0) {
        return -1;
    }
    double seconds = timeout == NULL ? -1 : PyFloat_AsDouble(timeout);
    if (timeout != NULL && seconds == -1.0 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Format(PyExc_TypeError, "timeout must be a number of seconds, not %.200s",
                         Py_TYPE(timeout)->tp_name);
        }
        return -1;
    }
    if (!wait) {
        *deadline = ATOLL_NO_WAIT;
        if (seconds != -1) {
            PyErr_SetString(PyExc_ValueError, "can't specify a timeout for a non-blocking call");
            return -1;
        }
        return 0;
    }
    if (isnan(seconds) || (seconds < 0 && seconds != -1)) {
        PyErr_Format(PyExc_ValueError, "timeout must be -1 or a non-negative number of seconds, got %R",
                     timeout);
        return -1;
    }
    if (seconds > TIMEOUT_MOST) {
        PyErr_Format(PyExc_OverflowError, "timeout must be at most threading.TIMEOUT_MAX seconds, got %R",
                     timeout);
        return -1;
    }
    *deadline = seconds == -1 ? INFINITY : seconds == 0 ? ATOLL_NO_WAIT : atoll_clock() + seconds;
    return 0;
}

PyDoc_STRVAR(
    acquire_doc,
    "acquire($self, blocking=True, timeout=-1)\n--\n\n"
    "Take the lock; wait until it is free. Return whether it was taken.\n\n"
    "timeout is in seconds, -1 for ever. With blocking=False it does not wait.\n"
    "Raises LockOwnerLost when the interpreter that held the lock was closed: once, and the lock is\n"
    "free afterwards. Raises ValueError and OverflowError as threading does.");

PyObject *atoll_pylock_acquire(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    double deadline = INFINITY;
    if (nargs != 0 || kwnames != NULL) {
        static const char *const keywords[] = {"blocking", "timeout"};
        PyObject *values[2] = {0};
        if (atoll_parse("acquire", keywords, 2, 2, 0, args, nargs, kwnames, values) < 0 ||
            deadline_of(values[0], values[1], &deadline) < 0) {
            return NULL;
        }
    }
    int taken = atoll_pysync_take(self, deadline);
    return taken < 0 ? NULL : PyBool_FromLong(taken);
}

static PyObject *lock_enter(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return atoll_pysync_take(self, INFINITY) < 0 ? NULL : Py_NewRef(Py_True);
}

PyDoc_STRVAR(release_doc, "release($self, /)\n--\n\n"
                          "Give the lock back. A Lock may be given back by any thread of any interpreter.\n\n"
                          "Raises RuntimeError when it is not held, or an RLock not by this thread.");

/* It was closed already, and its locks given up, when a thread of it came back: what is held now is somebody else's. */
static bool has_lost(const atoll_state *state, const atoll_sync *lock, const atoll_sync_who *who) {
    return !atoll_sync_lock_is_held_by(lock, who->interp) && state->entry != NULL &&
           atoll_entry_life(state->entry) >= ATOLL_LIFE_ZOMBIE;
}

static _Thread_local __attribute__((tls_model("initial-exec"))) struct {
    uint64_t lock; /* its serial number: another one may get its address */
    uint32_t times;
} missing;

void atoll_pylock_is_missing(const atoll_sync *lock, uint32_t times) {
    missing.lock = atoll_sync_serial(lock);
    missing.times = times;
}

/* Whether this thread is to give back what wait() did not take again: once less from now on. */
static bool was_missing(const atoll_sync *lock, const atoll_sync_who *who) {
    if (missing.times == 0 || missing.lock != atoll_sync_serial(lock)) {
        return false;
    }
    missing.times = atoll_sync_lock_is_mine(lock, who) ? 0 : missing.times - 1;
    return !atoll_sync_lock_is_mine(lock, who);
}

PyObject *atoll_pylock_release(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    atoll_state *state = atoll_pysync_state(self);
    if (state == NULL) {
        return NULL;
    }
    atoll_sync *lock = atoll_pysync_of(self);
    const atoll_sync_who who = atoll_pysync_who(self);
    if (was_missing(lock, &who)) {
        PyErr_SetString(PyExc_RuntimeError, "cannot release a lock that wait() could not take again");
        return NULL;
    }
    if (has_lost(state, lock, &who)) {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot release a lock that was lost when this interpreter was closed");
        return NULL;
    }
    if (atoll_sync_lock_give(lock, &who) != ATOLL_SYNC_OK) {
        PyErr_SetString(PyExc_RuntimeError, atoll_sync_kind_of(lock) == ATOLL_SYNC_RLOCK
                                                ? "cannot release un-acquired lock"
                                                : "release unlocked lock");
        return NULL;
    }
    Py_RETURN_NONE;
}

PyObject *atoll_pylock_exit(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
    atoll_state *state = ((atoll_thing *)self)->state;
    if (state != NULL && nargs > 0 && args[0] != Py_None) {
        const atoll_sync *lock = atoll_pysync_of(self);
        const atoll_sync_who who = atoll_pysync_who(self);
        if (was_missing(lock, &who) || has_lost(state, lock, &who)) {
            Py_RETURN_NONE; /* what has been raised is what matters */
        }
    }
    return atoll_pylock_release(self, NULL);
}

PyDoc_STRVAR(locked_doc, "locked($self, /)\n--\n\n"
                         "Return whether some thread of some interpreter holds the lock.");

PyObject *atoll_pylock_locked(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return atoll_pysync_state(self) != NULL ? PyBool_FromLong(atoll_sync_lock_is_held(atoll_pysync_of(self)))
                                            : NULL;
}

static PyObject *lock_repr(PyObject *self) {
    if (((atoll_thing *)self)->state == NULL) {
        return PyUnicode_FromFormat("<%s object at %p>", Py_TYPE(self)->tp_name, self);
    }
    const atoll_sync *lock = atoll_pysync_of(self);
    bool held = atoll_sync_lock_is_held(lock);
    const char *word = held ? "locked" : "unlocked";
    return atoll_sync_kind_of(lock) == ATOLL_SYNC_RLOCK
               ? PyUnicode_FromFormat("<%s %s object count=%u at %p>", word, Py_TYPE(self)->tp_name,
                                      held ? atoll_sync_lock_depth(lock) + 1 : 0, self)
               : PyUnicode_FromFormat("<%s %s object at %p>", word, Py_TYPE(self)->tp_name, self);
}

static PyObject *new_lock(PyTypeObject *type, PyObject *args, PyObject *kwargs, atoll_sync_kind kind) {
    atoll_state *state = PyType_GetModuleState(type);
    if (state == NULL) {
        return NULL;
    }
    if (PyTuple_GET_SIZE(args) != 0 || (kwargs != NULL && PyDict_GET_SIZE(kwargs) != 0)) {
        PyErr_Format(PyExc_TypeError, "%s() takes no arguments", strrchr(type->tp_name, '.') + 1);
        return NULL;
    }
    return atoll_pysync_new(state, atoll_sync_new(kind, 0));
}

static PyObject *lock_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    return new_lock(type, args, kwargs, ATOLL_SYNC_LOCK);
}

static PyObject *rlock_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    return new_lock(type, args, kwargs, ATOLL_SYNC_RLOCK);
}

/* ---- what threading.Condition uses of an RLock ---- */

static PyObject *rlock_is_owned(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    if (atoll_pysync_state(self) == NULL) {
        return NULL;
    }
    const atoll_sync_who who = atoll_pysync_who(self);
    return PyBool_FromLong(atoll_sync_lock_is_mine(atoll_pysync_of(self), &who));
}

static PyObject *rlock_recursion_count(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    if (atoll_pysync_state(self) == NULL) {
        return NULL;
    }
    const atoll_sync_who who = atoll_pysync_who(self);
    const atoll_sync *lock = atoll_pysync_of(self);
    return PyLong_FromUnsignedLong(
        atoll_sync_lock_is_mine(lock, &who) ? (unsigned long)atoll_sync_lock_depth(lock) + 1 : 0);
}

static PyObject *rlock_release_save(PyObject *self, PyObject *ignored) {
    if (atoll_pysync_state(self) == NULL) {
        return NULL;
    }
    const atoll_sync_who who = atoll_pysync_who(self);
    atoll_sync *lock = atoll_pysync_of(self);
    uint32_t depth = 0;
    if (atoll_sync_lock_is_mine(lock, &who)) {
        depth = atoll_sync_lock_depth(lock);
        atoll_sync_lock_set_depth(lock, 0);
    }
    PyObject *done = atoll_pylock_release(self, ignored);
    Py_XDECREF(done);
    return done != NULL ? PyLong_FromUnsignedLong(depth) : NULL;
}

static PyObject *rlock_acquire_restore(PyObject *self, PyObject *saved) {
    unsigned long depth = PyLong_AsUnsignedLong(saved);
    if ((depth == (unsigned long)-1 && PyErr_Occurred()) || atoll_pysync_take(self, INFINITY) < 0) {
        return NULL;
    }
    atoll_sync_lock_set_depth(atoll_pysync_of(self), (uint32_t)depth);
    Py_RETURN_NONE;
}

/* ---- the types ---- */

#define LOCK_METHODS                                                                                         \
    {"acquire", (PyCFunction)(void (*)(void))atoll_pylock_acquire, METH_FASTCALL | METH_KEYWORDS,            \
     acquire_doc},                                                                                           \
        {"release", atoll_pylock_release, METH_NOARGS, release_doc},                                         \
        {"locked", atoll_pylock_locked, METH_NOARGS, locked_doc},                                            \
        {"__enter__", lock_enter, METH_NOARGS, NULL}, {                                                      \
        "__exit__", (PyCFunction)(void (*)(void))atoll_pylock_exit, METH_FASTCALL, NULL                      \
    }

static PyMethodDef lock_methods[] = {
    LOCK_METHODS,
    {NULL, NULL, 0, NULL},
};

static PyMethodDef rlock_methods[] = {
    LOCK_METHODS,
    {"_is_owned", rlock_is_owned, METH_NOARGS, NULL},
    {"_recursion_count", rlock_recursion_count, METH_NOARGS, NULL},
    {"_release_save", rlock_release_save, METH_NOARGS, NULL},
    {"_acquire_restore", rlock_acquire_restore, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(lock_doc,
             "Lock()\n--\n\n"
             "A lock for threads of all interpreters: threading.Lock's methods.\n\n"
             "It can be sent to other interpreters, and is the same lock there. Taking it and giving it\n"
             "back is one atomic instruction each while nobody waits. A thread that has waited for a\n"
             "millisecond is handed the lock before others get it. When the interpreter that holds it\n"
             "is closed, the next acquire() raises LockOwnerLost.");

PyDoc_STRVAR(rlock_doc,
             "RLock()\n--\n\n"
             "A reentrant lock for threads of all interpreters: threading.RLock's methods.\n\n"
             "It belongs to the thread that took it, in whatever interpreter that runs. For the rest\n"
             "it is as Lock.");

static PyType_Slot lock_slots[] = {
    {Py_tp_doc, (void *)lock_doc},
    {Py_tp_new, lock_new},
    {Py_tp_dealloc, atoll_thing_dealloc},
    {Py_tp_traverse, atoll_thing_traverse},
    {Py_tp_repr, lock_repr},
    {Py_tp_methods, lock_methods},
    {Py_tp_members, atoll_thing_members},
    {0, NULL},
};

static PyType_Slot rlock_slots[] = {
    {Py_tp_doc, (void *)rlock_doc},
    {Py_tp_new, rlock_new},
    {Py_tp_dealloc, atoll_thing_dealloc},
    {Py_tp_traverse, atoll_thing_traverse},
    {Py_tp_repr, lock_repr},
    {Py_tp_methods, rlock_methods},
    {Py_tp_members, atoll_thing_members},
    {0, NULL},
};

PyType_Spec atoll_pylock_spec = {
    .name = "atoll.Lock",
    .basicsize = sizeof(atoll_pysync),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = lock_slots,
};

PyType_Spec atoll_pyrlock_spec = {
    .name = "atoll.RLock",
    .basicsize = sizeof(atoll_pysync),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = rlock_slots,
};
