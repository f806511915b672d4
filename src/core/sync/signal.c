/* What threads wait for in line until others say so: conditions, events, numbers.  See sync.h. */
#include "core/sync/internal.h"

/* Adds a waiter; false: what it waits for was signalled while it was away. */
static bool join(atoll_sync *sync, atoll_sync_wait *wait, atoll_waiter *waiter) {
    atoll_lock_take(&sync->inner);
    bool missed = wait->came_back && wait->seen != sync->signals;
    if (!missed) {
        atoll_sync_line_add_locked(sync, wait, waiter);
    }
    atoll_lock_give(&sync->inner);
    atoll_test_yield();
    return !missed;
}

static atoll_sync_result await(atoll_sync *sync, atoll_sync_wait *wait, atoll_waiter *waiter, double deadline,
                               bool (*ready)(const atoll_sync *sync, const atoll_sync_wait *wait)) {
    if (ready(sync, wait) || !join(sync, wait, waiter)) {
        return ATOLL_SYNC_OK;
    }
    /* Whoever made it so before the waiter was counted did not tell it. */
    bool is_so = ready(sync, wait);
    atoll_sync_result result = atoll_sync_line_sleep(sync, wait, waiter, is_so ? 0 : deadline);
    return is_so ? ATOLL_SYNC_OK : result;
}

/* ---- conditions ---- */

atoll_sync *atoll_sync_condition_lock(const atoll_sync *condition) { return condition->lock; }

bool atoll_sync_condition_join(atoll_sync *condition, atoll_sync_wait *wait, atoll_waiter *waiter) {
    return join(condition, wait, waiter);
}

atoll_sync_result atoll_sync_condition_sleep(atoll_sync *condition, atoll_sync_wait *wait,
                                             atoll_waiter *waiter, double deadline) {
    return atoll_sync_line_sleep(condition, wait, waiter, deadline);
}

void atoll_sync_condition_notify(atoll_sync *condition, uint64_t count) {
    atoll_lock_take(&condition->inner);
    condition->signals++;
    atoll_sync_line_grant_locked(condition, count, NULL, 0);
}

/* ---- events ---- */

bool atoll_sync_event_is_set(const atoll_sync *event) { return atomic_load(&event->word) != 0; }

static bool event_ready(const atoll_sync *event, const atoll_sync_wait *wait) {
    (void)wait;
    return atoll_sync_event_is_set(event);
}

void atoll_sync_event_set(atoll_sync *event) {
    atoll_lock_take(&event->inner);
    atomic_store(&event->word, 1);
    event->signals++;
    atoll_sync_line_grant_locked(event, UINT64_MAX, NULL, 0);
}

void atoll_sync_event_clear(atoll_sync *event) { atomic_store(&event->word, 0); }

atoll_sync_result atoll_sync_event_await(atoll_sync *event, atoll_sync_wait *wait, atoll_waiter *waiter,
                                         double deadline) {
    return await(event, wait, waiter, deadline, event_ready);
}

/* ---- numbers ---- */

int64_t atoll_sync_atomic_load(const atoll_sync *atomic) { return atomic_load(&atomic->value); }

static bool wants_other(const atoll_sync_wait *wait, int64_t value) { return wait->expected != value; }

static bool atomic_ready(const atoll_sync *atomic, const atoll_sync_wait *wait) {
    return atomic_load(&atomic->value) != wait->expected;
}

/* It is `value` now. */
static void changed(atoll_sync *atomic, int64_t value) {
    if (atomic_load(&atomic->attention) != 0) {
        atoll_lock_take(&atomic->inner);
        atomic->signals++;
        atoll_sync_line_grant_locked(atomic, UINT64_MAX, wants_other, value);
    }
}

int64_t atoll_sync_atomic_exchange(atoll_sync *atomic, int64_t value) {
    int64_t before = atomic_exchange(&atomic->value, value);
    if (before != value) {
        changed(atomic, value);
    }
    return before;
}

bool atoll_sync_atomic_add(atoll_sync *atomic, int64_t delta, int64_t *before) {
    int64_t sum;
    *before = atomic_load_explicit(&atomic->value, memory_order_relaxed);
    do {
        if (__builtin_add_overflow(*before, delta, &sum)) {
            return false;
        }
    } while (!atomic_compare_exchange_weak(&atomic->value, before, sum));
    if (delta != 0) {
        changed(atomic, sum);
    }
    return true;
}

bool atoll_sync_atomic_compare(atoll_sync *atomic, int64_t expected, int64_t value) {
    int64_t before = expected;
    if (!atomic_compare_exchange_strong(&atomic->value, &before, value)) {
        return false;
    }
    if (expected != value) {
        changed(atomic, value);
    }
    return true;
}

atoll_sync_result atoll_sync_atomic_await(atoll_sync *atomic, atoll_sync_wait *wait, atoll_waiter *waiter,
                                          double deadline) {
    return await(atomic, wait, waiter, deadline, atomic_ready);
}
