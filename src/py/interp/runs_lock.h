/* The lock of an entry's runs, and finding one: for the files that look after runs (runs.c says how). */
#ifndef ATOLL_PY_INTERP_RUNS_LOCK_H
#define ATOLL_PY_INTERP_RUNS_LOCK_H

#include "py/interp/runs.h"

static inline void atoll_runs_take(atoll_entry *entry) {
    while (atomic_exchange_explicit(&entry->runs_taken, true, memory_order_acquire)) {
        atoll_yield();
    }
}

static inline void atoll_runs_give(atoll_entry *entry) {
    atomic_store_explicit(&entry->runs_taken, false, memory_order_release);
}

/* Whether its thread is to look: it is marked, or CPython may have dropped what it raised. */
static inline bool atoll_runs_is_to_look(const atoll_run *run) {
    return atomic_load(&run->wanted) != NULL || atomic_load(&run->doubtful);
}

static inline atoll_run *atoll_runs_find_locked(const atoll_entry *entry, uint64_t serial) {
    atoll_run *run = entry->runs;
    while (run != NULL && run->serial != serial) {
        run = run->next;
    }
    return run;
}

#endif
