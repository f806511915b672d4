/* The registry and the gate, single-threaded and raced. */
#include "core/registry/registry.h"
#include "core/stats/stats.h"
#include "dice.h"
#include "harness.h"

#include <stdlib.h>

static int marker; /* stands for an interpreter: core never looks inside */

TEST(registry_finds_what_was_added) {
    atoll_entry *one = atoll_registry_add(101, &marker, true);
    atoll_entry *two = atoll_registry_add(102, &marker, false);
    REQUIRE(one != NULL && two != NULL);
    atoll_entry *found = atoll_registry_find(101);
    CHECK(found == one);
    atoll_entry_release(found);
    atoll_registry_remove(one);
    atoll_registry_remove(one); /* a second removal is harmless: the caller's reference keeps it */
    CHECK(atoll_registry_find(101) == NULL);
    CHECK_INT(one->id, 101);
    atoll_registry_remove(two);
    CHECK(atoll_registry_find(102) == NULL);
    atoll_entry_release(one);
    atoll_entry_release(two);
}

static bool any(const atoll_entry *entry) { return entry->id > 200; }

TEST(registry_newest_goes_down_by_id_and_skips_what_is_not_owned) {
    int64_t ids[] = {203, 201, 205, 204};
    atoll_entry *entries[4];
    for (int i = 0; i < 4; i++) {
        entries[i] = atoll_registry_add(ids[i], &marker, ids[i] != 204);
        REQUIRE(entries[i] != NULL);
    }
    int64_t expected[] = {205, 203, 201};
    int64_t below = INT64_MAX;
    for (int i = 0; i < 3; i++) {
        atoll_entry *entry = atoll_registry_newest(below, any);
        REQUIRE(entry != NULL);
        CHECK_INT(entry->id, expected[i]);
        below = entry->id;
        atoll_entry_release(entry);
    }
    CHECK(atoll_registry_newest(below, any) == NULL);
    for (int i = 0; i < 4; i++) {
        atoll_registry_remove(entries[i]);
        atoll_entry_release(entries[i]);
    }
}

TEST(gate_refuses_the_second_comer) {
    atoll_entry *entry = atoll_registry_add(301, &marker, true);
    REQUIRE(entry != NULL);
    CHECK(atoll_entry_life(entry) == ATOLL_LIFE_SPARE);
    CHECK(!atoll_entry_pin(entry));
    atoll_entry_open(entry);
    CHECK(atoll_entry_pin(entry));
    CHECK(atoll_entry_pin(entry));
    CHECK_UINT(atoll_entry_pins(entry), 2);
    CHECK(atoll_entry_begin_close(entry) == ATOLL_CLOSE_BUSY);
    CHECK(atoll_entry_is_open(entry));
    atoll_entry_unpin(entry);
    CHECK(atoll_entry_begin_close(entry) == ATOLL_CLOSE_BUSY);
    atoll_entry_unpin(entry);
    CHECK(atoll_entry_begin_close(entry) == ATOLL_CLOSE_BEGUN);
    CHECK(atoll_entry_begin_close(entry) == ATOLL_CLOSE_GONE);
    CHECK(!atoll_entry_pin(entry));
    CHECK(!atoll_entry_guard(entry));
    CHECK(!atoll_entry_is_open(entry));
    atoll_entry_open(entry);
    CHECK(atoll_entry_pin(entry));
    atoll_entry_unpin(entry);
    atoll_registry_remove(entry);
    atoll_entry_release(entry);
}

TEST(being_closed_is_what_may_be_opened_again) {
    atoll_entry *entry = atoll_registry_add(311, &marker, true);
    REQUIRE(entry != NULL);
    atoll_entry_open(entry);
    atoll_entry_bar(entry);
    CHECK(!atoll_entry_pin(entry));
    CHECK(atoll_entry_is_being_closed(entry));
    CHECK(atoll_entry_begin_close(entry) == ATOLL_CLOSE_BEGUN);
    CHECK(atoll_entry_is_being_closed(entry));
    atoll_entry_set_life(entry, ATOLL_LIFE_WINDING);
    CHECK(!atoll_entry_is_being_closed(entry));
    atoll_entry_unbar(entry);
    CHECK(!atoll_entry_is_being_closed(entry));
    atoll_registry_remove(entry);
    atoll_entry_release(entry);
}

TEST(a_close_that_begins_barred_may_be_undone) {
    atoll_entry *entry = atoll_registry_add(312, &marker, true);
    REQUIRE(entry != NULL);
    atoll_entry_open(entry);
    CHECK(atoll_entry_pin(entry));
    CHECK(atoll_entry_begin_close_barred(entry) == ATOLL_CLOSE_BUSY);
    CHECK(!atoll_entry_is_barred(entry));
    atoll_entry_unpin(entry);
    CHECK(atoll_entry_begin_close_barred(entry) == ATOLL_CLOSE_BEGUN);
    CHECK(!atoll_entry_is_open(entry));
    CHECK(atoll_entry_is_being_closed(entry));
    CHECK(atoll_entry_begin_close_barred(entry) == ATOLL_CLOSE_GONE);
    atoll_entry_open(entry);
    atoll_entry_unbar(entry);
    CHECK(!atoll_entry_is_barred(entry));
    CHECK(atoll_entry_pin(entry));
    atoll_entry_unpin(entry);
    atoll_registry_remove(entry);
    atoll_entry_release(entry);
}

TEST(a_life_goes_one_way) {
    atoll_entry *entry = atoll_registry_add(351, &marker, true);
    atoll_entry *other = atoll_registry_add(352, &marker, false);
    REQUIRE(entry != NULL && other != NULL);
    CHECK(atoll_entry_life(other) == ATOLL_LIFE_OPEN);
    CHECK(atoll_entry_begin_close(entry) == ATOLL_CLOSE_BEGUN); /* of a spare */
    CHECK(atoll_entry_begin_close(entry) == ATOLL_CLOSE_GONE);
    CHECK(!atoll_entry_claim_zombie(entry));
    atoll_entry_set_life(entry, ATOLL_LIFE_ZOMBIE);
    CHECK(atoll_entry_claim_zombie(entry));
    CHECK(!atoll_entry_claim_zombie(entry)); /* one thread only */
    CHECK(atoll_entry_life(entry) == ATOLL_LIFE_STOPPING);
    atoll_entry_leave(entry);
    atoll_entry_leave(other);
    CHECK(!atoll_entry_pin(other));
    atoll_entry_set_life(entry, ATOLL_LIFE_ENDED);
    CHECK(atoll_entry_life(entry) == ATOLL_LIFE_LEFT);
    atoll_entry_open(entry); /* of a close that was refused meanwhile */
    CHECK(atoll_entry_life(entry) == ATOLL_LIFE_LEFT);
    CHECK(!atoll_entry_pin(entry));
    atoll_registry_remove(entry);
    atoll_registry_remove(other);
    atoll_entry_release(entry);
    atoll_entry_release(other);
}

TEST(users_of_an_owned_interpreter_are_counted) {
    atoll_entry *owned = atoll_registry_add(401, &marker, true);
    atoll_entry *other = atoll_registry_add(402, &marker, false);
    REQUIRE(owned != NULL && other != NULL);
    atoll_entry_add_user(owned);
    atoll_entry_add_user(owned);
    CHECK(!atoll_entry_remove_user(owned));
    CHECK(atoll_entry_remove_user(owned));
    atoll_entry_add_user(other);
    CHECK(!atoll_entry_remove_user(other)); /* others decide when theirs ends */
    atoll_registry_remove(owned);
    atoll_registry_remove(other);
    atoll_entry_release(owned);
    atoll_entry_release(other);
}

/* ---- races ---- */

static atoll_entry *leaving;
static pthread_barrier_t together;
static _Atomic(bool) refused;

enum { LEAVES = 20000, LONGEST = 5 /* seconds: each round may wait for a core on a machine that is busy */ };

static void *refused_close_thread(void *arg) {
    (void)arg;
    dice = 11;
    while (true) {
        pthread_barrier_wait(&together);
        if (leaving == NULL) {
            return NULL;
        }
        if (atoll_entry_begin_close(leaving) == ATOLL_CLOSE_BEGUN) {
            atoll_entry_open(leaving);
        }
        atomic_store(&refused, true);
        pthread_barrier_wait(&together);
    }
}

TEST(what_is_left_while_a_close_begins_stays_left) {
    pthread_t thread;
    int wrong = 0;
    double end = atoll_clock() + LONGEST;
    pthread_barrier_init(&together, NULL, 2);
    pthread_create(&thread, NULL, refused_close_thread, NULL);
    for (int i = 0; i < LEAVES && atoll_clock() < end; i++) {
        leaving = atoll_registry_add(700, &marker, true);
        atoll_entry_open(leaving);
        atomic_store(&refused, false);
        pthread_barrier_wait(&together);
        while (atoll_entry_is_open(leaving) && !atomic_load(&refused)) {
        }
        atoll_entry_leave(leaving);
        pthread_barrier_wait(&together);
        wrong += atoll_entry_life(leaving) != ATOLL_LIFE_LEFT || atoll_entry_pin(leaving) ||
                 atomic_load(&leaving->stats->life) != ATOLL_LIFE_LEFT;
        atoll_registry_remove(leaving);
        atoll_entry_release(leaving);
    }
    leaving = NULL;
    pthread_barrier_wait(&together);
    pthread_join(thread, NULL);
    pthread_barrier_destroy(&together);
    CHECK_INT(wrong, 0);
}

enum { THREADS = 4, ROUNDS = 20000 };

static atoll_entry *raced;
static _Atomic(int) inside;     /* sessions inside the gate */
static _Atomic(int) violations; /* a session inside while a close held the gate */
static _Atomic(int) entered, closed;

static void *session_thread(void *arg) {
    (void)arg;
    for (int i = 0; i < ROUNDS; i++) {
        if (atoll_entry_pin(raced)) {
            atomic_fetch_add(&inside, 1);
            atomic_fetch_add(&entered, 1);
            atomic_fetch_sub(&inside, 1);
            atoll_entry_unpin(raced);
        }
        if (atoll_entry_guard(raced)) {
            atoll_entry_unguard(raced);
        }
    }
    return NULL;
}

static void *closing_thread(void *arg) {
    (void)arg;
    bool won = false; /* at the latest when the sessions are over */
    for (int i = 0; i < ROUNDS || !won; i++) {
        if (atoll_entry_begin_close(raced) == ATOLL_CLOSE_BEGUN) {
            won = true;
            atomic_fetch_add(&closed, 1);
            if (atomic_load(&inside) != 0) {
                atomic_fetch_add(&violations, 1);
            }
            atoll_entry_open(raced);
        }
    }
    return NULL;
}

TEST(gate_keeps_sessions_and_closes_apart) {
    raced = atoll_registry_add(501, &marker, true);
    REQUIRE(raced != NULL);
    atoll_entry_open(raced);
    pthread_t threads[THREADS + 2];
    for (int i = 0; i < THREADS + 2; i++) {
        REQUIRE(pthread_create(&threads[i], NULL, i < THREADS ? session_thread : closing_thread, NULL) == 0);
    }
    for (int i = 0; i < THREADS + 2; i++) {
        pthread_join(threads[i], NULL);
    }
    CHECK_INT(atomic_load(&violations), 0);
    CHECK(atomic_load(&entered) > 0);
    CHECK(atomic_load(&closed) > 0);
    CHECK_UINT(atomic_load(&raced->gate), 0);
    atoll_registry_remove(raced);
    atoll_entry_release(raced);
}

typedef struct {
    atoll_job job;
    int thread;
    int number;
} numbered_job;

static _Atomic(int) jobs_run;
static int last_of[THREADS];
static _Atomic(int) out_of_order;

static void run_job(atoll_job *job, bool alive) {
    CHECK(alive);
    numbered_job *numbered = (numbered_job *)job;
    if (numbered->number <= last_of[numbered->thread]) {
        atomic_fetch_add(&out_of_order, 1);
    }
    last_of[numbered->thread] = numbered->number;
    atomic_fetch_add(&jobs_run, 1);
    free(job);
}

static _Atomic(bool) producers_done;

static void *producing_thread(void *arg) {
    int thread = (int)(intptr_t)arg;
    for (int i = 1; i <= ROUNDS; i++) {
        numbered_job *job = calloc(1, sizeof *job);
        *job = (numbered_job){.job = {.run = run_job}, .thread = thread, .number = i};
        atoll_entry_push_job(raced, &job->job);
    }
    return NULL;
}

static int drain(void) {
    int count = 0;
    atoll_job *job = atoll_entry_take_jobs(raced);
    while (job != NULL) {
        atoll_job *next = job->next;
        job->run(job, true);
        job = next;
        count++;
    }
    return count;
}

static void *draining_thread(void *arg) {
    (void)arg;
    while (!atomic_load(&producers_done)) {
        (void)drain();
    }
    return NULL;
}

TEST(jobs_are_run_once_and_in_order) {
    raced = atoll_registry_add(601, &marker, true);
    REQUIRE(raced != NULL);
    pthread_t threads[THREADS];
    pthread_t drainer;
    REQUIRE(pthread_create(&drainer, NULL, draining_thread, NULL) == 0);
    for (int i = 0; i < THREADS; i++) {
        REQUIRE(pthread_create(&threads[i], NULL, producing_thread, (void *)(intptr_t)i) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    atomic_store(&producers_done, true);
    pthread_join(drainer, NULL);
    (void)drain();
    CHECK_INT(atomic_load(&jobs_run), THREADS * ROUNDS);
    CHECK_INT(atomic_load(&out_of_order), 0);
    CHECK(atoll_entry_take_jobs(raced) == NULL);
    atoll_registry_remove(raced);
    atoll_entry_release(raced);
}

static void *finding_thread(void *arg) {
    (void)arg;
    for (int i = 0; i < ROUNDS; i++) {
        atoll_entry *entry = atoll_registry_find(700 + i % 8);
        if (entry != NULL) {
            atomic_fetch_add(&entered, 1);
            atoll_entry_release(entry);
        }
    }
    return NULL;
}

static void *churning_thread(void *arg) {
    int64_t id = 700 + (intptr_t)arg;
    for (int i = 0; i < ROUNDS / 10; i++) {
        atoll_entry *entry = atoll_registry_add(id, &marker, true);
        if (entry != NULL) {
            atoll_registry_remove(entry);
            atoll_entry_release(entry);
        }
    }
    return NULL;
}

TEST(entries_come_and_go_while_others_look) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        REQUIRE(pthread_create(&threads[i], NULL, i % 2 ? finding_thread : churning_thread,
                               (void *)(intptr_t)i) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    CHECK(atoll_registry_newest(INT64_MAX, any) == NULL);
}
