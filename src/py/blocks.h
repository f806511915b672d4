/* Large blocks of CPython's object allocator, and whose they are: see blocks.c. */
#ifndef ATOLL_PY_BLOCKS_H
#define ATOLL_PY_BLOCKS_H

#include "py/compat.h"

/* Wraps the process's allocators, once, where blocks can be taken back at all (compat.h).  A thread state must be attached. */
void atoll_blocks_init(void);

/* The arena allocator has just given out an arena for an interpreter: what CPython allocates next on this thread, if it is
 * a node of its map of arenas, is that interpreter's. */
void atoll_blocks_expect_map(int64_t owner);

/* Frees what an interpreter that is gone has left, under the same condition as atoll_arenas_reclaim(). */
void atoll_blocks_reclaim(int64_t owner);

#endif
