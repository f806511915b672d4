/* CPython's list of argument parsers, as far as clones are on it: see parsers.c. */
#ifndef ATOLL_PY_EXTENSION_PARSERS_H
#define ATOLL_PY_EXTENSION_PARSERS_H

#include "py/compat.h" /* first: Python.h wants to be */

#include "port/port.h"

#include <stdbool.h>

/* Finds the list, once.  A thread state is attached; keeps the current exception. */
void atoll_parsers_init(void);

/* Takes what lies in this memory, which nobody uses any more, off the list.  false: the list was not found, so that the memory
 * must stay.  No thread state is needed. */
bool atoll_parsers_forget(uintptr_t low, uintptr_t high);

/* Holds the lock while the process is forked. */
void atoll_parsers_fork(atoll_fork_moment when);

#endif
