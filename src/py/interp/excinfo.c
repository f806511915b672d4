/* Exceptions as text.
 *
 * An exception cannot leave its interpreter, so its description does: six strings, made there by
 * atoll._interp.excinfo with the traceback module, written as a tuple, the places of those source lines that are not known there,
 * which whoever raises it fills in, and the interpreter's name.  Whatever goes wrong while
 * describing (the module cannot be imported, __str__ raises, memory is short) costs detail, never the report.
 */
#include "py/interp/run.h"
#include "py/interp/runs.h"
#include "py/memory/memory.h"

/* (name, qualname, module, msg, formatted, errdisplay, missing) made by Python code; NULL with an exception. */
static PyObject *describe(PyObject *helper, PyObject *exc, PyObject *script, const char *source,
                          Py_ssize_t source_len) {
    PyObject *text =
        source != NULL ? PyUnicode_DecodeUTF8(source, source_len, "replace") : Py_NewRef(Py_None);
    PyObject *tuple = NULL;
    if (helper != NULL && text != NULL) {
        tuple = PyObject_CallMethod(helper, "describe", "OOO", exc, script != NULL ? script : Py_None, text);
    }
    Py_XDECREF(text);
    return tuple;
}

/* The eight that are sent, for the seven, which it takes; NULL with an exception, also for NULL. */
static PyObject *add_name(const atoll_state *state, PyObject *seven) {
    bool right = seven != NULL && PyTuple_Check(seven) && PyTuple_GET_SIZE(seven) == 7;
    PyObject *name = right ? PyUnicode_FromString(state->entry != NULL ? state->entry->name : "") : NULL;
    PyObject *one = name != NULL ? PyTuple_Pack(1, name) : NULL;
    PyObject *eight = one != NULL ? PySequence_Concat(seven, one) : NULL;
    Py_XDECREF(one);
    Py_XDECREF(name);
    Py_XDECREF(seven);
    return eight;
}

/* str(exc), but of an ExecutionFailed only the summary: its str() repeats the text of another failure, which would
 * double with every interpreter that passes it on. */
static PyObject *message_of(atoll_state *state, PyObject *exc) {
    if (!PyErr_GivenExceptionMatches(exc, state->execution_failed)) {
        return PyObject_Str(exc);
    }
    PyObject *args = PyObject_GetAttrString(exc, "args");
    PyObject *summary = args != NULL ? PySequence_GetItem(args, 0) : NULL;
    PyObject *msg = summary != NULL ? PyObject_Str(summary) : NULL;
    Py_XDECREF(summary);
    Py_XDECREF(args);
    return msg;
}

static PyObject *describe_plainly(atoll_state *state, PyObject *exc) {
    PyTypeObject *type = Py_TYPE(exc);
    PyObject *msg = message_of(state, exc);
    if (msg == NULL) {
        PyErr_Clear();
        msg = PyUnicode_FromString("<exception str() failed>");
    }
    const char *dot = strrchr(type->tp_name, '.');
    const char *name = dot != NULL ? dot + 1 : type->tp_name;
    PyObject *line = msg != NULL ? PyUnicode_FromFormat("%s: %U", type->tp_name, msg) : NULL;
    PyObject *tuple =
        line != NULL ? Py_BuildValue("sszOOO()", name, name, dot == NULL ? "builtins" : NULL, msg, line, line)
                     : NULL;
    Py_XDECREF(line);
    Py_XDECREF(msg);
    return tuple;
}

/* Whether memory was short: here, or where this was raised in the handling of. */
static bool comes_of_no_memory(PyObject *exc) {
    enum { MOST = 16 };
    bool found = false;
    Py_INCREF(exc);
    for (int i = 0; exc != NULL && i < MOST && !found; i++) {
        found = PyErr_GivenExceptionMatches(exc, PyExc_MemoryError);
        PyObject *before = PyException_GetCause(exc);
        if (before == NULL) {
            before = PyException_GetContext(exc);
        }
        Py_SETREF(exc, before);
    }
    Py_XDECREF(exc);
    return found;
}

PyObject *atoll_excinfo_capture(atoll_state *state, atoll_message *msg, PyObject *script, const char *source,
                                Py_ssize_t source_len) {
    if (!PyErr_Occurred()) {
        PyErr_SetString(PyExc_SystemError, "a failure without an exception");
    }
    PyObject *exc = PyErr_GetRaisedException();
    if (state->entry != NULL) {
        atoll_account_relax(state->entry, true); /* it may be that there is no more memory */
    }
    atoll_run *run = atoll_run_innermost();
    bool inside = run != NULL && run->entry->interp == state->interp;
    bool deaf = inside && run->deaf;
    if (inside) {
        run->no_memory = comes_of_no_memory(exc);
        atoll_run_set_deaf(run, true); /* an import that is interrupted leaves what cannot be used */
    }
    PyObject *helper = PyImport_ImportModule("atoll._interp.excinfo");
    PyErr_Clear();
    if (inside) {
        atoll_run_set_deaf(run, deaf);
        atoll_run_begin_keeping(run);
    }
    PyObject *tuple = describe(helper, exc, script, source, source_len);
    PyErr_Clear();
    if (inside && atoll_run_end_keeping(run)) {
        PyObject *interrupt = PyErr_GetRaisedException();
        PyObject *where = PyException_GetTraceback(exc);
        (void)PyException_SetTraceback(interrupt, where != NULL ? where : Py_None);
        Py_XDECREF(where);
        Py_XDECREF(tuple);
        Py_SETREF(exc, interrupt);
        tuple = describe(helper, exc, script, source, source_len);
    }
    Py_XDECREF(helper);
    if (tuple == NULL) {
        PyErr_Clear();
        tuple = describe_plainly(state, exc);
    }
    tuple = add_name(state, tuple);
    if (tuple == NULL || atoll_encode(state->codec, msg, tuple, "excinfo") < 0) {
        PyErr_Clear(); /* an empty message: raised as an unknown exception */
    }
    Py_XDECREF(tuple);
    if (state->entry != NULL) {
        atoll_account_relax(state->entry, false);
    }
    return exc;
}

static PyObject *make_namespace(atoll_state *state, PyObject *fields) {
    PyObject *empty = PyTuple_New(0);
    PyObject *ns =
        empty != NULL && fields != NULL ? PyObject_Call(state->namespace_type, empty, fields) : NULL;
    Py_XDECREF(empty);
    Py_XDECREF(fields);
    return ns;
}

/* errdisplay with what this interpreter knows of the source: a new reference. */
static PyObject *display_of(PyObject *tuple) {
    PyObject *display = PyTuple_GET_ITEM(tuple, 5);
    PyObject *missing = PyTuple_GET_ITEM(tuple, 6);
    PyObject *filled = NULL;
    if (PyUnicode_Check(display) && PyTuple_Check(missing) && PyTuple_GET_SIZE(missing) != 0) {
        PyObject *helper = PyImport_ImportModule("atoll._interp.excinfo");
        filled = helper != NULL ? PyObject_CallMethod(helper, "fill_in", "OO", display, missing) : NULL;
        Py_XDECREF(helper);
        PyErr_Clear(); /* it is the worse for a few lines */
    }
    return filled != NULL ? filled : Py_NewRef(display);
}

void atoll_excinfo_raise(atoll_state *state, const atoll_message *msg) {
    PyObject *tuple = msg->body.len != 0 ? atoll_decode(state->codec, msg) : NULL;
    if (tuple == NULL || !PyTuple_Check(tuple) || PyTuple_GET_SIZE(tuple) != 8) {
        Py_XDECREF(tuple);
        PyErr_Clear();
        tuple =
            Py_BuildValue("sszOOO()s", "Exception", "Exception", "builtins", Py_None, Py_None, Py_None, "");
        if (tuple == NULL) {
            return;
        }
    }
    PyObject *type = make_namespace(state, Py_BuildValue("{sOsOsO}", "__name__", PyTuple_GET_ITEM(tuple, 0),
                                                         "__qualname__", PyTuple_GET_ITEM(tuple, 1),
                                                         "__module__", PyTuple_GET_ITEM(tuple, 2)));
    PyObject *info = NULL;
    if (type != NULL) {
        info = make_namespace(
            state, Py_BuildValue("{sNsOsOsN}", "type", type, "msg", PyTuple_GET_ITEM(tuple, 3), "formatted",
                                 PyTuple_GET_ITEM(tuple, 4), "errdisplay", display_of(tuple)));
    }
    PyObject *name = PyTuple_GET_ITEM(tuple, 7);
    if (info != NULL && PyUnicode_Check(name) && PyUnicode_GET_LENGTH(name) != 0 &&
        PyObject_SetAttrString(info, "interpreter", name) < 0) {
        Py_CLEAR(info);
    }
    Py_DECREF(tuple);
    if (info != NULL) {
        PyObject *exc = PyObject_CallOneArg(state->execution_failed, info);
        if (exc != NULL) {
            PyErr_SetObject(state->execution_failed, exc);
            Py_DECREF(exc);
        }
        Py_DECREF(info);
    }
}
