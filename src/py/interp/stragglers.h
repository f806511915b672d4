/* The threads of an interpreter that is to end: see stragglers.c. */
#ifndef ATOLL_PY_INTERP_STRAGGLERS_H
#define ATOLL_PY_INTERP_STRAGGLERS_H

#include "core/registry/registry.h"
#include "py/compat.h"

#include <stdbool.h>

/* All of them: entry's interpreter is attached through `mine`, its gate shut. */

/* Whether threads of threading's are left that are no daemons.  May run code. */
bool atoll_has_threads(atoll_entry *entry, PyThreadState *mine);
/* Interrupts the others and waits for so many seconds, longer on a machine that is busy.  Whether all are gone. */
bool atoll_stop_daemons(atoll_entry *entry, PyThreadState *mine, double patience);
/* While thread states of sessions are still there: waits for threading's threads that are no daemons, or by force interrupts all, also in
 * system calls, again and again.  False: they have not ended when the deadline comes, or somebody gives up. */
bool atoll_stop_threads(atoll_entry *entry, PyThreadState *mine, double deadline, bool force,
                        const _Atomic(bool) *given_up);

#endif
