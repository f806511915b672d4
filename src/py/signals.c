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
#include "py/session.h"
#include "py/tripped.h"

#define TICK 0.05
#define PATIENCE 20

static atoll_mutex lock = ATOLL_MUTEX_INIT;
static atoll_cond wake;
static bool started;
static _Atomic(bool) asleep = true;
static _Atomic(atoll_entry *) watched;

/* Runs on any thread of the interpreter the main thread was in; its thread state is attached. */
static int handle_signals(void *Py_UNUSED(arg)) {
    atoll_session *root = atoll_session_current();
    if (root == NULL || !atoll_thread_is_main()) {
        return 0; /* another thread of that interpreter was faster, or the session is over: the next tick asks again */
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
    if (!raised) {
        return 0;
    }
    PyErr_SetNone(PyExc_KeyboardInterrupt);
    return -1;
}

int atoll_signals_check(void) {
    return atoll_session_current() != NULL ? handle_signals(NULL) : PyErr_CheckSignals();
}

/* In place of PyErr_CheckSignals() and Py_MakePendingCalls(), whoever called them: attached, between two system calls. */
static int check_instead(void) {
    return atoll_session_current() != NULL ? handle_signals(NULL) : PyErr_CheckSignals();
}

static int calls_instead(void) {
    return atoll_session_current() != NULL ? handle_signals(NULL) : Py_MakePendingCalls();
}

/* Whether a signal waits while the main thread is inside. */
static bool is_due(void) { return atomic_load(&watched) != NULL && atoll_tripped(); }

static void interrupt_call(void) {
    const atoll_redirection redirection = {
        .function = {(uintptr_t)PyErr_CheckSignals, (uintptr_t)Py_MakePendingCalls},
        .instead = {(uintptr_t)check_instead, (uintptr_t)calls_instead},
    };
    (void)atoll_redirect(atoll_thread_main_number(), &redirection, is_due);
}

static void watch(void *Py_UNUSED(arg)) {
    atoll_mutex_lock(&lock);
    for (;;) {
        atomic_store(&asleep, true);
        while (atomic_load(&asleep) && atomic_load(&watched) == NULL) {
            atoll_cond_wait(&wake, &lock);
        }
        atomic_store(&asleep, false);
        int idle = 0;
        int waiting = 0; /* for how many ticks a signal has */
        while (idle < PATIENCE) {
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
            if (atoll_entry_guard(entry)) {
                /* A full list means that it will look at its pending calls anyway. */
                (void)atoll_add_pending_call(entry->interp, handle_signals, NULL);
                atoll_entry_unguard(entry);
            }
            if (waiting > 1) {
                atoll_mutex_unlock(&lock);
                interrupt_call();
                atoll_mutex_lock(&lock);
            }
        }
    }
}

void atoll_signals_watch(atoll_entry *entry) {
    atomic_store(&watched, entry);
    if (entry == NULL || !atomic_load_explicit(&asleep, memory_order_relaxed)) {
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

void atoll_signals_forget(void) {
    atoll_mutex_lock(&lock);
    atoll_mutex_unlock(&lock);
}

void atoll_signals_after_fork(void) {
    atoll_mutex_init(&lock);
    atoll_redirect_after_fork();
    started = false;
    atomic_store(&asleep, true);
}
