/* What a trace (core/trace) has of an interpreter: names of functions, imports, garbage collections.
 *
 * Calls, waits and the like are noted where they happen.  For imports and collections each interpreter has two functions while a trace is
 * on: one in gc.callbacks, one in the place of importlib's _find_and_load(), which CPython calls for each module that is not in
 * sys.modules.  They are put there, and taken away, by the interpreter itself: see traced_process.c.  Where an interpreter's code has put
 * something else in their place meanwhile, that stays.
 *
 * Each function is its own record: the one for imports has CPython's as its self, the one for collections a capsule.
 *
 * Everything runs attached to the interpreter, but for atoll_traced_ended().  Locks: none.
 * Failure: an interpreter in which the functions cannot be put in place is traced without them.
 */
#include "py/interp/traced.h"

/* ---- names ---- */

/* The name of what is called: bytes that live as long as it does; NULL: it has none that is text.  No exception is set. */
static const char *name_of(PyObject *callable, size_t *length) {
    if (PyMethod_Check(callable)) {
        callable = PyMethod_GET_FUNCTION(callable);
    }
    PyObject *text = PyFunction_Check(callable)  ? ((PyFunctionObject *)callable)->func_qualname
                     : PyUnicode_Check(callable) ? callable
                                                 : NULL;
    if (text != NULL) {
        Py_ssize_t size;
        const char *utf8 = PyUnicode_AsUTF8AndSize(text, &size);
        *length = utf8 != NULL ? (size_t)size : 0;
        PyErr_Clear(); /* surrogates */
        return utf8;
    }
    const char *name = PyCFunction_Check(callable) ? ((PyCFunctionObject *)callable)->m_ml->ml_name
                       : PyType_Check(callable)    ? ((PyTypeObject *)callable)->tp_name
                                                   : Py_TYPE(callable)->tp_name;
    *length = strlen(name);
    return name;
}

void atoll_traced_note(uint64_t began, atoll_trace_kind kind, PyObject *callable, int64_t interp,
                       int64_t number) {
    PyObject *exc = PyErr_GetRaisedException();
    size_t length = 0;
    const char *name =
        callable != NULL && !PyCapsule_CheckExact(callable) ? name_of(callable, &length) : NULL;
    PyErr_SetRaisedException(exc);
    atoll_trace_add(began, kind, name, length, interp, (uint64_t)number);
}

/* ---- imports ---- */

static int64_t here(void) { return PyInterpreterState_GetID(PyInterpreterState_Get()); }

/* What this thread imports, to be compared only: where code has put a function of its own around one of these, there are two of them. */
static _Thread_local __attribute__((tls_model("initial-exec"))) const PyObject *importing;

static PyObject *find_and_load(PyObject *original, PyObject *args, PyObject *kwargs) {
    PyObject *name = PyTuple_GET_SIZE(args) > 0 ? PyTuple_GET_ITEM(args, 0) : NULL;
    const PyObject *outer = importing;
    uint64_t began = name != outer ? atoll_trace_begin() : 0;
    importing = name;
    PyObject *module = PyObject_Call(original, args, kwargs);
    importing = outer;
    if (began != 0) {
        atoll_traced_note(began, ATOLL_TRACE_IMPORT, name, here(), 0);
    }
    return module;
}

static PyMethodDef import_def = {"_find_and_load", (PyCFunction)(void (*)(void))find_and_load,
                                 METH_VARARGS | METH_KEYWORDS, NULL};

static bool is_ours(PyObject *function, const PyMethodDef *def) {
    return PyCFunction_CheckExact(function) && ((PyCFunctionObject *)function)->m_ml == def;
}

static void settle_imports(bool on) {
    PyObject *machinery = PyImport_ImportModule("_frozen_importlib");
    PyObject *now = machinery != NULL ? PyObject_GetAttrString(machinery, import_def.ml_name) : NULL;
    PyObject *then = NULL;
    if (now != NULL && is_ours(now, &import_def) != on) {
        then = on ? PyCFunction_New(&import_def, now) : Py_NewRef(PyCFunction_GET_SELF(now));
    }
    if (then != NULL) {
        (void)PyObject_SetAttrString(machinery, import_def.ml_name, then);
    }
    PyErr_Clear();
    Py_XDECREF(then);
    Py_XDECREF(now);
    Py_XDECREF(machinery);
}

/* ---- garbage collections ---- */

static void free_began(PyObject *capsule) { PyMem_RawFree(PyCapsule_GetPointer(capsule, NULL)); }

static PyObject *collects(PyObject *self, PyObject *args) {
    uint64_t *began = PyCapsule_GetPointer(self, NULL);
    PyObject *phase;
    PyObject *info;
    if (began == NULL || !PyArg_UnpackTuple(args, "collects", 2, 2, &phase, &info)) {
        return NULL;
    }
    if (PyUnicode_Check(phase) && PyUnicode_CompareWithASCIIString(phase, "start") == 0) {
        *began = atoll_trace_begin();
    } else if (*began != 0) {
        PyObject *generation = PyDict_Check(info) ? PyDict_GetItemString(info, "generation") : NULL;
        long number = generation != NULL ? PyLong_AsLong(generation) : 0;
        PyErr_Clear();
        atoll_trace_end(*began, ATOLL_TRACE_GC, here(), (uint64_t)number);
        *began = 0;
    }
    Py_RETURN_NONE;
}

static PyMethodDef collects_def = {"collects", collects, METH_VARARGS, NULL};

/* A new one; NULL with an exception. */
static PyObject *new_collects(void) {
    uint64_t *began = PyMem_RawCalloc(1, sizeof *began);
    PyObject *capsule = began != NULL ? PyCapsule_New(began, NULL, free_began) : NULL;
    if (capsule == NULL) {
        PyMem_RawFree(began);
        return NULL;
    }
    PyObject *function = PyCFunction_New(&collects_def, capsule);
    Py_DECREF(capsule);
    return function;
}

static void settle_collections(bool on) {
    PyObject *gc = PyImport_ImportModule("gc");
    PyObject *callbacks = gc != NULL ? PyObject_GetAttrString(gc, "callbacks") : NULL;
    bool there = false;
    for (Py_ssize_t i = 0; callbacks != NULL && PyList_Check(callbacks) && i < PyList_GET_SIZE(callbacks);) {
        if (!is_ours(PyList_GET_ITEM(callbacks, i), &collects_def)) {
            i++;
        } else if (on) {
            there = true;
            break;
        } else if (PyList_SetSlice(callbacks, i, i + 1, NULL) < 0) {
            break;
        }
    }
    PyObject *function = on && !there && callbacks != NULL && PyList_Check(callbacks) ? new_collects() : NULL;
    if (function != NULL) {
        (void)PyList_Append(callbacks, function);
    }
    PyErr_Clear();
    Py_XDECREF(function);
    Py_XDECREF(callbacks);
    Py_XDECREF(gc);
}

void atoll_traced_settle(void) {
    PyObject *exc = PyErr_GetRaisedException();
    bool on = atoll_trace_wants();
    settle_imports(on);
    settle_collections(on);
    PyErr_SetRaisedException(exc);
}

void atoll_traced_ended(uint64_t began, const atoll_entry *entry) {
    if (atoll_trace_wants()) {
        atoll_trace_call_interp(entry->id, entry->name);
    }
    atoll_trace_end(began, ATOLL_TRACE_CLOSE, entry->id, 0);
}
