/* AtomicInt: a number of 64 bits that threads of all interpreters change, each change at once.
 *
 * Arithmetic that would leave 64 bits changes nothing and raises OverflowError: Python's numbers never wrap.  Two AtomicInts are equal
 * when they are the same number, as locks are; what they hold is compared by load().
 */
#include "module/sync.h"

static PyObject *number_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *keywords[] = {"value", NULL};
    PyObject *value = NULL;
    int64_t number = 0;
    atoll_state *state = PyType_GetModuleState(type);
    if (state == NULL || !PyArg_ParseTupleAndKeywords(args, kwargs, "|O:AtomicInt", keywords, &value) ||
        (value != NULL && atoll_argument_int(value, "value", &number) < 0)) {
        return NULL;
    }
    return atoll_pysync_new(state, atoll_sync_new(ATOLL_SYNC_ATOMIC, number));
}

/* ---- reading and writing ---- */

static PyObject *number_load_value(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return atoll_pysync_state(self) != NULL
               ? PyLong_FromLongLong(atoll_sync_atomic_load(atoll_pysync_of(self)))
               : NULL;
}

static PyObject *number_int(PyObject *self) { return number_load_value(self, NULL); }

static int number_bool(PyObject *self) {
    return atoll_pysync_state(self) != NULL ? atoll_sync_atomic_load(atoll_pysync_of(self)) != 0 : -1;
}

static PyObject *number_store_value(PyObject *self, PyObject *value) {
    int64_t number;
    if (atoll_pysync_state(self) == NULL || atoll_argument_int(value, "value", &number) < 0) {
        return NULL;
    }
    (void)atoll_sync_atomic_exchange(atoll_pysync_of(self), number);
    Py_RETURN_NONE;
}

static PyObject *number_exchange_value(PyObject *self, PyObject *value) {
    int64_t number;
    if (atoll_pysync_state(self) == NULL || atoll_argument_int(value, "value", &number) < 0) {
        return NULL;
    }
    return PyLong_FromLongLong(atoll_sync_atomic_exchange(atoll_pysync_of(self), number));
}

static PyObject *number_compare_exchange(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                         PyObject *kwnames) {
    static const char *const keywords[] = {"expected", "value"};
    PyObject *values[2] = {0};
    int64_t expected;
    int64_t number;
    if (atoll_pysync_state(self) == NULL ||
        atoll_parse("compare_exchange", keywords, 2, 2, 2, args, nargs, kwnames, values) < 0 ||
        atoll_argument_int(values[0], "expected", &expected) < 0 ||
        atoll_argument_int(values[1], "value", &number) < 0) {
        return NULL;
    }
    return PyBool_FromLong(atoll_sync_atomic_compare(atoll_pysync_of(self), expected, number));
}

/* ---- arithmetic ---- */

/* Changes by more than fits into 64 bits with a sign, where the value has as much room. */
static bool change_far(atoll_sync *atomic, uint64_t size, bool down, int64_t *before, int64_t *after) {
    do {
        *before = atoll_sync_atomic_load(atomic);
        uint64_t room =
            down ? (uint64_t)*before - (uint64_t)INT64_MIN : (uint64_t)INT64_MAX - (uint64_t)*before;
        if (size > room) {
            return false;
        }
        *after = (int64_t)(down ? (uint64_t)*before - size : (uint64_t)*before + size);
    } while (!atoll_sync_atomic_compare(atomic, *before, *after));
    return true;
}

/* How far a number is from 0: 1; 0, more than can be; or -1 with an exception. */
static int size_of(PyObject *value, uint64_t *size) {
    PyObject *number = PyNumber_Index(value);
    PyObject *absolute = number != NULL ? PyNumber_Absolute(number) : NULL;
    Py_XDECREF(number);
    if (absolute == NULL) {
        return -1;
    }
    *size = PyLong_AsUnsignedLongLong(absolute);
    Py_DECREF(absolute);
    if (!PyErr_Occurred()) {
        return 1;
    }
    if (!PyErr_ExceptionMatches(PyExc_OverflowError)) {
        return -1;
    }
    PyErr_Clear();
    return 0;
}

/* Adds sign times the number (NULL: 1): 0, or -1 with an exception.  The value before, and after. */
static inline int change(PyObject *self, PyObject *value, int sign, int64_t *before, int64_t *after) {
    int overflow = 0;
    long long n = value != NULL ? PyLong_AsLongLongAndOverflow(value, &overflow) : 1;
    if (n == -1 && overflow == 0 && PyErr_Occurred()) {
        atoll_argument_not_int(value, "n");
        return -1;
    }
    if (((atoll_thing *)self)->state == NULL && atoll_pysync_state(self) == NULL) {
        return -1;
    }
    atoll_sync *atomic = atoll_pysync_of(self);
    bool done;
    if (overflow != 0 || n == INT64_MIN) {
        uint64_t size;
        int known = size_of(value, &size);
        if (known < 0) {
            return -1;
        }
        bool down = (overflow < 0 || n == INT64_MIN) != (sign < 0);
        done = known > 0 && change_far(atomic, size, down, before, after);
    } else {
        done = atoll_sync_atomic_add(atomic, sign * n, before);
        *after = done ? *before + sign * n : 0;
    }
    if (!done) {
        PyErr_SetString(PyExc_OverflowError,
                        "the value of an AtomicInt must fit into 64 bits; it is unchanged");
        return -1;
    }
    return 0;
}

#define CHANGES(method, sign, result)                                                                        \
    static PyObject *number_##method(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {              \
        int64_t before;                                                                                      \
        int64_t after;                                                                                       \
        if (nargs > 1) {                                                                                     \
            PyErr_Format(PyExc_TypeError, #method "() takes at most 1 argument (%zd given)", nargs);         \
            return NULL;                                                                                     \
        }                                                                                                    \
        return change(self, nargs == 1 ? args[0] : NULL, sign, &before, &after) < 0                          \
                   ? NULL                                                                                    \
                   : PyLong_FromLongLong(result);                                                            \
    }

CHANGES(add, 1, after)
CHANGES(sub, -1, after)
CHANGES(fetch_add, 1, before)
CHANGES(fetch_sub, -1, before)

static PyObject *in_place(PyObject *self, PyObject *value, int sign) {
    int64_t before;
    int64_t after;
    if (!PyIndex_Check(value)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    return change(self, value, sign, &before, &after) < 0 ? NULL : Py_NewRef(self);
}

static PyObject *number_iadd(PyObject *self, PyObject *value) { return in_place(self, value, 1); }
static PyObject *number_isub(PyObject *self, PyObject *value) { return in_place(self, value, -1); }

/* ---- waiting ---- */

PyDoc_STRVAR(
    wait_doc,
    "wait($self, expected, timeout=None)\n--\n\n"
    "Wait until the value is not expected any more, or for timeout seconds.\n\n"
    "Returns False on a timeout. A value that changes and changes back at once counts as a change, but\n"
    "not while a signal handler runs in the thread that waits.");

static PyObject *number_wait(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    static const char *const keywords[] = {"expected", "timeout"};
    PyObject *values[2] = {0};
    int64_t expected;
    double deadline;
    if (atoll_pysync_state(self) == NULL ||
        atoll_parse("wait", keywords, 2, 2, 1, args, nargs, kwnames, values) < 0 ||
        atoll_argument_int(values[0], "expected", &expected) < 0 ||
        atoll_pysync_deadline(values[1], &deadline) < 0) {
        return NULL;
    }
    int changed = atoll_sync_atomic_load(atoll_pysync_of(self)) != expected;
    if (!changed && deadline != ATOLL_NO_WAIT) {
        changed = atoll_pysync_wait(self, expected, deadline, atoll_sync_atomic_await);
    }
    return changed < 0 ? NULL : PyBool_FromLong(changed);
}

static PyObject *number_repr(PyObject *self) {
    return ((atoll_thing *)self)->state != NULL
               ? PyUnicode_FromFormat("AtomicInt(%lld)",
                                      (long long)atoll_sync_atomic_load(atoll_pysync_of(self)))
               : PyUnicode_FromString("AtomicInt(?)");
}

/* ---- the type ---- */

#define FAST(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef number_methods[] = {
    {"load", number_load_value, METH_NOARGS, "load($self, /)\n--\n\nReturn the value."},
    {"store", number_store_value, METH_O, "store($self, value, /)\n--\n\nSet the value."},
    {"exchange", number_exchange_value, METH_O,
     "exchange($self, value, /)\n--\n\nSet the value, and return the one before."},
    {"compare_exchange", FAST(number_compare_exchange), METH_FASTCALL | METH_KEYWORDS,
     "compare_exchange($self, expected, value)\n--\n\n"
     "Set the value if it is expected; return whether it was."},
    {"add", FAST(number_add), METH_FASTCALL, "add($self, n=1, /)\n--\n\nAdd n, and return the new value."},
    {"sub", FAST(number_sub), METH_FASTCALL,
     "sub($self, n=1, /)\n--\n\nSubtract n, and return the new value."},
    {"fetch_add", FAST(number_fetch_add), METH_FASTCALL,
     "fetch_add($self, n=1, /)\n--\n\nAdd n, and return the value before."},
    {"fetch_sub", FAST(number_fetch_sub), METH_FASTCALL,
     "fetch_sub($self, n=1, /)\n--\n\nSubtract n, and return the value before."},
    {"wait", FAST(number_wait), METH_FASTCALL | METH_KEYWORDS, wait_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(number_doc,
             "AtomicInt(value=0)\n--\n\n"
             "An integer of 64 bits that threads of all interpreters change, each change at once.\n\n"
             "It can be sent to other interpreters, and is the same number there. += and -= change it in\n"
             "place. Raises OverflowError, and changes nothing, where a value would leave 64 bits.");

static PyType_Slot number_slots[] = {
    {Py_tp_doc, (void *)number_doc},
    {Py_tp_new, number_new},
    {Py_tp_dealloc, atoll_thing_dealloc},
    {Py_tp_traverse, atoll_thing_traverse},
    {Py_tp_repr, number_repr},
    {Py_tp_methods, number_methods},
    {Py_tp_members, atoll_thing_members},
    {Py_nb_int, number_int},
    {Py_nb_index, number_int},
    {Py_nb_bool, number_bool},
    {Py_nb_inplace_add, number_iadd},
    {Py_nb_inplace_subtract, number_isub},
    {0, NULL},
};

PyType_Spec atoll_pyatomic_spec = {
    .name = "atoll.AtomicInt",
    .basicsize = sizeof(atoll_pysync),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = number_slots,
};
