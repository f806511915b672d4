/* Processor time of what runs in an interpreter that may take only so much of it: see budget.c. */
#ifndef ATOLL_PY_INTERP_BUDGET_H
#define ATOLL_PY_INTERP_BUDGET_H

#include "py/interp/runs.h"

static inline bool atoll_budget_is_limited(const atoll_entry *entry) {
    return atomic_load_explicit(&entry->cpu_limit, memory_order_relaxed) != 0;
}

/* A run begins and ends, on its thread; before it is seen on its entry's list, and when it is not any more. */
void atoll_budget_begin(atoll_run *run);
void atoll_budget_end(atoll_run *run);
/* What the runs of an entry have taken, in ns. */
uint64_t atoll_budget_used(atoll_entry *entry);
bool atoll_budget_is_spent(atoll_entry *entry);
/* What was taken before does not count. */
void atoll_budget_renew(atoll_entry *entry);
/* Of a run of an entry with a limit: it is looked at when it may have taken what is left. */
void atoll_budget_watch(atoll_run *run);
/* It is looked at: the run is late from now on, or looked at again. */
void atoll_budget_check(const atoll_due *due);

#endif
