/* The queue with eight threads that give up the processor at random places: every item arrives once, in its producer's
 * order, whoever waits, gives up, watches or shuts down meanwhile. */
#include "core/queue/queue.h"
#include "dice.h"
#include "harness.h"

#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef union {
    atoll_record record;
    uint8_t room[sizeof(atoll_record) + ATOLL_RECORD_INLINE];
} one_record;

enum { PRODUCERS = 4, CONSUMERS = 4 };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define EACH 20000
#else
#define EACH 200000
#endif

typedef struct {
    atoll_queue *queue;
    int number; /* of a producer */
    uint64_t each;
    _Atomic(uint8_t) *seen; /* PRODUCERS * each */
    _Atomic(uint64_t) *got; /* by all consumers */
    _Atomic(int) *disorder;
} job;

static double soon(void) { return atoll_clock() + (double)roll(300) * 1e-6; }

static void *produce(void *raw) {
    job *j = raw;
    dice = (uint64_t)j->number * 7919 + 1;
    for (uint64_t i = 0; i < j->each;) {
        atoll_batch batch = {0};
        uint64_t n = roll(4) == 0 ? 1 + roll(20) : 1;
        for (uint64_t k = 0; k < n && i < j->each; k++, i++) {
            size_t start = atoll_batch_begin(&batch);
            atoll_put_u64(&batch.msg.body, (uint64_t)j->number * j->each + i);
            if (roll(50) == 0) {
                memset(atoll_buffer_extend(&batch.msg.body, 700), 1, 700);
            }
            CHECK_INT(atoll_batch_end(&batch, start, j->number, ATOLL_UNBOUND_REPLACE), 0);
        }
        atoll_waiter waiter = {0};
        while (atoll_queue_put(j->queue, &batch) == ATOLL_QUEUE_AGAIN) {
            (void)atoll_queue_wait(j->queue, ATOLL_QUEUE_PUT, &waiter, roll(5) == 0 ? soon() : INFINITY);
        }
        CHECK_UINT(batch.count, 0);
        atoll_batch_reset(&batch);
        atoll_message_clear(&batch.msg);
    }
    return NULL;
}

static void account(job *j, const atoll_record *record, uint64_t *newest) {
    atoll_message msg = atoll_record_message(record);
    uint64_t number = atoll_load_u64(msg.body.data);
    uint64_t producer = number / j->each;
    atomic_fetch_add(&j->seen[number], 1);
    atomic_fetch_add(j->got, 1);
    /* One consumer sees the items of one producer in their order, unless some were returned meanwhile. */
    if (newest != NULL) {
        if (newest[producer] > number + 1) {
            atomic_fetch_add(j->disorder, 1);
        }
        newest[producer] = number + 1;
    }
    atoll_record_release(record);
}

static void *consume(void *raw) {
    job *j = raw;
    dice = (uint64_t)j->number * 104729 + 3;
    uint64_t newest[PRODUCERS] = {0};
    for (;;) {
        atoll_waiter waiter = {0};
        one_record out;
        size_t count = 0;
        atoll_queue_result result;
        bool many = roll(3) == 0;
        atoll_chunk *chunk = many ? atoll_chunk_new(2048) : NULL;
        for (;;) {
            result = many ? atoll_queue_get_many(j->queue, 1 + roll(40), chunk, &count)
                          : atoll_queue_get(j->queue, &out.record);
            if (result != ATOLL_QUEUE_AGAIN) {
                break;
            }
            (void)atoll_queue_wait(j->queue, ATOLL_QUEUE_GET, &waiter, roll(5) == 0 ? soon() : INFINITY);
        }
        if (result != ATOLL_QUEUE_OK) {
            free(chunk);
            break;
        }
        if (many) {
            const atoll_record *record;
            while ((record = atoll_chunk_next(chunk)) != NULL) {
                account(j, record, newest);
            }
            free(chunk);
        } else {
            account(j, &out.record, newest);
        }
    }
    return NULL;
}

static void run_threads(int64_t maxsize, int consumers, bool with_event) {
    atoll_queue *queue = atoll_queue_new(maxsize, ATOLL_UNBOUND_REPLACE);
    REQUIRE(queue != NULL);
    if (with_event) {
        CHECK(atoll_queue_event(queue, ATOLL_QUEUE_GET) >= 0);
        CHECK(atoll_queue_event(queue, ATOLL_QUEUE_PUT) >= 0);
    }
    _Atomic(uint8_t) *seen = calloc((size_t)PRODUCERS * EACH, 1);
    REQUIRE(seen != NULL);
    _Atomic(uint64_t) got = 0;
    _Atomic(int) disorder = 0;
    job jobs[PRODUCERS + CONSUMERS];
    pthread_t threads[PRODUCERS + CONSUMERS];
    for (int i = 0; i < PRODUCERS + consumers; i++) {
        jobs[i] = (job){queue, i < PRODUCERS ? i : i - PRODUCERS, EACH, seen, &got, &disorder};
        pthread_create(&threads[i], NULL, i < PRODUCERS ? produce : consume, &jobs[i]);
    }
    for (int i = 0; i < PRODUCERS; i++) {
        pthread_join(threads[i], NULL);
    }
    atoll_queue_shutdown(queue, false);
    for (int i = PRODUCERS; i < PRODUCERS + consumers; i++) {
        pthread_join(threads[i], NULL);
    }
    int wrong = 0;
    for (size_t i = 0; i < (size_t)PRODUCERS * EACH; i++) {
        wrong += atomic_load(&seen[i]) != 1;
    }
    CHECK_INT(wrong, 0);
    CHECK_INT(atomic_load(&disorder), 0);
    CHECK_UINT(atomic_load(&got), (uint64_t)PRODUCERS * EACH);
    CHECK_UINT(atoll_queue_count(queue), 0);
    free(seen);
    atoll_queue_release(queue);
}

TEST(queue_threads_unbounded) { run_threads(0, CONSUMERS, false); }
TEST(queue_threads_bounded) { run_threads(3, CONSUMERS, false); }
TEST(queue_threads_one_consumer) { run_threads(64, 1, false); }
TEST(queue_threads_events) { run_threads(8, CONSUMERS, true); }

/* ---- somebody always interrupts ---- */

typedef struct {
    atoll_queue *queue;
    atoll_waiter waiter;
    _Atomic(bool) done;
    _Atomic(uint64_t) signals;
    uint64_t got;
} interrupted_job;

static void *get_all(void *raw) {
    interrupted_job *j = raw;
    dice = 77;
    one_record out;
    for (;;) {
        atoll_queue_result result = atoll_queue_get(j->queue, &out.record);
        if (result == ATOLL_QUEUE_SHUT) {
            break;
        }
        if (result == ATOLL_QUEUE_OK) {
            j->got++;
            continue;
        }
        if (atoll_queue_wait(j->queue, ATOLL_QUEUE_GET, &j->waiter, INFINITY) == ATOLL_WAIT_SIGNAL) {
            atomic_store(&j->waiter.interrupted, false);
            atomic_fetch_add(&j->signals, 1);
        }
    }
    atomic_store(&j->done, true);
    return NULL;
}

static void put_one(atoll_queue *queue) {
    atoll_batch batch = {0};
    size_t start = atoll_batch_begin(&batch);
    atoll_put_u64(&batch.msg.body, 1);
    CHECK_INT(atoll_batch_end(&batch, start, 0, ATOLL_UNBOUND_REPLACE), 0);
    CHECK_INT(atoll_queue_put(queue, &batch), ATOLL_QUEUE_OK);
    atoll_message_clear(&batch.msg);
}

TEST(queue_interrupts_lose_nothing) {
    interrupted_job j = {.queue = atoll_queue_new(0, ATOLL_UNBOUND_REPLACE)};
    REQUIRE(j.queue != NULL);
    pthread_t thread;
    pthread_create(&thread, NULL, get_all, &j);
    dice = 5;
    uint64_t put = 0;
    for (int i = 0; i < 20000; i++) {
        if (roll(2) == 0) {
            put_one(j.queue);
            put++;
        }
        if (roll(2) == 0) {
            atoll_waiter_interrupt(&j.waiter);
        }
        atoll_test_yield();
    }
    while (atomic_load(&j.signals) == 0) { /* the other thread may not have come to wait yet */
        atoll_waiter_interrupt(&j.waiter);
        sched_yield();
    }
    atoll_queue_shutdown(j.queue, false);
    pthread_join(thread, NULL);
    CHECK_UINT(j.got, put);
    atoll_queue_release(j.queue);
}

/* ---- watching ---- */

typedef struct {
    atoll_queue *queues[3];
    uint64_t got;
} watch_job;

static void *watch_all(void *raw) {
    watch_job *j = raw;
    dice = 99;
    for (int shut = 0; shut < 3;) {
        atoll_watch watches[3] = {{.queue = j->queues[0]}, {.queue = j->queues[1]}, {.queue = j->queues[2]}};
        atoll_waiter waiter = {0};
        (void)atoll_queue_select(watches, 3, &waiter, INFINITY);
        shut = 0;
        for (int i = 0; i < 3; i++) {
            one_record out;
            atoll_queue_result result;
            while ((result = atoll_queue_get(j->queues[i], &out.record)) == ATOLL_QUEUE_OK) {
                j->got++;
            }
            shut += result == ATOLL_QUEUE_SHUT;
        }
    }
    return NULL;
}

TEST(queue_select) {
    watch_job j = {0};
    for (int i = 0; i < 3; i++) {
        j.queues[i] = atoll_queue_new(0, ATOLL_UNBOUND_REPLACE);
        REQUIRE(j.queues[i] != NULL);
    }
    pthread_t thread;
    pthread_create(&thread, NULL, watch_all, &j);
    dice = 6;
    for (int i = 0; i < 20000; i++) {
        put_one(j.queues[roll(3)]);
        if (roll(4) == 0) {
            sched_yield();
        }
    }
    for (int i = 0; i < 3; i++) {
        atoll_queue_shutdown(j.queues[i], false);
    }
    pthread_join(thread, NULL);
    CHECK_UINT(j.got, 20000);
    for (int i = 0; i < 3; i++) {
        atoll_queue_release(j.queues[i]);
    }
}

static bool readable(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

TEST(queue_event_says_what_is_so) {
    atoll_queue *queue = atoll_queue_new(1, ATOLL_UNBOUND_REPLACE);
    REQUIRE(queue != NULL);
    int get = atoll_queue_event(queue, ATOLL_QUEUE_GET);
    int put = atoll_queue_event(queue, ATOLL_QUEUE_PUT);
    REQUIRE(get >= 0 && put >= 0);
    CHECK(!readable(get) && readable(put));
    for (int i = 0; i < 3; i++) {
        put_one(queue);
        CHECK(readable(get) && !readable(put));
        one_record out;
        CHECK_INT(atoll_queue_get(queue, &out.record), ATOLL_QUEUE_OK);
        CHECK(!readable(get) && readable(put));
    }
    /* One of two users goes, then the other, then one comes back, who finds what is so by then. */
    CHECK_INT(atoll_queue_event(queue, ATOLL_QUEUE_GET), get);
    atoll_queue_event_end(queue, ATOLL_QUEUE_GET);
    put_one(queue);
    CHECK(readable(get) && !readable(put));
    atoll_queue_event_end(queue, ATOLL_QUEUE_GET);
    one_record left;
    CHECK_INT(atoll_queue_get(queue, &left.record), ATOLL_QUEUE_OK);
    CHECK(readable(get) && readable(put));
    CHECK_INT(atoll_queue_event(queue, ATOLL_QUEUE_GET), get);
    CHECK(!readable(get));
    atoll_queue_shutdown(queue, false);
    CHECK(readable(get) && readable(put));
    atoll_queue_release(queue);
}

/* As its users do: again when it returns without a reason, which it does after spinning in vain. */
static atoll_wait_result wait_to_get(atoll_queue *queue, atoll_waiter *waiter, double deadline) {
    atoll_wait_result result;
    do {
        result = atoll_queue_wait(queue, ATOLL_QUEUE_GET, waiter, deadline);
    } while (result == ATOLL_WAIT_OK && !atoll_queue_ready(queue));
    return result;
}

TEST(queue_wait_times_out) {
    atoll_queue *queue = atoll_queue_new(0, ATOLL_UNBOUND_REPLACE);
    REQUIRE(queue != NULL);
    atoll_waiter waiter = {0};
    CHECK_INT(wait_to_get(queue, &waiter, atoll_clock() + 0.01), ATOLL_WAIT_TIMEOUT);
    CHECK_INT(wait_to_get(queue, &waiter, 0), ATOLL_WAIT_TIMEOUT);
    atoll_watch watch = {.queue = queue};
    CHECK_INT(atoll_queue_select(&watch, 1, &waiter, atoll_clock() + 0.01), ATOLL_WAIT_TIMEOUT);
    put_one(queue);
    CHECK_INT(wait_to_get(queue, &waiter, 0), ATOLL_WAIT_OK);
    atoll_queue_release(queue);
}
