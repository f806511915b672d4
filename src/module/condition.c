/* Condition: threading's, over an atoll.Lock or atoll.RLock, for threads of all interpreters.
 *
 * wait() is in the line before it gives the lock back, so nothing that is notified from then on is missed.  It returns with the lock,
 * whatever happens: an exception that comes while it waits (Ctrl-C) is raised when it has the lock again.  Only a second one, while
 * it waits for the lock, is raised without it; so are LockOwnerLost and what ends an interpreter.  Then `with` does not give back what
 * it does not have, and release() refuses (lock.c).
 *
 * The object has a reference to its lock's object; a lock has none to anything.
 */
#include "module/sync.h"

#include "py/interp/interp.h"

#include <math.h>

typedef struct {
    atoll_pysync sync;
    PyObject *lock;
} condition_object;

/* The object of the condition's lock: borrowed, NULL with an exception. */
static PyObject *lock_of(PyObject *self) {
    atoll_state *state = atoll_pysync_state(self);
    if (state == NULL) {
        return NULL;
    }
    condition_object *object = (condition_object *)self;
    if (object->lock == NULL) {
        object->lock = atoll_pysync_for(state, atoll_sync_condition_lock(atoll_pysync_of(self)));
    }
    return object->lock;
}

static PyObject *condition_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"lock", NULL};
    PyObject *lock = Py_None;
    atoll_state *state = PyType_GetModuleState(type);
    if (state == NULL || !PyArg_ParseTupleAndKeywords(args, kwargs, "|O:Condition", keywords, &lock)) {
        return NULL;
    }
    atoll_sync *sync;
    if (lock == Py_None) {
        sync = atoll_sync_new(ATOLL_SYNC_RLOCK, 0);
    } else if (Py_IS_TYPE(lock, state->sync_types[ATOLL_SYNC_LOCK]) ||
               Py_IS_TYPE(lock, state->sync_types[ATOLL_SYNC_RLOCK])) {
        if (atoll_pysync_state(lock) == NULL) {
            return NULL;
        }
        sync = atoll_pysync_of(lock);
        atoll_sync_retain(sync);
    } else {
        PyErr_Format(PyExc_TypeError, "lock must be an atoll.Lock or an atoll.RLock, not %.200s",
                     Py_TYPE(lock)->tp_name);
        return NULL;
    }
    atoll_sync *condition = sync != NULL ? atoll_sync_condition_new(sync) : NULL;
    if (sync != NULL) {
        atoll_sync_release(sync);
    }
    return atoll_pysync_new(state, condition);
}

static int condition_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(((condition_object *)self)->lock);
    return atoll_thing_traverse(self, visit, arg);
}

static void condition_dealloc(PyObject *self) {
    PyObject *lock = ((condition_object *)self)->lock;
    atoll_thing_dealloc(self);
    Py_XDECREF(lock); /* runs others' code, which finds this object no more */
}

/* ---- of its lock ---- */

static PyObject *condition_acquire(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                   PyObject *kwnames) {
    PyObject *lock = lock_of(self);
    return lock != NULL ? atoll_pylock_acquire(lock, args, nargs, kwnames) : NULL;
}

static PyObject *condition_release(PyObject *self, PyObject *ignored) {
    PyObject *lock = lock_of(self);
    return lock != NULL ? atoll_pylock_release(lock, ignored) : NULL;
}

static PyObject *condition_locked(PyObject *self, PyObject *ignored) {
    PyObject *lock = lock_of(self);
    return lock != NULL ? atoll_pylock_locked(lock, ignored) : NULL;
}

static PyObject *condition_enter(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return condition_acquire(self, NULL, 0, NULL);
}

static PyObject *condition_exit(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
    PyObject *lock = lock_of(self);
    return lock != NULL ? atoll_pylock_exit(lock, args, nargs) : NULL;
}

/* Whether the lock is held, as far as threading looks: 0, or -1 with RuntimeError. */
static int check_held(PyObject *self, PyObject *lock, const char *what) {
    const atoll_sync_who who = atoll_pysync_who(self);
    atoll_sync *sync = atoll_pysync_of(lock);
    bool held = atoll_sync_kind_of(sync) == ATOLL_SYNC_RLOCK ? atoll_sync_lock_is_mine(sync, &who)
                                                             : atoll_sync_lock_is_held(sync);
    if (!held) {
        PyErr_Format(PyExc_RuntimeError, "cannot %s on un-acquired lock", what);
    }
    return held ? 0 : -1;
}

/* ---- waiting ---- */

/* Until it is notified, without the lock: 1, 0, or -1 with an exception. */
static int sleep_until_notified(PyObject *self, PyObject *lock, double deadline) {
    atoll_sync *condition = atoll_pysync_of(self);
    atoll_sync_wait wait = {.who = atoll_pysync_who(self)};
    atoll_blocking b;
    atoll_blocking_begin(&b, ((atoll_thing *)self)->state, deadline, ATOLL_WAITS_CONDITION, 0);
    bool in_line = atoll_sync_condition_join(condition, &wait, &b.waiter);
    (void)atoll_sync_lock_give(atoll_pysync_of(lock), &wait.who);
    atoll_sync_result result = ATOLL_SYNC_OK;
    while (in_line) {
        result = atoll_sync_condition_sleep(condition, &wait, &b.waiter, b.deadline);
        if (result != ATOLL_SYNC_SIGNAL) {
            break;
        }
        if (atoll_blocking_interrupted(&b) < 0) {
            return -1;
        }
        result = ATOLL_SYNC_OK;
        in_line = atoll_sync_condition_join(condition, &wait, &b.waiter);
    }
    atoll_blocking_end(&b);
    return result == ATOLL_SYNC_OK;
}

/* Takes the lock again, also when an exception is set or comes meanwhile: the first is what is raised.  0, or -1. */
static int take_again(PyObject *lock) {
    PyObject *first = PyErr_GetRaisedException();
    int taken = atoll_pysync_take(lock, INFINITY);
    if (taken < 0 && first == NULL &&
        !PyErr_ExceptionMatches(((atoll_thing *)lock)->state->lock_owner_lost)) {
        first = PyErr_GetRaisedException();
        taken = atoll_pysync_take(lock, INFINITY);
    }
    if (taken < 0) {
        PyObject *exc = PyErr_GetRaisedException();
        PyException_SetContext(exc, first); /* takes it */
        PyErr_SetRaisedException(exc);
        return -1;
    }
    PyErr_SetRaisedException(first);
    return first == NULL ? 0 : -1;
}

/* 1 when it was notified, 0, or -1 with an exception. */
static int wait_once(PyObject *self, double deadline) {
    PyObject *lock = lock_of(self);
    if (lock == NULL || check_held(self, lock, "wait") < 0) {
        return -1;
    }
    Py_INCREF(lock);
    atoll_sync *sync = atoll_pysync_of(lock);
    uint32_t depth = atoll_sync_lock_depth(sync);
    atoll_sync_lock_set_depth(sync, 0);
    int notified = sleep_until_notified(self, lock, deadline);
    int rc = take_again(lock);
    const atoll_sync_who who = atoll_pysync_who(self);
    if (atoll_sync_lock_is_mine(sync, &who)) {
        atoll_sync_lock_set_depth(sync, depth);
    } else {
        atoll_pylock_is_missing(sync, depth + 1);
    }
    if (rc < 0 && notified == 1) {
        atoll_sync_condition_notify(atoll_pysync_of(self), 1); /* it was meant for somebody who goes on */
    }
    Py_DECREF(lock);
    return rc < 0 ? -1 : notified;
}

PyDoc_STRVAR(
    wait_doc,
    "wait($self, timeout=None)\n--\n\n"
    "Give the lock back, wait until notified, and take it again. Return False on a timeout (seconds).\n\n"
    "Raises RuntimeError when the lock is not held, LockOwnerLost when whoever took it meanwhile was\n"
    "closed with it: then it is not held.");

static PyObject *condition_wait(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    PyObject *timeout;
    double deadline;
    if (atoll_pysync_argument("wait", "timeout", args, nargs, kwnames, &timeout) < 0 ||
        atoll_pysync_deadline(timeout, &deadline) < 0) {
        return NULL;
    }
    int notified = wait_once(self, deadline);
    return notified < 0 ? NULL : PyBool_FromLong(notified);
}

PyDoc_STRVAR(wait_for_doc,
             "wait_for($self, predicate, timeout=None)\n--\n\n"
             "wait() until predicate() is true, or for timeout seconds. Return what it returned last.");

static PyObject *condition_wait_for(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                    PyObject *kwnames) {
    static const char *const keywords[] = {"predicate", "timeout"};
    PyObject *values[2] = {0};
    double deadline;
    if (atoll_parse("wait_for", keywords, 2, 2, 1, args, nargs, kwnames, values) < 0 ||
        atoll_pysync_deadline(values[1], &deadline) < 0) {
        return NULL;
    }
    for (bool late = false;;) {
        PyObject *result = PyObject_CallNoArgs(values[0]);
        int is_so = result != NULL ? PyObject_IsTrue(result) : -1;
        if (is_so != 0 || late || deadline == ATOLL_NO_WAIT) {
            if (is_so < 0) {
                Py_CLEAR(result);
            }
            return result;
        }
        Py_DECREF(result);
        int notified = wait_once(self, deadline);
        if (notified < 0) {
            return NULL;
        }
        late = notified == 0;
    }
}

PyDoc_STRVAR(notify_doc, "notify($self, n=1)\n--\n\n"
                         "Wake up to n of the threads that wait, in the order of their coming.\n\n"
                         "Raises RuntimeError when the lock is not held.");

static PyObject *condition_notify(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                  PyObject *kwnames) {
    PyObject *count;
    PyObject *lock = lock_of(self);
    if (lock == NULL || atoll_pysync_argument("notify", "n", args, nargs, kwnames, &count) < 0) {
        return NULL;
    }
    int overflow = 0;
    long long n = count != NULL ? PyLong_AsLongLongAndOverflow(count, &overflow) : 1;
    if (n == -1 && overflow == 0 && PyErr_Occurred()) {
        atoll_argument_not_int(count, "n");
        return NULL;
    }
    if (check_held(self, lock, "notify") < 0) {
        return NULL;
    }
    if (overflow > 0 || n > 0) {
        atoll_sync_condition_notify(atoll_pysync_of(self), overflow > 0 ? UINT64_MAX : (uint64_t)n);
    }
    Py_RETURN_NONE;
}

static PyObject *condition_notify_all(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    PyObject *lock = lock_of(self);
    if (lock == NULL || check_held(self, lock, "notify") < 0) {
        return NULL;
    }
    atoll_sync_condition_notify(atoll_pysync_of(self), UINT64_MAX);
    Py_RETURN_NONE;
}

static PyObject *condition_repr(PyObject *self) {
    PyObject *lock = ((atoll_thing *)self)->state != NULL ? lock_of(self) : NULL;
    PyErr_Clear();
    return lock != NULL ? PyUnicode_FromFormat("<atoll.Condition(%R) at %p>", lock, self)
                        : PyUnicode_FromFormat("<atoll.Condition at %p>", self);
}

/* ---- the type ---- */

static PyMethodDef condition_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))condition_acquire, METH_FASTCALL | METH_KEYWORDS,
     "acquire($self, blocking=True, timeout=-1)\n--\n\nThe lock's acquire()."},
    {"release", condition_release, METH_NOARGS, "release($self, /)\n--\n\nThe lock's release()."},
    {"locked", condition_locked, METH_NOARGS, "locked($self, /)\n--\n\nThe lock's locked()."},
    {"wait", (PyCFunction)(void (*)(void))condition_wait, METH_FASTCALL | METH_KEYWORDS, wait_doc},
    {"wait_for", (PyCFunction)(void (*)(void))condition_wait_for, METH_FASTCALL | METH_KEYWORDS,
     wait_for_doc},
    {"notify", (PyCFunction)(void (*)(void))condition_notify, METH_FASTCALL | METH_KEYWORDS, notify_doc},
    {"notify_all", condition_notify_all, METH_NOARGS,
     "notify_all($self, /)\n--\n\nWake all threads that wait; as notify()."},
    {"__enter__", condition_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))condition_exit, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(condition_doc,
             "Condition(lock=None)\n--\n\n"
             "A condition variable for threads of all interpreters: threading.Condition's methods.\n\n"
             "lock is an atoll.Lock or atoll.RLock; without one it gets an RLock of its own. It can be\n"
             "sent to other interpreters, with its lock. A thread that a signal handler has run in\n"
             "meanwhile may wake without having been notified.");

static PyType_Slot condition_slots[] = {
    {Py_tp_doc, (void *)condition_doc},   {Py_tp_new, condition_new},
    {Py_tp_dealloc, condition_dealloc},   {Py_tp_traverse, condition_traverse},
    {Py_tp_repr, condition_repr},         {Py_tp_methods, condition_methods},
    {Py_tp_members, atoll_thing_members}, {0, NULL},
};

PyType_Spec atoll_pycondition_spec = {
    .name = "atoll.Condition",
    .basicsize = sizeof(condition_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = condition_slots,
};
