/* Static strings that interpreters share: see interned.c. */
#ifndef ATOLL_PY_MEMORY_INTERNED_H
#define ATOLL_PY_MEMORY_INTERNED_H

#include "py/compat.h"

/* Attached to the main interpreter, before another one is made. */
void atoll_interned_init(void);
/* Calls `each` with all static strings of CPython's; one may come twice. */
void atoll_interned_each(void (*each)(PyObject *str));

#endif
