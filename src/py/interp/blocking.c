/* Waiting for something of Atoll's with the thread state detached.
 *
 * The wait itself is the core's.  What is Python's about it: the GIL is given back first, and a wait can be
 * interrupted.  Three things do that: a signal, whose handler CPython runs on the process's main thread, in
 * the main interpreter (also while that thread is in another one, see signals.c); the end of the process, which
 * interrupts the waits in every interpreter of Atoll's (exit.c) and makes them raise SystemExit, as does the end of
 * an interpreter with those of its daemon threads (stragglers.c); an interruption of what runs (runs.c); and
 * whatever else makes the kernel return early, after which the wait goes on.  Pending calls are no way to reach a thread
 * that waits: only the main thread of the main interpreter looks at them outside of bytecode.
 *
 * The waiter is on this thread's stack.  It is on the entry's list only while detached: attaching may never return, when
 * the interpreter is being finalized.
 */
#include "py/interp/blocking.h"

#include "core/trace/trace.h"
#include "py/gil.h"

#include "py/interp/lifecycle.h"
#include "py/interp/runs.h"
#include "py/interp/session.h"
#include "py/interp/signals.h"

#include <math.h>

int atoll_timeout(PyObject *timeout, double *seconds) {
    if (timeout == NULL || timeout == Py_None) {
        *seconds = INFINITY;
        return 0;
    }
    *seconds = PyFloat_AsDouble(timeout);
    if (*seconds == -1.0 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Format(PyExc_TypeError, "timeout must be a number of seconds or None, not %.200s",
                         Py_TYPE(timeout)->tp_name);
        }
        return -1;
    }
    return 0;
}

double atoll_deadline_after(double seconds) { return isinf(seconds) ? seconds : atoll_clock() + seconds; }

int atoll_deadline(PyObject *timeout, double *deadline) {
    double seconds;
    if (atoll_timeout(timeout, &seconds) < 0) {
        return -1;
    }
    if (!(seconds >= 0)) {
        PyErr_Format(PyExc_ValueError, "timeout must be non-negative, got %R", timeout);
        return -1;
    }
    *deadline = atoll_deadline_after(seconds);
    return 0;
}

#define RECHECK 0.02 /* s: after which the main thread looks for signals again, the first time */

/* True: this thread's wait is to raise SystemExit. */
static bool is_over(const atoll_entry *entry) {
    return entry->owned && (atoll_interp_exiting() || atoll_entry_life(entry) >= ATOLL_LIFE_STOPPING);
}

static void detach(atoll_blocking *b) {
    atoll_stats_interp *stats = b->entry->stats;
    atoll_stat_add(stats, ATOLL_STAT_BLOCKED, 1);
    atoll_stat_set(stats, ATOLL_STAT_BLOCKED_ON, b->what);
    atoll_stat_set(stats, ATOLL_STAT_BLOCKED_ID, (uint64_t)b->id);
    b->tstate = PyEval_SaveThread();
    atoll_entry_add_wait(b->entry, &b->waiter);
    /* Whoever asked before that did not find the waiter. */
    if (is_over(b->entry) || atoll_run_is_asked(b->entry) ||
        atomic_load_explicit(&b->entry->jobs, memory_order_relaxed) != NULL) {
        atomic_store(&b->waiter.interrupted, true);
    }
}

/* What runs until the next detach() does not wait, and may fork. */
static void attach(atoll_blocking *b) {
    atoll_entry_remove_wait(b->entry, &b->waiter);
    uint64_t waits = atoll_gil_look(b->entry);
    PyEval_RestoreThread(b->tstate);
    atoll_gil_had(b->entry, waits);
    atoll_stat_add(b->entry->stats, ATOLL_STAT_BLOCKED, (uint64_t)-1);
}

void atoll_blocking_begin(atoll_blocking *b, atoll_state *state, double deadline, atoll_waits_for what,
                          int64_t id) {
    *b = (atoll_blocking){
        .deadline = deadline, .entry = state->entry, .began = atoll_ticks(), .what = what, .id = id};
    if (atoll_thread_is_main()) {
        b->waiter.recheck = RECHECK;
    }
    atoll_entry_retain(b->entry);
    detach(b);
}

static const char *const waits[ATOLL_WAITS_KINDS] = {
    [ATOLL_WAITS_NOT] = "wait",          [ATOLL_WAITS_GET] = "queue get",
    [ATOLL_WAITS_PUT] = "queue put",     [ATOLL_WAITS_SELECT] = "queue select",
    [ATOLL_WAITS_LOCK] = "lock",         [ATOLL_WAITS_CONDITION] = "condition",
    [ATOLL_WAITS_EVENT] = "event",       [ATOLL_WAITS_BARRIER] = "barrier",
    [ATOLL_WAITS_FUTURE] = "future",     [ATOLL_WAITS_POOL] = "pool",
    [ATOLL_WAITS_TASK] = "idle",         [ATOLL_WAITS_CLOSE] = "close",
    [ATOLL_WAITS_FUNCTION] = "function", [ATOLL_WAITS_SEMAPHORE] = "semaphore",
    [ATOLL_WAITS_ATOMIC] = "atomic",
};

void atoll_blocking_trace(uint64_t began, atoll_waits_for what, int64_t interp, int64_t id) {
    if (atoll_trace_wants()) {
        atoll_trace_add(began, ATOLL_TRACE_WAIT, waits[what], strlen(waits[what]), interp, (uint64_t)id);
    }
}

/* Attached: the wait is over. */
static void count(atoll_blocking *b) {
    atoll_stats_interp *stats = b->entry->stats;
    atoll_stat_add(stats, ATOLL_STAT_WAITS, 1);
    atoll_stat_add(stats, ATOLL_STAT_WAIT_TICKS, atoll_ticks_since(b->began));
    atoll_blocking_trace(b->began, b->what, b->entry->id, b->id);
    atoll_entry_release(b->entry);
}

void atoll_blocking_end(atoll_blocking *b) {
    attach(b);
    count(b);
}

bool atoll_blocking_look(const atoll_blocking *b, atoll_wait_result why) {
    return why == ATOLL_WAIT_SIGNAL || (b->waiter.spun && atoll_thread_is_main());
}

int atoll_blocking_check(atoll_entry *entry) {
    if (atomic_load_explicit(&entry->jobs, memory_order_relaxed) != NULL) {
        atoll_session_housekeeping(entry);
    }
    int rc = atoll_signals_check();
    if (rc == 0) {
        rc = atoll_run_check();
    }
    if (rc == 0 && is_over(entry)) {
        PyErr_SetNone(PyExc_SystemExit);
        rc = -1;
    }
    return rc;
}

int atoll_blocking_interrupted(atoll_blocking *b) {
    attach(b);
    atomic_store(&b->waiter.interrupted, false);
    if (atoll_blocking_check(b->entry) < 0) {
        count(b);
        return -1;
    }
    detach(b);
    return 0;
}

int atoll_blocking_await_word(_Atomic(uint32_t) *word, uint32_t seen, double deadline) {
    atoll_state *state = atoll_state_of(PyInterpreterState_Get());
    if (state == NULL) {
        return 0;
    }
    atoll_blocking b;
    atoll_blocking_begin(&b, state, deadline, ATOLL_WAITS_FUNCTION, 0);
    atoll_wait_result why = atoll_waiter_wait_word(&b.waiter, word, seen, deadline);
    why = atomic_load(&b.waiter.interrupted) ? ATOLL_WAIT_SIGNAL : why;
    if (atoll_blocking_look(&b, why) && atoll_blocking_interrupted(&b) < 0) {
        return -1;
    }
    atoll_blocking_end(&b);
    return 0;
}
