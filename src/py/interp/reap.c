/* Closing an interpreter within a time, by force, or without waiting: Interpreter.close(timeout=, force=, wait=).
 *
 * A close() without these is refused while somebody is inside, and takes as long as it takes, on the thread that calls it (ending.c).  Here
 * it is the other way round: who is inside is waited for, or interrupted, and the caller comes back in time, whatever the interpreter does.
 *
 *   step    on               what happens                                                      when the time is over
 *   empty   the caller       nobody enters any more (barred); calls and tasks that are inside   it is open as before
 *                            are waited for, by force interrupted, ten times a second
 *   idle    another thread   the gate is shut; threads that its code has started are waited      it is open as before
 *                            for, by force all end with SystemExit (stragglers.c)
 *   end     another thread   the way of every interpreter (ending.c)                             goes on without the caller
 *
 * Another thread, because attaching to the interpreter may take for ever, where code in C keeps its GIL, and so may its exit functions and
 * finalizers.  It is started for each close.  When the caller does not wait any longer (its time is over, or it was interrupted itself) that
 * thread opens the interpreter again if it comes to that before the end has begun.  From then on there is no way back: the interpreter is
 * closed for everybody, and ends as soon as what holds it up does.
 *
 * A close() that does not wait has all three steps on the other thread, without an end to its patience, after what was submitted has
 * been done (core/pool/line.h), which enters it until then, and so may others.  Where nothing is to be waited for the gate is shut before
 * the caller comes back.
 *
 * Who finds that somebody else is closing it waits for what becomes of that: then it is gone, or it is tried again.  So of several that
 * close one interpreter one succeeds, the others get InterpreterNotFoundError.
 *
 * What does not end is described by atoll._interp.stuck, which reads the stacks out of this process's memory as `python -m atoll stacks`
 * does: no GIL is needed for it but the caller's.
 *
 * Ownership: what the two threads share, a reaping, has a reference of each.  Locks: none held while anything is called; the caller waits
 * on the entry's list (registry.h).  Thread states: the caller is attached to `from`'s interpreter, and detached while it waits; the other
 * thread has one in the interpreter only.  Failure: without that thread the interpreter is open as before.
 */
#include "core/pool/pool.h"
#include "py/interp/blocking.h"
#include "py/interp/interrupt.h"
#include "py/interp/lifecycle_internal.h"
#include "py/interp/stragglers.h"

#include <math.h>
#include <stdlib.h>

#define AGAIN 0.1 /* seconds from one interrupt to the next */
#define FOREIGN 5.0
#define DAEMONS 1.0
#define MARGIN                                                                                               \
    0.5 /* that the other thread has, after the time is over, to say what it has come to: it needs the GIL for that */

/* ---- the other thread ---- */

enum { UNDERWAY, CLOSED, THREADS_LEFT, FOREIGN_INSIDE, NO_MEMORY };

typedef struct {
    _Atomic(uint32_t) refs;
    atoll_entry *entry; /* a reference */
    atoll_signal_mask signals;
    double deadline;
    bool force;
    _Atomic(bool) given_up; /* nobody waits for it any more */
    _Atomic(int) result;
} reaping;

static void release(reaping *r) {
    if (atomic_fetch_sub(&r->refs, 1) == 1) {
        atoll_entry_release(r->entry);
        free(r);
    }
}

static int end(reaping *r) {
    atoll_entry *entry = r->entry;
    PyThreadState *mine = atoll_tstate_of(entry);
    if (mine == NULL) {
        return NO_MEMORY;
    }
    PyEval_RestoreThread(mine);
    bool alone = atoll_stop_threads(entry, mine, r->deadline, r->force, &r->given_up);
    (void)PyEval_SaveThread();
    if (!alone) {
        return THREADS_LEFT;
    }
    double left = r->deadline - atoll_clock();
    const atoll_patience patience = {.foreign = left < FOREIGN ? fmax(left, 0) : FOREIGN, .daemons = DAEMONS};
    switch (atoll_interp_end(entry, &patience)) {
    case ATOLL_END_REFUSED:
        return FOREIGN_INSIDE;
    case ATOLL_END_FAILED:
        return NO_MEMORY;
    case ATOLL_END_DONE:
    case ATOLL_END_ZOMBIE:
        break;
    }
    return CLOSED;
}

static void reap(void *raw) {
    reaping *r = raw;
    atoll_signal_mask_set(&r->signals); /* for what exit functions start */
    atoll_thread_name("atoll_close");
    int result = end(r);
    if (result != CLOSED) {
        atoll_entry_open(r->entry);
    }
    atomic_store(&r->result, result);
    atoll_entry_tell(r->entry);
    release(r);
}

/* NULL: it cannot be had. */
static reaping *start_reaping(atoll_entry *entry, double deadline, bool force) {
    reaping *r = calloc(1, sizeof *r);
    if (r == NULL) {
        return NULL;
    }
    r->entry = entry;
    r->deadline = deadline;
    r->force = force;
    atoll_entry_retain(entry);
    atomic_init(&r->refs, 2);
    atoll_signal_mask_get(&r->signals);
    if (atoll_thread_start(reap, r, 0) < 0) {
        atoll_entry_release(entry);
        free(r);
        return NULL;
    }
    return r;
}

/* ---- the caller ---- */

typedef enum { CLOSING, GONE, TIMED_OUT, INSIDE, NO_THREAD, RAISED } progress;

typedef struct {
    atoll_state *from; /* NULL: the caller has no interpreter */
    atoll_entry *entry;
    double deadline;
    bool force;
    reaping *reaping;
    atoll_blocking blocking;
} closing;

/* Somebody else is closing it. */
static bool is_decided(void *raw) {
    atoll_life life = atoll_entry_life(raw);
    return life == ATOLL_LIFE_OPEN || life >= ATOLL_LIFE_ZOMBIE;
}

static bool is_reaped(void *raw) { return atomic_load(&((reaping *)raw)->result) != UNDERWAY; }

/* Detached: waits.  False: the caller is interrupted, and attached. */
static bool await(closing *c, bool (*ready)(void *what), void *what, double until) {
    atoll_wait_result why = atoll_entry_await(c->entry, ready, what, &c->blocking.waiter, until);
    return c->from == NULL || !atoll_blocking_look(&c->blocking, why) ||
           atoll_blocking_interrupted(&c->blocking) == 0;
}

/* Detached: whether CPython, asked by others, runs code in its __main__. */
static bool is_run_by_others(atoll_entry *entry) {
    bool running = false;
    if (atoll_entry_guard(entry)) {
        running = atoll_interp_is_running(entry->interp);
        atoll_entry_unguard(entry);
    }
    return running;
}

/* Detached, but where it is RAISED: until nobody is inside, and the gate is shut by this thread. */
static progress empty(closing *c) {
    double next = 0; /* interrupt */
    for (;;) {
        double now = atoll_clock();
        if (c->force && now >= next) {
            (void)atoll_interrupt_all(c->entry, &atoll_keyboard_interrupt);
            next = now + AGAIN;
        }
        bool (*ready)(void *) = atoll_entry_is_left;
        bool by_others = is_run_by_others(c->entry);
        atoll_close_result begun = by_others ? ATOLL_CLOSE_BUSY : atoll_entry_begin_close(c->entry);
        if (begun == ATOLL_CLOSE_BEGUN) {
            return CLOSING;
        }
        if (begun == ATOLL_CLOSE_GONE) {
            if (atoll_entry_life(c->entry) >= ATOLL_LIFE_ZOMBIE) {
                return GONE;
            }
            ready = is_decided;
        }
        if (now >= c->deadline) {
            return begun == ATOLL_CLOSE_GONE ? TIMED_OUT : INSIDE;
        }
        double until = c->force || by_others ? fmin(c->deadline, now + AGAIN) : c->deadline;
        if (!await(c, ready, c->entry, until)) {
            return RAISED;
        }
    }
}

/* Likewise: until the other thread has closed it, or opened it again. */
static progress finish(closing *c) {
    c->reaping = start_reaping(c->entry, c->deadline, c->force);
    if (c->reaping == NULL) {
        atoll_entry_open(c->entry);
        return NO_THREAD;
    }
    while (!is_reaped(c->reaping)) {
        if (atoll_clock() >= c->deadline + MARGIN) {
            return TIMED_OUT;
        }
        if (!await(c, is_reaped, c->reaping, c->deadline + MARGIN)) {
            return RAISED;
        }
        if (atoll_entry_life(c->entry) == ATOLL_LIFE_LEFT) { /* a child, without that thread */
            return GONE;
        }
    }
    return CLOSING;
}

/* ---- what is said of it ---- */

/* Sets InterpreterStuckError, which has the stacks. */
static void raise_stuck(const closing *c, const char *what) {
    atoll_label label;
    PyObject *helper = PyImport_ImportModule("atoll._interp.stuck");
    PyObject *exc = helper != NULL
                        ? PyObject_CallMethod(helper, "error", "LsOs", (long long)c->entry->id,
                                              atoll_entry_label(c->entry, &label), c->from->stuck, what)
                        : NULL;
    Py_XDECREF(helper);
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
}

static void raise_left(const closing *c, const char *what) {
    if (c->force) {
        raise_stuck(c, what);
        return;
    }
    atoll_label label;
    PyErr_Format(c->from->error, "cannot close interpreter %s: %s", atoll_entry_label(c->entry, &label),
                 what);
}

static void raise_reaped(const closing *c, int result) {
    switch (result) {
    case CLOSED:
        break;
    case THREADS_LEFT:
        raise_left(c, "a thread still runs in it");
        break;
    case FOREIGN_INSIDE:
        raise_left(c, "a thread of an extension module is still inside");
        break;
    default:
        PyErr_NoMemory();
        break;
    }
}

static void raise_progress(const closing *c, progress result) {
    switch (result) {
    case CLOSING:
        raise_reaped(c, atomic_load(&c->reaping->result));
        break;
    case GONE:
        (void)atoll_raise_not_found(c->from, c->entry->id);
        break;
    case TIMED_OUT:
        raise_left(c, "it is being closed, which something in it holds up");
        break;
    case INSIDE:
        raise_left(c, "interpreter already running");
        break;
    case NO_THREAD:
        PyErr_SetString(c->from->error, "cannot start the thread that closes the interpreter");
        break;
    case RAISED:
        break;
    }
}

int atoll_interp_check_close_within(atoll_state *from, const atoll_entry *entry) {
    if (atoll_interp_check_close(from, entry, true) < 0) {
        return -1;
    }
    atoll_label label;
    if (atoll_session_is_inside(entry)) {
        PyErr_Format(from->error, "cannot close interpreter %s: this thread runs in it",
                     atoll_entry_label(entry, &label));
        return -1;
    }
    if (atomic_load(&entry->pooled)) {
        atoll_interp_raise_pooled(from, entry);
        return -1;
    }
    return 0;
}

int atoll_interp_close_within(atoll_state *from, atoll_entry *entry, double seconds, bool force) {
    closing c = {.from = from, .entry = entry, .deadline = atoll_deadline_after(seconds), .force = force};
    atoll_entry_bar(entry);
    atoll_blocking_begin(&c.blocking, from, c.deadline, ATOLL_WAITS_CLOSE, 0);
    progress result = empty(&c);
    if (result == CLOSING) {
        result = finish(&c);
    }
    if (result != RAISED) {
        atoll_blocking_end(&c.blocking);
    }
    atoll_entry_unbar(entry);
    if (result != RAISED && atoll_blocking_check(from->entry) < 0) {
        result = RAISED;
    }
    raise_progress(&c, result);
    if (c.reaping != NULL) {
        atomic_store(&c.reaping->given_up, true);
        release(c.reaping);
    }
    atoll_interp_sweep(from); /* of what only its objects used */
    return PyErr_Occurred() ? -1 : 0;
}

/* ---- nobody waits ---- */

static _Atomic(int) unattended;

/* Less than none: in a child that was forked by one of them. */
bool atoll_interp_closes_later(void) { return atomic_load(&unattended) > 0; }

void atoll_interp_count_unattended(int by) { (void)atomic_fetch_add(&unattended, by); }

void atoll_interp_later_forked(void) { atomic_store(&unattended, 0); }

/* What the thread has of a close that is not waited for: a reference to the entry. */
typedef struct {
    atoll_entry *entry;
    atoll_signal_mask signals;
    bool begun; /* the gate is shut */
} leaving;

static void close_unattended(leaving *l) {
    atoll_entry *entry = l->entry;
    closing c = {.entry = entry, .deadline = INFINITY};
    atoll_wait_result why;
    while (!atoll_line_await_end(&entry->line, &c.blocking.waiter, INFINITY, &why)) {
    }
    if (!l->begun) {
        atoll_entry_bar(entry);
        progress result = empty(&c);
        atoll_entry_unbar(entry);
        if (result != CLOSING) {
            return; /* somebody else has closed it */
        }
    }
    atoll_interp_count_unattended(1);
    reaping r = {.entry = entry, .deadline = INFINITY};
    if (end(&r) !=
        CLOSED) { /* nobody is left to be told: it can be closed again, or is at the end of the process */
        atoll_entry_open(entry);
        atoll_line_open(&entry->line);
    }
    atoll_entry_tell(entry);
    atoll_interp_sweep_later();
    atoll_interp_count_unattended(-1);
}

static void leave(void *raw) {
    leaving *l = raw;
    atoll_signal_mask_set(&l->signals); /* for what exit functions start */
    atoll_thread_name("atoll_close");
    close_unattended(l);
    atoll_entry_release(l->entry);
    free(l);
}

/* Detached or attached. */
static bool begin_if_idle(atoll_entry *entry) {
    atoll_waiter waiter = {0};
    atoll_wait_result why;
    return atoll_line_await_end(&entry->line, &waiter, 0, &why) && !is_run_by_others(entry) &&
           atoll_entry_begin_close(entry) == ATOLL_CLOSE_BEGUN;
}

int atoll_interp_close_later(atoll_state *from, atoll_entry *entry) {
    if (!atoll_entry_is_open(entry)) {
        atoll_session_raise_shut(from, entry, "close");
        return -1;
    }
    leaving *l = calloc(1, sizeof *l);
    if (l == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    atoll_signal_mask_get(&l->signals);
    atoll_entry_retain(entry);
    l->entry = entry;
    l->begun = begin_if_idle(entry);
    if (atoll_thread_start(leave, l, 0) == 0) {
        return 0;
    }
    if (l->begun) {
        atoll_entry_open(entry);
    }
    atoll_entry_release(entry);
    free(l);
    PyErr_SetString(from->error, "cannot start the thread that closes the interpreter");
    return -1;
}
