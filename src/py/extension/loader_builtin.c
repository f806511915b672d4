/* Modules that are built into Python's executable or library.
 *
 * There is no file of them to clone.  What becomes of one depends on where it keeps its state:
 *
 *   in the module        most of the standard library's: they declare support, and are made here without a look at main
 *   in the module, not   _suggestions; on 3.12 pyexpat, _elementtree and _lsprof, which have nothing in static variables but tables, and a
 *   declared             random number.  CPython's check is put off for them
 *   in the interpreter   builtins, sys: CPython has a copy of each interpreter's, for when sys.modules has lost them
 *   in the process       faulthandler has one set of handlers: atoll._extension.quirks has what changes them run in main
 *                        _tracemalloc traces the process: atoll._extension.quirks lets an interpreter ask, not start
 *   in static types      _datetime, where main has to have it first: builtin_datetime.c
 *   in static variables  _ctypes and _decimal of 3.12, _curses, readline, _tkinter, ...: atoll._extension.builtin finds something to take
 *                        their place (a file of the same build, what the module that imports them falls back to), or says why
 *                        there is nothing
 *   unknown              a host's own modules, and others' that are linked in: CPython decides.  3.12 may do that only when
 *                        main has imported the module before
 *
 * CPython's check can be put off for an interpreter, and is for as long as its function runs: no other thread of the
 * interpreter runs meanwhile, as making these modules does not give the GIL back.
 *
 * With extensions='shared' CPython's own function makes whatever has state in static variables, once main has it; but for
 * _datetime, whose types are in CPython's table by then.
 *
 * The thread state of an interpreter that Atoll has made is attached everywhere.
 */
#include "py/extension/builtin_datetime.h"
#include "py/extension/builtin_types.h"
#include "py/extension/loader_internal.h"
#include "py/facade.h"

static const char *const admitted[] = {"_suggestions", "faulthandler", "_tracemalloc", "builtins", "sys",
#if ATOLL_DATETIME_IS_STATIC
                                       "pyexpat",      "_elementtree", "_lsprof"
#endif
};

/* Modules that atoll._extension.quirks changes once they are made, built in or not. */
static const char *const quirky[] = {"faulthandler", "_tracemalloc", "numexpr.interpreter", "_signal",
                                     "numpy.linalg._umath_linalg"};

static bool is_among(PyObject *name, const char *const *names, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (PyUnicode_CompareWithASCIIString(name, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* What goes through a list that the C library has one of, for the process. */
static PyObject *list_in_main(PyObject *original, PyObject *Py_UNUSED(unused)) {
    PyObject *quirks = PyImport_ImportModule("atoll._extension.quirks");
    PyObject *result = quirks != NULL ? PyObject_CallMethod(quirks, "list_in_main", "O", original) : NULL;
    Py_XDECREF(quirks);
    return result;
}

static PyMethodDef list_users = {"getpwall", list_in_main, METH_NOARGS, NULL};
static PyMethodDef list_groups = {"getgrall", list_in_main, METH_NOARGS, NULL};

/* 0 or -1 with an exception.  Nothing is imported for it: many import these modules, and few ask for a list. */
static int guard_lists(PyObject *name, PyObject *module) {
    if (ATOLL_LISTS_NEED_ONE_GIL && PyUnicode_CompareWithASCIIString(name, "pwd") == 0) {
        return atoll_facade_put_around(module, &list_users);
    }
    if (ATOLL_LISTS_NEED_ONE_GIL && PyUnicode_CompareWithASCIIString(name, "grp") == 0) {
        return atoll_facade_put_around(module, &list_groups);
    }
    return 0;
}

int atoll_quirks_apply(PyObject *name, PyObject *module) {
    if (guard_lists(name, module) < 0) {
        return -1;
    }
    if (!is_among(name, quirky, Py_ARRAY_LENGTH(quirky))) {
        return 0;
    }
    PyObject *quirks = PyImport_ImportModule("atoll._extension.quirks");
    if (quirks == NULL && PyErr_ExceptionMatches(PyExc_ImportError) &&
        PyUnicode_CompareWithASCIIString(name, "_signal") == 0) {
        PyErr_Clear(); /* not on this sys.path: then it refuses, as CPython's does */
        return 0;
    }
    PyObject *done = quirks != NULL ? PyObject_CallMethod(quirks, "apply", "OO", name, module) : NULL;
    Py_XDECREF(quirks);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

/* ---- what atoll._extension.builtin decides about ---- */

/* Those that it knows; the rest of the standard library's needs nothing. */
static const char *const asked[] = {"_ctypes",  "_curses",   "_curses_panel", "_datetime",   "_decimal",
                                    "_tkinter", "_zoneinfo", "nis",           "ossaudiodev", "readline"};

static bool is_asked(PyObject *name) { return is_among(name, asked, Py_ARRAY_LENGTH(asked)); }

/* 1 with *module, 0: it is to be made as any other; or -1 with an exception. */
static int ask(PyObject *name, PyObject **module) {
    PyObject *helper = PyImport_ImportModule("atoll._extension.builtin");
    *module = helper != NULL ? PyObject_CallMethod(helper, "create", "OO", name,
                                                   atoll_datetime_is_held() ? Py_True : Py_False)
                             : NULL;
    Py_XDECREF(helper);
    if (*module == Py_None) {
        Py_CLEAR(*module);
        return 0;
    }
    return *module != NULL ? 1 : -1;
}

/* ---- modules that are made here, without a look at the main interpreter (loader.c) ---- */

/* Whether the name is the standard library's.  Then the init function returns a definition, and does nothing else; but for
 * those that `asked` names. */
static bool is_standard(PyObject *name) {
    PyObject *names = PySys_GetObject("stdlib_module_names"); /* borrowed */
    return names != NULL && PyFrozenSet_CheckExact(names) && PySet_Contains(names, name) == 1;
}

/* 1 with *module, or 0: that is CPython's business; or -1 with an exception. */
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

/* Where CPython would run the init function of a module in this interpreter, whatever it does, main imports it first: then
 * CPython knows whether it may be used here.  0, or -1 with ImportError. */
static int let_main_import(PyObject *name) {
#if ATOLL_BUILTINS_NEED_MAIN
    PyObject *helper = PyImport_ImportModule("atoll._extension.builtin");
    PyObject *done = helper != NULL ? PyObject_CallMethod(helper, "import_in_main", "O", name) : NULL;
    Py_XDECREF(helper);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
#else
    (void)name;
    return 0;
#endif
}

/* ---- CPython's check put off ---- */

static PyObject *set_check(PyObject *imp, int value) {
    return PyObject_CallMethod(imp, "_override_multi_interp_extensions_check", "i", value);
}

static PyObject *create_unchecked(PyObject *original, PyObject *args) {
    if (PyInterpreterState_Get() ==
        PyInterpreterState_Main()) { /* in a child that this interpreter has forked */
        return PyObject_Call(original, args, NULL);
    }
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

/* ---- _imp.create_builtin(spec) ---- */

/* The module, whose types are then main's in what they have, or NULL.  CPython executes no module that has its state. */
static PyObject *finish_datetime(PyObject *module) {
#if ATOLL_DATETIME_NEEDS_MAIN && !ATOLL_DATETIME_IS_STATIC
    PyModuleDef *definition = module != NULL ? PyModule_GetDef(module) : NULL;
    if (definition != NULL && PyModule_GetState(module) == NULL &&
        (PyModule_ExecDef(module, definition) < 0 || atoll_builtin_types_added(module) < 0)) {
        Py_CLEAR(module);
    }
#endif
    return module;
}

static PyObject *create(PyObject *name, PyObject *spec, PyObject *original, PyObject *args, bool isolate) {
    PyObject *module = NULL;
    int made = 0;
    if (is_among(name, admitted, Py_ARRAY_LENGTH(admitted))) {
        return create_unchecked(original, args);
    }
    bool is_datetime = PyUnicode_CompareWithASCIIString(name, "_datetime") == 0;
    if (is_datetime && atoll_datetime_is_held()) {
        module = atoll_datetime_create();
        made = module != NULL ? 1 : PyErr_Occurred() ? -1 : 0;
    } else if (is_asked(name) && isolate) {
        made = ask(name, &module);
    } else if (is_asked(name) || !is_standard(name)) {
        made = let_main_import(name);
        if (made == 0) {
            module = PyObject_Call(original, args, NULL);
            made = 1;
        }
    }
    if (made == 0) {
        made = create_directly(name, spec, &module);
    }
    if (made == 0) {
        module = PyObject_Call(original, args, NULL);
    }
    return is_datetime ? finish_datetime(module) : module;
}

PyObject *atoll_create_builtin(PyObject *self, PyObject *args, PyObject **name) {
    const atoll_loader *loader = PyCapsule_GetPointer(PyTuple_GET_ITEM(self, 0), NULL);
    PyObject *original = PyTuple_GET_ITEM(self, 1);
    PyObject *spec = PyTuple_GET_SIZE(args) == 1 ? PyTuple_GET_ITEM(args, 0) : NULL;
    *name = spec != NULL ? PyObject_GetAttrString(spec, "name") : NULL;
    if (*name == NULL || !PyUnicode_Check(*name)) {
        Py_CLEAR(*name);
        PyErr_Clear();
        return PyObject_Call(original, args, NULL); /* which has an error for that */
    }
    return create(*name, spec, original, args, loader->mode == ATOLL_EXTENSIONS_ISOLATE);
}
