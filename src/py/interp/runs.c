/* Runs, and what is raised in them.
 *
 * A run is what somebody has called in an interpreter: a call, an exec(), what a pool's worker does for a task or an initializer.  Who
 * runs it has its record, in a session or on a worker's stack; it is on the list of the interpreter's entry from begin to end, so that any
 * thread can find what runs there now, and nothing else.  There is one way to interrupt what runs, and this is it: Interpreter.interrupt(),
 * time limits, futures, pools that are ended, the end of the process.
 *
 * An interruption belongs to one run.  Who interrupts marks the run, under the lock of the entry's runs; the run's thread takes the mark
 * and raises what it says, or finds it at the run's end, where the run fails with it instead of succeeding.  So a run that was marked
 * raises once, but for what is dropped, and no other one does:
 *
 *   operation x operation   mark                       take (the run's thread)   end (likewise)
 *   mark                    the first counts           one of them is first      not marked, or it fails
 *   take                    -                          -                         -
 *
 * The mark is looked at where the thread comes by: in a pending call of its interpreter's, which needs no GIL to be asked for; by a wait
 * of Atoll's, which is woken; and between two system calls, to which it is led (signals.c).  The pending call runs on any thread of the
 * interpreter.  On another one it leaves an asynchronous exception for the run's, whose class, when CPython calls it to have an
 * exception, returns what is due; it is taken back when the run has ended.  Neither is done where the code is at a bad moment, which is seen
 * by its frame (moments.c): then the pending call is made again, for the thread itself at its next look, for another one at the next knock.
 *
 * While code imports a module it is not interrupted either, for IMPORT seconds: what is cut off there stays half done for as long as the
 * interpreter lives, because importlib forgets a package and not the modules of it that it has (`import asyncio` raises NameError from then
 * on), and an extension module may refuse to be loaded twice (numpy).  The keeper asks again until the import is over.  Where the
 * interpreter ends anyway that is no reason to wait.
 *
 * What was raised may be dropped by CPython.  The run has a reference to it (`exc`) until it is known what became of it, and looks at that
 * each time it comes by, asked by the keeper, and at its end: if it was dropped the run is marked once more.
 *
 * Calls inside of calls.  A run whose thread has gone on into another interpreter cannot raise.  What it is waiting for is unwound
 * instead: KeyboardInterrupt is raised in the innermost run of that thread, again at each knock, until the marked run is the innermost.
 * Code further in may catch it, and is asked again at the next knock.
 *
 * So it is with a thread that winds down another interpreter, which may take for ever: it is in no run there, but the innermost that it has
 * knows what it winds down (`ending`), and what waits there, or loops in an exit function, is unwound as by Ctrl-C.  That interpreter's
 * gate is shut, so who asks it to look has its lock, without which it does not go on to its end.
 *
 * Where it would be lost, in destructors that Atoll calls say, nothing is raised (deaf).  While an exception is described, by code that
 * catches everything, it is raised when that takes long, and again and again (keeping); at last it is what is described.
 *
 * A thread that ends inside of a run, by a function of C's, takes it along: it is found no more, though its interpreter stays entered.  Its
 * record is in its session, which stays.  (That of a worker goes with its stack, after that.)
 *
 * Threads that code has started are in no run.  When their interpreter is closed by force they are asked in the same places (forced.c).
 *
 * Locks.  Each entry's lock of its runs, `runs_taken`, is spun for: it is held for a few instructions, by the thread that has the GIL or by
 * who interrupts.  Inside of it, the list of runs that are watched.  Neither is held when anything is called.
 * Failure: without memory for an exception's own message nobody is interrupted, and the caller is told so.
 * Fork: a child has no runs; that of the thread that forked goes on unknown.  End of an interpreter: a run holds its gate, so none is left.
 */
#include "py/interp/runs.h"

#include "py/interp/budget.h"
#include "py/interp/forced.h"
#include "py/interp/lifecycle.h"
#include "py/interp/moments.h"
#include "py/interp/runs_lock.h"
#include "py/interp/watched.h"

#include <math.h>

enum { MOST_THREADS = 64 }; /* more are knocked at by the next knock */
enum { TRIES = 6 };         /* to have the exception that is to be raised, */
#define LATER 0.02          /* the first time so much later, then each time FACTOR times that */
#define FACTOR 4
#define PATIENCE 2.0      /* with code that describes an exception */
#define DOUBT 0.01        /* s: when it is looked for the first time what became of an exception */
#define IMPORT 5.0        /* s: so long an import is not interrupted, */
#define IMPORT_AGAIN 0.05 /* and so often it is looked whether it is over */

static _Thread_local __attribute__((tls_model("initial-exec"))) atoll_run *innermost;
static _Thread_local __attribute__((tls_model("initial-exec"))) int thread_number; /* 0: not known yet */

static _Atomic(uint64_t) knocks;

/* ---- on the run's thread ---- */

/* The first from there on outwards whose thread was asked to look since it last raised something for one. */
static const atoll_run *knocked(const atoll_run *from, const atoll_run *heeding) {
    while (from != NULL &&
           (atomic_load(&from->wanted) == NULL || atomic_load(&from->knock) <= heeding->heard)) {
        from = from->outer;
    }
    return from;
}

/* The run that this one, the innermost of its thread, is to raise something for: itself, or one further out. */
static const atoll_run *asked(const atoll_run *run) {
    if (run->deaf || ((run->keeping || run->tries != 0) && atoll_clock() < run->patience)) {
        return NULL;
    }
    if (run->import_next != 0 && atoll_clock() < run->import_next) {
        return NULL;
    }
    if (atomic_load(&run->wanted) != NULL) {
        return run;
    }
    return knocked(run->outer, run);
}

/* The same while its thread winds down an interpreter: what goes on there is further in than this run.  Also where that happens in a
 * destructor, as nothing raised there gets out. */
static const atoll_run *asked_below(const atoll_run *run) { return knocked(run, run); }

bool atoll_run_is_asked(const atoll_entry *entry) {
    if (innermost != NULL && innermost->entry == entry) {
        return asked(innermost) != NULL;
    }
    return atomic_load(&entry->forced) ||
           (innermost != NULL && innermost->ending == entry && asked_below(innermost) != NULL);
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
        atoll_interruption_set_anyhow(interruption);
    } else {
        raised = atoll_interruption_set(interruption);
    }
    if (raised && !run->keeping) {
        PyObject *exc = PyErr_GetRaisedException();
        Py_XSETREF(run->exc, Py_NewRef(exc));
        PyErr_SetRaisedException(exc);
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
        atoll_runs_take(run->entry); /* it may have been looked at meanwhile, and nothing found */
        atoll_watched_add(run, run->patience);
        atoll_runs_give(run->entry);
        return false;
    }
    run->tries = 0;
    run->put_off = 0;
    run->raised++;
    atoll_interruption_release(run->last);
    run->last = interruption;
    if (!run->keeping) {
        atomic_store(&run->doubtful, true);
        atoll_runs_take(run->entry);
        atoll_watched_add(run, atoll_clock() + DOUBT);
        atoll_runs_give(run->entry);
    }
    return true;
}

/* With the GIL, by any thread of the interpreter: marks the run once more if what was raised in it was dropped. */
static void look_back(atoll_run *run) {
    if (!atomic_load(&run->doubtful)) {
        return;
    }
    atoll_fate fate = atoll_moment_fate(run->exc);
    if (fate == ATOLL_FATE_OPEN) {
        return;
    }
    atomic_store(&run->doubtful, false);
    atoll_interruption *none = NULL;
    if (fate == ATOLL_FATE_DROPPED) {
        atoll_interruption_retain(run->last);
        if (!atomic_compare_exchange_strong(&run->wanted, &none, run->last)) {
            atoll_interruption_release(run->last); /* another one has come */
        }
    }
}

/* The same for its own thread, after which it does not have the exception for longer than it has to. */
static void look_back_here(atoll_run *run) {
    if (run->exc == NULL || run->deaf || run->keeping) {
        return;
    }
    look_back(run);
    if (!atomic_load(&run->doubtful)) {
        bool deaf = run->deaf;
        run->deaf = true; /* for destructors */
        Py_CLEAR(run->exc);
        run->deaf = deaf;
    }
}

/* The run that is to raise something here: the innermost of this thread, or NULL. */
static atoll_run *run_here(void) {
    atoll_run *run = innermost;
    if (run == NULL || run->entry->interp != PyInterpreterState_Get()) {
        return NULL;
    }
    look_back_here(run);
    return asked(run) != NULL ? run : NULL;
}

/* Attached: whether the code of a run, this thread's or one that waits for the GIL, is not to be interrupted yet because it imports a
 * module.  Then it is not asked for a while. */
static bool is_importing(atoll_run *run) {
    if (atomic_load(&run->wanted) == &atoll_system_exit || atoll_entry_is_barred(run->entry) ||
        atoll_interp_exiting()) {
        return false;
    }
    double now = atoll_clock();
    if (run->import_patience == 0) {
        run->import_patience = now + IMPORT;
    }
    bool importing = now < run->import_patience && atoll_moment_is_import(run->tstate);
    run->import_next = importing ? now + IMPORT_AGAIN : 0;
    return importing;
}

/* Unwinds what the run waits for. */
static int unwind(atoll_run *run, const atoll_run *target) {
    run->heard = atomic_load(&target->knock);
    PyErr_SetNone(PyExc_KeyboardInterrupt);
    return -1;
}

static int check_elsewhere(const PyInterpreterState *here) {
    atoll_run *run = innermost;
    const atoll_run *target =
        run != NULL && run->ending != NULL && run->ending->interp == here ? asked_below(run) : NULL;
    if (target == NULL) {
        return atoll_force_check();
    }
    atoll_redirect_arrived();
    return unwind(run, target);
}

static int check(bool heeds_imports) {
    const PyInterpreterState *here = PyInterpreterState_Get();
    if (innermost == NULL || innermost->entry->interp != here) {
        return check_elsewhere(here);
    }
    atoll_run *run = run_here();
    const atoll_run *target = run != NULL ? asked(run) : NULL;
    if (target == NULL || (heeds_imports && is_importing(run))) {
        return 0;
    }
    atoll_redirect_arrived();
    take_back_knock(run);
    run->import_patience = 0;
    run->import_next = 0;
    if (target != run) {
        run->put_off = 0;
        return unwind(run, target);
    }
    atoll_interruption *interruption =
        run->keeping ? atomic_load(&run->wanted) : atomic_exchange(&run->wanted, NULL);
    if (interruption == NULL) {
        return 0;
    }
    if (run->keeping) {
        atoll_interruption_retain(interruption);
    }
    if (!raise_taken(run, interruption)) {
        return 0;
    }
    run->kept = run->keeping;
    return -1;
}

int atoll_run_check(void) { return check(true); }

void atoll_run_begin(atoll_run *run, atoll_entry *entry, const void *about, uint64_t turn) {
    *run = (atoll_run){.outer = innermost,
                       .entry = entry,
                       .about = about,
                       .turn = turn,
                       .tstate = PyThreadState_Get(),
                       .ident = PyThread_get_thread_ident(),
                       .deadline = INFINITY};
    if (thread_number == 0) {
        thread_number = atoll_thread_number();
    }
    run->thread = thread_number;
    atoll_budget_begin(run);
    atoll_runs_take(entry);
    run->serial = ++entry->runs_made;
    run->next = entry->runs;
    if (run->next != NULL) {
        run->next->prev = run;
    }
    entry->runs = run;
    run->listed = true;
    atoll_stat_add(entry->stats, ATOLL_STAT_RUNNERS, 1);
    atoll_runs_give(entry);
    if (run->outer != NULL) {
        atoll_runs_take(run->outer->entry);
        run->outer->inner = run;
        atoll_runs_give(run->outer->entry);
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

/* Under the lock of its entry's runs: nobody finds it any more. */
static void unlist_locked(atoll_run *run) {
    run->listed = false;
    *(run->prev != NULL ? &run->prev->next : &run->entry->runs) = run->next;
    if (run->next != NULL) {
        run->next->prev = run->prev;
    }
}

bool atoll_run_end(atoll_run *run) {
    atoll_entry *entry = run->entry;
    if (run->marked) {
        atoll_interp_set_not_running(entry->interp);
    }
    if (run->outer != NULL && run->outer->listed) {
        atoll_runs_take(run->outer->entry);
        run->outer->inner = NULL;
        atoll_runs_give(run->outer->entry);
    }
    atoll_runs_take(entry);
    if (run->listed) {
        unlist_locked(run);
        atoll_stat_add(entry->stats, ATOLL_STAT_RUNNERS, (uint64_t)-1);
    }
    atoll_budget_end(run);
    atoll_runs_give(entry);
    if (run->watched) {
        atoll_watched_remove(run);
    }
    innermost = run->outer;
    take_back_knock(run);
    if (run->exc != NULL) {
        look_back(run);
        PyObject *exc = PyErr_GetRaisedException();
        Py_CLEAR(run->exc);
        PyErr_SetRaisedException(exc);
    }
    atoll_interruption *left = atomic_load_explicit(&run->wanted, memory_order_relaxed);
    bool fails = left != NULL && run->lateness == ATOLL_IN_TIME;
    run->repeated = fails && left == run->last;
    if (fails) {
        PyErr_Clear();
        atoll_interruption_set_anyhow(left);
    }
    atoll_interruption_release(left);
    atoll_interruption_release(run->last);
    return fails;
}

void atoll_runs_thread_ends(void) {
    for (atoll_run *run = innermost; run != NULL; run = run->outer) {
        atoll_runs_take(run->entry);
        if (run->listed) {
            unlist_locked(run);
        }
        atoll_runs_give(run->entry);
        if (run->watched) {
            atoll_watched_remove(run);
        }
    }
    innermost = NULL;
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

void atoll_run_raise_again(const atoll_run *run) { atoll_interruption_set_anyhow(run->last); }

void atoll_run_set_deadline(atoll_run *run, double deadline) {
    atoll_runs_take(run->entry);
    run->deadline = deadline;
    atoll_watched_add(run, deadline);
    atoll_runs_give(run->entry);
}

/* ---- on any thread ---- */

/* The class of the asynchronous exceptions: CPython calls it on the run's thread, and raises what it returns.  (To what is raised here it would add a
 * note.) */
static PyObject *knock_new(PyTypeObject *Py_UNUSED(type), PyObject *Py_UNUSED(args),
                           PyObject *Py_UNUSED(kwargs)) {
    if (check(false) == 0) {
        PyErr_SetNone(PyExc_KeyboardInterrupt); /* who has set this one was not here */
    }
    return PyErr_GetRaisedException();
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

/* The runs of other threads that may raise something.  None of them ends meanwhile: for that it needs the GIL. */
static int collect_others(atoll_entry *entry, atoll_run *runs[MOST_THREADS]) {
    int count = 0;
    atoll_runs_take(entry);
    for (atoll_run *run = entry->runs; run != NULL && count < MOST_THREADS; run = run->next) {
        if (run->inner == NULL && run != innermost && !run->deaf) {
            runs[count++] = run;
        }
    }
    atoll_runs_give(entry);
    return count;
}

/* Whether another thread's run would raise something at a bad moment.  It stands where it would raise: it waits for the GIL between two
 * instructions, or is in a call behind which it looks. */
static bool is_at_bad_moment(atoll_run *run) {
    if (is_importing(run)) {
        return true;
    }
    PyFrameObject *frame = PyThreadState_GetFrame(run->tstate);
    bool bad = frame != NULL && atoll_moment_is_bad(frame);
    Py_XDECREF(frame);
    return bad;
}

/* The same for the run of this thread, in a pending call.  CPython makes one that is made again a hundred times at the same place. */
static bool is_here_at_bad_moment(atoll_run *run) {
    PyFrameObject *frame = PyEval_GetFrame(); /* borrowed */
    int place = frame != NULL ? PyFrame_GetLasti(frame) : -1;
    if (run->put_off == 0 || run->bad_frame != frame || run->bad_place != place) {
        if (is_importing(run) || !atoll_moment_is_bad(frame)) {
            return false;
        }
        run->bad_frame = frame;
        run->bad_place = place;
    }
    return true;
}

/* Attached to an interpreter in which something was marked, on any thread of its. */
static int on_knock(void *Py_UNUSED(arg)) {
    atoll_redirect_arrived(); /* it executes bytecode, a hundred times slower as long as it is led */
    atoll_run *here = run_here();
    if (here != NULL && here->put_off < ATOLL_MOMENTS_MOST && is_here_at_bad_moment(here)) {
        here->put_off++;
        (void)atoll_compat_add_pending_call(here->entry->interp, on_knock, NULL);
        return 0;
    }
    if (atoll_run_check() < 0) {
        return -1;
    }
    atoll_state *state = atoll_state_of(PyInterpreterState_Get());
    PyObject *type = state != NULL && state->entry != NULL ? knock_type(state) : NULL;
    if (type == NULL) {
        return 0;
    }
    atoll_run *runs[MOST_THREADS];
    int count = collect_others(state->entry, runs);
    for (int i = 0; i < count; i++) {
        if (!runs[i]->keeping) {
            look_back(runs[i]);
        }
        if (asked(runs[i]) != NULL && !is_at_bad_moment(runs[i])) {
            runs[i]->knocked = true;
            (void)PyThreadState_SetAsyncExc(runs[i]->ident, type);
        }
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

/* The same for one that is being wound down by a thread that runs something elsewhere: it is not freed under its lock. */
static void knock_winding(atoll_entry *entry) {
    atoll_mutex_lock(&entry->lock);
    bool winding = entry->winding;
    if (winding) {
        (void)atoll_compat_add_pending_call(entry->interp, on_knock, NULL);
    }
    atoll_mutex_unlock(&entry->lock);
    if (winding) {
        atoll_entry_interrupt_waits(entry);
    }
}

bool atoll_runs_knock_one(atoll_entry *entry, uint64_t serial) {
    bool first = true;
    bool found = false;
    atoll_entry_retain(entry);
    do {
        atoll_entry *next = NULL;
        atoll_entry *ending = NULL;
        atoll_runs_take(entry);
        atoll_run *run = atoll_runs_find_locked(entry, serial);
        if (run != NULL && first) {
            found = atoll_runs_is_to_look(run);
            atomic_store(&run->knock, atomic_fetch_add(&knocks, 1) + 1);
        }
        first = false;
        if (run != NULL && run->inner != NULL) {
            next = run->inner->entry;
            serial = run->inner->serial;
            atoll_entry_retain(next);
        }
        if (run != NULL && run->ending != NULL) {
            ending = run->ending;
            atoll_entry_retain(ending);
        }
        atoll_runs_give(entry);
        if (found) {
            atoll_runs_knock(entry);
        }
        if (ending != NULL) {
            if (found) {
                knock_winding(ending);
            }
            atoll_entry_release(ending);
        }
        atoll_entry_release(entry);
        entry = next;
    } while (entry != NULL);
    return found;
}

void atoll_runs_fork(atoll_fork_moment when) { atoll_watched_fork(when); }

void atoll_runs_forget(void) {
    thread_number = 0;
    for (atoll_run *run = innermost; run != NULL; run = run->outer) {
        run->listed = run->watched = false;
    }
    innermost = NULL;
}
