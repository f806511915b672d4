/* Functions that take the place of a module's own, and look like them.
 *
 * In an interpreter some functions of the standard library do something else than CPython's: _imp.create_dynamic() loads clones,
 * signal.signal() asks main.  Programs look at functions: inspect.signature(), help(), `__module__`, pickle, the type.  So what is put
 * into the module is a function of C with the module as its self, and the original's name and documentation, which has the signature;
 * whatever object does the work, of Python or of C, is called by it with the same arguments.
 *
 * A function of C that is bound to its module has no place for more.  Which one it is says its C function, of which there is one for
 * each name on the list below; what it calls is in a list that the interpreter's own dict has.  That goes with the interpreter, after
 * its modules.
 *
 * Definitions are the process's: made when a function is first replaced, from the original, which may be in a clone that is unloaded
 * later; never freed.
 *
 * Locks: none.  Two interpreters may make the same definition at a time; the first is kept.
 */
#include "py/facade.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define EACH_FUNCTION(X)                                                                                     \
    X("_ctypes", "dlclose", 0)                                                                               \
    X("_ctypes", "dlopen", 1)                                                                                \
    X("_imp", "create_builtin", 2)                                                                           \
    X("_imp", "create_dynamic", 3)                                                                           \
    X("_signal", "getsignal", 4)                                                                             \
    X("_signal", "pause", 5)                                                                                 \
    X("_signal", "pthread_kill", 6)                                                                          \
    X("_signal", "raise_signal", 7)                                                                          \
    X("_signal", "set_wakeup_fd", 8)                                                                         \
    X("_signal", "signal", 9)                                                                                \
    X("_tracemalloc", "start", 10)                                                                           \
    X("_tracemalloc", "stop", 11)                                                                            \
    X("faulthandler", "cancel_dump_traceback_later", 12)                                                     \
    X("faulthandler", "disable", 13)                                                                         \
    X("faulthandler", "dump_traceback_later", 14)                                                            \
    X("faulthandler", "enable", 15)                                                                          \
    X("faulthandler", "is_enabled", 16)                                                                      \
    X("faulthandler", "register", 17)                                                                        \
    X("faulthandler", "unregister", 18)                                                                      \
    X("posix", "kill", 19)                                                                                   \
    X("posix", "register_at_fork", 20)                                                                       \
    X("sys", "_current_exceptions", 21)                                                                      \
    X("sys", "_current_frames", 22)                                                                          \
    X("_thread", "interrupt_main", 23)                                                                       \
    X("_signal", "pidfd_send_signal", 24)                                                                    \
    X("_signal", "pthread_sigmask", 25)                                                                      \
    X("posix", "killpg", 26)                                                                                 \
    X("_imp", "_fix_co_filename", 27)                                                                        \
    X("_imp", "get_frozen_object", 28)                                                                       \
    X("sys", "intern", 29)                                                                                   \
    X("pwd", "getpwall", 30)                                                                                 \
    X("grp", "getgrall", 31)

#define COUNT 32
#define KEY "atoll.replaced"

/* What each calls in the attached interpreter: a list; borrowed, or NULL without an exception. */
static PyObject *implementations(void) {
    PyObject *dict = PyInterpreterState_GetDict(PyInterpreterState_Get()); /* borrowed */
    PyObject *list = dict != NULL ? PyDict_GetItemString(dict, KEY) : NULL;
    return list != NULL && PyList_CheckExact(list) ? list : NULL;
}

static PyObject *call(size_t which, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    PyObject *list = implementations();
    PyObject *function = list != NULL ? Py_NewRef(PyList_GET_ITEM(list, (Py_ssize_t)which)) : NULL;
    if (function == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the interpreter is ending");
        return NULL;
    }
    PyObject *result = PyObject_Vectorcall(function, args, (size_t)nargs, kwnames);
    Py_DECREF(function);
    return result;
}

#define DEFINE(module, name, number)                                                                         \
    static PyObject *call_##number(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t nargs,       \
                                   PyObject *kwnames) {                                                      \
        return call(number, args, nargs, kwnames);                                                           \
    }
EACH_FUNCTION(DEFINE)

#define ROW(module, name, number) {module, name, (PyCFunction)(void (*)(void))call_##number},
static const struct {
    const char *module;
    const char *name;
    PyCFunction function;
} known[COUNT] = {EACH_FUNCTION(ROW)};

static _Atomic(PyMethodDef *) definitions[COUNT];

/* Index into `known`, or COUNT. */
static size_t find(PyObject *module, const char *name) {
    size_t i = 0;
    while (i < COUNT && (strcmp(known[i].name, name) != 0 || !PyUnicode_Check(module) ||
                         PyUnicode_CompareWithASCIIString(module, known[i].module) != 0)) {
        i++;
    }
    return i;
}

/* NULL with MemoryError. */
static PyMethodDef *define(size_t which, const char *doc) {
    PyMethodDef *there = atomic_load(&definitions[which]);
    if (there != NULL) {
        return there;
    }
    size_t size = doc != NULL ? strlen(doc) + 1 : 0;
    PyMethodDef *mine = malloc(sizeof *mine + size);
    if (mine == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    char *copy = size != 0 ? memcpy(mine + 1, doc, size) : NULL;
    *mine = (PyMethodDef){known[which].name, known[which].function, METH_FASTCALL | METH_KEYWORDS, copy};
    if (!atomic_compare_exchange_strong(&definitions[which], &there, mine)) {
        free(mine);
        return there;
    }
    return mine;
}

/* 0, or -1 with an exception. */
static int keep(size_t which, PyObject *implementation) {
    PyObject *list = implementations();
    if (list != NULL) {
        return PyList_SetItem(list, (Py_ssize_t)which, Py_NewRef(implementation));
    }
    PyObject *dict = PyInterpreterState_GetDict(PyInterpreterState_Get()); /* borrowed */
    list = dict != NULL ? PyList_New(COUNT) : NULL;
    for (Py_ssize_t i = 0; list != NULL && i < COUNT; i++) {
        PyList_SET_ITEM(list, i, Py_NewRef(i == (Py_ssize_t)which ? implementation : Py_None));
    }
    int rc = list != NULL ? PyDict_SetItemString(dict, KEY, list) : -1;
    Py_XDECREF(list);
    if (dict == NULL && !PyErr_Occurred()) {
        PyErr_NoMemory();
    }
    return rc;
}

static bool is_facade(PyCFunction does) {
    for (size_t i = 0; i < COUNT; i++) {
        if (does == known[i].function) {
            return true;
        }
    }
    return false;
}

PyObject *atoll_facade_new(PyObject *original, PyObject *implementation) {
    PyObject *self = PyCFunction_CheckExact(original) ? PyCFunction_GET_SELF(original) : NULL;
    if (self == NULL || !PyModule_Check(self)) {
        return Py_NewRef(implementation);
    }
    const PyMethodDef *like = ((PyCFunctionObject *)original)->m_ml;
    if (is_facade(like->ml_meth)) {
        return Py_NewRef(original); /* it would call itself */
    }
    PyObject *module = ((PyCFunctionObject *)original)->m_module;
    size_t which = module != NULL ? find(module, like->ml_name) : COUNT;
    if (which == COUNT) {
        PyErr_Format(PyExc_SystemError, "%R is not on Atoll's list of functions to imitate", original);
        return NULL;
    }
    PyMethodDef *definition = define(which, like->ml_doc);
    if (definition == NULL || keep(which, implementation) < 0) {
        return NULL;
    }
    return PyCFunction_NewEx(definition, self, module);
}

int atoll_facade_put(PyObject *module, const char *name, PyObject *implementation) {
    PyObject *original = PyObject_GetAttrString(module, name);
    PyObject *function = original != NULL ? atoll_facade_new(original, implementation) : NULL;
    int rc = function != NULL ? PyObject_SetAttrString(module, name, function) : -1;
    Py_XDECREF(function);
    Py_XDECREF(original);
    return rc;
}

int atoll_facade_put_around(PyObject *module, PyMethodDef *definition) {
    PyObject *original = PyObject_GetAttrString(module, definition->ml_name);
    PyObject *function = original != NULL ? PyCFunction_New(definition, original) : NULL;
    int rc = function != NULL ? atoll_facade_put(module, definition->ml_name, function) : -1;
    Py_XDECREF(function);
    Py_XDECREF(original);
    return rc;
}
