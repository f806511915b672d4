/* Barrier: threading's, for threads of all interpreters.
 *
 * The party that comes last calls the action, in its own interpreter, before all go on.  So the action crosses with the barrier: it
 * is encoded when the barrier is first sent, and every interpreter that receives it decodes it once.  The default timeout is an
 * object's; it crosses as a number.
 *
 * A party that is interrupted for good (Ctrl-C, a time limit, the end of its interpreter) breaks the barrier: the others would wait
 * for it for ever.
 */
#include "module/sync.h"

#include "py/interp/interp.h"

#include <math.h>

typedef struct {
    atoll_pysync sync;
    PyObject *action;  /* NULL: none */
    PyObject *timeout; /* None, or a number */
} barrier_object;

/* Whose action this thread is encoding. */
typedef struct encoding {
    const PyObject *barrier;
    const struct encoding *outer;
} encoding;

static PyObject *barrier_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"parties", "action", "timeout", NULL};
    PyObject *number;
    int64_t parties;
    PyObject *action = Py_None;
    PyObject *timeout = Py_None;
    double deadline;
    atoll_state *state = PyType_GetModuleState(type);
    if (state == NULL ||
        !PyArg_ParseTupleAndKeywords(args, kwargs, "O|OO:Barrier", keywords, &number, &action, &timeout) ||
        atoll_argument_int(number, "parties", &parties) < 0 ||
        atoll_pysync_deadline(timeout, &deadline) < 0) {
        return NULL;
    }
    if (parties < 1) {
        PyErr_Format(PyExc_ValueError, "parties must be >= 1, got %R", number);
        return NULL;
    }
    if (action != Py_None && !PyCallable_Check(action)) {
        PyErr_Format(PyExc_TypeError, "action must be callable or None, not %.200s",
                     Py_TYPE(action)->tp_name);
        return NULL;
    }
    PyObject *self = atoll_pysync_new(state, atoll_sync_new(ATOLL_SYNC_BARRIER, parties));
    if (self != NULL) {
        barrier_object *object = (barrier_object *)self;
        object->action = action != Py_None ? Py_NewRef(action) : NULL;
        object->timeout = Py_NewRef(timeout);
    }
    return self;
}

static int barrier_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(((barrier_object *)self)->action);
    Py_VISIT(((barrier_object *)self)->timeout);
    return atoll_thing_traverse(self, visit, arg);
}

static int barrier_clear(PyObject *self) {
    Py_CLEAR(((barrier_object *)self)->action);
    Py_CLEAR(((barrier_object *)self)->timeout);
    return 0;
}

static void barrier_dealloc(PyObject *self) {
    PyObject *action = ((barrier_object *)self)->action;
    PyObject *timeout = ((barrier_object *)self)->timeout;
    atoll_thing_dealloc(self);
    Py_XDECREF(action); /* runs others' code, which finds this object no more */
    Py_XDECREF(timeout);
}

/* ---- crossing ---- */

static _Thread_local __attribute__((tls_model("initial-exec"))) const encoding *encodings;

static bool is_encoding(const PyObject *barrier) {
    const encoding *e = encodings;
    while (e != NULL && e->barrier != barrier) {
        e = e->outer;
    }
    return e != NULL;
}

/* Encodes the action, unless that was done: 0, or -1 with an exception. */
static int encode_action(atoll_encoder *enc, PyObject *self) {
    barrier_object *object = (barrier_object *)self;
    atoll_message *action = atoll_sync_barrier_action(atoll_pysync_of(self));
    if (object->action == NULL || action->body.len != 0) {
        return 0;
    }
    if (is_encoding(self)) {
        return atoll_encoder_refuse(enc,
                                    "a Barrier whose action refers to the Barrier itself is not shareable");
    }
    atoll_message msg = {0};
    const encoding own = {self, encodings};
    encodings = &own;
    int rc = atoll_encode_whole(((atoll_thing *)self)->state->codec, &msg, object->action, "action");
    if (rc == 0) {
        rc = atoll_export_keep_bytes(&msg);
    }
    encodings = own.outer;
    if (rc == 0 && action->body.len == 0) { /* else another thread of this interpreter was faster */
        *action = msg;
    } else {
        atoll_message_clear(&msg);
    }
    return rc;
}

int atoll_pybarrier_encode(atoll_encoder *enc, PyObject *self) {
    PyObject *timeout = ((barrier_object *)self)->timeout;
    double seconds = timeout != NULL && timeout != Py_None ? PyFloat_AsDouble(timeout) : INFINITY;
    if ((seconds == -1.0 && PyErr_Occurred()) || encode_action(enc, self) < 0) {
        return -1;
    }
    uint64_t bits;
    memcpy(&bits, &seconds, sizeof bits);
    atoll_put_u64(&atoll_encoder_message(enc)->body, bits);
    return 0;
}

int atoll_pybarrier_decode(atoll_reader *rd, PyObject *self) {
    barrier_object *object = (barrier_object *)self;
    uint64_t bits = atoll_get_u64(rd);
    double seconds;
    memcpy(&seconds, &bits, sizeof seconds);
    if (object->timeout == NULL) {
        object->timeout = isfinite(seconds) ? PyFloat_FromDouble(seconds) : Py_NewRef(Py_None);
    }
    return object->timeout != NULL ? 0 : -1;
}

/* What the last party calls: a new reference, NULL without an exception when there is nothing to do. */
static PyObject *action_of(PyObject *self) {
    barrier_object *object = (barrier_object *)self;
    const atoll_message *action = atoll_sync_barrier_action(atoll_pysync_of(self));
    if (object->action == NULL && action->body.len != 0) {
        PyObject *decoded = atoll_decode(((atoll_thing *)self)->state->codec, action);
        if (decoded == NULL) {
            return NULL;
        }
        if (object->action == NULL) {
            object->action = decoded;
        } else { /* another thread was faster */
            Py_DECREF(decoded);
        }
    }
    return Py_XNewRef(object->action);
}

/* ---- waiting ---- */

static PyObject *raise_broken(void) {
    PyObject *threading = PyImport_ImportModule("threading");
    PyObject *type = threading != NULL ? PyObject_GetAttrString(threading, "BrokenBarrierError") : NULL;
    if (type != NULL) {
        PyErr_SetString(type, "the barrier is broken: a party gave up, or it was reset or aborted");
    }
    Py_XDECREF(type);
    Py_XDECREF(threading);
    return NULL;
}

/* Waits for the others: what became of it, or SIGNAL with an exception, and the barrier is broken. */
static atoll_sync_result wait_for_others(PyObject *self, atoll_sync_wait *wait, double deadline, bool acts) {
    atoll_sync *barrier = atoll_pysync_of(self);
    atoll_blocking b;
    /* A barrier with room for more waits on a waiter that must be this thread's from the beginning. */
    atoll_blocking_begin(&b, ((atoll_thing *)self)->state, deadline, ATOLL_WAITS_BARRIER, 0);
    atoll_sync_result result = atoll_sync_barrier_arrive(barrier, wait, &b.waiter, acts);
    while (result == ATOLL_SYNC_AGAIN) {
        result = atoll_sync_barrier_sleep(barrier, wait, &b.waiter, b.deadline);
        if (result == ATOLL_SYNC_AGAIN) {
            result = atoll_sync_barrier_arrive(barrier, wait, &b.waiter, acts);
        } else if (result == ATOLL_SYNC_TIMEOUT) {
            result = atoll_sync_barrier_leave(barrier, wait);
        } else if (result == ATOLL_SYNC_SIGNAL) {
            if (atoll_blocking_interrupted(&b) < 0) {
                (void)atoll_sync_barrier_leave(barrier, wait);
                return ATOLL_SYNC_SIGNAL;
            }
            result = atoll_sync_barrier_stay(barrier, wait, &b.waiter, acts);
        }
    }
    atoll_blocking_end(&b);
    return result;
}

PyDoc_STRVAR(wait_doc,
             "wait($self, timeout=None)\n--\n\n"
             "Wait until all parties have called this; return how many came before, 0 to parties - 1.\n\n"
             "timeout is in seconds, within which all have to come; None is the barrier's own. Raises "
             "threading.BrokenBarrierError when\n"
             "a party has given up (a timeout, an interrupt, the end of its interpreter), or the barrier is\n"
             "reset or aborted.");

static PyObject *barrier_wait(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    barrier_object *object = (barrier_object *)self;
    PyObject *timeout;
    double deadline;
    if (atoll_pysync_state(self) == NULL ||
        atoll_pysync_argument("wait", "timeout", args, nargs, kwnames, &timeout) < 0) {
        return NULL;
    }
    if ((timeout == NULL || timeout == Py_None) && object->timeout != NULL) {
        timeout = object->timeout;
    }
    PyObject *action = NULL;
    if (atoll_pysync_deadline(timeout, &deadline) < 0 ||
        ((action = action_of(self)) == NULL && PyErr_Occurred())) {
        return NULL;
    }
    atoll_sync *barrier = atoll_pysync_of(self);
    atoll_sync_wait wait = {.who = atoll_pysync_who(self)};
    atoll_sync_result result =
        wait_for_others(self, &wait, deadline == ATOLL_NO_WAIT ? 0 : deadline, action != NULL);
    if (result == ATOLL_SYNC_LAST) {
        PyObject *done = PyObject_CallNoArgs(action);
        if (done == NULL) {
            (void)atoll_sync_barrier_leave(barrier, &wait);
            Py_DECREF(action);
            return NULL;
        }
        Py_DECREF(done);
        result = atoll_sync_barrier_pass(barrier, &wait);
    }
    Py_XDECREF(action);
    return result == ATOLL_SYNC_OK       ? PyLong_FromLongLong(wait.index)
           : result == ATOLL_SYNC_SIGNAL ? NULL
                                         : raise_broken();
}

static PyObject *barrier_reset(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    if (atoll_pysync_state(self) == NULL) {
        return NULL;
    }
    atoll_sync_barrier_reset(atoll_pysync_of(self));
    Py_RETURN_NONE;
}

static PyObject *barrier_abort(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    if (atoll_pysync_state(self) == NULL) {
        return NULL;
    }
    atoll_sync_barrier_abort(atoll_pysync_of(self));
    Py_RETURN_NONE;
}

static PyObject *get_parties(PyObject *self, void *Py_UNUSED(closure)) {
    return atoll_pysync_state(self) != NULL ? PyLong_FromLongLong(atoll_sync_limit(atoll_pysync_of(self)))
                                            : NULL;
}

static PyObject *get_n_waiting(PyObject *self, void *Py_UNUSED(closure)) {
    return atoll_pysync_state(self) != NULL
               ? PyLong_FromLongLong(atoll_sync_barrier_waiting(atoll_pysync_of(self)))
               : NULL;
}

static PyObject *get_broken(PyObject *self, void *Py_UNUSED(closure)) {
    return atoll_pysync_state(self) != NULL
               ? PyBool_FromLong(atoll_sync_barrier_is_broken(atoll_pysync_of(self)))
               : NULL;
}

static PyObject *barrier_repr(PyObject *self) {
    if (((atoll_thing *)self)->state == NULL) {
        return PyUnicode_FromFormat("<atoll.Barrier at %p>", self);
    }
    const atoll_sync *barrier = atoll_pysync_of(self);
    return atoll_sync_barrier_is_broken(barrier)
               ? PyUnicode_FromFormat("<atoll.Barrier at %p: broken>", self)
               : PyUnicode_FromFormat("<atoll.Barrier at %p: waiters=%lld/%lld>", self,
                                      (long long)atoll_sync_barrier_waiting(barrier),
                                      (long long)atoll_sync_limit(barrier));
}

/* ---- the type ---- */

static PyMethodDef barrier_methods[] = {
    {"wait", (PyCFunction)(void (*)(void))barrier_wait, METH_FASTCALL | METH_KEYWORDS, wait_doc},
    {"reset", barrier_reset, METH_NOARGS,
     "reset($self, /)\n--\n\nMake the barrier empty and whole; threads that wait raise BrokenBarrierError."},
    {"abort", barrier_abort, METH_NOARGS,
     "abort($self, /)\n--\n\nBreak the barrier: wait() raises BrokenBarrierError, now and until reset()."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef barrier_getset[] = {
    {"parties", get_parties, NULL, "How many threads have to come.", NULL},
    {"n_waiting", get_n_waiting, NULL, "How many have come.", NULL},
    {"broken", get_broken, NULL, "Whether the barrier is broken.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(barrier_doc,
             "Barrier(parties, action=None, timeout=None)\n--\n\n"
             "A barrier for threads of all interpreters: threading.Barrier's methods.\n\n"
             "It can be sent to other interpreters, and is the same barrier there. action is called, in the\n"
             "interpreter of the party that comes last, before all go on; it crosses as a function does.");

static PyType_Slot barrier_slots[] = {
    {Py_tp_doc, (void *)barrier_doc},     {Py_tp_new, barrier_new},
    {Py_tp_dealloc, barrier_dealloc},     {Py_tp_traverse, barrier_traverse},
    {Py_tp_clear, barrier_clear},         {Py_tp_repr, barrier_repr},
    {Py_tp_methods, barrier_methods},     {Py_tp_getset, barrier_getset},
    {Py_tp_members, atoll_thing_members}, {0, NULL},
};

PyType_Spec atoll_pybarrier_spec = {
    .name = "atoll.Barrier",
    .basicsize = sizeof(barrier_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = barrier_slots,
};
