/* What is noted of runs, for who asks their threads to look: that they are to be interrupted, that they are late, what their threads wind down.
 *
 * What a mark means, and what the threads do about it, is in runs.c.
 *
 * Locks: that of an entry's runs, and inside of it the list of those that are watched; or entry->lock.
 */
#include "py/interp/runs.h"

#include "py/interp/runs_lock.h"
#include "py/interp/watched.h"

int atoll_runs_mark(atoll_entry *entry, atoll_interruption *interruption,
                    bool (*match)(const atoll_run *run, void *arg), void *arg) {
    int count = 0;
    atoll_runs_take(entry);
    for (atoll_run *run = entry->runs; run != NULL; run = run->next) {
        if (!match(run, arg)) {
            continue;
        }
        count++;
        atoll_interruption *none = NULL;
        atoll_interruption_retain(interruption);
        if (!atomic_compare_exchange_strong(&run->wanted, &none, interruption)) {
            atoll_interruption_release(interruption); /* one is pending; the caller has another reference */
        }
        atoll_watched_add(run, 0);
    }
    atoll_runs_give(entry);
    return count;
}

bool atoll_runs_is_wanted(atoll_entry *entry, uint64_t serial) {
    atoll_runs_take(entry);
    const atoll_run *run = atoll_runs_find_locked(entry, serial);
    bool wanted = run != NULL && atoll_runs_is_to_look(run);
    atoll_runs_give(entry);
    return wanted;
}

bool atoll_runs_mark_late(const atoll_due *due) {
    atoll_runs_take(due->entry);
    atoll_run *run = atoll_runs_find_locked(due->entry, due->serial);
    if (run != NULL) {
        run->lateness = run->spent ? ATOLL_SPENT : ATOLL_LATE;
        atoll_interruption *none = NULL;
        (void)atomic_compare_exchange_strong(&run->wanted, &none, &atoll_keyboard_interrupt);
    }
    atoll_runs_give(due->entry);
    return run != NULL;
}

/* ---- winding down ---- */

static void set_ending(atoll_run *run, atoll_entry *entry) {
    atoll_runs_take(run->entry);
    run->ending = entry;
    atoll_runs_give(run->entry);
}

static void set_winding(atoll_entry *entry, bool winding) {
    atoll_mutex_lock(&entry->lock);
    entry->winding = winding;
    atoll_mutex_unlock(&entry->lock);
}

atoll_entry *atoll_run_begin_wind_down(atoll_entry *entry) {
    atoll_run *run = atoll_run_innermost();
    atoll_entry *before = run != NULL ? run->ending : NULL;
    if (run != NULL) {
        set_winding(entry, true);
        set_ending(run, entry);
    }
    return before;
}

void atoll_run_end_wind_down(atoll_entry *entry, atoll_entry *before) {
    atoll_run *run = atoll_run_innermost(); /* none in a child that was forked meanwhile */
    if (run != NULL) {
        set_ending(run, before);
    }
    set_winding(entry, false);
}
