/* Which thread threading takes for an interpreter's main one, on CPython 3.12.
 *
 * It takes the one that imports it.  Where that is another one than the process's main thread, a pool's worker say, code that asks
 * (threading.current_thread() is threading.main_thread()) would set signal handlers there, and fail.  Newer versions take the
 * process's main thread, in every interpreter.
 *
 * The last that threading does when it is imported is to call os.register_at_fork(); so that is replaced, in a new
 * interpreter, by a function that calls it and then, for threading, has atoll._quirks correct what was noted.
 *
 * The interpreter is attached everywhere.
 */
#include "py/mainthread.h"

#include "port/port.h"
#include "py/session.h"

static void correct(void) {
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *quirks = PyImport_ImportModule("atoll._quirks");
    PyObject *done = quirks != NULL
                         ? PyObject_CallMethod(quirks, "correct_main_thread", "k", atoll_session_main_ident())
                         : NULL;
    Py_XDECREF(done);
    Py_XDECREF(quirks);
    PyErr_Clear(); /* then code that asks is told that this is the main thread */
    PyErr_SetRaisedException(exc);
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
    if (result != NULL && is_threading(kwargs) && !atoll_thread_is_main()) {
        correct();
    }
    return result;
}

void atoll_main_thread_prepare(void) {
    static PyMethodDef def = {"register_at_fork", (PyCFunction)(void (*)(void))register_at_fork,
                              METH_VARARGS | METH_KEYWORDS, NULL};
    if (!ATOLL_MAIN_THREAD_IS_WHO_IMPORTS) {
        return;
    }
    PyObject *os = PyImport_ImportModule("os");
    PyObject *original = os != NULL ? PyObject_GetAttrString(os, "register_at_fork") : NULL;
    PyObject *instead = original != NULL ? PyCFunction_New(&def, original) : NULL;
    if (instead != NULL) {
        (void)PyObject_SetAttrString(os, "register_at_fork", instead);
    }
    Py_XDECREF(instead);
    Py_XDECREF(original);
    Py_XDECREF(os);
    PyErr_Clear();
}
