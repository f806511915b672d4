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
 * A close by force (reap.c) interrupts all, also those that threading joins, before it is certain that the interpreter ends: nothing has
 * changed when one of them does not. They are led out of system calls, too, as runs are (interrupt.c).
 *
 * No lock is held: the threads need the GIL to end, and perhaps the lifecycle lock.
 */
#include "py/interp/stragglers.h"

#include "port/port.h"
#include "py/interp/forced.h"
#include "py/interp/moments.h"
#include "py/interp/session.h"
#include "py/interp/signals.h"

#define POLL 0.001     /* they are looked for so often, */
#define POLL_MOST 0.02 /* or the longer it takes the less often, where nobody interrupts them, */
#define STARTING                                                                                             \
    0.5 /* those that are being started are left alone at first: who has started them waits for them */
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

enum { MOST = 64 }; /* more are interrupted when the first have ended */

typedef struct {
    int count;
    int threads[MOST]; /* the system's numbers */
} found;

/* Those besides mine, without those of sessions that are over. */
static void look_for_others(atoll_entry *entry, PyThreadState *mine, found *others) {
    others->count = 0;
    for (PyThreadState *t = PyInterpreterState_ThreadHead(entry->interp); t != NULL;
         t = PyThreadState_Next(t)) {
        if (t == mine || atoll_tstate_is_cached(entry, t)) {
            continue;
        }
        if (others->count < MOST) {
            others->threads[others->count] = (int)t->native_thread_id;
        }
        others->count++;
    }
}

/* Threads that have been interrupted, so that each may do what it does at its end before it is interrupted again. */
typedef struct {
    int count;
    unsigned long idents[MOST];
    double until; /* then all of this is forgotten */
} spared;

static bool is_spared(const spared *those, unsigned long ident) {
    int i = 0;
    while (i < those->count && those->idents[i] != ident) {
        i++;
    }
    return i < those->count || i == MOST;
}

/* Whom to interrupt: at first those that have not just been given something that they would keep, and are found at a better moment later;
 * then also others, but for those that are being started, or start one: who has started it waits for it; in the end all. */
typedef enum { AT_GOOD_MOMENTS, STARTED, ANYHOW } whom;

/* Whether that thread is one of them.  Keeps no exception. */
static bool is_one_of(PyThreadState *t, whom these, bool one_starts) {
    if (these == ANYHOW) {
        return true;
    }
    PyFrameObject *frame = PyThreadState_GetFrame(t);
    PyErr_Clear(); /* no memory */
    bool is = frame != NULL &&
              !atoll_moment_is_start(frame, one_starts) && /* without one it is about to begin */
              (these == STARTED || !atoll_moment_is_bad(frame));
    Py_XDECREF(frame);
    return is;
}

static void interrupt_others(atoll_entry *entry, PyThreadState *mine, whom these, spared *those) {
    int before = those->count;
    bool one_starts = is_one_starting();
    for (PyThreadState *t = PyInterpreterState_ThreadHead(entry->interp); t != NULL;
         t = PyThreadState_Next(t)) {
        if (t != mine && !atoll_tstate_is_cached(entry, t) && !is_spared(those, t->thread_id) &&
            is_one_of(t, these, one_starts)) {
            those->idents[those->count++] = t->thread_id;
        }
    }
    for (int i = before; i < those->count; i++) {
        (void)PyThreadState_SetAsyncExc(those->idents[i], PyExc_SystemExit);
    }
}

static whom whom_next(int times, int most) {
    if (times <= most / 2) {
        return AT_GOOD_MOMENTS;
    }
    return times <= most ? STARTED : ANYHOW;
}

/* Patience is counted in interrupts: on a machine that is busy each of them takes longer to arrive. */
bool atoll_stop_daemons(atoll_entry *entry, PyThreadState *mine, double patience) {
    const int most = (int)(patience / INTERRUPT_EACH);
    spared those = {0};
    for (int times = 0;;) {
        found others;
        look_for_others(entry, mine, &others);
        if (others.count == 0) {
            return true;
        }
        double now = atoll_clock();
        if (now >= those.until) {
            those = (spared){.until = now + INTERRUPT_EACH};
            times++;
        }
        interrupt_others(entry, mine, whom_next(times, most), &those);
        if (times > most) {
            return false;
        }
        atoll_entry_interrupt_waits(entry);
        (void)PyEval_SaveThread();
        atoll_sleep(POLL);
        PyEval_RestoreThread(mine);
    }
}

/* ---- before it is certain that the interpreter ends ---- */

typedef struct {
    double deadline;
    const _Atomic(bool) *given_up;
} ending;

static _Thread_local const ending *waiting_for; /* of who leads a thread out of a system call */

static bool is_over(const ending *e) { return atoll_clock() >= e->deadline || atomic_load(e->given_up); }

static bool goes_on(void) { return !is_over(waiting_for); }

/* Detached. */
static void lead_out(atoll_entry *entry, const found *others, const ending *e) {
    waiting_for = e;
    for (int i = 0; i < others->count && i < MOST && goes_on(); i++) {
        atoll_force_knock(entry); /* where CPython's functions are inlined the thread is not led to ours */
        atoll_signals_lead_out(others->threads[i], goes_on);
    }
    waiting_for = NULL;
}

static bool await_joined(atoll_entry *entry, PyThreadState *mine, const ending *e) {
    double pause = POLL;
    while (atoll_has_threads(entry, mine)) {
        if (is_over(e)) {
            return false;
        }
        (void)PyEval_SaveThread();
        atoll_sleep(pause);
        pause = pause < POLL_MOST ? pause * 2 : pause;
        PyEval_RestoreThread(mine);
    }
    return true;
}

static bool force_all(atoll_entry *entry, PyThreadState *mine, const ending *e) {
    double began = atoll_clock();
    double next = 0;
    found others;
    for (;;) {
        look_for_others(entry, mine, &others);
        if (others.count == 0 || is_over(e)) {
            return others.count == 0;
        }
        double now = atoll_clock();
        bool interrupt = now >= next && (now > began + STARTING || !is_one_starting());
        for (int i = 0; interrupt && i < others.count && i < MOST; i++) {
            atoll_force_knock(entry); /* whoever comes by ends, in a place where it may */
        }
        atoll_entry_interrupt_waits(entry);
        (void)PyEval_SaveThread();
        if (interrupt && next != 0) { /* the first time it is often not needed */
            lead_out(entry, &others, e);
        }
        next = interrupt ? atoll_clock() + INTERRUPT_EACH : next;
        atoll_sleep(POLL);
        PyEval_RestoreThread(mine);
    }
}

bool atoll_stop_threads(atoll_entry *entry, PyThreadState *mine, double deadline, bool force,
                        const _Atomic(bool) *given_up) {
    const ending e = {deadline, given_up};
    if (!force) {
        return await_joined(entry, mine, &e);
    }
    atoll_force_set(entry, true);
    bool ended = force_all(entry, mine, &e);
    atoll_force_set(entry, false);
    return ended;
}
