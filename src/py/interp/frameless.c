/* eval, exec, dir, globals, locals and vars, called as a session's outermost function.
 *
 * They mean the names of the frame that calls them, and there is none: a call arrives from C.  CPython 3.14 and newer
 * let them mean __main__ then; for older versions this file does.
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
    if (which <= 1) {
        if (args->nargs != 1) {
            return 0;
        }
        PyObject *with_globals[] = {args->stack[0], state->main_dict};
        *result = PyObject_Vectorcall(args->callable, with_globals, 2, NULL);
        return 1;
    }
    if (args->nargs != 0) {
        return 0;
    }
    if (which == 2) {
        *result = PyDict_Keys(state->main_dict);
        if (*result != NULL && PyList_Sort(*result) < 0) {
            Py_CLEAR(*result);
        }
        return 1;
    }
    *result = Py_NewRef(state->main_dict);
    return 1;
}
