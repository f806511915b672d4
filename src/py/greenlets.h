/* Greenlets: stacks of calls that one OS thread puts aside. */
#ifndef ATOLL_PY_GREENLETS_H
#define ATOLL_PY_GREENLETS_H

#include "py/compat.h"

/* What tells the greenlet that runs in the attached interpreter from others of this thread there; NULL: the thread's first one, or
 * there are none.  To be compared only.  Keeps the current exception. */
const void *atoll_greenlet_current(void);

#endif
