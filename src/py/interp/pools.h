/* What the life of interpreters asks of pools, which are built on it: given at the start (py/pool/worker.c). */
#ifndef ATOLL_PY_INTERP_POOLS_H
#define ATOLL_PY_INTERP_POOLS_H

#include "py/interp/lifecycle.h"

typedef struct {
    /* On any thread, attached to an interpreter that has imported threading: a worker's that works there becomes known to it. */
    void (*introduce)(void);
    /* A spare that matches the blueprint: its entry, open, with a user and a reference, or NULL.  *stale: what has to be
     * prepared before it is used.  No thread state needed. */
    atoll_entry *(*take_spare)(const atoll_blueprint *like, atoll_stale *stale);
    /* Attached to main, at the end of the process: ends all spares.  False: one is just being made. */
    bool (*end_spares)(void);
    /* Python has ended, and they have; one that was just being made was left behind, with the thread that makes them. */
    void (*forget_spares)(void);
    void (*fork_spares)(atoll_fork_moment when);
} atoll_pools_face;

/* Before anything is created. */
extern const atoll_pools_face *atoll_the_pools;

#endif
