/* Objects that CPython has once for the process: see shared.c. */
#ifndef ATOLL_PY_FROZEN_SHARED_H
#define ATOLL_PY_FROZEN_SHARED_H

#include "py/frozen/frozen.h"

/* Whether obj is one of them. */
bool atoll_frozen_shared(PyObject *obj);

#endif
