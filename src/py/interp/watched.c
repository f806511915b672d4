/* Which runs are to be looked at, and when: what was marked, has a time limit, or may take only so much processor time.
 *
 * The keeper (interrupt.c) asks for the next one that is due, and sleeps until then.  Whoever wants one looked at before wakes it.
 *
 * Locks: that of the list, inside of that of an entry's runs.  A run is on the list until its end, so whoever has the lock may use it.
 *
 * End of Python: runs of threads that are left behind never end, and lie on stacks that may go with their threads, which CPython ends
 * when they ask for a GIL.  So nothing is on the list from then on until Python begins again.
 */
#include "py/interp/watched.h"

#include "py/interp/runs_lock.h"

#include <math.h>

enum { LOOKS = 20 }; /* at one that somebody has, until it counts as caught */

_Atomic(uint32_t) atoll_runs_word;
static atoll_lock watch_lock;
static atoll_run *watched;
static double planned = INFINITY; /* when the keeper looks again, unless it is doing so */
static _Atomic(bool) over;        /* Python ends; written under the list's lock */

void atoll_watched_add(atoll_run *run, double when) {
    atoll_lock_take(&watch_lock);
    if (over) {
        atoll_lock_give(&watch_lock);
        return;
    }
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
    bool sooner = run->look < planned;
    atoll_lock_give(&watch_lock);
    if (sooner) {
        atomic_fetch_add(&atoll_runs_word, 1);
        atoll_word_wake(&atoll_runs_word, 1);
    }
}

void atoll_watched_put_off(atoll_run *run, double when) {
    atoll_lock_take(&watch_lock);
    run->look = when < run->deadline ? when : run->deadline;
    run->looks = 0;
    atoll_lock_give(&watch_lock);
}

/* Under the lock of the list. */
static void take_off(atoll_run *run) {
    run->watched = false;
    *(run->watch_prev != NULL ? &run->watch_prev->watch_next : &watched) = run->watch_next;
    if (run->watch_next != NULL) {
        run->watch_next->watch_prev = run->watch_prev;
    }
}

void atoll_watched_remove(atoll_run *run) {
    atoll_lock_take(&watch_lock);
    if (run->watched) {
        take_off(run);
    }
    atoll_lock_give(&watch_lock);
}

void atoll_watched_end(void) {
    atoll_lock_take(&watch_lock);
    while (watched != NULL) {
        take_off(watched);
    }
    over = true;
    atoll_lock_give(&watch_lock);
}

bool atoll_watched_is_over(void) { return atomic_load(&over); }

void atoll_watched_forget(void) {
    atoll_lock_take(&watch_lock);
    over = false;
    atoll_lock_give(&watch_lock);
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
        if (first->looks > LOOKS) {
            atomic_store(&first->doubtful, false); /* somebody keeps it: it was caught */
        }
        bool wanted = atoll_runs_is_to_look(first);
        first->look = wanted || due->is_late ? now + (due->looks == 0 ? soon : again) : first->deadline;
    }
    planned = *next;
    atoll_lock_give(&watch_lock);
    return is_due;
}

void atoll_watched_fork(atoll_fork_moment when) {
    if (when == ATOLL_FORK_BEFORE) {
        atoll_lock_take(&watch_lock);
    } else if (when == ATOLL_FORK_PARENT) {
        atoll_lock_give(&watch_lock);
    } else {
        watch_lock = (atoll_lock){0};
        watched = NULL; /* `over` stays: it may be the child of what runs while Python ends */
        planned = INFINITY;
    }
}
