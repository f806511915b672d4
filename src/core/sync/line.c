/* The line of those who wait for a condition, an event, a barrier or a number.  See sync.h. */
#include "core/sync/internal.h"

void atoll_sync_line_add_locked(atoll_sync *sync, atoll_sync_wait *wait, atoll_waiter *waiter) {
    waiter->about = wait;
    atoll_waiters_add(&sync->waiters, waiter);
    atomic_fetch_add(&sync->attention, 1);
}

void atoll_sync_line_grant_locked(atoll_sync *sync, uint64_t count,
                                  bool (*want)(const atoll_sync_wait *wait, int64_t about), int64_t about) {
    /* Who comes while `inner` is given back, because there are many, is not among those that were meant. */
    uint64_t last = sync->waiters.turns;
    for (bool more = true; more;) {
        atoll_asleep asleep = {.count = 0};
        atoll_waiter *next = sync->waiters.first;
        while (asleep.count < ATOLL_ASLEEP_MOST && count > 0 && next != NULL && next->turn <= last) {
            atoll_waiter *waiter = next;
            next = waiter->next;
            if (want == NULL || want(atoll_sync_wait_of(waiter), about)) {
                atoll_waiters_grant_one(&sync->waiters, &sync->attention, &sync->spin, waiter, &asleep);
                count--;
            }
        }
        more = asleep.count == ATOLL_ASLEEP_MOST;
        atoll_lock_give(&sync->inner);
        atoll_test_yield();
        atoll_asleep_wake(&asleep);
        if (more) {
            atoll_lock_take(&sync->inner);
        }
    }
}

static bool is_granted(void *waiter) { return atoll_waiter_is_granted(waiter); }

atoll_sync_result atoll_sync_line_sleep(atoll_sync *sync, atoll_sync_wait *wait, atoll_waiter *waiter,
                                        double deadline) {
    atoll_wait_result result = ATOLL_WAIT_OK;
    atoll_test_yield();
    while (result == ATOLL_WAIT_OK && !atoll_waiter_is_granted(waiter) &&
           !atomic_load(&waiter->interrupted)) {
        if (!atoll_waiter_spin(waiter, &sync->spin, is_granted, waiter)) {
            result = atoll_waiter_block(waiter, deadline, &sync->spin);
        }
    }
    if (!atoll_waiter_is_granted(waiter)) {
        atoll_lock_take(&sync->inner);
        if (waiter->linked) {
            atoll_waiters_remove(&sync->waiters, waiter);
            atomic_fetch_sub(&sync->attention, 1);
        }
        wait->came_back = true;
        wait->seen = sync->signals;
        atoll_lock_give(&sync->inner);
    }
    if (atoll_waiter_is_granted(waiter)) {
        return ATOLL_SYNC_OK; /* before a time-out or a signal: it was meant */
    }
    return atomic_load(&waiter->interrupted) || result == ATOLL_WAIT_SIGNAL ? ATOLL_SYNC_SIGNAL
                                                                            : ATOLL_SYNC_TIMEOUT;
}
