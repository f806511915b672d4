/* A pool with many threads at once: whatever is cancelled, interrupted, observed or dropped meanwhile, every task ends once, and
 * everybody who waits for it hears of it. */
#include "core/pool/pool.h"
#include "harness.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

enum { SUBMITTERS = 4, WORKERS = 3, BURST = 40 };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ROUNDS 150
#else
#define ROUNDS 1500
#endif

static _Atomic(uint64_t) ran;       /* tasks that a worker has claimed */
static _Atomic(uint64_t) cancelled; /* by whoever */
static _Atomic(uint64_t) delivered;
static _Atomic(uint64_t) observed;
static _Atomic(uint64_t) wrong;
static _Atomic(bool) inside; /* a task of those in a line is being run */

static _Thread_local uint64_t dice;

static uint64_t roll(uint64_t below) {
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return dice % below;
}

static void run(void *raw) {
    atoll_worker *worker = raw;
    atoll_task *task;
    dice = (uint64_t)worker->number * 7919 + 17;
    while ((task = atoll_worker_take(worker)) != NULL) {
        if (worker->pool->line != NULL && atomic_exchange(&inside, true)) {
            atomic_fetch_add(&wrong, 1);
        }
        if (roll(4) == 0) {
            sched_yield();
        }
        if (!atoll_worker_claim(worker, task)) {
            atomic_fetch_add(&wrong, 1); /* nobody is abandoned here */
            atoll_task_release(task);
            continue;
        }
        atomic_fetch_add(&ran, 1);
        atoll_put_u64(&task->result.body, atoll_load_u64(task->call.body.data) + 1);
        task->outcome = ATOLL_OUT_RESULT;
        if (worker->pool->line != NULL) {
            atomic_store(&inside, false);
        }
        atoll_worker_end_task(worker, task);
        if (worker->number % 5 == 4 && roll(500) == 0) {
            break; /* a worker may leave at any time */
        }
    }
    atoll_pool *pool = worker->pool;
    atoll_pool_retain(pool);
    atoll_worker_gone(worker);
    (void)atoll_pool_staff(pool);
    atoll_pool_release(pool);
}

static int start(atoll_worker *worker) { return atoll_thread_start(run, worker, 0); }

static void interrupt(atoll_worker *worker) {
    if (atomic_load(&worker->refs) == 0) {
        atomic_fetch_add(&wrong, 1);
    }
}

static const atoll_pool_ops ops = {start, interrupt};

static void check_end(atoll_task *task, uint64_t number) {
    if (atoll_task_now(task) == ATOLL_TASK_CANCELLED) {
        return;
    }
    if (atoll_task_now(task) != ATOLL_TASK_DONE || task->outcome != ATOLL_OUT_RESULT ||
        atoll_load_u64(task->result.body.data) != number + 1) {
        atomic_fetch_add(&wrong, 1);
    }
}

static void await_end(atoll_task *task) {
    atoll_waiter waiter = {0};
    atoll_wait_result why;
    while (!atoll_task_wait(task, &waiter, roll(3) == 0 ? atoll_clock() + 0.0001 : INFINITY, &why)) {
        if (why == ATOLL_WAIT_TIMEOUT) {
            atoll_waiter_reset(&waiter);
            waiter.spun = false;
        }
    }
}

static void drain(atoll_pool *pool) {
    atoll_task *next;
    for (atoll_task *task = atoll_pool_drain(pool); task != NULL; task = next) {
        next = task->next;
        atomic_fetch_add(&cancelled, 1);
        atoll_task_release(task);
    }
}

typedef struct {
    atoll_pool *pool;
    uint64_t number;
    uint64_t submitted;
} job;

static void *use(void *raw) {
    job *j = raw;
    dice = j->number * 104729 + 3;
    for (int round = 0; round < ROUNDS; round++) {
        atoll_task *tasks[BURST];
        uint64_t numbers[BURST];
        int n = 1 + (int)roll(BURST);
        for (int i = 0; i < n; i++) {
            numbers[i] = j->submitted++;
            tasks[i] = atoll_task_new(j->pool);
            atoll_put_u64(&tasks[i]->call.body, numbers[i]);
            if (atoll_pool_submit(j->pool, tasks[i]) != ATOLL_POOL_OK) {
                atomic_fetch_add(&wrong, 1);
            }
            switch (roll(8)) {
            case 0:
                if (atoll_task_cancel(tasks[i]) == ATOLL_CANCEL_DONE) {
                    atomic_fetch_add(&cancelled, 1);
                }
                break;
            case 1:
                if (atoll_task_observe(tasks[i])) {
                    atomic_fetch_add(&observed, 1);
                }
                break;
            case 2:
                (void)atoll_task_interrupt(tasks[i]);
                break;
            default:
                break;
            }
        }
        if (roll(20) == 0) {
            drain(j->pool);
        }
        for (int i = 0; i < n; i++) {
            if (roll(5) != 0) { /* else nobody asks */
                await_end(tasks[i]);
                check_end(tasks[i], numbers[i]);
            }
            atoll_task_release(tasks[i]);
        }
    }
    return NULL;
}

static void *deliver(void *raw) {
    atoll_pool *pool = raw;
    for (bool over = false; !over;) {
        atoll_waiter waiter = {0};
        atoll_wait_result why;
        atoll_task *next;
        for (atoll_task *task = atoll_pool_deliver(pool, &waiter, &over, &why); task != NULL; task = next) {
            next = task->next;
            task->next = NULL;
            if (!atoll_task_is_over(task)) {
                atomic_fetch_add(&wrong, 1);
            }
            atomic_fetch_add(&delivered, 1);
            atoll_task_release(task);
        }
    }
    return NULL;
}

TEST(pool_ends_every_task_once) {
    atoll_pool *pool = atoll_pool_new(WORKERS, &ops);
    pthread_t threads[SUBMITTERS];
    pthread_t deliverer;
    job jobs[SUBMITTERS];
    pthread_create(&deliverer, NULL, deliver, pool);
    for (int i = 0; i < SUBMITTERS; i++) {
        jobs[i] = (job){pool, (uint64_t)i + 1, 0};
        pthread_create(&threads[i], NULL, use, &jobs[i]);
    }
    uint64_t submitted = 0;
    for (int i = 0; i < SUBMITTERS; i++) {
        pthread_join(threads[i], NULL);
        submitted += jobs[i].submitted;
    }
    atoll_pool_shut(pool);
    atoll_waiter waiter = {0};
    atoll_wait_result why;
    while (!atoll_pool_join(pool, &waiter, INFINITY, &why)) {
    }
    pthread_join(deliverer, NULL);
    CHECK_UINT(atomic_load(&ran) + atomic_load(&cancelled), submitted);
    /* One that is observed and then cancelled by a drain is told by whoever drains. */
    CHECK(atomic_load(&delivered) <= atomic_load(&observed));
    CHECK(atomic_load(&delivered) > 0);
    CHECK_UINT(atomic_load(&wrong), 0);
    CHECK_UINT(atomic_load(&pool->open), 0);
    CHECK_UINT(atomic_load(&pool->untold), 0);
    while (atoll_pools_threads() != 0) { /* they give back their references last */
        sched_yield();
    }
    for (int i = 0; i < 1000 && atomic_load(&pool->refs) != 1; i++) {
        atoll_sleep(0.001);
    }
    CHECK_UINT(atomic_load(&pool->refs), 1);
    atoll_pool_release(pool);
}

TEST(pools_in_one_line_take_turns) {
    atoll_line line = {0};
    atoll_pool *pools[SUBMITTERS];
    pthread_t threads[SUBMITTERS];
    job jobs[SUBMITTERS];
    uint64_t before = atomic_load(&ran) + atomic_load(&cancelled);
    for (int i = 0; i < SUBMITTERS; i++) {
        pools[i] = atoll_pool_new(1, &ops);
        pools[i]->line = &line;
        jobs[i] = (job){pools[i], (uint64_t)i + 1, 0};
        pthread_create(&threads[i], NULL, use, &jobs[i]);
    }
    uint64_t submitted = 0;
    for (int i = 0; i < SUBMITTERS; i++) {
        pthread_join(threads[i], NULL);
        submitted += jobs[i].submitted;
    }
    atoll_waiter waiter = {0};
    atoll_wait_result why;
    atoll_line_shut(&line);
    while (!atoll_line_await_end(&line, &waiter, INFINITY, &why)) {
    }
    for (int i = 0; i < SUBMITTERS; i++) {
        atoll_task *late = atoll_task_new(pools[i]);
        CHECK_UINT(atoll_pool_submit(pools[i], late), ATOLL_POOL_CLOSING);
        atoll_task_release(late);
        atoll_pool_shut(pools[i]);
        while (!atoll_pool_join(pools[i], &waiter, INFINITY, &why)) {
        }
        CHECK_UINT(atomic_load(&pools[i]->open), 0);
        atoll_pool_release(pools[i]);
    }
    CHECK_UINT(atomic_load(&ran) + atomic_load(&cancelled) - before, submitted);
    CHECK_UINT(atomic_load(&wrong), 0);
}
