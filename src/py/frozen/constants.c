/* Constants of imported modules, once for all interpreters.
 *
 * A module's code is read from its .pyc file in each interpreter, and what is in it never changes but for the instructions, which are
 * specialised: docstrings and other text, bytes, the tables of lines, of exception handlers and of the kinds of local variables.  That is a sixth of
 * the memory of an interpreter that has imported pandas.  So right after code is read, before any of it runs, these objects are exchanged for
 * frozen ones, which all interpreters find by their content.
 *
 * Not exchanged are names, and what looks like one, as those are interned: CPython finds attributes and variables the faster the more often
 * a name is the very same object in its interpreter.  Nor is anything in code that is static or has been executed.
 *
 * importlib calls _imp._fix_co_filename(code, path) for code from a file and gets code of the built-in modules from
 * _imp.get_frozen_object(); in interpreters that Atoll makes both are functions that do this as well.  ATOLL_SHARE_CONSTANTS=0 in the environment
 * turns it off.
 *
 * The area stays for good, as much as all interpreters together have imported.  Its lock is held while an object is looked for and made; areas' is taken
 * inside.  What cannot be made, for want of memory, is not exchanged.
 */
#include "py/frozen/build.h"

#include "py/facade.h"

#include <stdlib.h>

enum { LEAST_TEXT = 16, DEEPEST = 100 };

static atoll_mutex lock = ATOLL_MUTEX_INIT;
static atoll_builder constants;

void atoll_frozen_constants_fork(atoll_fork_moment when) { atoll_mutex_fork(&lock, when); }

size_t atoll_frozen_constants_bytes(void) {
    atoll_mutex_lock(&lock);
    size_t bytes = constants.area != NULL ? atoll_area_bytes(constants.area) : 0;
    atoll_mutex_unlock(&lock);
    return bytes;
}

static bool is_ready_locked(void) {
    if (constants.table == NULL) {
        constants.table = atoll_frozen_table_new();
    }
    if (constants.area == NULL && (constants.area = atoll_area_new()) != NULL) {
        atoll_area_keep(constants.area);
        atoll_area_leave_out(constants.area);
    }
    return constants.table != NULL && constants.area != NULL;
}

/* The frozen str or bytes that is equal, or NULL. */
static PyObject *find_constant(PyObject *obj) {
    PyObject *frozen = NULL;
    atoll_mutex_lock(&lock);
    if (is_ready_locked()) {
        atoll_area_mark mark = atoll_area_now(constants.area);
        frozen = PyBytes_CheckExact(obj)
                     ? atoll_build_bytes(&constants, PyBytes_AS_STRING(obj), PyBytes_GET_SIZE(obj))
                     : atoll_build_str(&constants, obj);
        atoll_area_seal_pages(constants.area, &mark);
    }
    atoll_mutex_unlock(&lock);
    PyErr_Clear();
    return frozen;
}

static void exchange(PyObject **slot) {
    PyObject *obj = *slot;
    if (obj == NULL || atoll_is_immortal(obj)) {
        return;
    }
    bool text = PyUnicode_CheckExact(obj) && PyUnicode_GET_LENGTH(obj) >= LEAST_TEXT &&
                !PyUnicode_CHECK_INTERNED(obj);
    PyObject *frozen = text || PyBytes_CheckExact(obj) ? find_constant(obj) : NULL;
    if (frozen != NULL) {
        *slot = frozen;
        Py_DECREF(obj);
    }
}

static void exchange_in(PyCodeObject *code, unsigned depth) {
    if (atoll_is_immortal((PyObject *)code) || depth == DEEPEST) {
        return;
    }
    exchange(&code->co_linetable);
    exchange(&code->co_exceptiontable);
    exchange(&code->co_localspluskinds);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(code->co_consts); i++) {
        PyObject **item = &((PyTupleObject *)code->co_consts)->ob_item[i];
        if (PyCode_Check(*item)) {
            exchange_in((PyCodeObject *)*item, depth + 1);
        } else {
            exchange(item);
        }
    }
}

/* ---- the two functions: bound to those in whose place they are ---- */

static PyObject *fix_co_filename(PyObject *original, PyObject *const *args, Py_ssize_t nargs) {
    PyObject *result = PyObject_Vectorcall(original, args, (size_t)nargs, NULL);
    if (result != NULL && nargs != 0 && PyCode_Check(args[0])) {
        exchange_in((PyCodeObject *)args[0], 0);
    }
    return result;
}

static PyObject *get_frozen_object(PyObject *original, PyObject *const *args, Py_ssize_t nargs) {
    PyObject *code = PyObject_Vectorcall(original, args, (size_t)nargs, NULL);
    if (code != NULL && PyCode_Check(code)) {
        exchange_in((PyCodeObject *)code, 0);
    }
    return code;
}

static bool is_wanted(void) {
    const char *value = getenv("ATOLL_SHARE_CONSTANTS");
    return value == NULL || strcmp(value, "0") != 0;
}

int atoll_frozen_constants(void) {
    static PyMethodDef fix = {"_fix_co_filename", (PyCFunction)(void (*)(void))fix_co_filename, METH_FASTCALL,
                              NULL};
    static PyMethodDef get = {"get_frozen_object", (PyCFunction)(void (*)(void))get_frozen_object,
                              METH_FASTCALL, NULL};
    if (!is_wanted()) {
        return 0;
    }
    if (atoll_frozen_intern() < 0) {
        return -1;
    }
    PyObject *imp = PyImport_ImportModule("_imp");
    int rc = imp != NULL && atoll_facade_put_around(imp, &fix) == 0 && atoll_facade_put_around(imp, &get) == 0
                 ? 0
                 : -1;
    Py_XDECREF(imp);
    return rc;
}
