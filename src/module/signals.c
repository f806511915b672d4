/* What atoll._interp.signals and atoll._extension.quirks need of src/py/interp/signals.c and facade.c. */
#include "module/module.h"
#include "py/facade.h"
#include "py/interp/interp.h"

static PyObject *on_main_thread(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    return PyBool_FromLong(atoll_thread_is_main());
}

static PyObject *check_signals(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    if (atoll_thread_is_main() && atoll_signals_check() < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *note_signal(PyObject *Py_UNUSED(module), PyObject *args) {
    long long id;
    int number;
    if (!PyArg_ParseTuple(args, "Li:_note_signal", &id, &number)) {
        return NULL;
    }
    return PyBool_FromLong(atoll_signals_note(id, number));
}

/* 0: signal.SIG_DFL; 1: SIG_IGN; 2: a handler of C's, which may be CPython's. */
static PyObject *signal_disposition(PyObject *Py_UNUSED(module), PyObject *arg) {
    int number = (int)PyLong_AsLong(arg);
    if (number == -1 && PyErr_Occurred()) {
        return NULL;
    }
    uintptr_t handlers[ATOLL_SIGNALS];
    atoll_signal_handlers(handlers);
    uintptr_t handler = number > 0 && number < ATOLL_SIGNALS ? handlers[number] : 0;
    return PyLong_FromLong(handler < 2 ? (long)handler : 2);
}

/* Calls what it is bound to, then looks for signals: no Python frame in between. */
static PyObject *call_and_check(PyObject *original, PyObject *const *args, Py_ssize_t nargs,
                                PyObject *kwnames) {
    PyObject *result = PyObject_Vectorcall(original, args, (size_t)nargs, kwnames);
    if (!atoll_thread_is_main()) {
        atoll_signals_poke();
    } else if (result != NULL && atoll_signals_check() < 0) {
        Py_CLEAR(result);
    }
    return result;
}

/* _then_check_signals(function): a function that does that. */
static PyObject *then_check_signals(PyObject *Py_UNUSED(module), PyObject *original) {
    static PyMethodDef def = {"then_check_signals", (PyCFunction)(void (*)(void))call_and_check,
                              METH_FASTCALL | METH_KEYWORDS, NULL};
    return PyCFunction_New(&def, original);
}

/* _facade(original, implementation): see facade.h. */
static PyObject *facade(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *original;
    PyObject *implementation;
    if (!PyArg_ParseTuple(args, "OO:_facade", &original, &implementation)) {
        return NULL;
    }
    return atoll_facade_new(original, implementation);
}

PyMethodDef atoll_pysignal_methods[] = {
    {"_on_main_thread", on_main_thread, METH_NOARGS, NULL},
    {"_check_signals", check_signals, METH_NOARGS, NULL},
    {"_then_check_signals", then_check_signals, METH_O, NULL},
    {"_facade", facade, METH_VARARGS, NULL},
    {"_note_signal", note_signal, METH_VARARGS, NULL},
    {"_signal_disposition", signal_disposition, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
