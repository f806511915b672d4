/* Threads that are left in an interpreter that is to end.
 *
 * CPython ends the process when an interpreter ends in which any thread but the one that ends it has a thread state.  There
 * are four kinds of them:
 *
 *   cached ones of Atoll's sessions    deleted before (session.c)
 *   of threads that a library started  kept out before (foreign.c)
 *   that threading joins               joined
 *   all others                         daemons, and what _thread or C has started, which the end of a process treats as such:
 *                                      interrupted.  SystemExit is raised in them, and
 *                                      what waits in Atoll is woken.  One that does not end within a
 *                                      moment, because it is inside a system call say, keeps its interpreter's
 *                                      memory: the interpreter is closed for everybody, and ended later or never
 *
 * No lock is held: the threads need the GIL to end, and perhaps the lifecycle lock.
 */
#include "py/interp/stragglers.h"

#include "port/port.h"
#include "py/interp/session.h"

#define POLL 0.001          /* they are looked for so often, */
#define INTERRUPT_EACH 0.05 /* and interrupted again so often: code may catch SystemExit and go on */

/* The module of this name if it was imported in the attached interpreter; else NULL, without an exception. */
static PyObject *loaded_module(const char *name) {
    PyObject *key = PyUnicode_FromString(name);
    PyObject *module = key != NULL ? PyImport_GetModule(key) : NULL;
    Py_XDECREF(key);
    PyErr_Clear();
    return module;
}

/* Whether this is a thread that would be joined; true as well where that cannot be told.  No exception is left. */
static bool is_joined(PyObject *thread) {
    PyObject *daemon = PyObject_GetAttrString(thread, "daemon");
    int is_daemon = daemon != NULL ? PyObject_IsTrue(daemon) : -1;
    Py_XDECREF(daemon);
    PyErr_Clear();
    return is_daemon <= 0;
}

bool atoll_has_threads(atoll_entry *entry, PyThreadState *mine) {
    PyObject *threading = loaded_module("threading");
    PyObject *active = threading != NULL ? PyObject_GetAttrString(threading, "_active") : NULL;
    PyObject *threads = active != NULL && PyDict_Check(active) ? PyDict_Copy(active) : NULL;
    Py_XDECREF(active);
    Py_XDECREF(threading);
    PyErr_Clear();
    bool found = false;
    PyObject *ident, *thread;
    for (Py_ssize_t at = 0; !found && threads != NULL && PyDict_Next(threads, &at, &ident, &thread);) {
        /* Those of sessions are there, too: threading notes whoever asks for the current thread. */
        unsigned long number = PyLong_Check(ident) ? PyLong_AsUnsignedLong(ident) : 0;
        PyErr_Clear();
        PyThreadState *t = PyInterpreterState_ThreadHead(entry->interp);
        while (t != NULL && (t == mine || t->thread_id != number || atoll_tstate_is_cached(entry, t))) {
            t = PyThreadState_Next(t);
        }
        found = t != NULL && is_joined(thread);
    }
    Py_XDECREF(threads);
    return found;
}

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
    PyObject *threading = loaded_module("threading");
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
    PyObject *exits = loaded_module("atexit");
    PyObject *done = exits != NULL ? PyObject_CallMethod(exits, "_run_exitfuncs", NULL) : NULL;
    if (exits != NULL && done == NULL) {
        PyErr_WriteUnraisable(exits);
    }
    Py_XDECREF(done);
    Py_XDECREF(exits);
}

/* Whether threading has started a thread that has not begun to run: who started it waits for that, and would wait for ever for one
 * that was interrupted before. */
static bool is_one_starting(void) {
    PyObject *threading = loaded_module("threading");
    PyObject *limbo = threading != NULL ? PyObject_GetAttrString(threading, "_limbo") : NULL;
    bool found = limbo != NULL && PyDict_Check(limbo) && PyDict_GET_SIZE(limbo) != 0;
    Py_XDECREF(limbo);
    Py_XDECREF(threading);
    PyErr_Clear();
    return found;
}

/* How many there are besides mine; interrupted when asked for. */
static int others(atoll_entry *entry, PyThreadState *mine, bool interrupt) {
    enum { MOST = 64 }; /* more are interrupted when the first have ended */
    unsigned long idents[MOST];
    int count = 0;
    for (PyThreadState *t = PyInterpreterState_ThreadHead(entry->interp); t != NULL;
         t = PyThreadState_Next(t)) {
        if (t != mine) {
            if (count < MOST) {
                idents[count] = t->thread_id;
            }
            count++;
        }
    }
    for (int i = 0; interrupt && i < count && i < MOST; i++) {
        (void)PyThreadState_SetAsyncExc(idents[i], PyExc_SystemExit);
    }
    return count;
}

bool atoll_stop_daemons(atoll_entry *entry, PyThreadState *mine, double patience) {
    double deadline = atoll_clock() + patience;
    double next = 0;
    while (true) {
        double now = atoll_clock();
        bool interrupt = now >= next && (now > deadline - patience / 2 || !is_one_starting());
        if (others(entry, mine, interrupt) == 0) {
            return true;
        }
        if (now >= deadline) {
            return false;
        }
        next = interrupt ? now + INTERRUPT_EACH : next;
        atoll_entry_interrupt_waits(entry);
        (void)PyEval_SaveThread();
        atoll_sleep(POLL);
        PyEval_RestoreThread(mine);
    }
}
