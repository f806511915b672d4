/* Ctrl-C while the main thread is inside another interpreter.
 *
 * CPython runs signal handlers written in Python on the process's main thread, in the main
 * interpreter, between two of its bytecodes.  While that thread runs another interpreter's code it never
 * gets there: a call could not be interrupted.  So a watcher thread looks every TICK seconds whether
 * the main thread is inside a session, and if so asks that interpreter's eval loop (by
 * a pending call, which needs no GIL) to take a step back: attach the main interpreter's
 * thread state that waits below on the stack, let it handle its signals, attach the other
 * again.  Handlers of any signal thus run as the user wrote them; when one returns, the call
 * goes on; when one raises, the exception is kept in the outermost session and a KeyboardInterrupt
 * unwinds the code of the interpreter, at whose end the kept exception is raised in its place.  Code that
 * catches the KeyboardInterrupt has dealt with it, as in a single interpreter.
 *
 * Interpreters have handlers of their own.  For a signal that was set in one (atoll/_interp/signals.py) main's handler notes it in the
 * innermost session of that interpreter; back from main, what was set is called there.  What it raises is raised there: at
 * once where the thread is, and further out, as with main's, when a KeyboardInterrupt has unwound what is inside.
 *
 * Where it is known whether a signal waits for its handler (tripped.c), nothing is asked before that.
 *
 * A system call that blocks (time.sleep, a read, a lock) never gets to the eval loop: when a signal makes it return,
 * CPython runs the handlers and, unless one raises, calls again (PEP 475); but in any interpreter other than main
 * the functions that are to run them do nothing.  So when a signal has waited for a whole tick, the thread is made
 * to come back from its system call once more, and when CPython calls one of those functions then, another one is called in its
 * place (port's atoll_redirect), which does what they do in main.  Where that cannot be had Ctrl-C takes effect when the system
 * call ends.
 *
 * Nothing is paid per call but one store.  When the main thread has made no call for PATIENCE ticks the watcher sleeps
 * without a timeout, until the next one wakes it.
 *
 * A wait of Atoll's own returns on a signal and asks here (blocking.c).
 *
 * Locks: `lock` guards everything but the two atomics.  An entry is looked at only with it held, and a
 * close passes through it (atoll_signals_forget) before the entry can be freed.
 */
#include "py/interp/signals.h"

#include "py/interp/runs.h"
#include "py/interp/session.h"
#include "py/interp/tripped.h"

#include <signal.h>

#define TICK 0.05
#define PATIENCE 20
#define HAND_OVERS 10000

static atoll_mutex lock = ATOLL_MUTEX_INIT;
static atoll_cond wake;
static bool started;
static bool over; /* the main thread has ended, and the process is to end with its last thread */
static _Atomic(bool) asleep = true;
static _Atomic(int) handed_over; /* how often it may still be */
static _Atomic(atoll_entry *) watched;
static atoll_entry *
    winding; /* one that may be entered although its gate is shut: the main thread ends it, not yet for good */

bool atoll_signals_note(int64_t id, int number) {
    if (!atoll_thread_is_main() || number < 1 || number > 64) {
        return false;
    }
    for (atoll_session *s = atoll_session_current(); s != NULL; s = s->prev) {
        if (s->entry->id == id) {
            s->noted |= UINT64_C(1) << (number - 1);
            return true;
        }
    }
    return false;
}

/* Attached to the session's interpreter: calls the handlers there.  0, or -1 with an exception. */
static int call_noted(atoll_session *s) {
    PyObject *module = PyImport_ImportModule("atoll._interp.signals");
    int rc = module != NULL ? 0 : -1;
    while (rc == 0 && s->noted != 0) {
        int number = __builtin_ctzll(s->noted) + 1;
        s->noted &= s->noted - 1;
        s->interrupted |= number == SIGINT;
        PyObject *handler = PyObject_CallMethod(module, "handler_of", "i", number);
        PyObject *frame = (PyObject *)PyEval_GetFrame(); /* borrowed */
        PyObject *done = NULL;
        if (handler != NULL) { /* from here: it sees no frame of Atoll's */
            done = handler == Py_None
                       ? Py_NewRef(Py_None)
                       : PyObject_CallFunction(handler, "iO", number, frame != NULL ? frame : Py_None);
        }
        rc = done != NULL ? 0 : -1;
        Py_XDECREF(done);
        Py_XDECREF(handler);
    }
    Py_XDECREF(module);
    return rc;
}

/* Attached to the innermost session's interpreter: handlers that were set in interpreters are called there.  What one raises
 * further out is kept by the session that was opened there.  0, or -1 with an exception in the innermost. */
static int call_all_noted(atoll_session *top) {
    PyThreadState *here = PyThreadState_Get();
    PyThreadState *there = here; /* the thread state that this thread has in s's interpreter */
    atoll_session *inner = NULL; /* what was opened from s */
    int rc = 0;
    for (atoll_session *s = top; s != NULL; inner = s, there = s->from, s = s->prev) {
        if (s->noted == 0) {
            continue;
        }
        (void)PyThreadState_Swap(there);
        bool raised = call_noted(s) < 0;
        if (raised && inner != NULL) {
            Py_XSETREF(inner->interrupt, PyErr_GetRaisedException());
        }
        (void)PyThreadState_Swap(here);
        if (raised && inner != NULL && rc == 0) {
            PyErr_SetNone(PyExc_KeyboardInterrupt);
        }
        rc = raised ? -1 : rc;
    }
    return rc;
}

/* Runs on any thread of the interpreter the main thread was in; its thread state is attached.  Or another one of this
 * thread, when a handler that runs further out is asked in its turn. */
static int handle_signals(void *Py_UNUSED(arg)) {
    atoll_session *top = atoll_session_current();
    atoll_session *root = top;
    if (root == NULL || !atoll_thread_is_main()) {
        return 0; /* another thread of that interpreter was faster, or the session is over: the next tick asks again */
    }
    if (PyInterpreterState_Get() != top->entry->interp) {
        return PyErr_CheckSignals();
    }
    while (root->prev != NULL) {
        root = root->prev;
    }
    if (root->from_interp != PyInterpreterState_Main()) {
        return 0;
    }
    int c_calls = atoll_share_c_calls(root->from, PyThreadState_Get());
    PyThreadState *here = PyThreadState_Swap(root->from);
    bool raised = PyErr_CheckSignals() < 0;
    if (raised) {
        /* Replaces one that the code inside has caught. */
        Py_XSETREF(root->interrupt, PyErr_GetRaisedException());
    }
    atoll_unshare_c_calls(root->from, c_calls);
    (void)PyThreadState_Swap(here);
    if (call_all_noted(top) < 0) {
        return -1;
    }
    if (!raised) {
        return 0;
    }
    PyErr_SetNone(PyExc_KeyboardInterrupt);
    return -1;
}

/* Whether a signal waits while the main thread is inside. */
static bool is_due(void) { return atomic_load(&watched) != NULL && atoll_tripped(); }

int atoll_signals_check(void) {
    return atoll_session_current() != NULL ? handle_signals(NULL) : PyErr_CheckSignals();
}

/* Another thread of the interpreter that comes by first leaves it to the main thread: some times, then to the watcher. */
static int hand_over(void *Py_UNUSED(arg)) {
    if (!atoll_thread_is_main() && is_due() && atomic_fetch_sub(&handed_over, 1) > 0) {
        (void)atoll_compat_add_pending_call(PyInterpreterState_Get(), hand_over, NULL);
        return 0;
    }
    return handle_signals(NULL);
}

void atoll_signals_poke(void) {
    if (!is_due()) {
        return;
    }
    atomic_store(&handed_over, HAND_OVERS);
    atoll_mutex_lock(&lock);
    atoll_entry *entry = atomic_load(&watched);
    if (entry != NULL && atoll_entry_guard(entry)) {
        (void)atoll_compat_add_pending_call(entry->interp, hand_over, NULL);
        atoll_entry_unguard(entry);
    }
    atoll_mutex_unlock(&lock);
}

/* In place of PyErr_CheckSignals() and Py_MakePendingCalls(), whoever called them: attached, between two system calls. */
static int then_check_runs(int rc) { return rc == 0 ? atoll_run_check() : rc; }

static int check_instead(void) {
    return then_check_runs(atoll_session_current() != NULL ? handle_signals(NULL) : PyErr_CheckSignals());
}

static int calls_instead(void) {
    return then_check_runs(atoll_session_current() != NULL ? handle_signals(NULL) : Py_MakePendingCalls());
}

void atoll_signals_lead_out(int thread, bool (*go_on)(void)) {
    const atoll_redirection redirection = {
        .function = {(uintptr_t)PyErr_CheckSignals, (uintptr_t)Py_MakePendingCalls},
        .instead = {(uintptr_t)check_instead, (uintptr_t)calls_instead},
    };
    (void)atoll_redirect(thread, &redirection, go_on);
}

static void watch(void *Py_UNUSED(arg)) {
    atoll_mutex_lock(&lock);
    while (!over) {
        atomic_store(&asleep, true);
        while (!over && atomic_load(&asleep) && atomic_load(&watched) == NULL) {
            atoll_cond_wait(&wake, &lock);
        }
        atomic_store(&asleep, false);
        int idle = 0;
        int waiting = 0; /* for how many ticks a signal has */
        while (!over && idle < PATIENCE) {
            atoll_mutex_unlock(&lock);
            atoll_sleep(TICK);
            atoll_mutex_lock(&lock);
            atoll_entry *entry = atomic_load(&watched);
            if (entry == NULL) {
                idle++;
                continue;
            }
            idle = 0;
            waiting = is_due() ? waiting + 1 : 0;
            if (waiting == 0 && atoll_tripped_is_known()) {
                continue;
            }
            bool guarded = atoll_entry_guard(entry);
            if (guarded || entry == winding) {
                /* A full list means that it will look at its pending calls anyway. */
                (void)atoll_compat_add_pending_call(entry->interp, handle_signals, NULL);
            }
            if (guarded) {
                atoll_entry_unguard(entry);
            }
            if (waiting > 1) {
                atoll_mutex_unlock(&lock);
                atoll_signals_lead_out(atoll_thread_main_number(), is_due);
                atoll_mutex_lock(&lock);
            }
        }
    }
    atoll_mutex_unlock(&lock);
}

void atoll_signals_watch(atoll_entry *entry) {
    if (entry == NULL) {
        atomic_store_explicit(&watched, NULL, memory_order_release);
        return;
    }
    /* The watcher does the same the other way round: each sees what the other has done, or is seen. */
    atomic_store(&watched, entry);
    if (!atomic_load(&asleep)) {
        return;
    }
    atoll_mutex_lock(&lock);
    if (!started) {
        /* Without the thread, calls work and only cannot be interrupted: tried again at the next one. */
        atoll_cond_init(&wake);
        started = atoll_thread_start(watch, NULL, 0) == 0;
    }
    if (started) {
        atomic_store(&asleep, false);
        atoll_cond_broadcast(&wake);
    }
    atoll_mutex_unlock(&lock);
}

atoll_entry *atoll_signals_wind_down(atoll_entry *entry) {
    atoll_mutex_lock(&lock);
    atoll_entry *before = winding;
    winding = entry;
    atoll_mutex_unlock(&lock);
    return before;
}

void atoll_signals_forget(void) {
    atoll_mutex_lock(&lock);
    atoll_mutex_unlock(&lock);
}

void atoll_signals_end(void) {
    atoll_mutex_lock(&lock);
    over = true;
    if (started) {
        atoll_cond_broadcast(&wake);
    }
    atoll_mutex_unlock(&lock);
}

void atoll_signals_fork(atoll_fork_moment when) {
    atoll_mutex_fork(&lock, when);
    if (when == ATOLL_FORK_CHILD) {
        atoll_redirect_after_fork();
        winding = NULL;
        started = over = false;
        atomic_store(&asleep, true);
        atomic_store(&watched, NULL);
    }
}
