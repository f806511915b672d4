/* Interrupting what runs in an interpreter, and time limits for calls into it: what Python has of py/interp/interrupt.h.
 *
 * A timeout object has its time limit only inside of its block.  The limit belongs to the thread that has entered the block, which frees it
 * where another thread ends the block; the object refers to it only until then.
 */
#include "module/control.h"

#include <math.h>
#include <stdlib.h>

atoll_entry *atoll_pycontrol_entry(atoll_state *state, PyObject *self, const char *what) {
    atoll_interpreter *object = (atoll_interpreter *)self;
    if (object->entry != NULL && object->entry->owned) {
        return object->entry;
    }
    long whence;
    int exists = atoll_interp_exists(state, object->id, &whence);
    if (exists == 0) {
        atoll_raise_not_found(state, object->id);
    } else if (exists > 0) {
        atoll_raise_unrecognized(state, what, object->id);
    }
    return NULL;
}

static int know_main(atoll_state *state, atoll_interpreter *object) {
    atoll_entry *entry = atoll_interp_know_main(state) == 0 ? atoll_registry_find(object->id) : NULL;
    if (entry == NULL) {
        if (!PyErr_Occurred()) {
            atoll_raise_not_found(state, object->id);
        }
        return -1;
    }
    if (object->entry == NULL) { /* that ran Python */
        object->entry = entry;
        atoll_entry_add_user(entry);
    }
    atoll_entry_release(entry);
    return 0;
}

atoll_entry *atoll_pycontrol_called(atoll_state *state, PyObject *self, const char *what) {
    atoll_interpreter *object = (atoll_interpreter *)self;
    if (object->entry != NULL && atomic_load(&object->entry->adopted)) {
        return object->entry;
    }
    bool is_own = object->entry != NULL && object->entry->owned;
    if (is_own || object->id != PyInterpreterState_GetID(PyInterpreterState_Main())) {
        return atoll_pycontrol_entry(state, self, what);
    }
    return object->entry == NULL && know_main(state, object) < 0 ? NULL : object->entry;
}

/* The entry of an interpreter that is not closed, and whose runs Atoll knows; NULL with an exception. */
static atoll_entry *entry_of(atoll_state *state, atoll_interpreter *object, const char *what) {
    atoll_entry *entry = atoll_pycontrol_called(state, (PyObject *)object, what);
    if (entry != NULL && !atoll_entry_is_being_closed(entry)) {
        atoll_raise_not_found(state, object->id);
        return NULL;
    }
    return entry;
}

const char atoll_pycontrol_interrupt_doc[] = PyDoc_STR(
    "interrupt($self, /, exc=None)\n--\n\n"
    "Raise exc in every call that runs in the interpreter at this moment; return whether there is one.\n\n"
    "From any thread of any interpreter, and also from inside. What is hit are calls: call(), exec(),\n"
    "prepare_main(), what was submitted and the tasks of pools, also while they wait; threads that code\n"
    "in the interpreter has started are not, nor is the program itself in the main interpreter. A call\n"
    "that is hit raises exc once, where it is, or when it ends, and again where CPython drops what is\n"
    "raised (in destructors, say); no call that begins later does. A call\n"
    "that has not raised yet is not hit a second time. It comes out of loops, waits of Atoll's and,\n"
    "where the processor is an x86-64, system calls.\n"
    "exc is an exception class or an exception, which must be able to cross; None: KeyboardInterrupt.\n"
    "Raises TypeError for what is none, NotShareableError, InterpreterNotFoundError when the\n"
    "interpreter is closed, InterpreterError when it was not made by Atoll.");

PyObject *atoll_pycontrol_interrupt(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                                    PyObject *kwnames) {
    static const char *const keywords[] = {"exc"};
    atoll_state *state = atoll_state_live(((atoll_interpreter *)self)->state);
    PyObject *exc = NULL;
    if (state == NULL || atoll_parse("interrupt", keywords, 1, 1, 0, args, nargs, kwnames, &exc) < 0) {
        return NULL;
    }
    atoll_entry *entry = entry_of(state, (atoll_interpreter *)self, "interrupt");
    atoll_interruption *interruption =
        entry != NULL
            ? atoll_interruption_new(state, exc != NULL && exc != Py_None ? exc : PyExc_KeyboardInterrupt)
            : NULL;
    if (interruption == NULL) {
        return NULL;
    }
    int count = atoll_interrupt_all(entry, interruption);
    atoll_interruption_release(interruption);
    return PyBool_FromLong(count != 0);
}

/* ---- timeout ---- */

typedef struct {
    PyObject_HEAD
    PyObject *interp;
    double seconds; /* INFINITY: no limit */
    bool entered;
    atoll_time_limit *limit; /* while it is entered, unless there is none */
} timeout_object;

PyDoc_STRVAR(
    timeout_doc,
    "timeout(interp, seconds, /)\n--\n\n"
    "A block in which calls of this thread into an interpreter must end before its time is over.\n\n"
    "with timeout(interp, seconds): what interp.call(), exec() and prepare_main() run then, seconds\n"
    "after the block was entered, is interrupted, again and again until it ends, and raises\n"
    "TimeoutError, whose cause says where it was; so does a call that begins later. Blocks may be\n"
    "nested. seconds may be None: no limit.\n"
    "Raises TypeError and ValueError for what is no number of seconds that is not negative,\n"
    "InterpreterError for an interpreter that Atoll may not call.");

static PyObject *timeout_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    atoll_state *state = atoll_state_live(PyType_GetModuleState(type));
    PyObject *interp;
    PyObject *seconds;
    if (state == NULL) {
        return NULL;
    }
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) != 0) {
        PyErr_SetString(PyExc_TypeError, "timeout() takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "OO:timeout", &interp, &seconds)) {
        return NULL;
    }
    if (!PyObject_TypeCheck(interp, state->interpreter_type)) {
        PyErr_Format(PyExc_TypeError, "interp must be an Interpreter, not %.200s", Py_TYPE(interp)->tp_name);
        return NULL;
    }
    double wanted;
    if (atoll_timeout(seconds, &wanted) < 0) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Format(PyExc_TypeError, "seconds must be a number of seconds or None, not %.200s",
                         Py_TYPE(seconds)->tp_name);
        }
        return NULL;
    }
    if (!(wanted >= 0)) {
        PyErr_Format(PyExc_ValueError, "seconds must be non-negative, got %R", seconds);
        return NULL;
    }
    timeout_object *self = (timeout_object *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->interp = Py_NewRef(interp);
        self->seconds = wanted;
    }
    return (PyObject *)self;
}

static PyObject *timeout_enter(PyObject *op, PyObject *Py_UNUSED(ignored)) {
    timeout_object *self = (timeout_object *)op;
    atoll_interpreter *interp = (atoll_interpreter *)self->interp;
    atoll_state *state = atoll_state_live(interp->state);
    atoll_entry *entry = state != NULL ? entry_of(state, interp, "limit calls in") : NULL;
    if (entry == NULL) {
        return NULL;
    }
    if (self->entered) {
        PyErr_SetString(PyExc_RuntimeError, "this timeout has been entered already");
        return NULL;
    }
    if (!isinf(self->seconds)) {
        self->limit = calloc(1, sizeof *self->limit);
        if (self->limit == NULL) {
            return PyErr_NoMemory();
        }
        self->limit->entry = entry;
        if (atoll_time_limit_begin(self->limit, self->seconds) < 0) {
            free(self->limit);
            self->limit = NULL;
            return NULL;
        }
        atoll_entry_retain(entry);
    }
    self->entered = true;
    return Py_NewRef(op);
}

static void leave(timeout_object *self) {
    if (self->limit != NULL) {
        atoll_time_limit_end(self->limit);
        self->limit = NULL;
    }
    self->entered = false;
}

static PyObject *timeout_exit(PyObject *op, PyObject *Py_UNUSED(args)) {
    leave((timeout_object *)op);
    Py_RETURN_NONE;
}

static int timeout_traverse(PyObject *op, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((timeout_object *)op)->interp);
    return 0;
}

static void timeout_dealloc(PyObject *op) {
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    leave((timeout_object *)op);
    Py_XDECREF(((timeout_object *)op)->interp);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMethodDef timeout_methods[] = {
    {"__enter__", timeout_enter, METH_NOARGS, NULL},
    {"__exit__", timeout_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot timeout_slots[] = {
    {Py_tp_doc, (void *)timeout_doc},   {Py_tp_new, timeout_new},         {Py_tp_dealloc, timeout_dealloc},
    {Py_tp_traverse, timeout_traverse}, {Py_tp_methods, timeout_methods}, {0, NULL},
};

static PyType_Spec timeout_spec = {
    .name = "atoll.timeout",
    .basicsize = sizeof(timeout_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = timeout_slots,
};

/* ---- limits ---- */

static bool is_given(PyObject *value) { return value != NULL && value != Py_None; }

static int read_bytes(const char *name, PyObject *value, uint64_t *bytes) {
    if (!PyLong_Check(value) || PyBool_Check(value)) {
        PyErr_Format(PyExc_TypeError, "%s must be an int, a number of bytes, or None, not %R", name, value);
        return -1;
    }
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow != 0 || number <= 0) {
        PyErr_Format(PyExc_ValueError, "%s must be a positive number of bytes below 2**63, not %R", name,
                     value);
        return -1;
    }
    *bytes = (uint64_t)number;
    return 0;
}

static int read_seconds(const char *name, PyObject *value, double *seconds) {
    bool is_number = PyNumber_Check(value) && !PyBool_Check(value);
    *seconds = is_number ? PyFloat_AsDouble(value) : 0;
    if (*seconds == -1 && PyErr_ExceptionMatches(PyExc_OverflowError)) {
        PyErr_Clear();
    } else if (*seconds == -1 && PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Clear();
        is_number = false;
    }
    if (PyErr_Occurred()) {
        return -1;
    }
    if (!is_number) {
        PyErr_Format(PyExc_TypeError, "%s must be a number of seconds or None, not %R", name, value);
        return -1;
    }
    if (!(*seconds > 0) || isinf(*seconds)) {
        PyErr_Format(PyExc_ValueError, "%s must be a positive, finite number of seconds, not %R", name,
                     value);
        return -1;
    }
    return 0;
}

int atoll_pycontrol_limits(PyObject *memory, PyObject *cpu, atoll_limits *limits) {
    *limits = (atoll_limits){0};
    if (is_given(memory) && read_bytes("memory_limit", memory, &limits->memory) < 0) {
        return -1;
    }
    if (!is_given(cpu)) {
        return 0;
    }
    return read_seconds("cpu_limit", cpu, &limits->cpu) < 0 ? -1 : atoll_interrupt_prepare();
}

int atoll_pycontrol_soft_limit(PyObject *soft, atoll_limits *limits, PyObject **callback) {
    static const char name[] = "soft_memory_limit";
    *callback = NULL;
    if (!is_given(soft)) {
        return 0;
    }
    if (PyTuple_Check(soft)) {
        if (PyTuple_GET_SIZE(soft) != 2 || !PyCallable_Check(PyTuple_GET_ITEM(soft, 1))) {
            PyErr_Format(PyExc_TypeError,
                         "%s must be a number of bytes, or a pair of that and a callable, not %R", name,
                         soft);
            return -1;
        }
        *callback = PyTuple_GET_ITEM(soft, 1);
        soft = PyTuple_GET_ITEM(soft, 0);
    }
    if (read_bytes(name, soft, &limits->soft_memory) < 0) {
        return -1;
    }
    if (limits->memory != 0 && limits->soft_memory >= limits->memory) {
        PyErr_Format(PyExc_ValueError, "%s (%llu) must be below memory_limit (%llu)", name,
                     (unsigned long long)limits->soft_memory, (unsigned long long)limits->memory);
        return -1;
    }
    return 0;
}

int atoll_pycontrol_set_soft(atoll_state *state, atoll_entry *entry, const atoll_limits *limits,
                             PyObject *callback) {
    if (limits->soft_memory == 0) {
        return 0;
    }
    PyObject *helper = PyImport_ImportModule("atoll._interp.limits");
    PyObject *set = helper != NULL ? PyObject_GetAttrString(helper, "set_soft") : NULL;
    PyObject *bytes = PyLong_FromUnsignedLongLong(limits->soft_memory);
    PyObject *done = NULL;
    if (set != NULL && bytes != NULL) {
        PyObject *args[] = {bytes, callback != NULL ? callback : Py_None};
        done = atoll_run_call(state, entry, set, args, 2, NULL);
    }
    Py_XDECREF(done);
    Py_XDECREF(bytes);
    Py_XDECREF(set);
    Py_XDECREF(helper);
    return done != NULL ? 0 : -1;
}

/* For atoll._interp.limits: of the interpreter that calls. */
static PyObject *set_soft_limit(PyObject *module, PyObject *bytes) {
    atoll_state *state = atoll_state_live(PyModule_GetState(module));
    uint64_t number;
    if (state == NULL || read_bytes("soft_memory_limit", bytes, &number) < 0) {
        return NULL;
    }
    if (atoll_limits_set_soft(state->entry, number) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* For atoll._extension.quirks: the capsule with the table of functions of this interpreter's numpy. */
static PyObject *count_arrays(PyObject *module, PyObject *capsule) {
    atoll_state *state = atoll_state_live(PyModule_GetState(module));
    void **numpy = state != NULL ? PyCapsule_GetPointer(capsule, NULL) : NULL;
    if (numpy == NULL) {
        return NULL;
    }
    atoll_limits_count_arrays(state->entry, numpy);
    Py_RETURN_NONE;
}

/* For python -m atoll run: calls a function that reports how the code of this interpreter has ended. */
static PyObject *report(PyObject *module, PyObject *function) {
    atoll_state *state = atoll_state_live(PyModule_GetState(module));
    return state != NULL ? atoll_limits_report(state->entry, function) : NULL;
}

static PyMethodDef limit_methods[] = {
    {"_count_arrays", count_arrays, METH_O, NULL},
    {"_report", report, METH_O, NULL},
    {"_set_soft_limit", set_soft_limit, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

int atoll_pycontrol_add(PyObject *module) {
    PyObject *type = PyType_FromModuleAndSpec(module, &timeout_spec, NULL);
    int rc = type != NULL ? PyModule_AddType(module, (PyTypeObject *)type) : -1;
    Py_XDECREF(type);
    return rc == 0 ? PyModule_AddFunctions(module, limit_methods) : rc;
}
