/* Locks and the like with threads that give up the processor at random places: one at a time, nobody forgotten, nothing
 * signalled in vain, whoever waits, gives up, is interrupted or lost meanwhile. */
#include "core/sync/sync.h"
#include "dice.h"
#include "harness.h"

#include <math.h>
#include <pthread.h>

enum { THREADS = 4 };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define EACH 3000
#else
#define EACH 30000
#endif

typedef struct {
    int number;
    atoll_sync *sync;
    atoll_sync *second;
    uint64_t *plain; /* guarded by what is tested */
    _Atomic(uint64_t) *count;
} job;

static double soon(void) { return atoll_clock() + (double)roll(200) * 1e-6; }

static atoll_sync_who who_am_i(const job *j) {
    return (atoll_sync_who){(uint64_t)j->number + 1, atoll_sync_thread()};
}

static void run(void *(*what)(void *), job *jobs, int n) {
    pthread_t threads[THREADS];
    for (int i = 0; i < n; i++) {
        jobs[i].number = i;
        CHECK_INT(pthread_create(&threads[i], NULL, what, &jobs[i]), 0);
    }
    for (int i = 0; i < n; i++) {
        (void)pthread_join(threads[i], NULL);
    }
}

/* OK, TIMEOUT or LOST. */
static atoll_sync_result take(atoll_sync *lock, atoll_sync_who who, double deadline) {
    atoll_sync_wait wait = {.who = who};
    atoll_waiter waiter = {0};
    atoll_sync_result result;
    while ((result = atoll_sync_lock_try(lock, &who)) == ATOLL_SYNC_AGAIN) {
        result = atoll_sync_lock_await(lock, &wait, &waiter, deadline);
        atomic_store(&waiter.interrupted, false);
        if (result == ATOLL_SYNC_OK || result == ATOLL_SYNC_TIMEOUT) {
            break;
        }
    }
    return result;
}

static void *use_lock(void *raw) {
    job *j = raw;
    dice = (uint64_t)j->number * 7919 + 1;
    atoll_sync_who who = who_am_i(j);
    uint64_t taken = 0;
    for (int i = 0; i < EACH; i++) {
        atoll_sync_result result = take(j->sync, who, roll(4) == 0 ? soon() : INFINITY);
        if (result == ATOLL_SYNC_TIMEOUT) {
            continue;
        }
        CHECK_INT(result, ATOLL_SYNC_OK);
        bool twice = atoll_sync_kind_of(j->sync) == ATOLL_SYNC_RLOCK && roll(3) == 0;
        if (twice) {
            CHECK_INT(atoll_sync_lock_try(j->sync, &who), ATOLL_SYNC_OK);
        }
        (*j->plain)++; /* a race for ThreadSanitizer, if it is one */
        atoll_test_yield();
        taken++;
        if (twice) {
            CHECK_INT(atoll_sync_lock_give(j->sync, &who), ATOLL_SYNC_OK);
        }
        CHECK_INT(atoll_sync_lock_give(j->sync, &who), ATOLL_SYNC_OK);
    }
    atomic_fetch_add(j->count, taken);
    return NULL;
}

static void test_lock(atoll_sync_kind kind) {
    atoll_sync *lock = atoll_sync_new(kind, 0);
    REQUIRE(lock != NULL);
    uint64_t plain = 0;
    _Atomic(uint64_t) count = 0;
    job jobs[THREADS];
    for (int i = 0; i < THREADS; i++) {
        jobs[i] = (job){.sync = lock, .plain = &plain, .count = &count};
    }
    run(use_lock, jobs, THREADS);
    CHECK_UINT(plain, atomic_load(&count));
    CHECK(plain != 0 && !atoll_sync_lock_is_held(lock));
    atoll_sync_release(lock);
}

TEST(sync_threads_take_a_lock_in_turn) { test_lock(ATOLL_SYNC_LOCK); }

TEST(sync_threads_take_a_reentrant_lock_in_turn) { test_lock(ATOLL_SYNC_RLOCK); }

/* Holders vanish now and then: as many takers are told, and the lock goes on. */
static void *use_and_vanish(void *raw) {
    job *j = raw;
    dice = (uint64_t)j->number * 7919 + 5;
    atoll_sync_who who = who_am_i(j);
    for (int i = 0; i < EACH / 4; i++) {
        atoll_sync_result result;
        while ((result = take(j->sync, who, INFINITY)) == ATOLL_SYNC_LOST) {
            atomic_fetch_sub(j->count, 1);
        }
        CHECK_INT(result, ATOLL_SYNC_OK);
        (*j->plain)++;
        if (roll(8) == 0) {
            atomic_fetch_add(j->count, 1);
            atoll_syncs_lose(who.interp, j->number);
        } else {
            CHECK_INT(atoll_sync_lock_give(j->sync, &who), ATOLL_SYNC_OK);
        }
    }
    return NULL;
}

TEST(sync_lost_locks_are_told_as_often_as_they_are_lost) {
    for (int kind = ATOLL_SYNC_LOCK; kind <= ATOLL_SYNC_RLOCK; kind++) {
        atoll_sync *lock = atoll_sync_new(kind, 0);
        REQUIRE(lock != NULL);
        uint64_t plain = 0;
        _Atomic(uint64_t) count = 0;
        job jobs[THREADS];
        for (int i = 0; i < THREADS; i++) {
            jobs[i] = (job){.sync = lock, .plain = &plain, .count = &count};
        }
        run(use_and_vanish, jobs, THREADS);
        CHECK_UINT(plain, THREADS * (EACH / 4));
        atoll_sync_who nobody = {99, atoll_sync_thread()};
        if (atomic_load(&count) != 0) {
            CHECK_INT(atoll_sync_lock_try(lock, &nobody), ATOLL_SYNC_LOST);
            atomic_fetch_sub(&count, 1);
        }
        CHECK_UINT(atomic_load(&count), 0);
        atoll_sync_release(lock);
    }
}

static void *use_semaphore(void *raw) {
    job *j = raw;
    dice = (uint64_t)j->number * 104729 + 3;
    for (int i = 0; i < EACH; i++) {
        atoll_sync_wait wait = {.who = who_am_i(j)};
        atoll_waiter waiter = {0};
        double deadline = roll(4) == 0 ? soon() : INFINITY;
        atoll_sync_result result;
        while ((result = atoll_sync_semaphore_try(j->sync)) == ATOLL_SYNC_AGAIN) {
            result = atoll_sync_semaphore_await(j->sync, &wait, &waiter, deadline);
            if (result == ATOLL_SYNC_OK || result == ATOLL_SYNC_TIMEOUT) {
                break;
            }
        }
        if (result == ATOLL_SYNC_OK) {
            CHECK(atomic_fetch_add(j->count, 1) < 2);
            atoll_test_yield();
            atomic_fetch_sub(j->count, 1);
            CHECK_INT(atoll_sync_semaphore_give(j->sync, 1), ATOLL_SYNC_OK);
        }
    }
    return NULL;
}

TEST(sync_threads_share_a_semaphore) {
    atoll_sync *semaphore = atoll_sync_new(ATOLL_SYNC_BOUNDED_SEMAPHORE, 2);
    REQUIRE(semaphore != NULL);
    _Atomic(uint64_t) count = 0;
    job jobs[THREADS];
    for (int i = 0; i < THREADS; i++) {
        jobs[i] = (job){.sync = semaphore, .count = &count};
    }
    run(use_semaphore, jobs, THREADS);
    CHECK_INT(atoll_sync_semaphore_value(semaphore), 2);
    atoll_sync_release(semaphore);
}

/* plain: how many items are there. Even threads add one and notify once, odd ones take one: no notification is lost. */
static void *use_condition(void *raw) {
    job *j = raw;
    dice = (uint64_t)j->number * 31 + 7;
    atoll_sync *condition = j->sync;
    atoll_sync *lock = atoll_sync_condition_lock(condition);
    atoll_sync_who who = who_am_i(j);
    for (int i = 0; i < EACH / 2; i++) {
        CHECK_INT(take(lock, who, INFINITY), ATOLL_SYNC_OK);
        if (j->number % 2 == 0) {
            (*j->plain)++;
            atoll_sync_condition_notify(condition, 1);
        } else {
            while (*j->plain == 0) {
                atoll_sync_wait wait = {.who = who};
                atoll_waiter waiter = {0};
                bool joined = atoll_sync_condition_join(condition, &wait, &waiter);
                CHECK_INT(atoll_sync_lock_give(lock, &who), ATOLL_SYNC_OK);
                if (roll(5) == 0) {
                    atoll_waiter_interrupt(&waiter);
                }
                while (joined &&
                       atoll_sync_condition_sleep(condition, &wait, &waiter, INFINITY) == ATOLL_SYNC_SIGNAL) {
                    atomic_store(&waiter.interrupted, false);
                    joined = atoll_sync_condition_join(condition, &wait, &waiter);
                }
                CHECK_INT(take(lock, who, INFINITY), ATOLL_SYNC_OK);
            }
            (*j->plain)--;
        }
        CHECK_INT(atoll_sync_lock_give(lock, &who), ATOLL_SYNC_OK);
    }
    return NULL;
}

TEST(sync_threads_notify_one_another) {
    atoll_sync *lock = atoll_sync_new(ATOLL_SYNC_LOCK, 0);
    atoll_sync *condition = lock != NULL ? atoll_sync_condition_new(lock) : NULL;
    REQUIRE(condition != NULL);
    atoll_sync_release(lock);
    uint64_t plain = 0;
    job jobs[THREADS];
    for (int i = 0; i < THREADS; i++) {
        jobs[i] = (job){.sync = condition, .plain = &plain};
    }
    run(use_condition, jobs, THREADS);
    CHECK_UINT(plain, 0);
    atoll_sync_release(condition);
}

/* Each thread is at most one round ahead of the others. */
static void *use_barrier(void *raw) {
    job *j = raw;
    dice = (uint64_t)j->number * 17 + 9;
    for (uint64_t round = 0; round < EACH / 4; round++) {
        atomic_fetch_add(j->count, 1);
        atoll_sync_wait wait = {.who = who_am_i(j)};
        atoll_waiter waiter = {0};
        atoll_sync_result result = atoll_sync_barrier_arrive(j->sync, &wait, &waiter, round % 2 == 0);
        if (result == ATOLL_SYNC_AGAIN && roll(5) == 0) {
            atoll_waiter_interrupt(&waiter);
        }
        while (result == ATOLL_SYNC_AGAIN) {
            result = atoll_sync_barrier_sleep(j->sync, &wait, &waiter, INFINITY);
            if (result == ATOLL_SYNC_AGAIN) {
                result = atoll_sync_barrier_arrive(j->sync, &wait, &waiter, round % 2 == 0);
            } else if (result == ATOLL_SYNC_SIGNAL) {
                atomic_store(&waiter.interrupted, false);
                result = atoll_sync_barrier_stay(j->sync, &wait, &waiter, round % 2 == 0);
            }
        }
        if (result == ATOLL_SYNC_LAST) {
            *j->plain += 2; /* nobody else runs */
            result = atoll_sync_barrier_pass(j->sync, &wait);
        }
        CHECK_INT(result, ATOLL_SYNC_OK);
        uint64_t arrived = atomic_load(j->count);
        CHECK(arrived >= (round + 1) * THREADS && arrived < (round + 3) * THREADS);
    }
    return NULL;
}

TEST(sync_threads_meet_at_a_barrier) {
    atoll_sync *barrier = atoll_sync_new(ATOLL_SYNC_BARRIER, THREADS);
    REQUIRE(barrier != NULL);
    _Atomic(uint64_t) count = 0;
    uint64_t plain = 0;
    job jobs[THREADS];
    for (int i = 0; i < THREADS; i++) {
        jobs[i] = (job){.sync = barrier, .count = &count, .plain = &plain};
    }
    run(use_barrier, jobs, THREADS);
    CHECK_UINT(plain, EACH / 4);
    CHECK_INT(atoll_sync_barrier_waiting(barrier), 0);
    atoll_sync_release(barrier);
}

/* One breaks and resets a barrier that can never be full; the others only ever find it broken. */
static void *use_broken_barrier(void *raw) {
    job *j = raw;
    dice = (uint64_t)j->number * 17 + 9;
    for (int i = 0; i < EACH / 10; i++) {
        if (j->number == 0) {
            roll(2) == 0 ? atoll_sync_barrier_abort(j->sync) : atoll_sync_barrier_reset(j->sync);
            atoll_test_yield();
            continue;
        }
        atoll_sync_wait wait = {.who = who_am_i(j)};
        atoll_waiter waiter = {0};
        atoll_sync_result result = atoll_sync_barrier_arrive(j->sync, &wait, &waiter, false);
        if (result == ATOLL_SYNC_AGAIN) {
            result = atoll_sync_barrier_sleep(j->sync, &wait, &waiter, soon());
            if (result == ATOLL_SYNC_TIMEOUT) {
                result = atoll_sync_barrier_leave(j->sync, &wait);
            }
        }
        CHECK_INT(result, ATOLL_SYNC_BROKEN);
    }
    return NULL;
}

TEST(sync_barrier_breaks_for_everybody) {
    atoll_sync *barrier = atoll_sync_new(ATOLL_SYNC_BARRIER, THREADS + 1);
    REQUIRE(barrier != NULL);
    job jobs[THREADS];
    for (int i = 0; i < THREADS; i++) {
        jobs[i] = (job){.sync = barrier};
    }
    run(use_broken_barrier, jobs, THREADS);
    atoll_sync_barrier_reset(barrier);
    CHECK_INT(atoll_sync_barrier_waiting(barrier), 0);
    atoll_sync_release(barrier);
}

/* They count in turn: each waits for its number. */
static void *use_number(void *raw) {
    job *j = raw;
    dice = (uint64_t)j->number * 13 + 9;
    atoll_sync_wait wait = {.who = who_am_i(j)};
    for (int64_t next = j->number; next < EACH; next += THREADS) {
        for (int64_t now; (now = atoll_sync_atomic_load(j->sync)) != next;) {
            CHECK(now < next);
            wait = (atoll_sync_wait){.who = who_am_i(j), .expected = now};
            atoll_waiter waiter = {0};
            CHECK_INT(atoll_sync_atomic_await(j->sync, &wait, &waiter, INFINITY), ATOLL_SYNC_OK);
        }
        int64_t before;
        if (roll(2) == 0) {
            CHECK(atoll_sync_atomic_add(j->sync, 1, &before));
        } else {
            CHECK(atoll_sync_atomic_compare(j->sync, next, next + 1));
        }
    }
    return NULL;
}

TEST(sync_threads_wait_for_a_number) {
    atoll_sync *number = atoll_sync_new(ATOLL_SYNC_ATOMIC, 0);
    REQUIRE(number != NULL);
    job jobs[THREADS];
    for (int i = 0; i < THREADS; i++) {
        jobs[i] = (job){.sync = number};
    }
    run(use_number, jobs, THREADS);
    CHECK_INT(atoll_sync_atomic_load(number), EACH);
    atoll_sync_release(number);
}

/* Two events in turn: ping and pong. */
static void *use_events(void *raw) {
    job *j = raw;
    dice = (uint64_t)j->number * 13 + 9;
    atoll_sync *mine = j->number == 0 ? j->sync : j->second;
    atoll_sync *theirs = j->number == 0 ? j->second : j->sync;
    for (int i = 0; i < EACH / 4; i++) {
        atoll_sync_wait wait = {.who = who_am_i(j)};
        atoll_waiter waiter = {0};
        CHECK_INT(atoll_sync_event_await(mine, &wait, &waiter, INFINITY), ATOLL_SYNC_OK);
        atoll_sync_event_clear(mine);
        (*j->plain)++;
        atoll_sync_event_set(theirs);
    }
    return NULL;
}

TEST(sync_threads_set_events_in_turn) {
    atoll_sync *ping = atoll_sync_new(ATOLL_SYNC_EVENT, 0);
    atoll_sync *pong = atoll_sync_new(ATOLL_SYNC_EVENT, 0);
    REQUIRE(ping != NULL && pong != NULL);
    uint64_t plain = 0;
    job jobs[2];
    for (int i = 0; i < 2; i++) {
        jobs[i] = (job){.sync = ping, .second = pong, .plain = &plain};
    }
    atoll_sync_event_set(ping);
    run(use_events, jobs, 2);
    CHECK_UINT(plain, 2 * (EACH / 4));
    atoll_sync_release(ping);
    atoll_sync_release(pong);
}
