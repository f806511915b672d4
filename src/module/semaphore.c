/* Semaphore and BoundedSemaphore: threading's, for threads of all interpreters.  As there, nobody owns what was acquired: any thread
 * may release, and what a closed interpreter has not released stays acquired. */
#include "module/sync.h"

#include <math.h>

static PyObject *new_semaphore(PyTypeObject *type, PyObject *args, PyObject *kwargs, atoll_sync_kind kind) {
    static char *keywords[] = {"value", NULL};
    PyObject *value = NULL;
    int64_t number = 1;
    atoll_state *state = PyType_GetModuleState(type);
    if (state == NULL ||
        !PyArg_ParseTupleAndKeywords(args, kwargs,
                                     kind == ATOLL_SYNC_SEMAPHORE ? "|O:Semaphore" : "|O:BoundedSemaphore",
                                     keywords, &value) ||
        (value != NULL && atoll_argument_int(value, "value", &number) < 0)) {
        return NULL;
    }
    if (number < 0) {
        PyErr_Format(PyExc_ValueError, "semaphore initial value must be >= 0, got %R", value);
        return NULL;
    }
    return atoll_pysync_new(state, atoll_sync_new(kind, number));
}

static PyObject *semaphore_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    return new_semaphore(type, args, kwargs, ATOLL_SYNC_SEMAPHORE);
}

static PyObject *bounded_semaphore_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    return new_semaphore(type, args, kwargs, ATOLL_SYNC_BOUNDED_SEMAPHORE);
}

PyDoc_STRVAR(acquire_doc,
             "acquire($self, blocking=True, timeout=None)\n--\n\n"
             "Take one from the semaphore's value; wait while it is 0. Return whether it was taken.\n\n"
             "timeout is in seconds, None for ever. With blocking=False it does not wait.");

static PyObject *semaphore_acquire(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                   PyObject *kwnames) {
    double deadline = INFINITY;
    if (nargs != 0 || kwnames != NULL) {
        static const char *const keywords[] = {"blocking", "timeout"};
        PyObject *values[2] = {0};
        if (atoll_parse("acquire", keywords, 2, 2, 0, args, nargs, kwnames, values) < 0) {
            return NULL;
        }
        int blocking = values[0] != NULL ? PyObject_IsTrue(values[0]) : 1;
        if (blocking < 0 || atoll_pysync_deadline(values[1], &deadline) < 0) {
            return NULL;
        }
        if (!blocking && values[1] != NULL && values[1] != Py_None) {
            PyErr_SetString(PyExc_ValueError, "can't specify timeout for non-blocking acquire");
            return NULL;
        }
        deadline = blocking ? deadline : ATOLL_NO_WAIT;
    }
    int taken = atoll_pysync_take(self, deadline);
    return taken < 0 ? NULL : PyBool_FromLong(taken);
}

static PyObject *semaphore_enter(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return semaphore_acquire(self, NULL, 0, NULL);
}

PyDoc_STRVAR(release_doc,
             "release($self, n=1)\n--\n\n"
             "Add n to the semaphore's value, and wake as many of the threads that wait.\n\n"
             "Raises ValueError when n is below 1, or the value of a BoundedSemaphore would be above the\n"
             "one it began with.");

static PyObject *semaphore_release(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                   PyObject *kwnames) {
    PyObject *count;
    int64_t n = 1;
    if (atoll_pysync_state(self) == NULL ||
        atoll_pysync_argument("release", "n", args, nargs, kwnames, &count) < 0 ||
        (count != NULL && atoll_argument_int(count, "n", &n) < 0)) {
        return NULL;
    }
    if (n < 1) {
        PyErr_Format(PyExc_ValueError, "n must be one or more, got %R", count);
        return NULL;
    }
    atoll_sync *semaphore = atoll_pysync_of(self);
    if (atoll_sync_semaphore_give(semaphore, n) != ATOLL_SYNC_OK) {
        PyErr_SetString(atoll_sync_kind_of(semaphore) == ATOLL_SYNC_SEMAPHORE ? PyExc_OverflowError
                                                                              : PyExc_ValueError,
                        "Semaphore released too many times");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *semaphore_exit(PyObject *self, PyObject *const *Py_UNUSED(args),
                                Py_ssize_t Py_UNUSED(nargs)) {
    return semaphore_release(self, NULL, 0, NULL);
}

static PyObject *semaphore_repr(PyObject *self) {
    const char *name = Py_TYPE(self)->tp_name;
    if (((atoll_thing *)self)->state == NULL) {
        return PyUnicode_FromFormat("<%s at %p>", name, self);
    }
    const atoll_sync *semaphore = atoll_pysync_of(self);
    long long value = atoll_sync_semaphore_value(semaphore);
    return atoll_sync_kind_of(semaphore) == ATOLL_SYNC_SEMAPHORE
               ? PyUnicode_FromFormat("<%s at %p: value=%lld>", name, self, value)
               : PyUnicode_FromFormat("<%s at %p: value=%lld/%lld>", name, self, value,
                                      (long long)atoll_sync_limit(semaphore));
}

static PyMethodDef semaphore_methods[] = {
    {"acquire", (PyCFunction)(void (*)(void))semaphore_acquire, METH_FASTCALL | METH_KEYWORDS, acquire_doc},
    {"release", (PyCFunction)(void (*)(void))semaphore_release, METH_FASTCALL | METH_KEYWORDS, release_doc},
    {"__enter__", semaphore_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))semaphore_exit, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(semaphore_doc,
             "Semaphore(value=1)\n--\n\n"
             "A semaphore for threads of all interpreters: threading.Semaphore's methods.\n\n"
             "It can be sent to other interpreters, and is the same semaphore there. A thread that\n"
             "has waited for a millisecond gets the next unit before others.");

PyDoc_STRVAR(bounded_semaphore_doc, "BoundedSemaphore(value=1)\n--\n\n"
                                    "A Semaphore whose value never exceeds the one it began with.");

#define SLOTS(doc, new)                                                                                      \
    {                                                                                                        \
        {Py_tp_doc, (void *)(doc)},           {Py_tp_new, (new)},                                            \
        {Py_tp_dealloc, atoll_thing_dealloc}, {Py_tp_traverse, atoll_thing_traverse},                        \
        {Py_tp_repr, semaphore_repr},         {Py_tp_methods, semaphore_methods},                            \
        {Py_tp_members, atoll_thing_members}, {0, NULL},                                                     \
    }

static PyType_Slot semaphore_slots[] = SLOTS(semaphore_doc, semaphore_new);
static PyType_Slot bounded_semaphore_slots[] = SLOTS(bounded_semaphore_doc, bounded_semaphore_new);

PyType_Spec atoll_pysemaphore_spec = {
    .name = "atoll.Semaphore",
    .basicsize = sizeof(atoll_pysync),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = semaphore_slots,
};

PyType_Spec atoll_pysemaphore_bounded_spec = {
    .name = "atoll.BoundedSemaphore",
    .basicsize = sizeof(atoll_pysync),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = bounded_semaphore_slots,
};
