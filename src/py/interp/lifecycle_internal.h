/* What lifecycle.c, ending.c, exit.c and lookup.c share. */
#ifndef ATOLL_PY_INTERP_LIFECYCLE_INTERNAL_H
#define ATOLL_PY_INTERP_LIFECYCLE_INTERNAL_H

#include "py/interp/lifecycle.h"
#include "py/interp/session.h"

/* The lifecycle lock: recursive, awaited detached, so any GIL may be taken with it held. A thread state must be
 * attached for lock, none for unlock. */
void atoll_lifecycle_lock(void);
void atoll_lifecycle_lock_detached(void); /* the same where none is attached */
void atoll_lifecycle_unlock(void);
void atoll_lifecycle_fork(atoll_fork_moment when);

/* Whether it was so before. */
bool atoll_interp_set_exiting(bool value);

typedef enum { ATOLL_END_DONE, ATOLL_END_ZOMBIE, ATOLL_END_REFUSED, ATOLL_END_FAILED } atoll_end_result;

/* How much who ends an interpreter waits for, in seconds. */
typedef struct {
    double foreign; /* one that a library has started has to leave */
    double daemons; /* the threads that are left have to end */
    bool idle_only; /* nothing: it is not ended while threads of its own run that would have to be joined */
} atoll_patience;

/* Takes an entry that is closing, or a zombie that was claimed, as far as it gets on its way to the end (ending.c).  Comes back to
 * where it was, which may be without a thread state.  REFUSED and FAILED (with an exception where a thread state is attached):
 * nothing was done, and one that was closing may be opened again. */
atoll_end_result atoll_interp_end(atoll_entry *entry, const atoll_patience *patience);

/* What the end of the process waits for though no entry shows it: CPython makes an interpreter; it is freed, and destructors of its
 * libraries run. */
void atoll_interp_work_begin(void);
void atoll_interp_work_end(void);
bool atoll_interp_is_work(void);
void atoll_interp_work_forked(void); /* in a child */
/* Whether a thread closes one that nobody waits for, as that of close(wait=False): the end of the process does, however long that takes. */
bool atoll_interp_closes_later(void);
void atoll_interp_later_forked(void); /* in a child */

/* Whether it may be closed at all: 0, or -1 with an exception.  waits: also one that somebody else is closing. */
int atoll_interp_check_close(atoll_state *from, const atoll_entry *entry, bool waits);
/* Raises that a pool closes it. */
void atoll_interp_raise_pooled(atoll_state *from, const atoll_entry *entry);

/* As atoll_interp_close(), for the end of the process. */
int atoll_interp_close_at_exit(atoll_state *from, atoll_entry *entry);
/* A zombie: whether it could be ended. */
bool atoll_interp_end_zombie(atoll_entry *entry);

#endif
