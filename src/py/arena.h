/* Memory of CPython's object allocator that is kept between interpreters. */
#ifndef ATOLL_PY_ARENA_H
#define ATOLL_PY_ARENA_H

#include "py/compat.h"

/* Wraps the process's arena allocator, once.  A thread state must be attached. */
void atoll_arena_init(void);

/* Takes back the arenas of an interpreter that is gone and of whose objects nobody knows any more (leftovers.h). */
void atoll_arenas_reclaim(int64_t owner);

typedef struct {
    char *start;
    size_t size;
} atoll_span;

/* The arenas that an interpreter that is gone has left: an array (malloc) and its length; -1 when out of memory. */
Py_ssize_t atoll_arenas_left(int64_t owner, atoll_span **arenas);

#endif
