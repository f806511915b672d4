/* tracemalloc beside interpreters: see tracing.c. */
#ifndef ATOLL_PY_INTERP_TRACING_H
#define ATOLL_PY_INTERP_TRACING_H

#include "py/compat.h"

#include <stdbool.h>

/* Attached to the main interpreter: has tracemalloc.start() refuse as long as there are interpreters of Atoll's.  0, or -1 with
 * an exception. */
int atoll_tracing_init(void);

/* Whether no interpreter can be made because tracemalloc is at work; any thread.  Why, for an exception. */
bool atoll_tracing_refuses(void);
extern const char atoll_tracing_refusal[];

#endif
