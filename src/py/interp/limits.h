/* What an interpreter may take of memory and processor time: see limits.c. */
#ifndef ATOLL_PY_INTERP_LIMITS_H
#define ATOLL_PY_INTERP_LIMITS_H

#include "py/compat.h" /* first: Python.h wants to be */

#include "core/registry/registry.h"

#include <stdbool.h>

typedef struct {
    uint64_t memory; /* bytes; 0: any amount */
    double cpu;      /* seconds; 0: any time */
} atoll_limits;

/* Before memory of interpreters is counted for the first time.  A thread state must be attached. */
void atoll_limits_prepare(const atoll_limits *limits);
/* Whether all of the memory is counted of an interpreter that is made now. */
bool atoll_limits_count_all(void);
/* Attached to an interpreter in which no code of a user's has run: gives it its limits.  0, or -1 with an exception: it takes more already. */
int atoll_limits_set(atoll_entry *entry, const atoll_limits *limits);

#endif
