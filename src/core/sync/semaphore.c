/* Semaphores.  See sync.h.
 *
 * Taking one that is above zero is one atomic instruction.  Who finds zero counts itself in `attention`, looks once more and
 * sleeps; who gives looks at `attention` after it has added: one of the two sees the other.  A waiter that has waited for long
 * is handed its unit instead of being told to try.
 */
#include "core/sync/internal.h"

atoll_sync_result atoll_sync_semaphore_try(atoll_sync *semaphore) {
    int64_t value = atomic_load(&semaphore->value);
    while (value > 0) {
        if (atomic_compare_exchange_weak(&semaphore->value, &value, value - 1)) {
            return ATOLL_SYNC_OK;
        }
    }
    return ATOLL_SYNC_AGAIN;
}

static bool is_free(void *semaphore) { return atomic_load(&((atoll_sync *)semaphore)->value) > 0; }

atoll_sync_result atoll_sync_semaphore_await(atoll_sync *semaphore, atoll_sync_wait *wait,
                                             atoll_waiter *waiter, double deadline) {
    if (wait->since == 0) {
        wait->since = atoll_clock();
    }
    if (atoll_waiter_spin(waiter, &semaphore->spin, is_free, semaphore)) {
        return atomic_load(&waiter->interrupted) ? ATOLL_SYNC_SIGNAL : ATOLL_SYNC_AGAIN;
    }
    wait->handed = false;
    waiter->about = wait;
    atoll_wait_result result =
        atoll_waiters_sleep(&semaphore->inner, &semaphore->waiters, &semaphore->attention, &semaphore->spin,
                            is_free, semaphore, waiter, deadline);
    if (result == ATOLL_WAIT_OK) {
        return wait->handed ? ATOLL_SYNC_OK : ATOLL_SYNC_AGAIN;
    }
    return result == ATOLL_WAIT_TIMEOUT ? ATOLL_SYNC_TIMEOUT : ATOLL_SYNC_SIGNAL;
}

/* Takes up to `count` waiters off the line, the first first.  hand: those that have waited for long, and each is given a unit; else
 * they are to try.  How many units are left. */
static int64_t serve(atoll_sync *semaphore, int64_t count, bool hand) {
    double now = hand ? atoll_clock() : 0;
    for (bool more = true; more;) {
        atoll_asleep asleep = {.count = 0};
        atoll_lock_take(&semaphore->inner);
        while (asleep.count < ATOLL_ASLEEP_MOST && count > 0 && semaphore->waiters.first != NULL) {
            atoll_waiter *first = semaphore->waiters.first;
            atoll_sync_wait *wait = atoll_sync_wait_of(first);
            if (hand && now - wait->since < ATOLL_SYNC_PATIENCE) {
                break;
            }
            wait->handed = hand;
            atoll_waiters_grant_one(&semaphore->waiters, &semaphore->attention, &semaphore->spin, first,
                                    &asleep);
            count--;
        }
        more = asleep.count == ATOLL_ASLEEP_MOST;
        atoll_lock_give(&semaphore->inner);
        atoll_test_yield();
        atoll_asleep_wake(&asleep);
    }
    return count;
}

atoll_sync_result atoll_sync_semaphore_give(atoll_sync *semaphore, int64_t count) {
    int64_t most = semaphore->kind == ATOLL_SYNC_BOUNDED_SEMAPHORE ? semaphore->limit : INT64_MAX;
    int64_t value = atomic_load(&semaphore->value);
    if (count > most - value) {
        return ATOLL_SYNC_REFUSED;
    }
    if (atomic_load(&semaphore->attention) != 0) {
        count = serve(semaphore, count, true);
    }
    do {
        if (count > most - value) {
            return ATOLL_SYNC_REFUSED;
        }
    } while (!atomic_compare_exchange_weak(&semaphore->value, &value, value + count));
    atoll_test_yield();
    if (atomic_load(&semaphore->attention) != 0) {
        (void)serve(semaphore, count, false);
    }
    return ATOLL_SYNC_OK;
}

int64_t atoll_sync_semaphore_value(const atoll_sync *semaphore) { return atomic_load(&semaphore->value); }
