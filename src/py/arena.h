/* Memory of CPython's object allocator that is kept between interpreters. */
#ifndef ATOLL_PY_ARENA_H
#define ATOLL_PY_ARENA_H

#include "py/compat.h"

/* Wraps the process's arena allocator, once.  A thread state must be attached. */
void atoll_arena_init(void);

/* Takes back the arenas of an interpreter that is gone and of whose objects nobody can know any more: its extension modules
 * are unloaded.  Does nothing where CPython itself might know of them (compat.h). */
void atoll_arenas_reclaim(int64_t owner);

#endif
