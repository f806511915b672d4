/* Modules that are built into Python's executable and do not declare support for a GIL per interpreter.
 *
 * There is no file of them to clone.  CPython refuses them, which stands, but for three of its own that can be used:
 *
 *   _suggestions    keeps nothing
 *   faulthandler    keeps one set of handlers for the process: atoll._quirks has what changes them run in main
 *   _tracemalloc    traces the process: atoll._quirks lets an interpreter ask, not start
 *
 * CPython's check can be put off for an interpreter, and is for as long as its function runs: no other thread of the
 * interpreter runs meanwhile, as making these modules does not give the GIL back.
 *
 * The thread state of an interpreter that Atoll has made is attached everywhere.
 */
#include "py/loader_internal.h"

static const char *const admitted[] = {"_suggestions", "faulthandler", "_tracemalloc"};

/* Modules that atoll._quirks changes once they are made, built in or not. */
static const char *const quirky[] = {"faulthandler", "_tracemalloc", "uvloop.loop", "numexpr.interpreter"};

static bool is_among(PyObject *name, const char *const *names, size_t count) {
    for (size_t i = 0; PyUnicode_Check(name) && i < count; i++) {
        if (PyUnicode_CompareWithASCIIString(name, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

int atoll_quirks_apply(PyObject *name, PyObject *module) {
    if (!is_among(name, quirky, Py_ARRAY_LENGTH(quirky))) {
        return 0;
    }
    PyObject *quirks = PyImport_ImportModule("atoll._quirks");
    PyObject *done = quirks != NULL ? PyObject_CallMethod(quirks, "apply", "OO", name, module) : NULL;
    Py_XDECREF(quirks);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

/* Makes a module that declares support here, without a look at the main interpreter (loader.c).  1, or 0: that is CPython's
 * business; or -1 with an exception. */
static int create_directly(PyObject *name, PyObject *spec, PyObject **module) {
    const struct _inittab *entry = PyImport_Inittab;
    while (entry->name != NULL && PyUnicode_CompareWithASCIIString(name, entry->name) != 0) {
        entry++;
    }
    if (entry->name == NULL || entry->initfunc == NULL) { /* sys and builtins have none */
        return 0;
    }
    PyObject *made = entry->initfunc();
    if (made == NULL || !PyObject_TypeCheck(made, &PyModuleDef_Type)) {
        PyErr_Clear();
        Py_XDECREF(made);
        return 0;
    }
    if (!atoll_definition_declares((PyModuleDef *)made)) {
        return 0;
    }
    *module = PyModule_FromDefAndSpec((PyModuleDef *)made, spec);
    return *module != NULL ? 1 : -1;
}

static PyObject *set_check(PyObject *imp, int value) {
    return PyObject_CallMethod(imp, "_override_multi_interp_extensions_check", "i", value);
}

static PyObject *create_unchecked(PyObject *original, PyObject *args) {
    PyObject *imp = PyImport_ImportModule("_imp");
    PyObject *before = imp != NULL ? set_check(imp, -1) : NULL;
    PyObject *module = NULL;
    if (before != NULL) {
        module = PyObject_Call(original, args, NULL);
        PyObject *exc = PyErr_GetRaisedException();
        PyObject *after = set_check(imp, (int)PyLong_AsLong(before));
        if (after == NULL) {
            Py_CLEAR(module);
            Py_XDECREF(exc);
        } else {
            PyErr_SetRaisedException(exc);
        }
        Py_XDECREF(after);
    }
    Py_XDECREF(before);
    Py_XDECREF(imp);
    return module;
}

PyObject *atoll_create_builtin(PyObject *self, PyObject *args) {
    PyObject *original = PyTuple_GET_ITEM(self, 1);
    PyObject *spec = PyTuple_GET_SIZE(args) == 1 ? PyTuple_GET_ITEM(args, 0) : NULL;
    PyObject *name = spec != NULL ? PyObject_GetAttrString(spec, "name") : NULL;
    if (name == NULL) {
        PyErr_Clear();
        return PyObject_Call(original, args, NULL); /* which has an error for that */
    }
    PyObject *module = NULL;
    if (is_among(name, admitted, Py_ARRAY_LENGTH(admitted))) {
        module = create_unchecked(original, args);
    } else if (!PyUnicode_Check(name) || create_directly(name, spec, &module) == 0) {
        module = PyObject_Call(original, args, NULL);
    }
    if (module != NULL && atoll_quirks_apply(name, module) < 0) {
        Py_CLEAR(module);
    }
    Py_DECREF(name);
    return module;
}
