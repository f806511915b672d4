/* Interrupting what runs in an interpreter, at once or when its time is over.
 *
 * Who interrupts marks runs (runs.c) and asks their threads to look.  What that does not reach at once is seen to by one thread of the
 * process, the keeper, which has no thread state.  It looks at each run that was marked, and at each that has a time limit when that is
 * over: then it marks the run as late.  As long as a run is marked it asks again, its thread and those of the interpreters that it has gone
 * on to, and has the thread led out of a system call (signals.c).  A run that is late is marked again as long as it goes on, because code
 * may catch what was raised.  So it is with one that takes more processor time than its interpreter may (budget.c).  With nothing to look at the keeper sleeps.
 *
 *   after a mark    0 s     asked to look: pending calls, waits
 *                   0.01 s  and led out of a system call
 *                   0.1 s   once more, and so on, until it has raised or ended; one that is late is marked again
 *
 * Time limits belong to the thread that has set them, which finds them in a list of its own when it begins a call.  One that another
 * thread has ended (the finalizer of a generator, say) is passed over and freed by the first.
 *
 * Locks: none of its own.  Failure: when the keeper cannot be started a run is only asked once; a limit, of time or of processor time, without
 * it would be none, so that is refused.
 * Fork: a child starts a keeper of its own when it needs one.  End of Python: the keeper stays, with nothing to look at; who
 * ends it waits until what it looks at is done.
 */
#include "py/interp/interrupt.h"

#include "py/interp/budget.h"
#include "py/interp/signals.h"
#include "py/interp/watched.h"

#include <math.h>
#include <stdlib.h>

#define SOON 0.01
#define AGAIN 0.1
#define POLL 0.001

_Thread_local __attribute__((tls_model("initial-exec"))) atoll_time_limit *atoll_time_limits;

/* ---- the keeper ---- */

static _Atomic(bool) keeping;
static _Atomic(bool) seeing; /* it is seeing to a run */
static atoll_due leading;    /* the keeper's: which run is led out of a system call */

static bool is_still_wanted(void) {
    return !atoll_watched_is_over() && atoll_runs_is_wanted(leading.entry, leading.serial);
}

static void see_to(const atoll_due *due) {
    if (!due->is_late && atoll_budget_is_limited(due->entry)) {
        atoll_budget_check(due);
    }
    if (due->is_late && due->looks != 1 && !atoll_runs_mark_late(due)) {
        return;
    }
    if (atoll_runs_knock_one(due->entry, due->serial) && due->looks > 0) {
        leading = *due;
        atoll_signals_lead_out(due->thread, is_still_wanted);
    }
}

static void keep(void *Py_UNUSED(arg)) {
    atoll_thread_name("atoll_keeper");
    for (;;) {
        uint32_t word = atomic_load(&atoll_runs_word);
        atoll_due due;
        double next;
        atomic_store(&seeing, true);
        bool is_due = atoll_runs_due(atoll_clock(), SOON, AGAIN, &due, &next);
        if (is_due) {
            see_to(&due);
            atoll_entry_release(due.entry);
        }
        atomic_store(&seeing, false);
        if (!is_due) {
            (void)atoll_word_wait(&atoll_runs_word, word, next);
        }
    }
}

static bool ensure_keeper(void) {
    if (atomic_load_explicit(&keeping, memory_order_relaxed) || atomic_exchange(&keeping, true)) {
        return true;
    }
    if (atoll_thread_start(keep, NULL, 0) < 0) {
        atomic_store(&keeping, false);
        return false;
    }
    return true;
}

int atoll_interrupt_prepare(void) {
    if (ensure_keeper()) {
        return 0;
    }
    PyErr_SetString(PyExc_RuntimeError, "can't start new thread");
    return -1;
}

void atoll_interrupt_end(void) {
    atoll_watched_end();
    PyThreadState *tstate = PyEval_SaveThread();
    while (atomic_load(&seeing)) {
        atoll_sleep(POLL);
    }
    PyEval_RestoreThread(tstate);
}

void atoll_interrupt_fork(atoll_fork_moment when) {
    atoll_runs_fork(when);
    if (when == ATOLL_FORK_CHILD) {
        atomic_store(&keeping, false);
        atomic_store(&seeing, false);
        atoll_time_limits = NULL; /* of calls that are cut off */
    }
}

/* ---- interrupts ---- */

static int interrupt(atoll_entry *entry, atoll_interruption *interruption,
                     bool (*match)(const atoll_run *run, void *arg), void *arg,
                     void (*knock)(atoll_entry *entry)) {
    int count = atoll_runs_mark(entry, interruption, match, arg);
    if (count != 0) {
        (void)ensure_keeper();
        knock(entry);
    }
    return count;
}

int atoll_interrupt(atoll_entry *entry, atoll_interruption *interruption,
                    bool (*match)(const atoll_run *run, void *arg), void *arg) {
    return interrupt(entry, interruption, match, arg, atoll_runs_knock);
}

static bool is_any(const atoll_run *Py_UNUSED(run), void *Py_UNUSED(arg)) { return true; }

int atoll_interrupt_all(atoll_entry *entry, atoll_interruption *interruption) {
    return atoll_interrupt(entry, interruption, is_any, NULL);
}

int atoll_interrupt_kept(atoll_entry *entry, atoll_interruption *interruption) {
    return interrupt(entry, interruption, is_any, NULL, atoll_runs_knock_kept);
}

/* ---- time limits ---- */

static void free_limit(atoll_time_limit *limit) {
    if (!limit->is_borrowed) {
        atoll_entry_release(limit->entry);
        free(limit);
    }
}

/* Takes those off the list of this thread that are over. */
static void drop_over(void) {
    atoll_time_limit **link = &atoll_time_limits;
    while (*link != NULL) {
        atoll_time_limit *limit = *link;
        if (atomic_load(&limit->over)) {
            *link = limit->outer;
            free_limit(limit);
        } else {
            link = &limit->outer;
        }
    }
}

int atoll_time_limit_begin(atoll_time_limit *limit, double seconds) {
    if (atoll_interrupt_prepare() < 0) {
        return -1;
    }
    drop_over();
    limit->seconds = seconds;
    limit->deadline = atoll_clock() + seconds;
    limit->outer = atoll_time_limits;
    atoll_time_limits = limit;
    return 0;
}

void atoll_time_limit_end(atoll_time_limit *limit) {
    atomic_store(&limit->over, true);
    if (atoll_time_limits != NULL) {
        drop_over();
    }
}

const atoll_time_limit *atoll_time_limit_find(const atoll_entry *entry) {
    const atoll_time_limit *first = NULL;
    for (const atoll_time_limit *limit = atoll_time_limits; limit != NULL; limit = limit->outer) {
        if (limit->entry == entry && !atomic_load(&limit->over) &&
            (first == NULL || limit->deadline < first->deadline)) {
            first = limit;
        }
    }
    return first;
}

void atoll_budget_keep(atoll_run *run) {
    if (atoll_budget_is_limited(run->entry) && ensure_keeper()) {
        atoll_budget_watch(run);
    }
}

bool atoll_time_limit_keep(atoll_run *run) {
    const atoll_time_limit *limit = atoll_time_limit_find(run->entry);
    if (limit == NULL) {
        return false;
    }
    if (ensure_keeper()) {
        atoll_run_set_deadline(run, limit->deadline);
    }
    return limit->deadline <= atoll_clock() &&
           atoll_runs_mark_late(&(atoll_due){.entry = run->entry, .serial = run->serial});
}
