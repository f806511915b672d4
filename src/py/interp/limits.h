/* What an interpreter may take of memory and processor time: see limits.c. */
#ifndef ATOLL_PY_INTERP_LIMITS_H
#define ATOLL_PY_INTERP_LIMITS_H

#include "py/compat.h" /* first: Python.h wants to be */

#include "core/registry/registry.h"
#include "py/state.h"

#include <stdbool.h>

typedef struct {
    uint64_t memory;      /* bytes; 0: any amount */
    uint64_t soft_memory; /* the same, which the interpreter itself sets */
    double cpu;           /* seconds; 0: any time */
} atoll_limits;

/* Before memory of interpreters is counted for the first time.  A thread state must be attached. */
void atoll_limits_prepare(const atoll_limits *limits);
/* Whether all of the memory is counted of an interpreter that is made now. */
bool atoll_limits_count_all(void);
/* Attached to the entry's interpreter: it is told (atoll._interp.limits) when it has more bytes than that.  0, or -1
 * with an exception. */
int atoll_limits_set_soft(atoll_entry *entry, uint64_t bytes);
/* Attached likewise: arrays of its numpy, whose table of functions this is, are counted if it has a limit of memory. */
void atoll_limits_count_arrays(const atoll_entry *entry, void **numpy);
/* Attached likewise: calls function() to report how code has ended that may have reached a limit: it may take some memory more, and is not
 * interrupted when the processor time is spent.  NULL with an exception. */
PyObject *atoll_limits_report(atoll_entry *entry, PyObject *function);
/* How often it was refused memory. */
uint64_t atoll_limits_refusals(const atoll_entry *entry);
/* A task of a pool begins: its worker, which is no guest, may take as much processor time as before the first.  The same number. */
uint64_t atoll_limits_begin_task(atoll_entry *entry, bool is_guest);
/* A ResourceLimitExceeded for a limit, of so much (a reference that is taken over; NULL: an exception is set); format has a %S for that.
 * NULL with an exception. */
PyObject *atoll_limits_error(atoll_state *state, const char *limit, PyObject *amount, const char *format);
/* Attached to an interpreter in which no code of a user's has run: gives it its limits.  0, or -1 with an exception: it takes more already. */
int atoll_limits_set(atoll_entry *entry, const atoll_limits *limits);

#endif
