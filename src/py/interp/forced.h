/* Threads of an interpreter that is closed by force: see forced.c. */
#ifndef ATOLL_PY_INTERP_FORCED_H
#define ATOLL_PY_INTERP_FORCED_H

#include "py/state.h"

/* From here on, or no more: threads that are in no run of the entry's are to end, wherever they are asked; all but this one. */
void atoll_force_set(atoll_entry *entry, bool forced);
/* Then: the next of them that makes pending calls is asked.  The interpreter cannot end meanwhile. */
void atoll_force_knock(atoll_entry *entry);
/* Attached, on a thread that is in no run of that interpreter: whether it is to end.  0, or -1 with SystemExit. */
int atoll_force_check(void);

#endif
