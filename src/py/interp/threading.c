/* What threading knows of an interpreter's threads.
 *
 * Its main one, on CPython 3.12.  There threading takes the thread that imports it.  Where that is another one than the process's
 * main thread, a pool's worker say, code that asks (threading.current_thread() is threading.main_thread()) would set signal
 * handlers there, and fail.  Newer versions take the process's main thread, in every interpreter.
 *
 * Those of pools.  Atoll starts them, so threading has a dummy for one that asks for its current thread: logging shows
 * "Dummy-1", and threads that a task starts are daemons like that.  So a worker's thread is made one of threading's own, with
 * the name that the pool has given it, as soon as threading is there: the worker itself sees to it where that is imported
 * before, else it is done by whoever imports it.
 *
 * The last that threading does when it is imported is to call os.register_at_fork(); so that is replaced, in a new
 * interpreter, by a function that calls it and then, for threading, does both.  atoll._interp.threading has the details.
 *
 * Failure: what is not known to threading has a dummy there; no more.  The interpreter is attached everywhere.
 */
#include "py/interp/threading.h"

#include "port/port.h"
#include "py/facade.h"
#include "py/interp/pools.h"
#include "py/interp/session.h"

/* atoll._interp.threading.NAME(...): 0, or -1 with an exception. */
static int call(const char *name, const char *format, ...) {
    va_list args;
    va_start(args, format);
    PyObject *module = PyImport_ImportModule("atoll._interp.threading");
    PyObject *function = module != NULL ? PyObject_GetAttrString(module, name) : NULL;
    PyObject *values = function != NULL ? Py_VaBuildValue(format, args) : NULL;
    PyObject *result = values != NULL ? PyObject_CallObject(function, values) : NULL;
    Py_XDECREF(values);
    Py_XDECREF(function);
    Py_XDECREF(module);
    va_end(args);
    Py_XDECREF(result);
    return result != NULL ? 0 : -1;
}

int atoll_threading_adopt(const char *prefix, uint32_t number) {
    PyObject *module = atoll_python_module_loaded("threading");
    int rc = module == NULL ? 0 : call("adopt", "(sI)", prefix, (unsigned)number) < 0 ? -1 : 1;
    Py_XDECREF(module);
    return rc;
}

void atoll_threading_let_go(bool forget) {
    if (call("let_go", "(i)", (int)forget) < 0) {
        PyErr_Clear(); /* it stays known: nobody is left who asks */
    }
}

static bool is_threading(PyObject *kwargs) {
    PyObject *function =
        kwargs != NULL ? PyDict_GetItemString(kwargs, "after_in_child") : NULL; /* borrowed */
    PyObject *module = function != NULL ? PyObject_GetAttrString(function, "__module__") : NULL;
    bool is = module != NULL && PyUnicode_Check(module) &&
              PyUnicode_CompareWithASCIIString(module, "threading") == 0;
    Py_XDECREF(module);
    PyErr_Clear();
    return is;
}

static PyObject *register_at_fork(PyObject *original, PyObject *args, PyObject *kwargs) {
    PyObject *result = PyObject_Call(original, args, kwargs);
    if (result != NULL && is_threading(kwargs)) {
        if (ATOLL_MAIN_THREAD_IS_WHO_IMPORTS && !atoll_thread_is_main()) {
            if (call("correct_main_thread", "(k)", atoll_session_main_ident()) < 0) {
                PyErr_Clear(); /* then code that asks is told that this is the main thread */
            }
        }
        atoll_the_pools->introduce();
    }
    return result;
}

void atoll_threading_prepare(void) {
    static PyMethodDef def = {"register_at_fork", (PyCFunction)(void (*)(void))register_at_fork,
                              METH_VARARGS | METH_KEYWORDS, NULL};
    PyObject *os = PyImport_ImportModule("os");
    PyObject *original = os != NULL ? PyObject_GetAttrString(os, "register_at_fork") : NULL;
    PyObject *instead = original != NULL ? PyCFunction_New(&def, original) : NULL;
    if (instead != NULL) {
        (void)atoll_facade_put(os, "register_at_fork", instead);
    }
    Py_XDECREF(instead);
    Py_XDECREF(original);
    Py_XDECREF(os);
    PyErr_Clear();
}
