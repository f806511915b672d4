/* Weak references to frozen objects: see guard.c. */
#ifndef ATOLL_PY_FROZEN_GUARD_H
#define ATOLL_PY_FROZEN_GUARD_H

#include "py/frozen/frozen.h"

/* From now on there can be none.  0, or -1 with an exception. */
int atoll_frozen_guard(void);

#endif
