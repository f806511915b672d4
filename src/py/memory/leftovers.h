/* The memory of objects that an interpreter has left behind: see leftovers.c. */
#ifndef ATOLL_PY_MEMORY_LEFTOVERS_H
#define ATOLL_PY_MEMORY_LEFTOVERS_H

#include "py/compat.h"

#include <stdbool.h>

/* Which of its extension modules and libraries may have kept objects. */
typedef enum {
    ATOLL_KEEPERS_NONE,     /* it had none but those that are known to keep nothing */
    ATOLL_KEEPERS_UNLOADED, /* its clones, which are unloaded */
    ATOLL_KEEPERS_LOADED    /* any: they are loaded still */
} atoll_keepers;

/* Learns what looks like an address and is none.  Attached to the main interpreter; once is enough. */
void atoll_leftovers_init(void);

/* The interpreter is gone.  Takes its memory back if nobody can know of its objects; once for each interpreter, before which
 * its blocks are noted.  No thread state needed. */
void atoll_leftovers_free(int64_t owner, atoll_keepers keepers);

#endif
