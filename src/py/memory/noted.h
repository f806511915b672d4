/* Blocks that are noted with the interpreter that has them: see noted.c. */
#ifndef ATOLL_PY_MEMORY_NOTED_H
#define ATOLL_PY_MEMORY_NOTED_H

#include "py/compat.h"

#include "port/port.h"
#include "py/memory/span.h"

#include <stdbool.h>
#include <stdint.h>

/* The owner of blocks that only show whether the wrappers are there. */
#define ATOLL_NOTED_CANARY (INT64_MAX / 4)

typedef struct {
    void *ptr; /* NULL: none */
    size_t size;
    int64_t owner : 62;
    uint64_t is_map : 1; /* a node of CPython's map of arenas */
    uint64_t is_small
        : 1; /* it is only counted, and never taken back: it would be in an arena, had there been one, or is an array's */
} atoll_noted;

void atoll_noted_init(void);
/* Notes a block, and counts it.  What cannot be noted for want of memory is not counted, and left for good if it is left at all.  False: its
 * address was noted before, with what may be taken back, so the end of the block that was there has been missed. */
bool atoll_noted_add(const atoll_noted *block);
/* What is noted of a block, with ptr NULL when nothing is; no longer noted nor counted when it is to be forgotten. */
atoll_noted atoll_noted_find(void *ptr, bool and_forget);
/* The end of all blocks of an interpreter: nodes of the map and others are freed, or left.  How many were freed. */
uint64_t atoll_noted_end(int64_t owner, bool free_nodes, bool free_others,
                         void (*release)(const atoll_noted *block));
/* The blocks of one, but for nodes and small ones: an array (malloc) and its length; -1 when out of memory. */
Py_ssize_t atoll_noted_of(int64_t owner, atoll_span **blocks);
/* Whether what was noted, and is no longer, makes up what is there. */
bool atoll_noted_is_consistent(void);

void atoll_noted_fork(atoll_fork_moment when);

#endif
