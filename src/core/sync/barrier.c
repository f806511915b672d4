/* Barriers.  See sync.h.
 *
 * Its parties come in generations.  Whoever arrives is part of the one that gathers; with the last of them, or when the barrier
 * breaks, the generation is over: all who are in line are told, and the next one begins.  Who was away, to handle a signal,
 * finds in `broke` and `whole_from` what became of its generation.  While the last party acts for all, newcomers wait in the same line, to be told that
 * they may try.
 */
#include "core/sync/internal.h"

#include <math.h>

atoll_message *atoll_sync_barrier_action(atoll_sync *barrier) { return &barrier->action; }

static bool tell(const atoll_sync_wait *wait, int64_t broken) {
    atoll_sync_wait *mine =
        (atoll_sync_wait *)(uintptr_t)wait; /* a waiter in line is its barrier's to write to */
    mine->outcome = broken ? ATOLL_SYNC_BROKEN : mine->entering ? ATOLL_SYNC_AGAIN : ATOLL_SYNC_OK;
    return true;
}

void atoll_sync_barrier_turn_locked(atoll_sync *barrier, bool broken) {
    barrier->generation++;
    barrier->broke = barrier->broke << 1 | broken;
    if (broken) {
        barrier->whole_from = barrier->generation;
    }
    atomic_store(&barrier->arrived, 0);
    barrier->actor = barrier->actor_interp = 0;
}

/* With `inner` held, which it gives back. */
static void end_generation_locked(atoll_sync *barrier, bool broken) {
    atoll_sync_barrier_turn_locked(barrier, broken);
    atoll_sync_line_grant_locked(barrier, UINT64_MAX, tell, broken);
}

/* With `inner` held: AGAIN as long as it gathers.  Of one that was long ago, BROKEN also when one after it has broken. */
static atoll_sync_result outcome_of_locked(const atoll_sync *barrier, uint64_t generation) {
    uint64_t since = barrier->generation - generation;
    return since == 0                                   ? ATOLL_SYNC_AGAIN
           : generation >= barrier->whole_from          ? ATOLL_SYNC_OK
           : since > 64                                 ? ATOLL_SYNC_BROKEN
           : ((barrier->broke >> (since - 1)) & 1) != 0 ? ATOLL_SYNC_BROKEN
                                                        : ATOLL_SYNC_OK;
}

atoll_sync_result atoll_sync_barrier_arrive(atoll_sync *barrier, atoll_sync_wait *wait, atoll_waiter *waiter,
                                            bool acts) {
    atoll_lock_take(&barrier->inner);
    /* Who acts for all would wait for itself. */
    bool is_actor = barrier->actor != 0 && barrier->actor == wait->who.thread;
    if (atomic_load(&barrier->broken) || is_actor) {
        atoll_lock_give(&barrier->inner);
        return ATOLL_SYNC_BROKEN;
    }
    wait->entering = barrier->actor != 0;
    wait->generation = barrier->generation;
    if (!wait->entering) {
        wait->index = atomic_fetch_add(&barrier->arrived, 1);
        if (wait->index + 1 == barrier->limit) {
            if (acts) {
                barrier->actor = wait->who.thread;
                barrier->actor_interp = wait->who.interp;
                atoll_lock_give(&barrier->inner);
                return ATOLL_SYNC_LAST;
            }
            end_generation_locked(barrier, false);
            return ATOLL_SYNC_OK;
        }
    }
    atoll_sync_line_add_locked(barrier, wait, waiter);
    atoll_lock_give(&barrier->inner);
    return ATOLL_SYNC_AGAIN;
}

/* After its deadline: true, and it is in line again, when all its parties have come, and the last of them acts. */
static bool go_on(atoll_sync *barrier, atoll_sync_wait *wait, atoll_waiter *waiter) {
    atoll_lock_take(&barrier->inner);
    bool acts = barrier->actor != 0 && barrier->generation == wait->generation;
    if (acts) {
        atoll_sync_line_add_locked(barrier, wait, waiter);
    }
    atoll_lock_give(&barrier->inner);
    return acts;
}

atoll_sync_result atoll_sync_barrier_sleep(atoll_sync *barrier, atoll_sync_wait *wait, atoll_waiter *waiter,
                                           double deadline) {
    if (wait->entering) {
        deadline = INFINITY; /* it is not part of what may break */
    }
    atoll_sync_result result = atoll_sync_line_sleep(barrier, wait, waiter, deadline);
    if (result == ATOLL_SYNC_TIMEOUT && go_on(barrier, wait, waiter)) {
        result = atoll_sync_line_sleep(barrier, wait, waiter, INFINITY);
    }
    return result == ATOLL_SYNC_OK ? wait->outcome : result;
}

atoll_sync_result atoll_sync_barrier_stay(atoll_sync *barrier, atoll_sync_wait *wait, atoll_waiter *waiter,
                                          bool acts) {
    if (wait->entering) {
        return atoll_sync_barrier_arrive(barrier, wait, waiter, acts);
    }
    atoll_lock_take(&barrier->inner);
    atoll_sync_result result = outcome_of_locked(barrier, wait->generation);
    if (result == ATOLL_SYNC_AGAIN) {
        atoll_sync_line_add_locked(barrier, wait, waiter);
    }
    atoll_lock_give(&barrier->inner);
    return result;
}

static void break_locked(atoll_sync *barrier) {
    atomic_store(&barrier->broken, true);
    end_generation_locked(barrier, true);
}

atoll_sync_result atoll_sync_barrier_leave(atoll_sync *barrier, atoll_sync_wait *wait) {
    atoll_lock_take(&barrier->inner);
    atoll_sync_result result = outcome_of_locked(barrier, wait->generation);
    if (result != ATOLL_SYNC_AGAIN || wait->entering) {
        atoll_lock_give(&barrier->inner);
        return result != ATOLL_SYNC_AGAIN ? result : ATOLL_SYNC_BROKEN;
    }
    break_locked(barrier);
    return ATOLL_SYNC_BROKEN;
}

atoll_sync_result atoll_sync_barrier_pass(atoll_sync *barrier, const atoll_sync_wait *wait) {
    atoll_lock_take(&barrier->inner);
    atoll_sync_result result = outcome_of_locked(barrier, wait->generation);
    if (result != ATOLL_SYNC_AGAIN) {
        atoll_lock_give(&barrier->inner);
        return result;
    }
    end_generation_locked(barrier, false);
    return ATOLL_SYNC_OK;
}

void atoll_sync_barrier_abort(atoll_sync *barrier) {
    atoll_lock_take(&barrier->inner);
    break_locked(barrier);
}

void atoll_sync_barrier_reset(atoll_sync *barrier) {
    atoll_lock_take(&barrier->inner);
    atomic_store(&barrier->broken, false);
    if (atomic_load(&barrier->arrived) != 0) {
        end_generation_locked(barrier, true);
    } else {
        atoll_lock_give(&barrier->inner);
    }
}

void atoll_sync_barrier_lose(atoll_sync *barrier, uint64_t interp) {
    atoll_lock_take(&barrier->inner);
    if (barrier->actor != 0 && barrier->actor_interp == interp) {
        break_locked(barrier);
    } else {
        atoll_lock_give(&barrier->inner);
    }
}

bool atoll_sync_barrier_is_broken(const atoll_sync *barrier) { return atomic_load(&barrier->broken); }

int64_t atoll_sync_barrier_waiting(const atoll_sync *barrier) { return atomic_load(&barrier->arrived); }
