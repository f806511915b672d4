/* Greenlets: stacks of calls that one OS thread puts aside. */
#ifndef ATOLL_PY_INTERP_GREENLETS_H
#define ATOLL_PY_INTERP_GREENLETS_H

#include "py/interp/session.h"

/* What tells the greenlet that runs in the attached interpreter from others of this thread there; NULL: the thread's first one, or
 * there are none.  To be compared only.  Keeps the current exception. */
const void *atoll_greenlet_current(void);
/* Attached to where the innermost session, top, leads: whether the greenlet that runs is the one that it has come back to, and may enter
 * entry's interpreter.  0, or -1 with RuntimeError. */
int atoll_greenlet_check(const atoll_session *top, const atoll_entry *entry);

#endif
