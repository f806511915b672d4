/* Address space for frozen objects, in blocks: see region.c. */
#ifndef ATOLL_PY_FROZEN_REGION_H
#define ATOLL_PY_FROZEN_REGION_H

#include "py/frozen/frozen.h"

#define ATOLL_BLOCK ((size_t)1 << 20)

/* So many blocks in a row, zeroed, noted as `owner`'s; NULL when there are none.  The caller has the lock of areas. */
char *atoll_region_take_locked(size_t blocks, atoll_area *owner);
/* Whether it worked; else they stay the owner's. */
bool atoll_region_give_back_locked(char *at, size_t blocks);
/* The owner of the block that this place of the region lies in, or NULL.  No lock needed. */
atoll_area *atoll_region_owner(size_t place);

#endif
