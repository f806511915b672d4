/* Memory of CPython's object allocator that is kept between interpreters. */
#ifndef ATOLL_PY_ARENA_H
#define ATOLL_PY_ARENA_H

#include "py/compat.h"

/* Wraps the process's arena allocator, once.  A thread state must be attached. */
void atoll_arena_init(void);

#endif
