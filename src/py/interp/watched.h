/* Runs that are to be looked at, and when: see watched.c. */
#ifndef ATOLL_PY_INTERP_WATCHED_H
#define ATOLL_PY_INTERP_WATCHED_H

#include "py/interp/runs.h"

/* Under the lock of its entry's runs: it is looked at then, or before. */
void atoll_watched_add(atoll_run *run, double when);
/* It was looked at, and is looked at again then. */
void atoll_watched_put_off(atoll_run *run, double when);
/* It is over. */
void atoll_watched_remove(atoll_run *run);
/* Python ends, attached to main: nothing is looked at any more, whatever is added.  Python has begun again: it is. */
void atoll_watched_end(void);
bool atoll_watched_is_over(void);
void atoll_watched_forget(void);
void atoll_watched_fork(atoll_fork_moment when);

#endif
