/* Large blocks of CPython's object allocator, and whose they are: see blocks.c. */
#ifndef ATOLL_PY_MEMORY_BLOCKS_H
#define ATOLL_PY_MEMORY_BLOCKS_H

#include "port/port.h"
#include "py/memory/span.h"

#include <stdbool.h>
#include <stdint.h>

/* Wraps the process's allocators, once.  A thread state must be attached. */
void atoll_blocks_init(void);
/* On 3.12, where by default only nodes are: every interpreter's large blocks are noted, and so counted, from now on. */
void atoll_blocks_note_all(void);
bool atoll_blocks_notes_all(void);
/* Python has ended, and its allocators are as they were before that. */
void atoll_blocks_forget(void);

/* Looks whether the wrappers are still where they were put.  No thread state needed. */
void atoll_blocks_check(void);

/* Nothing is taken back from now on; `why` is a sentence that lasts. */
void atoll_blocks_doubt(const char *why);
/* That sentence; NULL: there is no doubt. */
const char *atoll_blocks_doubted(void);

/* The arena allocator has just given this arena, of ATOLL_ARENA_SIZE, to an interpreter: what CPython allocates next on
 * this thread are the nodes of its map of arenas that it lacks. */
void atoll_blocks_expect_map(int64_t owner, const void *arena);

/* The arena allocator has just refused an arena, for a limit: what CPython allocates next on this thread is a small block. */
void atoll_blocks_arena_refused(void);

/* The blocks that an interpreter that is gone has left, besides nodes of the map: an array (malloc) and its length; -1 when
 * out of memory. */
Py_ssize_t atoll_blocks_left(int64_t owner, atoll_span **blocks);

/* An interpreter is gone: frees what it has left, when that may be taken back (leftovers.h), and forgets it in any case. */
void atoll_blocks_end(int64_t owner, bool take_back);

/* How many blocks and arenas have been taken back, for tests. */
uint64_t atoll_blocks_taken_back(void);

/* ATOLL_DEBUG_BLOCKS */
bool atoll_blocks_debugging(void);

/* Holds the lock while the process is forked. */
void atoll_blocks_fork(atoll_fork_moment when);

#endif
