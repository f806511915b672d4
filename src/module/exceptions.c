/* The exceptions of PEP 734.
 *
 * Each interpreter has its own classes.  Where CPython has static exceptions of the same meaning they are
 * bases, so that code written for the standard library's modules catches Atoll's.
 */
#include "module/module.h"

/* Protocols 0 and 1 would write an instance that nobody can make. */
PyObject *atoll_unpicklable(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return PyErr_Format(PyExc_TypeError, "cannot pickle '%.200s' object", Py_TYPE(self)->tp_name);
}

PyDoc_STRVAR(error_doc, "A failed operation on an interpreter (PEP 734).");
PyDoc_STRVAR(not_found_doc, "The interpreter does not exist, or not any more (PEP 734).");
PyDoc_STRVAR(not_shareable_doc, "The object cannot be sent to another interpreter (PEP 734).\n\n"
                                "The message names it by its path: args[1]['model'].lock.");
PyDoc_STRVAR(lost_doc,
             "The interpreter that held a lock was closed; the lock is free now.\n\n"
             "Raised once, in the thread that takes the lock next: what it guards may be half done.");
PyDoc_STRVAR(stuck_doc,
             "Something in an interpreter does not end, though it was interrupted again and again.\n\n"
             "Raised by Interpreter.close(force=True). stacks: what its threads execute, a str.");
PyDoc_STRVAR(limit_doc, "What ran in an interpreter would have taken more than the interpreter may.\n\n"
                        "limit: which one, 'memory_limit' or 'cpu_limit'.\n"
                        "amount: how much that is, in bytes or seconds.");
PyDoc_STRVAR(
    failed_doc,
    "ExecutionFailed(excinfo)\n--\n\n"
    "Code raised an exception that nobody caught in the interpreter it ran in (PEP 734).\n\n"
    "excinfo: the exception as text: type.__name__, type.__qualname__, type.__module__, msg,\n"
    "formatted ('Type: message') and errdisplay (the traceback with source lines); and interpreter,\n"
    "the name of the interpreter, if it has one.");

/* excinfo.NAME as a non-empty str: a new reference, or NULL without an exception. */
static PyObject *text_of(PyObject *excinfo, const char *name) {
    PyObject *text = PyObject_GetAttrString(excinfo, name);
    if (text == NULL || !PyUnicode_Check(text) || PyUnicode_GET_LENGTH(text) == 0) {
        PyErr_Clear();
        Py_CLEAR(text);
    }
    return text;
}

static PyObject *summary_of(PyObject *excinfo) {
    PyObject *summary = text_of(excinfo, "formatted");
    if (summary != NULL) {
        return summary;
    }
    PyObject *type = PyObject_GetAttrString(excinfo, "type");
    if (type == NULL) {
        return NULL;
    }
    PyObject *name = text_of(type, "__name__");
    PyObject *msg = text_of(excinfo, "msg");
    if (name != NULL && msg != NULL) {
        summary = PyUnicode_FromFormat("%U: %U", name, msg);
    } else {
        summary = Py_XNewRef(name != NULL ? name : msg);
        if (summary == NULL) {
            summary = PyUnicode_FromString("unknown exception");
        }
    }
    Py_XDECREF(name);
    Py_XDECREF(msg);
    Py_DECREF(type);
    return summary;
}

static int failed_init(PyObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"excinfo", NULL};
    PyObject *excinfo;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:ExecutionFailed", names, &excinfo)) {
        return -1;
    }
    PyObject *summary = summary_of(excinfo);
    PyObject *own_args = summary != NULL ? PyTuple_Pack(1, summary) : NULL;
    Py_XDECREF(summary);
    if (own_args == NULL) {
        return -1;
    }
    int rc = PyObject_SetAttrString(self, "args", own_args);
    Py_DECREF(own_args);
    return rc < 0 ? -1 : PyObject_SetAttrString(self, "excinfo", excinfo);
}

static PyObject *failed_str(PyObject *self) {
    PyObject *summary = ((reprfunc)((PyTypeObject *)PyExc_BaseException)->tp_str)(self);
    if (summary == NULL) {
        return NULL;
    }
    PyObject *excinfo = PyObject_GetAttrString(self, "excinfo");
    PyObject *display = excinfo != NULL ? text_of(excinfo, "errdisplay") : NULL;
    PyErr_Clear();
    PyObject *name = display != NULL ? text_of(excinfo, "interpreter") : NULL;
    PyObject *str =
        display == NULL ? Py_NewRef(summary)
        : name == NULL
            ? PyUnicode_FromFormat("%U\n\nUncaught in the interpreter:\n\n%U", summary, display)
            : PyUnicode_FromFormat("%U\n\nUncaught in the interpreter: %R\n\n%U", summary, name, display);
    Py_XDECREF(name);
    Py_XDECREF(display);
    Py_XDECREF(excinfo);
    Py_DECREF(summary);
    return str;
}

static PyObject *failed_reduce(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    PyObject *excinfo = PyObject_GetAttrString(self, "excinfo");
    return excinfo != NULL ? Py_BuildValue("O(N)", Py_TYPE(self), excinfo) : NULL;
}

static PyMethodDef failed_methods[] = {
    {"__reduce__", failed_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot failed_slots[] = {
    {Py_tp_doc, (void *)failed_doc},
    {Py_tp_init, failed_init},
    {Py_tp_str, failed_str},
    {Py_tp_methods, failed_methods},
    {0, NULL},
};

/* basicsize 0: inherited, whatever the base's is. */
static PyType_Spec failed_spec = {
    .name = "atoll.ExecutionFailed",
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = failed_slots,
};

static int add_class(PyObject *module, PyObject **slot, const char *name, const char *doc, PyObject *bases) {
    if (bases != NULL) {
        *slot = PyErr_NewExceptionWithDoc(name, doc, bases, NULL);
        Py_DECREF(bases);
    }
    return *slot != NULL ? PyModule_AddObjectRef(module, strchr(name, '.') + 1, *slot) : -1;
}

int atoll_exceptions_add(atoll_state *state, PyObject *module) {
    if (add_class(module, &state->error, "atoll.InterpreterError", error_doc,
                  PyTuple_Pack(1, ATOLL_BASE_INTERPRETER_ERROR)) < 0) {
        return -1;
    }
    PyObject *twin = ATOLL_BASE_NOT_FOUND_ERROR;
    if (add_class(module, &state->not_found, "atoll.InterpreterNotFoundError", not_found_doc,
                  twin != NULL ? PyTuple_Pack(2, state->error, twin) : PyTuple_Pack(1, state->error)) < 0) {
        return -1;
    }
    if (add_class(module, &state->not_shareable, "atoll.NotShareableError", not_shareable_doc,
                  PyTuple_Pack(1, PyExc_TypeError)) < 0) {
        return -1;
    }
    if (add_class(module, &state->lock_owner_lost, "atoll.LockOwnerLost", lost_doc,
                  PyTuple_Pack(1, state->error)) < 0) {
        return -1;
    }
    if (add_class(module, &state->limit_exceeded, "atoll.ResourceLimitExceeded", limit_doc,
                  PyTuple_Pack(1, PyExc_RuntimeError)) < 0) {
        return -1;
    }
    if (add_class(module, &state->stuck, "atoll.InterpreterStuckError", stuck_doc,
                  PyTuple_Pack(1, state->error)) < 0) {
        return -1;
    }
    state->execution_failed = PyType_FromModuleAndSpec(module, &failed_spec, state->error);
    if (state->execution_failed == NULL) {
        return -1;
    }
    return PyModule_AddObjectRef(module, "ExecutionFailed", state->execution_failed);
}
