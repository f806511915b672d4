/* CPython's list of interpreters. */
#ifndef ATOLL_PY_INTERP_RUNTIME_LIST_H
#define ATOLL_PY_INTERP_RUNTIME_LIST_H

#include "py/compat.h"

#include <stdbool.h>

/* Looks for the list, unless it is known.  Whether it is.  Any thread, no thread state needed. */
bool atoll_runtime_list_find(void);
/* Where it begins, in bytes from the start of the runtime's state; 0: that is not known. */
size_t atoll_runtime_list_place(void);

/* For tests of that case: as if it could not be found. */
void atoll_runtime_list_hide(void);

/* In a forked child: makes this interpreter the only one of the list, and the main one.  The others stay allocated, in the
 * state that their threads left them in.  False: it cannot be done, and nothing was changed. */
bool atoll_runtime_list_keep_only(PyInterpreterState *interp);

#endif
