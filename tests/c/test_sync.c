/* Locks and the like, one operation after the other. */
#include "core/sync/sync.h"
#include "harness.h"

#include <math.h>
#include <pthread.h>

static const atoll_sync_who me = {1, 11};
static const atoll_sync_who other = {2, 22};

/* How a wait that is over at once ends. */
static atoll_sync_result glance(atoll_sync *lock, const atoll_sync_who *who) {
    atoll_sync_wait wait = {.who = *who};
    atoll_waiter waiter = {0};
    atoll_sync_result result;
    do {
        result = atoll_sync_lock_await(lock, &wait, &waiter, 0);
    } while (result == ATOLL_SYNC_AGAIN && atoll_sync_lock_is_held(lock));
    return result;
}

TEST(sync_lock_is_taken_and_given) {
    atoll_sync *lock = atoll_sync_new(ATOLL_SYNC_LOCK, 0);
    REQUIRE(lock != NULL);
    CHECK(!atoll_sync_lock_is_held(lock));
    CHECK_INT(atoll_sync_lock_give(lock, &me), ATOLL_SYNC_REFUSED);
    CHECK_INT(atoll_sync_lock_try(lock, &me), ATOLL_SYNC_OK);
    CHECK(atoll_sync_lock_is_held(lock) && atoll_sync_lock_is_mine(lock, &me));
    CHECK(!atoll_sync_lock_is_mine(lock, &other));
    CHECK_INT(atoll_sync_lock_try(lock, &me), ATOLL_SYNC_AGAIN);
    CHECK_INT(atoll_sync_lock_try(lock, &other), ATOLL_SYNC_AGAIN);
    CHECK_INT(glance(lock, &other), ATOLL_SYNC_TIMEOUT);
    CHECK_INT(atoll_sync_lock_give(lock, &other), ATOLL_SYNC_OK); /* any thread may */
    CHECK(!atoll_sync_lock_is_held(lock) && !atoll_sync_lock_is_mine(lock, &me));
    CHECK_INT(atoll_sync_lock_give(lock, &me), ATOLL_SYNC_REFUSED);
    atoll_sync_release(lock);
}

TEST(sync_reentrant_lock_belongs_to_a_thread) {
    atoll_sync *lock = atoll_sync_new(ATOLL_SYNC_RLOCK, 0);
    REQUIRE(lock != NULL);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(atoll_sync_lock_try(lock, &me), ATOLL_SYNC_OK);
    }
    CHECK_UINT(atoll_sync_lock_depth(lock), 2);
    CHECK_INT(atoll_sync_lock_try(lock, &other), ATOLL_SYNC_AGAIN);
    CHECK_INT(atoll_sync_lock_give(lock, &other), ATOLL_SYNC_REFUSED);
    for (int i = 0; i < 3; i++) {
        CHECK(atoll_sync_lock_is_held(lock));
        CHECK_INT(atoll_sync_lock_give(lock, &me), ATOLL_SYNC_OK);
    }
    CHECK_INT(atoll_sync_lock_give(lock, &me), ATOLL_SYNC_REFUSED);
    CHECK_INT(atoll_sync_lock_try(lock, &other), ATOLL_SYNC_OK);
    CHECK_INT(atoll_sync_lock_give(lock, &other), ATOLL_SYNC_OK);
    atoll_sync_release(lock);
}

TEST(sync_lock_of_an_interpreter_that_ends_is_lost_once) {
    for (int kind = ATOLL_SYNC_LOCK; kind <= ATOLL_SYNC_RLOCK; kind++) {
        atoll_sync *lock = atoll_sync_new(kind, 0);
        atoll_sync *free_one = atoll_sync_new(kind, 0);
        atoll_sync *mine = atoll_sync_new(kind, 0);
        REQUIRE(lock != NULL && free_one != NULL && mine != NULL);
        CHECK_INT(atoll_sync_lock_try(lock, &other), ATOLL_SYNC_OK);
        CHECK_INT(atoll_sync_lock_try(mine, &me), ATOLL_SYNC_OK);
        atoll_syncs_lose(other.interp, 7);
        CHECK(!atoll_sync_lock_is_held(lock) && atoll_sync_lock_is_held(mine));
        CHECK_INT(atoll_sync_lock_try(free_one, &me), ATOLL_SYNC_OK);
        CHECK_INT(atoll_sync_lock_try(lock, &me), ATOLL_SYNC_LOST);
        CHECK_INT(atoll_sync_lock_lost(lock), 7);
        CHECK_INT(atoll_sync_lock_try(lock, &me), ATOLL_SYNC_OK);
        CHECK_INT(atoll_sync_lock_give(lock, &me), ATOLL_SYNC_OK);
        atoll_sync_release(lock);
        atoll_sync_release(free_one);
        atoll_sync_release(mine);
    }
}

TEST(sync_lost_lock_that_is_given_is_free) {
    atoll_sync *lock = atoll_sync_new(ATOLL_SYNC_LOCK, 0);
    REQUIRE(lock != NULL);
    CHECK_INT(atoll_sync_lock_try(lock, &other), ATOLL_SYNC_OK);
    atoll_syncs_lose(other.interp, 7);
    CHECK_INT(atoll_sync_lock_give(lock, &me), ATOLL_SYNC_OK);
    CHECK_INT(atoll_sync_lock_try(lock, &me), ATOLL_SYNC_OK);
    atoll_syncs_forget();
    CHECK_INT(atoll_sync_lock_try(lock, &me), ATOLL_SYNC_OK);
    atoll_sync_release(lock);
}

TEST(sync_semaphore_counts) {
    atoll_sync *free_one = atoll_sync_new(ATOLL_SYNC_SEMAPHORE, 1);
    atoll_sync *bounded = atoll_sync_new(ATOLL_SYNC_BOUNDED_SEMAPHORE, 2);
    REQUIRE(free_one != NULL && bounded != NULL);
    CHECK_INT(atoll_sync_semaphore_give(free_one, 2), ATOLL_SYNC_OK);
    CHECK_INT(atoll_sync_semaphore_value(free_one), 3);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(atoll_sync_semaphore_try(free_one), ATOLL_SYNC_OK);
    }
    CHECK_INT(atoll_sync_semaphore_try(free_one), ATOLL_SYNC_AGAIN);
    CHECK_INT(atoll_sync_semaphore_give(free_one, INT64_MAX), ATOLL_SYNC_OK);
    CHECK_INT(atoll_sync_semaphore_give(free_one, 1), ATOLL_SYNC_REFUSED);
    CHECK_INT(atoll_sync_semaphore_give(bounded, 1), ATOLL_SYNC_REFUSED);
    CHECK_INT(atoll_sync_semaphore_try(bounded), ATOLL_SYNC_OK);
    CHECK_INT(atoll_sync_semaphore_give(bounded, 2), ATOLL_SYNC_REFUSED);
    CHECK_INT(atoll_sync_semaphore_give(bounded, 1), ATOLL_SYNC_OK);
    atoll_sync_release(free_one);
    atoll_sync_release(bounded);
}

TEST(sync_number_keeps_to_64_bits) {
    atoll_sync *number = atoll_sync_new(ATOLL_SYNC_ATOMIC, INT64_MAX - 1);
    REQUIRE(number != NULL);
    int64_t before;
    CHECK(atoll_sync_atomic_add(number, 1, &before));
    CHECK_INT(before, INT64_MAX - 1);
    CHECK(!atoll_sync_atomic_add(number, 1, &before));
    CHECK_INT(atoll_sync_atomic_load(number), INT64_MAX);
    CHECK_INT(atoll_sync_atomic_exchange(number, INT64_MIN), INT64_MAX);
    CHECK(!atoll_sync_atomic_add(number, -1, &before));
    CHECK(!atoll_sync_atomic_compare(number, 5, 6));
    CHECK(atoll_sync_atomic_compare(number, INT64_MIN, 6));
    atoll_sync_wait wait = {.expected = 5};
    atoll_waiter waiter = {0};
    CHECK_INT(atoll_sync_atomic_await(number, &wait, &waiter, 0), ATOLL_SYNC_OK);
    wait.expected = 6;
    CHECK_INT(atoll_sync_atomic_await(number, &wait, &waiter, 0), ATOLL_SYNC_TIMEOUT);
    atoll_sync_release(number);
}

TEST(sync_condition_keeps_its_lock) {
    atoll_sync *lock = atoll_sync_new(ATOLL_SYNC_LOCK, 0);
    atoll_sync *condition = lock != NULL ? atoll_sync_condition_new(lock) : NULL;
    REQUIRE(condition != NULL);
    atoll_sync_release(lock);
    CHECK(atoll_sync_condition_lock(condition) == lock);
    CHECK_INT(atoll_sync_lock_try(lock, &me), ATOLL_SYNC_OK);
    atoll_sync_condition_notify(condition, 5); /* nobody is there, and nothing is kept for later */
    atoll_sync_wait wait = {.who = me};
    atoll_waiter waiter = {0};
    CHECK(atoll_sync_condition_join(condition, &wait, &waiter));
    CHECK_INT(atoll_sync_condition_sleep(condition, &wait, &waiter, 0), ATOLL_SYNC_TIMEOUT);
    /* Away, to handle a signal, it misses nothing. */
    CHECK(atoll_sync_condition_join(condition, &wait, &waiter));
    atoll_waiter_interrupt(&waiter);
    CHECK_INT(atoll_sync_condition_sleep(condition, &wait, &waiter, INFINITY), ATOLL_SYNC_SIGNAL);
    atoll_sync_condition_notify(condition, 1);
    CHECK(!atoll_sync_condition_join(condition, &wait, &waiter));
    atoll_sync_release(condition);
}

TEST(sync_event_is_set_and_cleared) {
    atoll_sync *event = atoll_sync_new(ATOLL_SYNC_EVENT, 0);
    REQUIRE(event != NULL);
    atoll_sync_wait wait = {.who = me};
    atoll_waiter waiter = {0};
    CHECK_INT(atoll_sync_event_await(event, &wait, &waiter, 0), ATOLL_SYNC_TIMEOUT);
    atoll_sync_event_set(event);
    CHECK(atoll_sync_event_is_set(event));
    CHECK_INT(atoll_sync_event_await(event, &wait, &waiter, INFINITY), ATOLL_SYNC_OK);
    atoll_sync_event_clear(event);
    CHECK(!atoll_sync_event_is_set(event));
    atoll_sync_release(event);
}

TEST(sync_barrier_of_one_passes_and_breaks) {
    atoll_sync *barrier = atoll_sync_new(ATOLL_SYNC_BARRIER, 1);
    REQUIRE(barrier != NULL);
    atoll_sync_wait wait = {.who = me};
    atoll_waiter waiter = {0};
    CHECK_INT(atoll_sync_barrier_arrive(barrier, &wait, &waiter, false), ATOLL_SYNC_OK);
    CHECK_INT(atoll_sync_barrier_arrive(barrier, &wait, &waiter, true), ATOLL_SYNC_LAST);
    CHECK_INT(atoll_sync_barrier_pass(barrier, &wait), ATOLL_SYNC_OK);
    CHECK_INT(atoll_sync_barrier_arrive(barrier, &wait, &waiter, true), ATOLL_SYNC_LAST);
    atoll_sync_barrier_abort(barrier);
    CHECK_INT(atoll_sync_barrier_pass(barrier, &wait), ATOLL_SYNC_BROKEN);
    CHECK_INT(atoll_sync_barrier_arrive(barrier, &wait, &waiter, false), ATOLL_SYNC_BROKEN);
    atoll_sync_barrier_reset(barrier);
    CHECK(!atoll_sync_barrier_is_broken(barrier));
    CHECK_INT(atoll_sync_barrier_arrive(barrier, &wait, &waiter, false), ATOLL_SYNC_OK);
    atoll_sync_release(barrier);
}

TEST(sync_barrier_remembers_what_became_of_who_is_away) {
    atoll_sync *barrier = atoll_sync_new(ATOLL_SYNC_BARRIER, 2);
    REQUIRE(barrier != NULL);
    for (int broken = 0; broken < 2; broken++) {
        atoll_sync_wait early = {.who = me};
        atoll_sync_wait late = {.who = other};
        atoll_waiter first = {0};
        atoll_waiter second = {0};
        CHECK_INT(atoll_sync_barrier_arrive(barrier, &early, &first, false), ATOLL_SYNC_AGAIN);
        CHECK_INT(atoll_sync_barrier_waiting(barrier), 1);
        atoll_waiter_interrupt(&first);
        CHECK_INT(atoll_sync_barrier_sleep(barrier, &early, &first, INFINITY), ATOLL_SYNC_SIGNAL);
        if (broken) {
            atoll_sync_barrier_reset(barrier);
        } else {
            CHECK_INT(atoll_sync_barrier_arrive(barrier, &late, &second, false), ATOLL_SYNC_OK);
            CHECK_INT(late.index, 1);
        }
        CHECK_INT(atoll_sync_barrier_stay(barrier, &early, &first, false),
                  broken ? ATOLL_SYNC_BROKEN : ATOLL_SYNC_OK);
        CHECK_INT(atoll_sync_barrier_leave(barrier, &early), broken ? ATOLL_SYNC_BROKEN : ATOLL_SYNC_OK);
        CHECK(!atoll_sync_barrier_is_broken(barrier));
    }
    atoll_sync_release(barrier);
}

/* Two others pass, or break it, so many times, while one that came before them is away. */
static void while_away(uint64_t passes, uint64_t breaks, atoll_sync_result then) {
    atoll_sync *barrier = atoll_sync_new(ATOLL_SYNC_BARRIER, 2);
    REQUIRE(barrier != NULL);
    atoll_sync_wait away = {.who = me};
    atoll_waiter first = {0};
    CHECK_INT(atoll_sync_barrier_arrive(barrier, &away, &first, false), ATOLL_SYNC_AGAIN);
    atoll_waiter_interrupt(&first);
    CHECK_INT(atoll_sync_barrier_sleep(barrier, &away, &first, INFINITY), ATOLL_SYNC_SIGNAL);
    atoll_sync_wait last = {.who = other};
    atoll_waiter second = {0};
    CHECK_INT(atoll_sync_barrier_arrive(barrier, &last, &second, false), ATOLL_SYNC_OK);
    for (uint64_t i = 0; i < passes + breaks; i++) {
        atoll_sync_wait early = {.who = other};
        atoll_waiter third = {0};
        CHECK_INT(atoll_sync_barrier_arrive(barrier, &early, &third, false), ATOLL_SYNC_AGAIN);
        if (i < passes) {
            CHECK_INT(atoll_sync_barrier_arrive(barrier, &last, &second, false), ATOLL_SYNC_OK);
        } else {
            atoll_sync_barrier_reset(barrier);
        }
        CHECK_INT(atoll_sync_barrier_sleep(barrier, &early, &third, INFINITY),
                  i < passes ? ATOLL_SYNC_OK : ATOLL_SYNC_BROKEN);
    }
    CHECK_INT(atoll_sync_barrier_stay(barrier, &away, &first, false), then);
    atoll_sync_release(barrier);
}

TEST(sync_barrier_remembers_who_is_away_for_long) {
    while_away(1000, 0, ATOLL_SYNC_OK);
    while_away(10, 50, ATOLL_SYNC_OK);
    while_away(10, 1000, ATOLL_SYNC_BROKEN); /* it is not known any more, and it has broken since */
}

static void *pass_later(void *raw) {
    atoll_sync *barrier = raw;
    const atoll_sync_wait late = {.who = other};
    atoll_sleep(0.05);
    CHECK_INT(atoll_sync_barrier_pass(barrier, &late), ATOLL_SYNC_OK);
    return NULL;
}

/* One whose parties, two, have come: `early` waits, and `late` acts.  NULL: no memory. */
static atoll_sync *acting_barrier(atoll_sync_wait *early, atoll_waiter *first, atoll_sync_wait *late) {
    atoll_sync *barrier = atoll_sync_new(ATOLL_SYNC_BARRIER, 2);
    atoll_waiter second = {0}; /* the last one does not wait */
    if (barrier != NULL) {
        CHECK_INT(atoll_sync_barrier_arrive(barrier, early, first, true), ATOLL_SYNC_AGAIN);
        CHECK_INT(atoll_sync_barrier_arrive(barrier, late, &second, true), ATOLL_SYNC_LAST);
    }
    return barrier;
}

TEST(sync_barrier_waits_for_who_acts_beyond_the_deadline) {
    atoll_sync_wait early = {.who = me};
    atoll_sync_wait late = {.who = other};
    atoll_waiter first = {0};
    atoll_sync *barrier = acting_barrier(&early, &first, &late);
    REQUIRE(barrier != NULL);
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, pass_later, barrier) == 0);
    CHECK_INT(atoll_sync_barrier_sleep(barrier, &early, &first, 0), ATOLL_SYNC_OK);
    (void)pthread_join(thread, NULL);
    CHECK_INT(atoll_sync_barrier_arrive(barrier, &early, &first, true), ATOLL_SYNC_AGAIN);
    CHECK_INT(atoll_sync_barrier_sleep(barrier, &early, &first, 0), ATOLL_SYNC_TIMEOUT);
    CHECK_INT(atoll_sync_barrier_leave(barrier, &early), ATOLL_SYNC_BROKEN);
    atoll_sync_release(barrier);
}

TEST(sync_barrier_breaks_when_who_acts_is_gone) {
    atoll_sync_wait early = {.who = me};
    atoll_sync_wait late = {.who = other};
    atoll_waiter first = {0};
    atoll_sync *barrier = acting_barrier(&early, &first, &late);
    REQUIRE(barrier != NULL);
    atoll_syncs_lose(me.interp, 1);
    CHECK(!atoll_sync_barrier_is_broken(barrier));
    atoll_syncs_lose(other.interp, 2);
    CHECK_INT(atoll_sync_barrier_sleep(barrier, &early, &first, INFINITY), ATOLL_SYNC_BROKEN);
    CHECK_INT(atoll_sync_barrier_pass(barrier, &late), ATOLL_SYNC_BROKEN);
    atoll_sync_release(barrier);
}

/* Each barrier's action has the last reference to the one before. */
static void *release_chain(void *raw) {
    atoll_sync_release(raw);
    return NULL;
}

TEST(sync_long_chain_of_barriers_is_released_on_a_small_stack) {
    atoll_sync *last = NULL;
    for (int i = 0; i < 20000; i++) {
        atoll_sync *barrier = atoll_sync_new(ATOLL_SYNC_BARRIER, 2);
        REQUIRE(barrier != NULL);
        if (last != NULL) {
            (void)atoll_message_attach(atoll_sync_barrier_action(barrier), &atoll_sync_class, last);
        }
        last = barrier;
    }
    pthread_attr_t attributes;
    pthread_t thread;
    REQUIRE(pthread_attr_init(&attributes) == 0);
    REQUIRE(pthread_attr_setstacksize(&attributes, (size_t)256 * 1024) == 0);
    REQUIRE(pthread_create(&thread, &attributes, release_chain, last) == 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
}
