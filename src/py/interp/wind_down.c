/* What Py_EndInterpreter does first, done before it: threads are joined, exit functions called.
 *
 * It would do both with the lifecycle lock held by whoever ends interpreters one after the other, and late: threads may want that
 * lock, and exit functions may wait for a library's threads, which are kept out by then.  CPython finds nothing left to do.  The
 * interpreter is attached, no lock is held.  Failure: what goes wrong is reported as unraisable, and the interpreter ends all the same.
 */
#include "py/interp/wind_down.h"

#include "core/base/base.h"
#include "py/state.h"

static PyObject *do_nothing(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(args)) { Py_RETURN_NONE; }

/* On 3.13 an object that belongs to each thread that threading did not start tells threading when that has gone.  Of the
 * thread that ends the interpreter it would do so when 3.13.0's threading has lost all its names. */
static void forget_dummies(PyObject *threading) {
    PyObject *watch = PyObject_GetAttrString(threading, "_DeleteDummyThreadOnDel");
    if (watch == NULL || PyObject_DelAttrString(watch, "__del__") < 0) {
        PyErr_Clear(); /* not in this version */
    }
    Py_XDECREF(watch);
}

/* Says that threading's main thread has ended, as its shutdown does in the main interpreter: debuggers have a thread that waits
 * for that.  3.12 does it everywhere. */
static void end_main_thread(PyObject *threading) {
    static const char *const handles[] = {"_os_thread_handle", "_handle"}; /* of 3.14 and newer, of 3.13 */
    PyObject *main_thread = PyObject_GetAttrString(threading, "_main_thread");
    for (size_t i = 0; main_thread != NULL && i < Py_ARRAY_LENGTH(handles); i++) {
        PyObject *handle = PyObject_GetAttrString(main_thread, handles[i]);
        PyObject *done = handle != NULL ? PyObject_CallMethod(handle, "_set_done", NULL) : NULL;
        Py_XDECREF(done);
        Py_XDECREF(handle);
        PyErr_Clear();
    }
    Py_XDECREF(main_thread);
    PyErr_Clear();
}

/* Joins the attached interpreter's threads, as Py_EndInterpreter would.  Done before it, because that runs with
 * the lifecycle lock held, which those threads may want; and only once, because threading's shutdown is not
 * made to run twice in every version. */
void atoll_join_threads(void) {
    static PyMethodDef nothing = {"_shutdown", do_nothing, METH_NOARGS, NULL};
    PyObject *threading = atoll_python_module_loaded("threading");
    if (threading == NULL) {
        return;
    }
    if (PyInterpreterState_Get() !=
        PyInterpreterState_Main()) { /* there _shutdown() does it, and nothing after that */
        end_main_thread(threading);
    }
    PyObject *done = PyObject_CallMethod(threading, "_shutdown", NULL);
    if (done == NULL && PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) {
        PyErr_Clear(); /* Ctrl-C: whoever ends the interpreter hears of it */
    } else if (done == NULL) {
        PyErr_WriteUnraisable(threading);
    }
    Py_XDECREF(done);
    PyObject *instead = PyCFunction_New(&nothing, NULL);
    if (instead == NULL || PyObject_SetAttrString(threading, "_shutdown", instead) < 0) {
        PyErr_WriteUnraisable(threading);
    }
    Py_XDECREF(instead);
    forget_dummies(threading);
    Py_DECREF(threading);
}

/* As Py_EndInterpreter would, which finds none left.  Before it, and before foreign threads are kept out for good, because an
 * exit function may wait for such a thread: one that stops a pool does. */
void atoll_run_exit_functions(void) {
    PyObject *exits = atoll_python_module_loaded("atexit");
    PyObject *done = exits != NULL ? PyObject_CallMethod(exits, "_run_exitfuncs", NULL) : NULL;
    if (exits != NULL && done == NULL) {
        PyErr_WriteUnraisable(exits);
    }
    Py_XDECREF(done);
    Py_XDECREF(exits);
}

typedef struct {
    destructor finalize;    /* of _io._IOBase, which all kinds of files have from it */
    PyObject *bytes, *text; /* classes of what is in memory only, so that nothing can be lost of it */
    uintptr_t note;
} file_search;

static int look_at(PyObject *object, void *raw) {
    file_search *search = raw;
    PyTypeObject *cls = Py_TYPE(object);
    if (cls->tp_finalize == search->finalize && (PyObject *)cls != search->bytes &&
        (PyObject *)cls != search->text) {
        search->note += atoll_mix_word(0, (uintptr_t)object);
    }
    return 1; /* and go on */
}

uintptr_t atoll_files_note(void) {
    PyObject *io = PyImport_ImportModule("_io");
    PyObject *base = io != NULL ? PyObject_GetAttrString(io, "_IOBase") : NULL;
    file_search search = {
        .bytes = base != NULL ? PyObject_GetAttrString(io, "BytesIO") : NULL,
        .text = base != NULL ? PyObject_GetAttrString(io, "StringIO") : NULL,
    };
    PyErr_Clear();
    if (base != NULL && PyType_Check(base)) {
        search.finalize = ((PyTypeObject *)base)->tp_finalize;
        PyUnstable_GC_VisitObjects(look_at, &search);
    }
    Py_XDECREF(search.text);
    Py_XDECREF(search.bytes);
    Py_XDECREF(base);
    Py_XDECREF(io);
    return search.note;
}
