/* Whether CPython's objects are as build.c makes them: see proof.c. */
#ifndef ATOLL_PY_FROZEN_PROOF_H
#define ATOLL_PY_FROZEN_PROOF_H

#include "py/frozen/frozen.h"

/* Looks, the first time.  0, or -1 with an exception: nothing can be frozen. */
int atoll_frozen_prove(void);

#endif
