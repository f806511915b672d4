/* A call that has arrived: its function is found or made, and called; of a result that cannot be sent, why.
 *
 * For whoever runs what another interpreter has encoded: sessions (run.c), tasks and initializers of pools.  The interpreter where it is
 * called is attached.
 *
 * eval, exec, dir, globals, locals and vars mean the names of the frame that calls them, and there is none: a call arrives from
 * C.  CPython 3.14 and newer let them mean __main__ then; for older versions this file does.
 */
#include "py/interp/run.h"

static const char *const needs_frame[] = {"eval", "exec", "dir", "globals", "locals", "vars"};

/* Index into needs_frame, or -1. */
static int which_builtin(PyObject *callable) {
    if (callable == NULL || !PyCFunction_CheckExact(callable)) {
        return -1;
    }
    PyObject *self = PyCFunction_GET_SELF(callable);
    if (self == NULL || !PyModule_Check(self) || strcmp(PyModule_GetName(self), "builtins") != 0) {
        PyErr_Clear();
        return -1;
    }
    const char *name = ((PyCFunctionObject *)callable)->m_ml->ml_name;
    for (int i = 0; i < (int)Py_ARRAY_LENGTH(needs_frame); i++) {
        if (strcmp(name, needs_frame[i]) == 0) {
            return i;
        }
    }
    return -1;
}

int atoll_run_frameless(atoll_state *state, const atoll_call_args *args, PyObject **result) {
    int which = which_builtin(args->callable);
    if (which < 0 || args->kwnames != NULL) {
        return 0;
    }
    PyObject *main = atoll_state_main(state);
    if (main == NULL) {
        *result = NULL;
        return 1;
    }
    if (which <= 1) {
        if (args->nargs != 1) {
            return 0;
        }
        PyObject *with_globals[] = {args->stack[0], main};
        *result = PyObject_Vectorcall(args->callable, with_globals, 2, NULL);
        return 1;
    }
    if (args->nargs != 0) {
        return 0;
    }
    if (which == 2) {
        *result = PyDict_Keys(main);
        if (*result != NULL && PyList_Sort(*result) < 0) {
            Py_CLEAR(*result);
        }
        return 1;
    }
    *result = Py_NewRef(main);
    return 1;
}

PyObject *atoll_run_function(atoll_state *state, uint64_t number, const atoll_message *full) {
    PyObject *func = Py_XNewRef(atoll_function_cached(state->codec, number));
    if (func != NULL || full == NULL || PyErr_Occurred()) {
        return func;
    }
    uint64_t before = atoll_bound_by_others(state->codec);
    func = atoll_decode(state->codec, full);
    if (func != NULL && number != 0 && atoll_function_keep(state->codec, number, func, before, full) < 0) {
        Py_CLEAR(func);
    }
    return func;
}

void atoll_run_refusal(atoll_state *state, atoll_message *text) {
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *message = PyObject_Str(exc);
    Py_DECREF(exc);
    atoll_message_reset(text, SIZE_MAX);
    if (message == NULL || atoll_encode_whole(state->codec, text, message, "error") < 0) {
        PyErr_Clear();
        atoll_message_reset(text, SIZE_MAX);
    }
    Py_XDECREF(message);
}

void atoll_run_close_coroutine(PyObject *value) {
    if (PyCoro_CheckExact(value) && Py_REFCNT(value) == 1) {
        PyObject *done = PyObject_CallMethod(value, "close", NULL);
        if (done == NULL) {
            PyErr_WriteUnraisable(value);
        }
        Py_XDECREF(done);
    }
}
