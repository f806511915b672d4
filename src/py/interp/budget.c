/* How much processor time an interpreter takes that may take only so much of it.
 *
 * What counts is the time of the threads of its runs, as long as they are in it: from a run's begin to its end, without the runs in other
 * interpreters that were begun inside of it.  Each run reads its thread's clock when it begins and ends, in these interpreters only, and their
 * sum stays with the entry.  While it runs, the keeper (interrupt.c) reads the clocks: first when the run could have taken what is left, if it had
 * a processor for itself, and so on.
 *
 *   sum      of the runs that have ended
 *   + each   run that is on the entry's list: its thread's clock now, or when it went on into another interpreter, less that at its begin
 *
 * A run that takes too much is late from then on (interrupt.c), as one whose time is over, but for what it fails with.  A pool's worker
 * begins each task with a sum of 0.
 *
 * Locks: that of the entry's runs, while the list is read; clocks are read without it.  Failure: a clock that cannot be read has not moved.
 */
#include "py/interp/budget.h"

#include "py/interp/runs_lock.h"
#include "py/interp/watched.h"

#define MOST 32        /* runs whose clocks are read */
#define SHORTEST 0.002 /* seconds until it is looked at again */

static bool is_measured(const atoll_run *run) {
    return atoll_budget_is_limited(run->entry) ||
           (run->outer != NULL && atoll_budget_is_limited(run->outer->entry));
}

void atoll_budget_begin(atoll_run *run) {
    if (is_measured(run)) {
        run->cpu_began = atoll_thread_cpu_ns();
    }
}

void atoll_budget_end(atoll_run *run) {
    if (run->cpu_began == 0 || !is_measured(run)) {
        return;
    }
    uint64_t all = atoll_thread_cpu_ns() - run->cpu_began;
    uint64_t own = all > run->cpu_elsewhere ? all - run->cpu_elsewhere : 0;
    atomic_fetch_add_explicit(&run->entry->cpu_past, own, memory_order_relaxed);
    if (run->outer != NULL) {
        atomic_fetch_add_explicit(&run->outer->cpu_elsewhere, all, memory_order_relaxed);
    }
}

uint64_t atoll_budget_used(atoll_entry *entry) {
    struct {
        int thread;   /* whose clock counts, or 0: */
        uint64_t end; /* this */
        uint64_t less;
    } found[MOST];
    int count = 0;
    atoll_runs_take(entry);
    uint64_t sum = atomic_load_explicit(&entry->cpu_past, memory_order_relaxed);
    for (const atoll_run *run = entry->runs; run != NULL && count < MOST; run = run->next) {
        if (run->cpu_began == 0) {
            continue;
        }
        found[count].thread = run->inner == NULL ? run->thread : 0;
        found[count].end = run->inner != NULL ? run->inner->cpu_began : 0;
        found[count].less = run->cpu_began + atomic_load_explicit(&run->cpu_elsewhere, memory_order_relaxed);
        count++;
    }
    atoll_runs_give(entry);
    for (int i = 0; i < count; i++) {
        uint64_t end = found[i].thread != 0 ? atoll_thread_cpu_ns_of(found[i].thread) : found[i].end;
        sum += end > found[i].less ? end - found[i].less : 0;
    }
    return sum;
}

bool atoll_budget_is_spent(atoll_entry *entry) {
    uint64_t limit = atomic_load_explicit(&entry->cpu_limit, memory_order_relaxed);
    return limit != 0 && atoll_budget_used(entry) >= limit;
}

void atoll_budget_renew(atoll_entry *entry) { atomic_store(&entry->cpu_past, 0); }

/* Seconds, 0: nothing. */
static double left_of(atoll_entry *entry) {
    uint64_t limit = atomic_load_explicit(&entry->cpu_limit, memory_order_relaxed);
    uint64_t used = atoll_budget_used(entry);
    return used < limit ? (double)(limit - used) * 1e-9 : 0;
}

/* Under the lock of its entry's runs: it is late, and looked at at once. */
static void spend_locked(atoll_run *run, double now) {
    run->spent = true;
    run->deadline = now;
    atoll_watched_add(run, now);
}

void atoll_budget_watch(atoll_run *run) {
    double left = left_of(run->entry);
    double now = atoll_clock();
    atoll_runs_take(run->entry);
    if (left == 0) {
        spend_locked(run, now);
        run->lateness = ATOLL_SPENT; /* also if it is over before that */
    } else {
        atoll_watched_add(run, now + left);
    }
    atoll_runs_give(run->entry);
}

void atoll_budget_check(const atoll_due *due) {
    double left = left_of(due->entry);
    double now = atoll_clock();
    atoll_runs_take(due->entry);
    atoll_run *run = atoll_runs_find_locked(due->entry, due->serial);
    if (run != NULL && left == 0 && run->cpu_began != 0) {
        spend_locked(run, now);
    } else if (run != NULL && !atoll_runs_is_to_look(run)) {
        atoll_watched_put_off(run, now + (left > SHORTEST ? left : SHORTEST));
    }
    atoll_runs_give(due->entry);
}
