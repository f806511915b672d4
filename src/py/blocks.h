/* Large blocks of CPython's object allocator, and whose they are: see blocks.c. */
#ifndef ATOLL_PY_BLOCKS_H
#define ATOLL_PY_BLOCKS_H

#include "py/compat.h"

#include <stdbool.h>

/* Wraps the process's allocators, once, in versions where that is possible (compat.h).  A thread state must be attached. */
void atoll_blocks_init(void);

/* The arena allocator has just given out an arena for an interpreter: what CPython allocates next on this thread, if it is
 * a node of its map of arenas, is that interpreter's. */
void atoll_blocks_expect_map(int64_t owner);

/* Frees what an interpreter that is gone has left, under the same condition as atoll_arenas_reclaim(). */
void atoll_blocks_reclaim(int64_t owner);

/* Whether it has left any, besides nodes of the map. */
bool atoll_blocks_any_left(int64_t owner);

#endif
