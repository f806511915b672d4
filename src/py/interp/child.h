/* The end of a forked child whose code has nowhere to return to. */
#ifndef ATOLL_PY_INTERP_CHILD_H
#define ATOLL_PY_INTERP_CHILD_H

#include "py/compat.h"

#include <stdbool.h>

/* What was running returned, or raised the exception that is set: ends the process as the end of a script does, with its
 * exit status.  A thread state is attached. */
_Noreturn void atoll_child_ends(bool raised);

#endif
