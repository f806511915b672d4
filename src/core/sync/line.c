/* The line of those who wait for a condition, an event, a barrier or a number.  See sync.h. */
#include "core/sync/internal.h"

enum { GRANTS = 16 };

void atoll_sync_line_add_locked(atoll_sync *sync, atoll_sync_wait *wait, atoll_waiter *waiter) {
    waiter->about = wait;
    atoll_waiters_add(&sync->waiters, waiter);
    atomic_fetch_add(&sync->attention, 1);
}

static void take_off(atoll_sync *sync, atoll_waiter *waiter) {
    atoll_waiters_remove(&sync->waiters, waiter);
    atomic_fetch_sub(&sync->attention, 1);
}

void atoll_sync_line_grant_locked(atoll_sync *sync, uint64_t count,
                                  bool (*want)(const atoll_sync_wait *wait, int64_t about), int64_t about) {
    /* Who comes while `inner` is given back, because there are many, is not among those that were meant. */
    uint64_t last = sync->waiters.turns;
    for (bool more = true; more;) {
        _Atomic(uint32_t) *asleep[GRANTS];
        int n = 0;
        atoll_waiter *next = sync->waiters.first;
        while (n < GRANTS && count > 0 && next != NULL && next->turn <= last) {
            atoll_waiter *waiter = next;
            next = waiter->next;
            if (want != NULL && !want(atoll_sync_wait_of(waiter), about)) {
                continue;
            }
            take_off(sync, waiter);
            atoll_spin_granted(&sync->spin);
            asleep[n] = atoll_waiter_grant(waiter);
            n += asleep[n] != NULL;
            count--;
        }
        more = n == GRANTS;
        atoll_lock_give(&sync->inner);
        atoll_test_yield();
        for (int i = 0; i < n; i++) {
            atoll_word_wake(asleep[i], 1);
        }
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
            take_off(sync, waiter);
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
