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

/* Whether this is a thread that would be joined; true as well where that cannot be told.  No exception is left. */
static bool is_joined(PyObject *thread) {
    PyObject *daemon = PyObject_GetAttrString(thread, "daemon");
    int is_daemon = daemon != NULL ? PyObject_IsTrue(daemon) : -1;
    Py_XDECREF(daemon);
    PyErr_Clear();
    return is_daemon <= 0;
}

bool atoll_has_threads(atoll_entry *entry, PyThreadState *mine) {
    PyObject *threading = atoll_python_module_loaded("threading");
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

/* Whether threading has started a thread that has not begun to run: who started it waits for that, and would wait for ever for one
 * that was interrupted before. */
static bool is_one_starting(void) {
    PyObject *threading = atoll_python_module_loaded("threading");
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
