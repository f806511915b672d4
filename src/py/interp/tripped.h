/* Which signals wait for their handlers written in Python. */
#ifndef ATOLL_PY_INTERP_TRIPPED_H
#define ATOLL_PY_INTERP_TRIPPED_H

#include "py/compat.h"

#include <stdbool.h>

/* Attached to the main interpreter: finds out how to know.  Only the first call does anything. */
void atoll_tripped_init(void);
/* Whether that is known. */
bool atoll_tripped_is_known(void);
/* Any thread: whether a signal has arrived whose handler is still to be run. */
bool atoll_tripped(void);

#endif
