/* core/base/wait.h: sleeps that look for signals again. */
#include "harness.h"

#include "core/base/wait.h"

#include <math.h>

/* Sleeps in a list of its own. */
static atoll_wait_result sleep_once(atoll_waiter *waiter, double deadline) {
    atoll_waiters list = {0};
    atoll_waiters_add(&list, waiter);
    atoll_wait_result result = atoll_waiter_block(waiter, deadline, NULL);
    atoll_waiters_remove(&list, waiter);
    return result;
}

TEST(wait_that_is_to_notice_signals_comes_back_ever_later) {
    atoll_waiter waiter = {.recheck = 0.001};
    for (int i = 1; i <= 4; i++) {
        CHECK_INT(sleep_once(&waiter, INFINITY), ATOLL_WAIT_SIGNAL);
        CHECK(waiter.recheck == 0.001 * (1 << i));
    }
}

TEST(wait_that_looks_for_signals_ends_at_its_deadline) {
    atoll_waiter waiter = {.recheck = 100};
    CHECK_INT(sleep_once(&waiter, atoll_clock() + 0.001), ATOLL_WAIT_TIMEOUT);
    CHECK(waiter.recheck == 100);
    _Atomic(uint32_t) word = 7;
    CHECK_INT(atoll_waiter_wait_word(&waiter, &word, 7, atoll_clock() + 0.001), ATOLL_WAIT_TIMEOUT);
    CHECK_INT(atoll_waiter_wait_word(&waiter, &word, 8, INFINITY), ATOLL_WAIT_OK);
    waiter.recheck = 0.001;
    CHECK_INT(atoll_waiter_wait_word(&waiter, &word, 7, INFINITY), ATOLL_WAIT_SIGNAL);
}

TEST(wait_that_is_granted_or_interrupted_does_not_look) {
    atoll_waiter waiter = {.recheck = 0.001};
    atoll_waiters list = {0};
    atoll_waiters_add(&list, &waiter);
    atoll_waiters_remove(&list, &waiter);
    (void)atoll_waiter_grant(&waiter);
    CHECK_INT(atoll_waiter_block(&waiter, INFINITY, NULL), ATOLL_WAIT_OK);
    CHECK(atoll_waiter_is_granted(&waiter));
    atoll_waiter other = {.recheck = 0.001};
    atoll_waiters_add(&list, &other);
    atoll_waiter_interrupt(&other);
    CHECK_INT(atoll_waiter_block(&other, INFINITY, NULL), ATOLL_WAIT_OK);
    CHECK(other.recheck == 0.001);
}

typedef struct {
    atoll_lock lock;
    atoll_waiters list;
    bool wakes;
} meeting;

/* What is waited for comes in the moment in which the waiter looks once more. */
static bool comes_now(void *raw) {
    meeting *m = raw;
    if (m->wakes) {
        atoll_waiters_wake(&m->lock, &m->list, NULL, NULL, 1);
    }
    return true;
}

TEST(who_is_woken_tries_before_it_looks_for_signals) {
    meeting m = {.wakes = true};
    atoll_waiter waiter = {.spun = true};
    CHECK_INT(atoll_waiters_sleep(&m.lock, &m.list, NULL, NULL, comes_now, &m, &waiter, INFINITY),
              ATOLL_WAIT_OK);
    CHECK(atoll_waiter_is_granted(&waiter));
    CHECK(!waiter.spun);
    m.wakes = false;
    atoll_waiter other = {.spun = true};
    CHECK_INT(atoll_waiters_sleep(&m.lock, &m.list, NULL, NULL, comes_now, &m, &other, INFINITY),
              ATOLL_WAIT_OK);
    CHECK(!atoll_waiter_is_granted(&other));
    CHECK(other.spun); /* nobody counts on it: it may look */
    CHECK(m.list.first == NULL);
}
