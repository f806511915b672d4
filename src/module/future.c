/* The base of atoll's Future: a concurrent.futures.Future whose outcome is where the worker left it.
 *
 * Two ways of life.  A light future is this struct and a task (core/pool/pool.h).  Nobody is told when the task ends:
 * result() waits for the task itself and decodes its outcome, in the thread that wants it, so that no other thread is in
 * between.  All it does is done with the GIL held and without letting it go, but for decoding, which is done before
 * anything is changed.
 *
 * A future becomes heavy when somebody asks for its condition: wait(), as_completed(), add_done_callback() and asyncio
 * do.  From then on it is concurrent.futures.Future's code that changes it, under that condition, by the attributes
 * that this type has in C; the task is marked as observed, holds a reference to the future, and at its end the
 * thread that delivers sets the result.  A task that ended before is resolved first, so that under the condition a
 * future is either finished or will be told.
 *
 *   operation x operation   resolve (light)      become heavy          deliver
 *   resolve (light)         first one counts     resolve comes first   -
 *   become heavy                                 once                  after it
 *   cancel                  task decides         task decides          task decides
 *
 * In a forked child nobody runs tasks of before, and nobody delivers: there a heavy future is resolved as a light one is, when
 * somebody asks, and one whose task was not over then fails with BrokenInterpreterPool.  Its callbacks are not
 * called, because they are the parent's; its condition is a new one, because a thread that is gone may have the old one.
 *
 * The condition is never taken by C code, and no lock of the core's is held while Python runs.
 */
#include "module/future.h"

#include "py/interp/interp.h"

#include <math.h>
#include <structmember.h>

#define ATTEMPTS 3 /* at telling a future that is watched */

static future_object *cast(PyObject *self) { return (future_object *)self; }

/* ---- resolving ---- */

static void forget_owner(atoll_task *task) {
    PyObject *owner = task->owner;
    task->owner = NULL;
    Py_XDECREF(owner);
}

/* In a forked child, and the task was not over then: it never will be.  Runs Python code. */
static void sever(future_object *self) {
    PyObject *exc = atoll_pypool_broken(self->pool);
    exc = exc != NULL ? exc : PyErr_GetRaisedException();
    atoll_task *task = self->task;
    if (self->status != NATIVE) {
        Py_DECREF(exc);
        return;
    }
    self->status = FINISHED;
    self->exception = exc;
    self->task = NULL;
    forget_owner(task);
    atoll_task_release(task);
}

/* Notes what else the outcome of a task says; makes futures of its parts.  0 or -1. */
static int look_at(future_object *self, const atoll_task *task) {
    self->seconds = task->seconds;
    self->count = task->items;
    if (task->nparts == 0 || self->parts != NULL) {
        return 0;
    }
    PyObject *parts = PyList_New(task->nparts);
    for (uint32_t i = 0; parts != NULL && i < task->nparts; i++) {
        atoll_task_retain(task->parts[i]);
        PyObject *part = atoll_future_new(self->pool, task->parts[i]);
        if (part == NULL) {
            Py_CLEAR(parts);
            break;
        }
        PyList_SET_ITEM(parts, i, part);
    }
    if (parts == NULL) {
        return -1;
    }
    Py_XSETREF(self->parts, parts);
    return 0;
}

/* Light, and the task is over: takes its outcome.  Runs Python code, after which it may have become anything.  0, or -1 with an
 * exception that is no outcome: then it is as it was. */
static int resolve(future_object *self) {
    atoll_task *task = self->task;
    if (task == NULL || self->status != NATIVE) {
        return 0;
    }
    atoll_task_retain(task);
    PyObject *value = NULL;
    PyObject *exc = NULL;
    bool cancelled = atoll_task_now(task) == ATOLL_TASK_CANCELLED;
    if (!cancelled) {
        if (atoll_future_decode(self->pool, task, &value, &exc) < 0) {
            atoll_task_release(task);
            return -1;
        }
        if (look_at(self, task) < 0) {
            Py_XSETREF(exc, PyErr_GetRaisedException());
        }
    }
    if (self->status == NATIVE) {
        self->status = cancelled ? NOTIFIED : FINISHED;
        self->result = value;
        self->exception = exc;
        value = exc = NULL;
        self->task = NULL;
        forget_owner(task); /* of a heavy one, in a forked child */
        atoll_task_release(task);
    }
    Py_XDECREF(value);
    Py_XDECREF(exc);
    atoll_task_release(task);
    return 0;
}

/* Any is resolved in a forked child, where none is told. */
int atoll_future_status(future_object *self) {
    bool foreign = self->status == NATIVE && atoll_pool_is_foreign(self->pool->pool);
    if (self->status == NATIVE && (self->condition == NULL || foreign)) {
        if (atoll_task_is_over(self->task)) {
            if (resolve(self) < 0) {
                return -1;
            }
        } else if (foreign) {
            sever(self);
        }
    }
    if (self->status != NATIVE) {
        return self->status;
    }
    uint32_t now = atoll_task_now(self->task);
    return now == ATOLL_TASK_PENDING || now == ATOLL_TASK_CANCELLED ? PENDING : RUNNING;
}

/* ---- becoming heavy ---- */

/* 0, or -1: no thread can be started that would tell it. */
static int start_to_deliver(atoll_pypool *pool) {
    atoll_state *state = atoll_pypool_state(pool);
    PyObject *start = state != NULL ? atoll_pypool_name_get(state, ATOLL_P_START) : NULL;
    PyObject *done = start != NULL ? PyObject_CallOneArg(start, (PyObject *)pool) : NULL;
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

int atoll_future_become_heavy(future_object *self) {
    PyObject *threading = PyImport_ImportModule("threading");
    PyObject *condition = threading != NULL ? PyObject_CallMethod(threading, "Condition", NULL) : NULL;
    Py_XDECREF(threading);
    if (condition == NULL || atoll_future_status(self) < 0) {
        Py_XDECREF(condition);
        return -1;
    }
    /* Before it has a condition: what nobody tells has to stay light. */
    if (self->status == NATIVE && !self->pool->delivers && start_to_deliver(self->pool) < 0) {
        Py_DECREF(condition);
        return -1;
    }
    while (self->condition == NULL) {
        atoll_task *task = self->task;
        if (self->status == NATIVE) {
            task->owner = Py_NewRef((PyObject *)self);
            if (!atoll_task_observe(task)) { /* it has just ended */
                task->owner = NULL;
                Py_DECREF(self);
                if (resolve(self) < 0) {
                    Py_DECREF(condition);
                    return -1;
                }
                continue;
            }
        }
        self->condition = Py_NewRef(condition);
    }
    Py_DECREF(condition);
    return 0;
}

/* concurrent.futures.Future.NAME(self, ...) */
static PyObject *call_base(future_object *self, const char *name, PyObject *arg) {
    atoll_state *state = atoll_pypool_state(self->pool);
    PyObject *base = state != NULL ? atoll_pypool_name_get(state, ATOLL_P_BASE) : NULL;
    PyObject *method = base != NULL ? PyObject_GetAttrString(base, name) : NULL;
    PyObject *stack[2] = {(PyObject *)self, arg};
    PyObject *result = method != NULL ? PyObject_Vectorcall(method, stack, arg != NULL ? 2 : 1, NULL) : NULL;
    Py_XDECREF(method);
    return result;
}

void atoll_future_deliver(atoll_task *task) {
    future_object *self = task->owner;
    if (self == NULL) {
        return;
    }
    if (self->status == NATIVE) {
        PyObject *value;
        PyObject *exc;
        if (atoll_future_decode(self->pool, task, &value, &exc) < 0 || look_at(self, task) < 0) {
            Py_XSETREF(exc, PyErr_GetRaisedException()); /* whoever waits is to be told something */
        }
        if (exc != NULL && value != NULL) {
            Py_XSETREF(self->result, Py_NewRef(value));
        }
        for (int left = ATTEMPTS; self->status == NATIVE && left > 0; left--) {
            PyObject *done =
                call_base(self, exc != NULL ? "set_exception" : "set_result", exc != NULL ? exc : value);
            if (done == NULL && self->status == NATIVE && left > 1) {
                PyErr_Clear(); /* no memory, at this moment: whoever waits for it would do so for ever */
            } else if (done == NULL) {
                PyErr_WriteUnraisable((PyObject *)self);
            }
            Py_XDECREF(done);
        }
        Py_XDECREF(value);
        Py_XDECREF(exc);
    }
    Py_CLEAR(self->callbacks); /* they were called, and may lead back here */
    forget_owner(task);
}

/* Changes a future that is watched, from this status into another, by a method of the base's: tried again when that fails before it has.
 * What was raised first is kept in *exc, a new reference. */
static void change(future_object *self, future_status from, const char *name, PyObject **exc) {
    for (int left = ATTEMPTS; self->status == from && left > 0; left--) {
        PyObject *done = call_base(self, name, NULL);
        PyObject *error = done == NULL ? PyErr_GetRaisedException() : NULL;
        if (*exc == NULL) {
            *exc = error;
        } else {
            Py_XDECREF(error);
        }
        Py_XDECREF(done);
    }
}

int atoll_future_deliver_cancel(atoll_task *task) {
    future_object *self = task->owner;
    if (self == NULL) {
        return 0;
    }
    PyObject *exc = NULL;
    change(self, NATIVE, "cancel", &exc); /* calls callbacks, which may raise */
    change(self, CANCELLED, "set_running_or_notify_cancel", &exc);
    Py_CLEAR(self->callbacks);
    forget_owner(task);
    PyErr_SetRaisedException(exc);
    return exc == NULL ? 0 : -1;
}

/* ---- methods ---- */

/* Light: waits for the task.  1: it is over, or the future became heavy; 0: timeout; -1 with an exception. */
static int wait_for(future_object *self, PyObject *timeout) {
    double deadline;
    if (atoll_deadline(timeout, &deadline) < 0) {
        return -1;
    }
    atoll_task *task = self->task;
    if (atoll_task_is_over(task)) {
        return 1;
    }
    atoll_state *state = atoll_pypool_state(self->pool);
    if (state == NULL) {
        return -1;
    }
    atoll_blocking b;
    atoll_wait_result why;
    bool over;
    atoll_task_retain(task);
    Py_INCREF(self);
    atoll_blocking_begin(&b, state, deadline, ATOLL_WAITS_FUTURE, 0);
    int rc = 0;
    while (!(over = atoll_task_wait(task, &b.waiter, b.deadline, &why)) && why != ATOLL_WAIT_TIMEOUT) {
        if (atoll_blocking_look(&b, why) && atoll_blocking_interrupted(&b) < 0) {
            rc = -1;
            break;
        }
    }
    if (rc == 0) {
        atoll_blocking_end(&b);
        rc = over;
    }
    atoll_task_release(task);
    Py_DECREF(self);
    return rc;
}

/* The timeout argument of result() and exception(): borrowed, Py_None when there is none; NULL with TypeError.
 * Negative numbers mean 0 there, of whatever type, and so does what is none (nan). */
static PyObject *timeout_of(const char *name, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    static const char *const keywords[] = {"timeout"};
    PyObject *value = NULL;
    if (atoll_parse(name, keywords, 1, 1, 0, args, nargs, kwnames, &value) < 0) {
        return NULL;
    }
    if (value != NULL && value != Py_None) {
        int overflow = 0;
        if (PyLong_Check(value)) {
            (void)PyLong_AsLongAndOverflow(value, &overflow);
        }
        double seconds = PyFloat_AsDouble(value);
        bool known = seconds != -1.0 || !PyErr_Occurred();
        PyErr_Clear(); /* who waits says what is wrong */
        if (overflow < 0 || (known && !(seconds > 0))) {
            return PyLong_FromLong(0); /* immortal */
        }
    }
    return value != NULL ? value : Py_None;
}

/* Ready to be looked at: 1; 0: the base's method is to be called; -1 with an exception. */
static int wait_until_done(future_object *self, PyObject *timeout) {
    int status = atoll_future_status(self);
    if (status < 0) {
        return -1;
    }
    if (status < CANCELLED) {
        if (self->condition != NULL || self->status != NATIVE) {
            return 0;
        }
        int rc = wait_for(self, timeout);
        if (rc == 0) {
            PyErr_SetNone(PyExc_TimeoutError);
            return -1;
        }
        if (rc < 0) {
            return -1;
        }
        if (self->condition != NULL) {
            return 0;
        }
        if (atoll_future_status(self) < 0) {
            return -1;
        }
    }
    if (self->status == CANCELLED || self->status == NOTIFIED) {
        atoll_state *state = atoll_pypool_state(self->pool);
        PyObject *cancelled = state != NULL ? atoll_pypool_name_get(state, ATOLL_P_CANCELLED) : NULL;
        if (cancelled != NULL) {
            PyErr_SetNone(cancelled);
        }
        return -1;
    }
    return 1;
}

PyDoc_STRVAR(result_doc, "result($self, timeout=None)\n--\n\n"
                         "Return the call's result, or raise its exception.\n\n"
                         "timeout is in seconds. Raises TimeoutError when it has passed, CancelledError.");

static PyObject *future_result(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    future_object *self = cast(op);
    PyObject *timeout = timeout_of("result", args, nargs, kwnames);
    int rc = timeout != NULL ? wait_until_done(self, timeout) : -1;
    if (rc <= 0) {
        return rc == 0 ? call_base(self, "result", timeout) : NULL;
    }
    if (self->exception != NULL) {
        PyErr_SetRaisedException(Py_NewRef(self->exception));
        return NULL;
    }
    return Py_NewRef(self->result != NULL ? self->result : Py_None);
}

PyDoc_STRVAR(exception_doc, "exception($self, timeout=None)\n--\n\n"
                            "Return the exception that the call raised, or None.\n\n"
                            "timeout is in seconds. Raises TimeoutError when it has passed, CancelledError.");

static PyObject *future_exception(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    future_object *self = cast(op);
    PyObject *timeout = timeout_of("exception", args, nargs, kwnames);
    int rc = timeout != NULL ? wait_until_done(self, timeout) : -1;
    if (rc <= 0) {
        return rc == 0 ? call_base(self, "exception", timeout) : NULL;
    }
    return Py_NewRef(self->exception != NULL ? self->exception : Py_None);
}

/* (result, exception) of a chunk, which may have both. */
static PyObject *future_outcome(PyObject *op, PyObject *timeout) {
    future_object *self = cast(op);
    int rc = wait_until_done(self, timeout);
    if (rc == 0) {
        PyObject *exc = call_base(self, "exception", timeout);
        Py_XDECREF(exc);
        rc = exc != NULL ? 1 : -1;
    }
    if (rc < 0) {
        return NULL;
    }
    return PyTuple_Pack(2, self->result != NULL ? self->result : Py_None,
                        self->exception != NULL ? self->exception : Py_None);
}

PyDoc_STRVAR(cancel_doc, "cancel($self, /)\n--\n\n"
                         "Cancel the call if it has not begun; return whether it is cancelled.");

static PyObject *future_cancel(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    future_object *self = cast(op);
    if (atoll_pool_is_foreign(self->pool->pool) && atoll_future_status(self) < 0) {
        return NULL;
    }
    if (self->status != NATIVE) {
        return call_base(self, "cancel", NULL);
    }
    atoll_task *task = self->task;
    switch (atoll_task_cancel(task)) {
    case ATOLL_CANCEL_REFUSED:
        Py_RETURN_FALSE;
    case ATOLL_CANCEL_WAS_DONE:
        Py_RETURN_TRUE;
    case ATOLL_CANCEL_DONE:
        break;
    }
    if (self->condition != NULL) {
        atoll_task_retain(task);
        Py_INCREF(self);
        int rc = atoll_future_deliver_cancel(task);
        Py_DECREF(self);
        atoll_task_release(task);
        if (rc < 0) {
            return NULL;
        }
    } else if (atoll_future_status(self) < 0) {
        return NULL;
    }
    Py_RETURN_TRUE;
}

PyDoc_STRVAR(interrupt_doc, "interrupt($self, /)\n--\n\n"
                            "Raise KeyboardInterrupt in the call if it is running; return whether it was.\n\n"
                            "A call that has not begun is left alone: cancel() is for that.");

static PyObject *future_interrupt(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    future_object *self = cast(op);
    if (self->status != NATIVE || atoll_pool_is_foreign(self->task->pool)) {
        Py_RETURN_FALSE;
    }
    return PyBool_FromLong(atoll_task_interrupt(self->task));
}

static PyObject *future_done(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    int status = atoll_future_status(cast(op));
    return status < 0 ? NULL : PyBool_FromLong(status >= CANCELLED);
}

static PyObject *future_running(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    int status = atoll_future_status(cast(op));
    return status < 0 ? NULL : PyBool_FromLong(status == RUNNING);
}

static PyObject *future_cancelled(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    int status = atoll_future_status(cast(op));
    return status < 0 ? NULL : PyBool_FromLong(status == CANCELLED || status == NOTIFIED);
}

/* ---- the type ---- */

static PyMethodDef future_methods[] = {
    {"result", (PyCFunction)(void (*)(void))future_result, METH_FASTCALL | METH_KEYWORDS, result_doc},
    {"exception", (PyCFunction)(void (*)(void))future_exception, METH_FASTCALL | METH_KEYWORDS,
     exception_doc},
    {"cancel", future_cancel, METH_NOARGS, cancel_doc},
    {"interrupt", future_interrupt, METH_NOARGS, interrupt_doc},
    {"done", future_done, METH_NOARGS,
     "done($self, /)\n--\n\nReturn whether the call has ended or was cancelled."},
    {"running", future_running, METH_NOARGS, "running($self, /)\n--\n\nReturn whether the call is running."},
    {"cancelled", future_cancelled, METH_NOARGS,
     "cancelled($self, /)\n--\n\nReturn whether the call was cancelled."},
    {"_outcome", future_outcome, METH_O, NULL},
    {"__reduce__", atoll_unpicklable, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

/* ---- life ---- */

static PyObject *allocate(atoll_pypool *pool) {
    atoll_state *state = atoll_pypool_state(pool);
    PyTypeObject *type = state != NULL ? (PyTypeObject *)atoll_pypool_name_get(state, ATOLL_P_FUTURE) : NULL;
    PyObject *op = type != NULL ? type->tp_alloc(type, 0) : NULL;
    if (op != NULL) {
        cast(op)->pool = (atoll_pypool *)Py_NewRef((PyObject *)pool);
    }
    return op;
}

PyObject *atoll_future_new(atoll_pypool *pool, atoll_task *task) {
    PyObject *op = allocate(pool);
    if (op == NULL) {
        atoll_task_release(task);
        return NULL;
    }
    cast(op)->task = task;
    cast(op)->bytes = task->bytes;
    cast(op)->count = task->kind == ATOLL_CALL_ONE ? 1 : 0; /* of a chunk: known at its end */
    return op;
}

PyObject *atoll_future_failed(atoll_pypool *pool) {
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *op = allocate(pool);
    if (op == NULL) {
        Py_DECREF(exc);
        return NULL;
    }
    cast(op)->exception = exc;
    cast(op)->status = FINISHED;
    return op;
}

static int future_traverse(PyObject *op, visitproc visit, void *arg) {
    future_object *self = cast(op);
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->pool);
    Py_VISIT(self->result);
    Py_VISIT(self->exception);
    Py_VISIT(self->condition);
    Py_VISIT(self->waiters);
    Py_VISIT(self->parts);
    Py_VISIT(self->callbacks);
    return 0;
}

static int future_clear(PyObject *op) {
    future_object *self = cast(op);
    Py_CLEAR(self->result);
    Py_CLEAR(self->exception);
    Py_CLEAR(self->waiters);
    Py_CLEAR(self->parts);
    Py_CLEAR(self->callbacks);
    return 0;
}

static void future_dealloc(PyObject *op) {
    future_object *self = cast(op);
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    (void)future_clear(op);
    Py_CLEAR(self->condition);
    Py_CLEAR(self->pool);
    if (self->task != NULL) {
        atoll_task_release(self->task);
    }
    type->tp_free(op);
    Py_DECREF(type);
}

PyDoc_STRVAR(future_doc, "The base of atoll.futures.Future.");

/* Its attributes are given by who adds the type. */
static PyType_Slot future_slots[] = {
    {Py_tp_doc, (void *)future_doc},
    {Py_tp_dealloc, future_dealloc},
    {Py_tp_traverse, future_traverse},
    {Py_tp_clear, future_clear},
    {Py_tp_methods, future_methods},
    {Py_tp_getset, NULL},
    {0, NULL},
};

static PyType_Spec future_spec = {
    .name = "atoll._atoll._Future",
    .basicsize = sizeof(future_object),
    .flags =
        Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = future_slots,
};

int atoll_future_add(PyObject *module, PyGetSetDef *attributes) {
    for (PyType_Slot *slot = future_slots; slot->slot != 0; slot++) {
        slot->pfunc = slot->slot == Py_tp_getset ? (void *)attributes : slot->pfunc;
    }
    PyObject *type = PyType_FromModuleAndSpec(module, &future_spec, NULL);
    int rc = type != NULL ? PyModule_AddObjectRef(module, "_Future", type) : -1;
    Py_XDECREF(type);
    return rc;
}
