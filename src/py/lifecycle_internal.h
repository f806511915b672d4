/* What lifecycle.c, exit.c and lookup.c share. */
#ifndef ATOLL_PY_LIFECYCLE_INTERNAL_H
#define ATOLL_PY_LIFECYCLE_INTERNAL_H

#include "py/lifecycle.h"
#include "py/session.h"

/* The lifecycle lock: recursive, awaited detached, so any GIL may be taken with it held. A thread state must be
 * attached for lock, none for unlock. */
void atoll_lifecycle_lock(void);
void atoll_lifecycle_lock_detached(void); /* the same where none is attached */
void atoll_lifecycle_unlock(void);
void atoll_lifecycle_fork(atoll_fork_moment when);

typedef enum { ATOLL_END_DONE, ATOLL_END_ZOMBIE, ATOLL_END_BUSY, ATOLL_END_FAILED } atoll_end_result;

/* The gate is shut.  Attaches, checks, ends, comes back to where it was, which may be without a thread state.  BUSY (a foreign
 * thread is inside) and FAILED (with an exception): nothing was done, the gate may be opened again. */
atoll_end_result atoll_interp_end(atoll_entry *entry);

#endif
