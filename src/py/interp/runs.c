/* Runs, and what is raised in them.
 *
 * A run is what somebody has called in an interpreter: a call, an exec(), what a pool's worker does for a task or an initializer.  Who
 * runs it has its record, in a session or on a worker's stack; it is on the list of the interpreter's entry from begin to end, so that any
 * thread can find what runs there now, and nothing else.  There is one way to interrupt what runs, and this is it: Interpreter.interrupt(),
 * time limits, futures, pools that are ended, the end of the process.
 *
 * An interruption belongs to one run.  Who interrupts marks the run, under the lock of the entry's runs; the run's thread takes the mark
 * and raises what it says, or finds it at the run's end, where the run fails with it instead of succeeding.  So a run that was marked
 * raises once, and no other one does:
 *
 *   operation x operation   mark                       take (the run's thread)   end (likewise)
 *   mark                    the first counts           one of them is first      not marked, or it fails
 *   take                    -                          -                         -
 *
 * The mark is looked at where the thread comes by: in a pending call of its interpreter's, which needs no GIL to be asked for; by a wait
 * of Atoll's, which is woken; and between two system calls, to which it is led (signals.c).  The pending call runs on any thread of the
 * interpreter.  On another one it leaves an asynchronous exception for the run's, whose class, when CPython calls it to have an
 * exception, raises what is due; it is taken back when the run has ended.
 *
 * Calls inside of calls.  A run whose thread has gone on into another interpreter cannot raise.  What it is waiting for is unwound
 * instead: KeyboardInterrupt is raised in the innermost run of that thread, again at each knock, until the marked run is the innermost.
 * Code further in may catch it, and is asked again at the next knock.
 *
 * Where it would be lost, in destructors that Atoll calls say, nothing is raised (deaf).  While an exception is described, by code that
 * catches everything, it is raised when that takes long, and again and again (keeping); at last it is what is described.
 *
 * Locks.  Each entry's lock of its runs, `runs_taken`, is spun for: it is held for a few instructions, by the thread that has the GIL or by
 * who interrupts.  Inside of it, the list of runs that are watched.  Neither is held when anything is called.
 * Failure: without memory for an exception's own message nobody is interrupted, and the caller is told so.
 * Fork: a child has no runs; that of the thread that forked goes on unknown.  End of an interpreter: a run holds its gate, so none is left.
 */
#include "py/interp/runs.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_THREADS = 64 }; /* more are knocked at by the next knock */
enum { TRIES = 6 };         /* to have the exception that is to be raised, */
#define LATER 0.02          /* the first time so much later, then each time FACTOR times that */
#define FACTOR 4
#define PATIENCE 2.0 /* with code that describes an exception */

static _Thread_local __attribute__((tls_model("initial-exec"))) atoll_run *innermost;
static _Thread_local int thread_number; /* 0: not known yet */

atoll_interruption atoll_keyboard_interrupt = {.type = &PyExc_KeyboardInterrupt};
atoll_interruption atoll_system_exit = {.type = &PyExc_SystemExit};

static _Atomic(uint64_t) knocks;

_Atomic(uint32_t) atoll_runs_word;
static atoll_lock watch_lock;
static atoll_run *watched;

/* ---- what is raised ---- */

static void retain(atoll_interruption *interruption) {
    if (interruption->type == NULL) {
        atomic_fetch_add_explicit(&interruption->refs, 1, memory_order_relaxed);
    }
}

void atoll_interruption_release(atoll_interruption *interruption) {
    if (interruption != NULL && interruption->type == NULL &&
        atomic_fetch_sub_explicit(&interruption->refs, 1, memory_order_acq_rel) == 1) {
        atoll_message_clear(&interruption->exc);
        free(interruption);
    }
}

/* 0, or -1 with what says why this cannot be raised. */
static int check_exception(PyObject *exc) {
    if (PyExceptionInstance_Check(exc)) {
        return 0;
    }
    if (!PyExceptionClass_Check(exc)) {
        PyErr_Format(PyExc_TypeError, "exc must be an exception class or an exception, not %R", exc);
        return -1;
    }
    PyObject *made = PyObject_CallNoArgs(exc);
    bool good = made != NULL && PyExceptionInstance_Check(made);
    if (made != NULL && !good) {
        PyErr_Format(PyExc_TypeError, "exc: calling %R makes no exception", exc);
    }
    Py_XDECREF(made);
    return good ? 0 : -1;
}

atoll_interruption *atoll_interruption_new(atoll_state *state, PyObject *exc) {
    if (exc == PyExc_KeyboardInterrupt) {
        return &atoll_keyboard_interrupt;
    }
    if (check_exception(exc) < 0) {
        return NULL;
    }
    atoll_interruption *made = calloc(1, sizeof *made);
    if (made == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    atomic_init(&made->refs, 1);
    if (atoll_encode_whole(state->codec, &made->exc, exc, "exc") < 0) {
        atoll_interruption_release(made);
        return NULL;
    }
    return made;
}

/* False, with another exception, when it cannot be had here. */
static bool set_exception(const atoll_interruption *interruption) {
    if (interruption->type != NULL) {
        PyErr_SetNone(*interruption->type);
        return true;
    }
    atoll_state *state = atoll_state_of(PyInterpreterState_Get());
    PyObject *exc = state != NULL ? atoll_decode(state->codec, &interruption->exc) : NULL;
    bool good = exc != NULL && (PyExceptionInstance_Check(exc) || PyExceptionClass_Check(exc));
    if (good && PyExceptionInstance_Check(exc)) {
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    } else if (good) {
        PyErr_SetNone(exc);
    }
    Py_XDECREF(exc);
    return good;
}

/* The same, with the next best, which says why. */
static void set_exception_anyhow(const atoll_interruption *interruption) {
    if (set_exception(interruption)) {
        return;
    }
    PyObject *why = PyErr_GetRaisedException();
    PyErr_SetString(PyExc_KeyboardInterrupt, "the exception to be raised cannot be had here");
    PyObject *instead = PyErr_GetRaisedException();
    PyException_SetCause(instead, why); /* takes it */
    PyErr_SetRaisedException(instead);
}

/* ---- the list of an entry's runs ---- */

static void take_runs(atoll_entry *entry) {
    while (atomic_exchange_explicit(&entry->runs_taken, true, memory_order_acquire)) {
        atoll_yield();
    }
}

static void give_runs(atoll_entry *entry) {
    atomic_store_explicit(&entry->runs_taken, false, memory_order_release);
}

static atoll_run *find_locked(const atoll_entry *entry, uint64_t serial) {
    atoll_run *run = entry->runs;
    while (run != NULL && run->serial != serial) {
        run = run->next;
    }
    return run;
}

/* Under the lock of its entry's runs: it is looked at then. */
static void watch_locked(atoll_run *run, double when) {
    atoll_lock_take(&watch_lock);
    if (!run->watched) {
        run->watched = true;
        run->watch_prev = NULL;
        run->watch_next = watched;
        if (watched != NULL) {
            watched->watch_prev = run;
        }
        watched = run;
        run->look = INFINITY;
    }
    run->look = when < run->look ? when : run->look;
    run->looks = 0;
    atoll_lock_give(&watch_lock);
    atomic_fetch_add(&atoll_runs_word, 1);
    atoll_word_wake(&atoll_runs_word, 1);
}

static void unwatch(atoll_run *run) {
    atoll_lock_take(&watch_lock);
    *(run->watch_prev != NULL ? &run->watch_prev->watch_next : &watched) = run->watch_next;
    if (run->watch_next != NULL) {
        run->watch_next->watch_prev = run->watch_prev;
    }
    atoll_lock_give(&watch_lock);
}

/* ---- on the run's thread ---- */

/* The run that this one, the innermost of its thread, is to raise something for: itself, or one further out. */
static const atoll_run *asked(const atoll_run *run) {
    if (run->deaf || ((run->keeping || run->tries != 0) && atoll_clock() < run->patience)) {
        return NULL;
    }
    if (atomic_load(&run->wanted) != NULL) {
        return run;
    }
    for (const atoll_run *outer = run->outer; outer != NULL; outer = outer->outer) {
        if (atomic_load(&outer->wanted) != NULL && atomic_load(&outer->knock) > run->heard) {
            return outer;
        }
    }
    return NULL;
}

bool atoll_run_is_asked(const atoll_entry *entry) {
    return innermost != NULL && innermost->entry == entry && asked(innermost) != NULL;
}

static void take_back_knock(atoll_run *run) {
    if (run->knocked) {
        run->knocked = false;
        PyThreadState *tstate = PyThreadState_Get();
        atoll_state *state = atoll_state_of(run->entry->interp);
        if (state != NULL && state->knock_type != NULL && tstate->async_exc == state->knock_type) {
            (void)PyThreadState_SetAsyncExc(run->ident, NULL);
        }
    }
}

/* Raises what the run was marked with, the reference to which is taken over.  False: that is put off.  It may have to be imported, which
 * cannot be done in the middle of another import. */
static bool raise_taken(atoll_run *run, atoll_interruption *interruption) {
    bool deaf = run->deaf;
    run->deaf = true; /* what is imported for it is not interrupted */
    bool raised = true;
    if (++run->tries >= TRIES) {
        set_exception_anyhow(interruption);
    } else {
        raised = set_exception(interruption);
    }
    run->deaf = deaf;
    if (!raised) {
        PyErr_Clear();
        atoll_interruption *none = NULL;
        if (!atomic_compare_exchange_strong(&run->wanted, &none, interruption)) {
            atoll_interruption_release(interruption); /* another one has come */
        }
        double later = LATER;
        for (int i = 1; i < run->tries; i++) {
            later *= FACTOR;
        }
        run->patience = atoll_clock() + later;
        take_runs(run->entry); /* it may have been looked at meanwhile, and nothing found */
        watch_locked(run, run->patience);
        give_runs(run->entry);
        return false;
    }
    run->tries = 0;
    run->raised++;
    atoll_interruption_release(run->last);
    run->last = interruption;
    return true;
}

/* Whether CPython would drop what is raised here: importlib's callbacks of weak references, which come in the middle of imports. */
static bool is_dropped_here(void) {
    PyFrameObject *frame = PyEval_GetFrame(); /* borrowed */
    if (frame == NULL) {
        return false;
    }
    PyCodeObject *code = PyFrame_GetCode(frame);
    bool dropped =
        PyUnicode_CompareWithASCIIString(code->co_filename, "<frozen importlib._bootstrap>") == 0 &&
        (PyUnicode_CompareWithASCIIString(code->co_name, "cb") == 0 ||
         PyUnicode_CompareWithASCIIString(code->co_name, "remove") == 0);
    Py_DECREF(code);
    return dropped;
}

int atoll_run_check(void) {
    atoll_run *run = innermost;
    if (run == NULL || run->entry->interp != PyInterpreterState_Get()) {
        return 0;
    }
    const atoll_run *target = asked(run);
    if (target == NULL || is_dropped_here()) { /* it is asked again soon */
        return 0;
    }
    take_back_knock(run);
    if (target != run) {
        run->heard = atomic_load(&target->knock);
        PyErr_SetNone(PyExc_KeyboardInterrupt);
        return -1;
    }
    atoll_interruption *interruption =
        run->keeping ? atomic_load(&run->wanted) : atomic_exchange(&run->wanted, NULL);
    if (interruption == NULL) {
        return 0;
    }
    if (run->keeping) {
        retain(interruption);
    }
    if (!raise_taken(run, interruption)) {
        return 0;
    }
    run->kept = run->keeping;
    return -1;
}

void atoll_run_begin(atoll_run *run, atoll_entry *entry, const void *about, uint64_t turn) {
    *run = (atoll_run){.outer = innermost,
                       .entry = entry,
                       .about = about,
                       .turn = turn,
                       .ident = PyThread_get_thread_ident(),
                       .deadline = INFINITY};
    if (thread_number == 0) {
        thread_number = atoll_thread_number();
    }
    run->thread = thread_number;
    take_runs(entry);
    run->serial = ++entry->runs_made;
    run->next = entry->runs;
    if (run->next != NULL) {
        run->next->prev = run;
    }
    entry->runs = run;
    run->listed = true;
    atoll_stat_add(entry->stats, ATOLL_STAT_RUNNERS, 1);
    give_runs(entry);
    if (run->outer != NULL) {
        take_runs(run->outer->entry);
        run->outer->inner = run;
        give_runs(run->outer->entry);
    }
    innermost = run;
    if (run->outer != NULL && asked(run) != NULL) { /* whoever knocked did not see this one */
        atoll_runs_knock(entry);
    }
    if (entry->owned && !atoll_interp_is_running(entry->interp)) {
        run->marked = atoll_interp_set_running(entry->interp) == 0;
        if (!run->marked) {
            PyErr_Clear();
        }
    }
}

bool atoll_run_end(atoll_run *run) {
    atoll_entry *entry = run->entry;
    if (run->marked) {
        atoll_interp_set_not_running(entry->interp);
    }
    if (run->outer != NULL && run->outer->listed) {
        take_runs(run->outer->entry);
        run->outer->inner = NULL;
        give_runs(run->outer->entry);
    }
    take_runs(entry);
    if (run->listed) {
        run->listed = false;
        *(run->prev != NULL ? &run->prev->next : &entry->runs) = run->next;
        if (run->next != NULL) {
            run->next->prev = run->prev;
        }
        atoll_stat_add(entry->stats, ATOLL_STAT_RUNNERS, (uint64_t)-1);
    }
    give_runs(entry);
    if (run->watched) {
        unwatch(run);
    }
    innermost = run->outer;
    take_back_knock(run);
    atoll_interruption *left = atomic_load_explicit(&run->wanted, memory_order_relaxed);
    run->repeated = left != NULL && left == run->last;
    if (left != NULL) {
        if (run->lateness == ATOLL_IN_TIME) {
            PyErr_Clear();
            set_exception_anyhow(left);
        }
        atoll_interruption_release(left);
    }
    atoll_interruption_release(run->last);
    return left != NULL;
}

atoll_run *atoll_run_innermost(void) { return innermost; }

void atoll_run_set_deaf(atoll_run *run, bool deaf) {
    run->deaf = deaf;
    if (deaf) {
        take_back_knock(run);
    }
}

void atoll_run_begin_keeping(atoll_run *run) {
    run->keeping = true;
    run->kept = false;
    run->patience = atoll_clock() + PATIENCE;
}

bool atoll_run_end_keeping(atoll_run *run) {
    run->keeping = false;
    atoll_run_set_deaf(run, true);
    if (run->kept) {
        atoll_interruption_release(atomic_exchange(&run->wanted, NULL));
        atoll_run_raise_again(run);
    }
    return run->kept;
}

void atoll_run_raise_again(const atoll_run *run) { set_exception_anyhow(run->last); }

void atoll_run_set_deadline(atoll_run *run, double deadline) {
    take_runs(run->entry);
    run->deadline = deadline;
    watch_locked(run, deadline);
    give_runs(run->entry);
}

/* ---- on any thread ---- */

/* The class of the asynchronous exceptions: CPython calls it on the run's thread. */
static PyObject *knock_new(PyTypeObject *Py_UNUSED(type), PyObject *Py_UNUSED(args),
                           PyObject *Py_UNUSED(kwargs)) {
    if (atoll_run_check() == 0) {
        PyErr_SetNone(PyExc_KeyboardInterrupt); /* who has set this one was not here */
    }
    return NULL;
}

static PyObject *knock_type(atoll_state *state) {
    static PyType_Slot slots[] = {{Py_tp_new, (void *)knock_new}, {0, NULL}};
    static PyType_Spec spec = {
        .name = "atoll._atoll._Knock", .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, .slots = slots};
    if (state->knock_type == NULL) {
        state->knock_type = PyType_FromSpecWithBases(&spec, PyExc_BaseException);
        PyErr_Clear();
    }
    return state->knock_type;
}

/* Attached to an interpreter in which something was marked, on any thread of its. */
static int on_knock(void *Py_UNUSED(arg)) {
    if (atoll_run_check() < 0) {
        return -1;
    }
    atoll_state *state = atoll_state_of(PyInterpreterState_Get());
    PyObject *type = state != NULL && state->entry != NULL ? knock_type(state) : NULL;
    if (type == NULL) {
        return 0;
    }
    unsigned long idents[MOST_THREADS];
    int count = 0;
    take_runs(state->entry);
    for (atoll_run *run = state->entry->runs; run != NULL && count < MOST_THREADS; run = run->next) {
        if (run->inner == NULL && run != innermost && asked(run) != NULL) {
            run->knocked = true;
            idents[count++] = run->ident;
        }
    }
    give_runs(state->entry);
    for (int i = 0; i < count; i++) {
        (void)PyThreadState_SetAsyncExc(idents[i], type);
    }
    return 0;
}

void atoll_runs_knock_kept(atoll_entry *entry) {
    (void)atoll_compat_add_pending_call(entry->interp, on_knock, NULL); /* a full list is looked at soon */
    atoll_entry_interrupt_waits(entry);
}

void atoll_runs_knock(atoll_entry *entry) {
    if (atoll_entry_guard(entry)) {
        atoll_runs_knock_kept(entry);
        atoll_entry_unguard(entry);
    }
}

int atoll_runs_mark(atoll_entry *entry, atoll_interruption *interruption,
                    bool (*match)(const atoll_run *run, void *arg), void *arg) {
    int count = 0;
    take_runs(entry);
    for (atoll_run *run = entry->runs; run != NULL; run = run->next) {
        if (!match(run, arg)) {
            continue;
        }
        count++;
        atoll_interruption *none = NULL;
        retain(interruption);
        if (!atomic_compare_exchange_strong(&run->wanted, &none, interruption)) {
            atoll_interruption_release(interruption); /* one is pending; the caller has another reference */
        }
        watch_locked(run, 0);
    }
    give_runs(entry);
    return count;
}

bool atoll_runs_is_wanted(atoll_entry *entry, uint64_t serial) {
    take_runs(entry);
    const atoll_run *run = find_locked(entry, serial);
    bool wanted = run != NULL && atomic_load(&run->wanted) != NULL;
    give_runs(entry);
    return wanted;
}

bool atoll_runs_knock_one(atoll_entry *entry, uint64_t serial) {
    bool first = true;
    bool found = false;
    atoll_entry_retain(entry);
    do {
        atoll_entry *next = NULL;
        take_runs(entry);
        atoll_run *run = find_locked(entry, serial);
        if (run != NULL && first) {
            found = atomic_load(&run->wanted) != NULL;
            atomic_store(&run->knock, atomic_fetch_add(&knocks, 1) + 1);
        }
        first = false;
        if (run != NULL && run->inner != NULL) {
            next = run->inner->entry;
            serial = run->inner->serial;
            atoll_entry_retain(next);
        }
        give_runs(entry);
        if (found) {
            atoll_runs_knock(entry);
        }
        atoll_entry_release(entry);
        entry = next;
    } while (entry != NULL);
    return found;
}

bool atoll_runs_due(double now, double soon, double again, atoll_due *due, double *next) {
    atoll_run *first = NULL;
    atoll_lock_take(&watch_lock);
    for (atoll_run *run = watched; run != NULL; run = run->watch_next) {
        if (first == NULL || run->look < first->look) {
            first = run;
        }
    }
    *next = first != NULL ? first->look : INFINITY;
    bool is_due = first != NULL && first->look <= now;
    if (is_due) {
        *due = (atoll_due){.entry = first->entry,
                           .serial = first->serial,
                           .thread = first->thread,
                           .is_late = first->deadline <= now,
                           .looks = first->looks++};
        atoll_entry_retain(first->entry);
        bool wanted = atomic_load(&first->wanted) != NULL;
        first->look = wanted || due->is_late ? now + (due->looks == 0 ? soon : again) : first->deadline;
    }
    atoll_lock_give(&watch_lock);
    return is_due;
}

bool atoll_runs_mark_late(const atoll_due *due) {
    take_runs(due->entry);
    atoll_run *run = find_locked(due->entry, due->serial);
    if (run != NULL) {
        run->lateness = ATOLL_LATE;
        atoll_interruption *none = NULL;
        (void)atomic_compare_exchange_strong(&run->wanted, &none, &atoll_keyboard_interrupt);
    }
    give_runs(due->entry);
    return run != NULL;
}

void atoll_runs_fork(atoll_fork_moment when) {
    if (when == ATOLL_FORK_BEFORE) {
        atoll_lock_take(&watch_lock);
    } else if (when == ATOLL_FORK_PARENT) {
        atoll_lock_give(&watch_lock);
    } else {
        watch_lock = (atoll_lock){0};
        watched = NULL;
    }
}

void atoll_runs_forget(void) {
    thread_number = 0;
    for (atoll_run *run = innermost; run != NULL; run = run->outer) {
        run->listed = run->watched = false;
    }
    innermost = NULL;
}
