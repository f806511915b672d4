/* Whether somebody has an interpreter's GIL, and how long one waits for it. */
#ifndef ATOLL_PY_GIL_H
#define ATOLL_PY_GIL_H

#include "core/registry/registry.h"
#include "core/trace/trace.h"
#include "py/compat.h"

/* The word that says whether the GIL of the attached interpreter is taken; NULL where it is not known: see gil.c. */
const _Atomic(int) *atoll_gil_word(void);

/* Before the GIL is taken: whether that seems to take a while.  Then when it began, in ticks; else 0. */
static inline uint64_t atoll_gil_look(const atoll_entry *entry) {
    const _Atomic(int) *gil = atomic_load_explicit(&entry->gil, memory_order_relaxed);
    bool taken =
        gil != NULL ? atomic_load_explicit(gil, memory_order_relaxed) != 0 : atoll_entry_pins(entry) > 1;
    return taken ? atoll_ticks() : 0;
}

/* Attached: it was had. */
static inline void atoll_gil_had(const atoll_entry *entry, uint64_t began) {
    if (began != 0) {
        atoll_stat_add(entry->stats, ATOLL_STAT_GIL_WAITS, 1);
        atoll_stat_add(entry->stats, ATOLL_STAT_GIL_TICKS, atoll_ticks_since(began));
        if (atoll_trace_wants()) {
            atoll_trace_add(began, ATOLL_TRACE_GIL, NULL, 0, entry->id, 0);
        }
    }
}

#endif
