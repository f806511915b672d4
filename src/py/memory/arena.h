/* Memory of CPython's object allocator that is kept between interpreters. */
#ifndef ATOLL_PY_MEMORY_ARENA_H
#define ATOLL_PY_MEMORY_ARENA_H

#include "py/compat.h" /* first: Python.h wants to be */

#include "port/port.h"
#include "py/memory/span.h"

#include <stdbool.h>

/* Wraps the process's arena allocator, once.  A thread state must be attached.  taken: called before each arena is taken, by the thread
 * that wants it. */
void atoll_arena_init(void (*taken)(void));
/* Python has ended, and its allocators are as they were before that. */
void atoll_arenas_forget(void);

/* Takes back the arenas of an interpreter that is gone and of whose objects nobody knows any more (leftovers.h). */
void atoll_arenas_reclaim(int64_t owner);

/* Whether arenas are still taken and returned through Atoll's allocator. */
bool atoll_arenas_seen(void);

/* The arenas that an interpreter that is gone has left: an array (malloc) and its length; -1 when out of memory. */
Py_ssize_t atoll_arenas_left(int64_t owner, atoll_span **arenas);

/* Holds the lock while the process is forked. */
void atoll_arenas_fork(atoll_fork_moment when);

#endif
