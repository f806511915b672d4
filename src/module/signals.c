/* What atoll._signals needs of src/py/signals.c. */
#include "py/signals.h"
#include "module/module.h"

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
    if (result != NULL && atoll_thread_is_main() && atoll_signals_check() < 0) {
        Py_CLEAR(result);
    }
    return result;
}

#define CALL_AND_CHECK(name)                                                                                 \
    {name, (PyCFunction)(void (*)(void))call_and_check, METH_FASTCALL | METH_KEYWORDS, NULL}
static PyMethodDef checking[] = {CALL_AND_CHECK("kill"), CALL_AND_CHECK("pause"),
                                 CALL_AND_CHECK("pthread_kill"), CALL_AND_CHECK("raise_signal")};

/* _then_check_signals(name, function): the function of this name that does that. */
static PyObject *then_check_signals(PyObject *Py_UNUSED(module), PyObject *args) {
    const char *name;
    PyObject *original;
    if (!PyArg_ParseTuple(args, "sO:_then_check_signals", &name, &original)) {
        return NULL;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(checking); i++) {
        if (strcmp(checking[i].ml_name, name) == 0) {
            return PyCFunction_New(&checking[i], original);
        }
    }
    PyErr_Format(PyExc_ValueError, "no such function: %s", name);
    return NULL;
}

PyMethodDef atoll_signal_methods[] = {
    {"_on_main_thread", on_main_thread, METH_NOARGS, NULL},
    {"_check_signals", check_signals, METH_NOARGS, NULL},
    {"_then_check_signals", then_check_signals, METH_VARARGS, NULL},
    {"_note_signal", note_signal, METH_VARARGS, NULL},
    {"_signal_disposition", signal_disposition, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};
