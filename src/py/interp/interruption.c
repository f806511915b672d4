/* What is to be raised in a run: an exception class or an exception, which crosses as anything else does.
 *
 * It is encoded where somebody interrupts, and made anew in each interpreter in which it is raised.  The usual kinds need neither.
 */
#include "py/interp/interruption.h"

#include <stdlib.h>

atoll_interruption atoll_keyboard_interrupt = {.type = &PyExc_KeyboardInterrupt};
atoll_interruption atoll_system_exit = {.type = &PyExc_SystemExit};

void atoll_interruption_retain(atoll_interruption *interruption) {
    if (interruption->type == NULL) {
        atomic_fetch_add_explicit(&interruption->refs, 1, memory_order_relaxed);
    }
}

void atoll_interruption_release(atoll_interruption *interruption) {
    if (interruption != NULL && interruption->type == NULL &&
        atomic_fetch_sub_explicit(&interruption->refs, 1, memory_order_acq_rel) == 1) {
        atoll_message_clear(&interruption->exc);
        free(interruption);
    }
}

/* 0, or -1 with what says why this cannot be raised. */
static int check_exception(PyObject *exc) {
    if (PyExceptionInstance_Check(exc)) {
        return 0;
    }
    if (!PyExceptionClass_Check(exc)) {
        PyErr_Format(PyExc_TypeError, "exc must be an exception class or an exception, not %R", exc);
        return -1;
    }
    PyObject *made = PyObject_CallNoArgs(exc);
    bool good = made != NULL && PyExceptionInstance_Check(made);
    if (made != NULL && !good) {
        PyErr_Format(PyExc_TypeError, "exc: calling %R makes no exception", exc);
    }
    Py_XDECREF(made);
    return good ? 0 : -1;
}

atoll_interruption *atoll_interruption_new(atoll_state *state, PyObject *exc) {
    if (exc == PyExc_KeyboardInterrupt) {
        return &atoll_keyboard_interrupt;
    }
    if (check_exception(exc) < 0) {
        return NULL;
    }
    atoll_interruption *made = calloc(1, sizeof *made);
    if (made == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    atomic_init(&made->refs, 1);
    if (atoll_encode_whole(state->codec, &made->exc, exc, "exc") < 0) {
        atoll_interruption_release(made);
        return NULL;
    }
    return made;
}

bool atoll_interruption_set(const atoll_interruption *interruption) {
    if (interruption->type != NULL) {
        PyErr_SetNone(*interruption->type);
        return true;
    }
    atoll_state *state = atoll_state_of(PyInterpreterState_Get());
    PyObject *exc = state != NULL ? atoll_decode(state->codec, &interruption->exc) : NULL;
    bool good = exc != NULL && (PyExceptionInstance_Check(exc) || PyExceptionClass_Check(exc));
    if (good && PyExceptionInstance_Check(exc)) {
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    } else if (good) {
        PyErr_SetNone(exc);
    }
    Py_XDECREF(exc);
    return good;
}

void atoll_interruption_set_anyhow(const atoll_interruption *interruption) {
    if (atoll_interruption_set(interruption)) {
        return;
    }
    PyObject *why = PyErr_GetRaisedException();
    PyErr_SetString(PyExc_KeyboardInterrupt, "the exception to be raised cannot be had here");
    PyObject *instead = PyErr_GetRaisedException();
    PyException_SetCause(instead, why); /* takes it */
    PyErr_SetRaisedException(instead);
}
