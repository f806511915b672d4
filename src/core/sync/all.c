/* What is done with every sync of the process.  See sync.h. */
#include "core/sync/internal.h"

static bool is_lock(const atoll_sync *sync) {
    return sync->kind == ATOLL_SYNC_LOCK || sync->kind == ATOLL_SYNC_RLOCK;
}

void atoll_syncs_lose(uint64_t interp, int64_t id) {
    atoll_lock_take(&atoll_syncs.lock);
    for (atoll_link *at = atoll_syncs.first; at != NULL; at = at->next) {
        atoll_sync *sync = (atoll_sync *)at;
        if (is_lock(sync)) {
            atoll_sync_lock_lose(sync, interp, id);
        } else if (sync->kind == ATOLL_SYNC_BARRIER) {
            atoll_sync_barrier_lose(sync, interp);
        }
    }
    atoll_lock_give(&atoll_syncs.lock);
}

void atoll_syncs_keep_only(uint64_t interp) {
    for (atoll_link *at = atoll_syncs.first; at != NULL; at = at->next) {
        atoll_sync *sync = (atoll_sync *)at;
        if (is_lock(sync)) {
            atoll_sync_lock_keep_only(sync, interp);
        }
    }
}

void atoll_syncs_forget(void) {
    atoll_lock_take(&atoll_syncs.lock);
    atoll_syncs_keep_only(0);
    atoll_lock_give(&atoll_syncs.lock);
}

/* ---- fork: nothing is between two states when it is copied, but for what one atomic instruction changes ---- */

static void forked(atoll_sync *sync) {
    sync->waiters.first = sync->waiters.last = NULL;
    atomic_store(&sync->attention, 0);
    if (is_lock(sync)) {
        atoll_sync_lock_forked(sync, atoll_sync_thread());
    } else if (sync->kind == ATOLL_SYNC_BARRIER && sync->actor != atoll_sync_thread()) {
        /* A thread that forks while a signal's handler keeps it from waiting finds that its generation is over. */
        atoll_sync_barrier_turn_locked(sync, true);
    }
}

void atoll_syncs_fork(atoll_fork_moment when) {
    if (when == ATOLL_FORK_BEFORE) {
        atoll_lock_take(&atoll_syncs.lock);
    }
    for (atoll_link *at = atoll_syncs.first; at != NULL; at = at->next) {
        atoll_sync *sync = (atoll_sync *)at;
        if (when == ATOLL_FORK_BEFORE) {
            atoll_lock_take(&sync->inner);
            continue;
        }
        if (when == ATOLL_FORK_CHILD) {
            forked(sync);
        }
        atoll_lock_give(&sync->inner);
    }
    if (when != ATOLL_FORK_BEFORE) {
        atoll_lock_give(&atoll_syncs.lock);
    }
}
