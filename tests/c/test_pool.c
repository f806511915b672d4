/* Pools without Python: what a task is, who ends it, who hears of it.  The workers here are plain threads, and a task's call is
 * a byte that says what to do. */
#include "core/pool/pool.h"
#include "harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* What a task does, and what its result is: ECHO returns the number that follows. */
typedef enum { ECHO, HOLD, OBEY, IGNORE } verb;

static _Atomic(bool) gate_open;       /* HOLD waits for it */
static _Atomic(uint32_t) interrupted; /* calls of ops->interrupt */
static _Atomic(uint32_t) refused;     /* claims that failed */
static _Atomic(int) starts_left;      /* threads that can be started */

static void pause_shortly(void) { atoll_sleep(0.0005); }

/* Whether what it does now is to stop. */
static bool is_wanted(atoll_worker *worker) {
    uint64_t turn = atomic_load(&worker->wanted);
    return turn != 0 && turn == atomic_load(&worker->turn);
}

static void serve(atoll_worker *worker, atoll_task *task) {
    const uint8_t *call = task->call.body.data;
    atoll_message result = {0};
    switch ((verb)call[0]) {
    case ECHO:
        atoll_put_u64(&result.body, atoll_load_u64(call + 1) * 2);
        break;
    case HOLD:
        while (!atomic_load(&gate_open)) {
            pause_shortly();
        }
        break;
    case OBEY:
        while (!is_wanted(worker)) {
            pause_shortly();
        }
        break;
    case IGNORE:
        atoll_sleep(1.6); /* longer than a task that is late is waited for */
        break;
    }
    if (!atoll_worker_claim(worker, task)) {
        atomic_fetch_add(&refused, 1);
        atoll_message_clear(&result);
        atoll_task_release(task);
        return;
    }
    task->result = result;
    task->outcome = task->late ? ATOLL_OUT_TIMEOUT : ATOLL_OUT_RESULT;
    atoll_worker_end_task(worker, task);
}

static void run(void *raw) {
    atoll_worker *worker = raw;
    atoll_task *task;
    (void)atoll_pool_watch(worker->pool);
    while ((task = atoll_worker_take(worker)) != NULL) {
        serve(worker, task);
    }
    atoll_worker_gone(worker);
}

static int start(atoll_worker *worker) {
    if (atomic_fetch_sub(&starts_left, 1) <= 0) {
        return -1;
    }
    return atoll_thread_start(run, worker, 0);
}

static void interrupt(atoll_worker *worker) {
    (void)worker;
    atomic_fetch_add(&interrupted, 1);
}

static const atoll_pool_ops ops = {start, interrupt};

static atoll_pool *new_pool(uint32_t workers) {
    atomic_store(&gate_open, false);
    atomic_store(&interrupted, 0);
    atomic_store(&refused, 0);
    atomic_store(&starts_left, 1000);
    return atoll_pool_new(workers, &ops);
}

static atoll_task *new_task(atoll_pool *pool, verb what, uint64_t number) {
    atoll_task *task = atoll_task_new(pool);
    atoll_put_u8(&task->call.body, (uint8_t)what);
    atoll_put_u64(&task->call.body, number);
    return task;
}

static atoll_task *submit(atoll_pool *pool, verb what, uint64_t number) {
    atoll_task *task = new_task(pool, what, number);
    CHECK_INT(atoll_pool_submit(pool, task), ATOLL_POOL_OK);
    return task;
}

/* Whether it is over before `seconds` have passed. */
static bool wait_for(atoll_task *task, double seconds) {
    atoll_waiter waiter = {0};
    atoll_wait_result why = ATOLL_WAIT_OK;
    double deadline = atoll_clock() + seconds;
    while (!atoll_task_wait(task, &waiter, deadline, &why)) {
        if (why == ATOLL_WAIT_TIMEOUT) {
            return atoll_task_is_over(task);
        }
    }
    return true;
}

static bool wait_until_running(const atoll_task *task) {
    for (int i = 0; i < 20000 && atoll_task_now(task) == ATOLL_TASK_PENDING; i++) {
        pause_shortly();
    }
    return atoll_task_now(task) == ATOLL_TASK_RUNNING;
}

/* Shuts it, waits for its threads and gives it back. */
static void end(atoll_pool *pool) {
    atoll_waiter waiter = {0};
    atoll_wait_result why = ATOLL_WAIT_OK;
    atomic_store(&gate_open, true);
    atoll_pool_shut(pool);
    while (!atoll_pool_join(pool, &waiter, INFINITY, &why)) {
    }
    CHECK_UINT(atomic_load(&pool->workers), 0);
    CHECK_UINT(atomic_load(&pool->open), 0);
    atoll_pool_release(pool);
    for (int i = 0; i < 20000 && atoll_pools_threads() != 0; i++) {
        pause_shortly();
    }
    CHECK_UINT(atoll_pools_threads(), 0);
}

/* Gives back a list of tasks. */
static void release_all(atoll_task *task) {
    while (task != NULL) {
        atoll_task *next = task->next;
        atoll_task_release(task);
        task = next;
    }
}

TEST(pool_runs_tasks_and_keeps_what_they_return) {
    enum { N = 500 };
    atoll_pool *pool = new_pool(3);
    atoll_task *tasks[N];
    for (uint64_t i = 0; i < N; i++) {
        tasks[i] = submit(pool, ECHO, i);
    }
    for (uint64_t i = 0; i < N; i++) {
        CHECK(wait_for(tasks[i], 60));
        CHECK_INT(tasks[i]->outcome, ATOLL_OUT_RESULT);
        CHECK_UINT(atoll_load_u64(tasks[i]->result.body.data), 2 * i);
        atoll_task_release(tasks[i]);
    }
    CHECK(atomic_load(&pool->workers) <= 3);
    end(pool);
}

TEST(pool_starts_a_worker_only_when_all_are_busy) {
    atoll_pool *pool = new_pool(4);
    CHECK_UINT(atomic_load(&pool->workers), 0);
    for (uint64_t i = 0; i < 20; i++) {
        atoll_task *task = submit(pool, ECHO, i);
        CHECK(wait_for(task, 60));
        atoll_task_release(task);
    }
    CHECK_UINT(pool->made, 1);
    atoll_task *held[6];
    for (int i = 0; i < 6; i++) {
        held[i] = submit(pool, HOLD, 0);
    }
    CHECK_UINT(pool->made, 4);
    atomic_store(&gate_open, true);
    for (int i = 0; i < 6; i++) {
        CHECK(wait_for(held[i], 60));
        atoll_task_release(held[i]);
    }
    end(pool);
}

TEST(pool_cancels_what_has_not_begun) {
    atoll_pool *pool = new_pool(1);
    atoll_task *held = submit(pool, HOLD, 0);
    atoll_task *waits = submit(pool, ECHO, 1);
    CHECK(wait_until_running(held));
    CHECK(!wait_for(waits, 0.01));
    CHECK_INT(atoll_task_cancel(held), ATOLL_CANCEL_REFUSED);
    CHECK_INT(atoll_task_cancel(waits), ATOLL_CANCEL_DONE);
    CHECK_INT(atoll_task_cancel(waits), ATOLL_CANCEL_WAS_DONE);
    CHECK(wait_for(waits, 60));
    CHECK_UINT(waits->call.body.len, 0); /* its arguments are not kept */
    CHECK(!atoll_task_interrupt(waits));
    atomic_store(&gate_open, true);
    CHECK(wait_for(held, 60));
    CHECK_INT(atoll_task_cancel(held), ATOLL_CANCEL_REFUSED);
    atoll_task_release(held);
    atoll_task_release(waits);
    end(pool);
}

TEST(pool_drains_in_the_order_of_submission) {
    atoll_pool *pool = new_pool(1);
    atoll_task *held = submit(pool, HOLD, 0);
    CHECK(wait_until_running(held));
    atoll_task *tasks[5];
    for (uint64_t i = 0; i < 5; i++) {
        tasks[i] = submit(pool, ECHO, i);
    }
    CHECK_INT(atoll_task_cancel(tasks[2]), ATOLL_CANCEL_DONE);
    static const int expected[] = {0, 1, 3, 4};
    int n = 0;
    atoll_task *drained = atoll_pool_drain(pool);
    for (atoll_task *task = drained; task != NULL; task = task->next, n++) {
        CHECK(n < 4 && task == tasks[expected[n]]);
        CHECK_INT(atoll_task_now(task), ATOLL_TASK_CANCELLED);
    }
    CHECK_INT(n, 4);
    release_all(drained);
    CHECK(atoll_pool_drain(pool) == NULL);
    for (int i = 0; i < 5; i++) {
        atoll_task_release(tasks[i]);
    }
    atoll_task_release(held);
    end(pool);
}

TEST(pool_that_is_shut_finishes_what_it_has) {
    atoll_pool *pool = new_pool(2);
    atoll_task *held = submit(pool, HOLD, 0);
    atoll_task *also = submit(pool, HOLD, 0);
    atoll_task *queued = submit(pool, ECHO, 21);
    atoll_pool_shut(pool);
    atoll_task *late = new_task(pool, ECHO, 1);
    CHECK_INT(atoll_pool_submit(pool, late), ATOLL_POOL_SHUT);
    CHECK_UINT(atomic_load(&late->refs), 1);
    atoll_waiter waiter = {0};
    atoll_wait_result why;
    CHECK(!atoll_pool_join(pool, &waiter, atoll_clock() + 0.01, &why));
    CHECK_INT(why, ATOLL_WAIT_TIMEOUT);
    atomic_store(&gate_open, true);
    CHECK(wait_for(queued, 60));
    CHECK_UINT(atoll_load_u64(queued->result.body.data), 42);
    atoll_task_release(held);
    atoll_task_release(also);
    atoll_task_release(queued);
    atoll_task_release(late);
    end(pool);
}

TEST(pool_delivers_observed_tasks_and_no_others) {
    atoll_pool *pool = new_pool(1);
    atoll_task *held = submit(pool, HOLD, 0);
    atoll_task *seen = submit(pool, ECHO, 1);
    atoll_task *unseen = submit(pool, ECHO, 2);
    atoll_task *cancelled = submit(pool, ECHO, 3);
    CHECK(atoll_task_observe(seen));
    CHECK(atoll_task_observe(cancelled));
    CHECK_INT(atoll_task_cancel(cancelled), ATOLL_CANCEL_DONE); /* who cancels tells himself */
    CHECK(!atoll_task_observe(cancelled));
    atoll_pool_shut(pool);
    atomic_store(&gate_open, true);
    int delivered = 0;
    for (bool over = false; !over;) {
        atoll_waiter waiter = {0};
        atoll_wait_result why;
        atoll_task *some = atoll_pool_deliver(pool, &waiter, &over, &why);
        for (atoll_task *task = some; task != NULL; task = task->next, delivered++) {
            CHECK(task == seen && atoll_task_is_over(task));
        }
        release_all(some);
    }
    CHECK_INT(delivered, 1);
    CHECK(atoll_task_is_over(unseen) && !atoll_task_observe(unseen));
    CHECK(atoll_task_is_over(held));
    atoll_task_release(held);
    atoll_task_release(seen);
    atoll_task_release(unseen);
    atoll_task_release(cancelled);
    end(pool);
}

TEST(pool_that_breaks_ends_what_waits) {
    atoll_pool *pool = new_pool(1);
    atoll_task *held = submit(pool, HOLD, 0);
    CHECK(wait_until_running(held));
    atoll_task *queued = submit(pool, ECHO, 1);
    atoll_message why = {0};
    atoll_put_bytes(&why.body, "no memory", 9);
    atoll_pool_break(pool, &why, true);
    CHECK(why.body.data == NULL); /* taken over */
    atoll_put_bytes(&why.body, "later", 5);
    atoll_pool_break(pool, &why, true); /* the first reason stays */
    CHECK(why.body.data == NULL);
    CHECK(pool->why.body.len == 9 && memcmp(pool->why.body.data, "no memory", 9) == 0);
    CHECK(wait_for(queued, 60));
    CHECK_INT(queued->outcome, ATOLL_OUT_BROKEN);
    atoll_task *late = new_task(pool, ECHO, 1);
    CHECK_INT(atoll_pool_submit(pool, late), ATOLL_POOL_BROKEN);
    atomic_store(&gate_open, true);
    CHECK(wait_for(held, 60));
    CHECK_INT(held->outcome, ATOLL_OUT_RESULT);
    atoll_task_release(held);
    atoll_task_release(queued);
    atoll_task_release(late);
    end(pool);
}

TEST(pool_without_threads_takes_a_task_back) {
    atoll_pool *pool = new_pool(2);
    atomic_store(&starts_left, 0);
    atoll_task *task = new_task(pool, ECHO, 1);
    CHECK_INT(atoll_pool_submit(pool, task), ATOLL_POOL_NO_THREAD);
    CHECK_INT(atoll_task_now(task), ATOLL_TASK_CANCELLED);
    CHECK_UINT(atomic_load(&pool->workers), 0);
    CHECK_UINT(atomic_load(&pool->open), 0);
    atoll_task_release(task);
    /* One that has a worker waits for it. */
    atomic_store(&starts_left, 1);
    atoll_task *held = submit(pool, HOLD, 0);
    atoll_task *waits = submit(pool, ECHO, 4);
    CHECK_UINT(atomic_load(&pool->workers), 1);
    atomic_store(&gate_open, true);
    CHECK(wait_for(waits, 60));
    CHECK_UINT(atoll_load_u64(waits->result.body.data), 8);
    atoll_task_release(held);
    atoll_task_release(waits);
    end(pool);
}

TEST(pool_interrupts_the_task_that_runs_and_no_other) {
    atoll_pool *pool = new_pool(1);
    atoll_task *first = submit(pool, OBEY, 0);
    atoll_task *second = submit(pool, OBEY, 0);
    CHECK(wait_until_running(first));
    CHECK(!atoll_task_interrupt(second)); /* it has not begun */
    CHECK(!wait_for(first, 0.02));
    CHECK(atoll_task_interrupt(first));
    CHECK(wait_for(first, 60));
    CHECK_INT(first->outcome, ATOLL_OUT_RESULT);
    CHECK(!atoll_task_interrupt(first));
    CHECK(wait_until_running(second));
    CHECK(!wait_for(second, 0.02)); /* the interrupt was the first one's */
    CHECK(atoll_task_interrupt(second));
    CHECK(wait_for(second, 60));
    CHECK_UINT(atomic_load(&interrupted), 2);
    atoll_task_release(first);
    atoll_task_release(second);
    end(pool);
}

TEST(pool_worker_is_not_wanted_between_tasks) {
    atoll_pool *pool = new_pool(1);
    atomic_store(&starts_left, 0);
    atoll_worker worker = {.pool = pool};
    atoll_task *task = new_task(pool, ECHO, 1);
    atomic_store(&pool->workers, 1); /* this one */
    CHECK_INT(atoll_pool_submit(pool, task), ATOLL_POOL_OK);
    CHECK(!is_wanted(&worker));
    REQUIRE(atoll_worker_try_take(&worker) == task);
    CHECK(!is_wanted(&worker));
    atomic_store(&worker.refs, 1); /* interrupt() takes and gives one */
    CHECK(atoll_task_interrupt(task));
    CHECK(is_wanted(&worker));
    CHECK(atoll_worker_claim(&worker, task));
    CHECK(!is_wanted(&worker)); /* what it does now is no task of anybody's */
    atoll_worker_end_task(&worker, task);
    CHECK(atoll_task_is_over(task));
    atoll_task_release(task);
    atomic_store(&pool->workers, 0);
    end(pool);
}

TEST(pool_interrupts_what_takes_too_long) {
    atoll_pool *pool = new_pool(2);
    pool->timeout = 0.02;
    atoll_task *quick = submit(pool, ECHO, 5);
    atoll_task *slow = submit(pool, OBEY, 0);
    CHECK(wait_for(slow, 60));
    CHECK_INT(slow->outcome, ATOLL_OUT_TIMEOUT);
    CHECK(slow->late);
    CHECK(wait_for(quick, 60));
    CHECK_INT(quick->outcome, ATOLL_OUT_RESULT);
    CHECK(atomic_load(&interrupted) >= 1);
    CHECK_UINT(atomic_load(&refused), 0);
    atoll_task_release(quick);
    atoll_task_release(slow);
    end(pool);
}

TEST(pool_abandons_a_worker_that_is_stuck) {
    atoll_pool *pool = new_pool(1);
    pool->timeout = 0.02;
    atoll_task *stuck = submit(pool, IGNORE, 0);
    atoll_task *next = submit(pool, ECHO, 7);
    CHECK(wait_for(stuck, 60));
    CHECK_INT(stuck->outcome, ATOLL_OUT_TIMEOUT);
    CHECK(wait_for(next, 60)); /* by another worker, while the first is stuck still */
    CHECK_UINT(atoll_load_u64(next->result.body.data), 14);
    CHECK_UINT(pool->made, 2);
    CHECK_UINT(atomic_load(&pool->workers), 1);
    for (int i = 0; i < 20000 && atomic_load(&refused) == 0; i++) {
        pause_shortly();
    }
    CHECK_UINT(atomic_load(&refused), 1); /* it has come back and found its task ended */
    atoll_task_release(stuck);
    atoll_task_release(next);
    end(pool);
}

TEST(pool_whose_worker_is_abandoned_keeps_nothing_that_was_cancelled) {
    atoll_pool *pool = new_pool(1);
    pool->timeout = 0.02;
    atoll_task *stuck = submit(pool, IGNORE, 0);
    atoll_task *cancelled = submit(pool, ECHO, 7);
    CHECK_INT(atoll_task_cancel(cancelled), ATOLL_CANCEL_DONE);
    CHECK(wait_for(stuck, 60));
    for (int i = 0; i < 20000 && (atomic_load(&refused) == 0 || atomic_load(&pool->queued) != 0); i++) {
        pause_shortly();
    }
    CHECK_UINT(atomic_load(&pool->queued), 0); /* else it would be a circle */
    CHECK_UINT(pool->made, 1);                 /* there was no need of another worker */
    atoll_task_release(stuck);
    atoll_task_release(cancelled);
    end(pool);
}

TEST(pool_that_lost_its_last_worker_for_good_is_broken) {
    atoll_pool *pool = new_pool(1);
    pool->timeout = 0.02;
    atomic_store(&starts_left, 1);
    atoll_task *stuck = submit(pool, IGNORE, 0);
    atoll_task *next = submit(pool, ECHO, 7);
    CHECK(wait_for(stuck, 60));
    CHECK_INT(stuck->outcome, ATOLL_OUT_TIMEOUT);
    CHECK(wait_for(next, 60)); /* it must not wait for the next submit() */
    CHECK_INT(next->outcome, ATOLL_OUT_BROKEN);
    CHECK(pool->why_is_text && pool->why.body.len != 0);
    atoll_task *late = new_task(pool, ECHO, 1);
    CHECK_INT(atoll_pool_submit(pool, late), ATOLL_POOL_BROKEN);
    for (int i = 0; i < 20000 && atomic_load(&refused) == 0; i++) {
        pause_shortly();
    }
    atoll_task_release(stuck);
    atoll_task_release(next);
    atoll_task_release(late);
    end(pool);
}

/* By force: whether what runs is ended at once or has a moment, who does not react is left alone. */
static void check_end_by_force(bool now) {
    atoll_pool *pool = new_pool(2);
    atoll_task *reacts = submit(pool, OBEY, 0);
    atoll_task *stuck = submit(pool, IGNORE, 0);
    CHECK(wait_until_running(reacts));
    CHECK(wait_until_running(stuck));
    atoll_task *waits = submit(pool, ECHO, 1);
    atoll_task *cancelled = atoll_pool_kill(pool, now);
    CHECK(cancelled == waits && cancelled->next == NULL);
    CHECK_INT(atoll_task_now(waits), ATOLL_TASK_CANCELLED);
    CHECK(!now || (atoll_task_is_over(reacts) && atoll_task_is_over(stuck)));
    atoll_task *late = new_task(pool, ECHO, 2);
    CHECK_INT(atoll_pool_submit(pool, late), ATOLL_POOL_BROKEN);
    CHECK(wait_for(reacts, 60));
    CHECK(wait_for(stuck, 60));
    CHECK_INT(stuck->outcome, ATOLL_OUT_BROKEN);
    CHECK(!now || reacts->outcome == ATOLL_OUT_BROKEN);
    CHECK(atomic_load(&interrupted) >= 2);
    CHECK(atoll_pool_kill(pool, true) == NULL);
    atoll_task_release(late);
    release_all(cancelled);
    atoll_task_release(waits);
    atoll_task_release(reacts);
    atoll_task_release(stuck);
    end(pool);
    CHECK_UINT(atomic_load(&refused), now ? 2 : 1);
}

TEST(pool_ends_by_force) { check_end_by_force(false); }

TEST(pool_ends_by_force_at_once) { check_end_by_force(true); }

TEST(pool_wait_is_interrupted) {
    atoll_pool *pool = new_pool(1);
    atoll_task *held = submit(pool, HOLD, 0);
    atoll_waiter waiter = {0};
    atoll_wait_result why = ATOLL_WAIT_OK;
    atoll_waiter_interrupt(&waiter);
    while (why == ATOLL_WAIT_OK) { /* it may spin before */
        CHECK(!atoll_task_wait(held, &waiter, INFINITY, &why));
    }
    CHECK_INT(why, ATOLL_WAIT_SIGNAL);
    atomic_store(&waiter.interrupted, false);
    atomic_store(&gate_open, true);
    CHECK(wait_for(held, 60));
    atoll_task_release(held);
    end(pool);
}

TEST(pools_stop_at_the_end_of_the_process) {
    atoll_pool *pool = new_pool(1);
    atoll_task *held = submit(pool, HOLD, 0);
    CHECK(wait_until_running(held));
    atoll_task *queued = submit(pool, ECHO, 1);
    atoll_pools_stop();
    atomic_store(&gate_open, true);
    CHECK(wait_for(held, 60));
    atoll_waiter waiter = {0};
    atoll_wait_result why;
    while (!atoll_pool_join(pool, &waiter, INFINITY, &why)) {
    }
    CHECK_INT(atoll_task_now(queued),
              ATOLL_TASK_DONE); /* nobody runs it any more, so nobody has to wait for it */
    CHECK_INT(queued->outcome, ATOLL_OUT_LOST);
    CHECK(atoll_pool_drain(pool) == NULL);
    atoll_task_release(held);
    atoll_task_release(queued);
    end(pool);
}

TEST(pools_give_up_what_still_runs_at_the_end_of_the_process) {
    atoll_pool *pool = new_pool(2);
    atoll_task *held = submit(pool, HOLD, 0);
    CHECK(wait_until_running(held));
    CHECK(atoll_task_observe(held));
    atoll_pools_stop();
    CHECK_INT(atoll_task_now(held), ATOLL_TASK_RUNNING);
    atoll_pools_give_up();
    CHECK(wait_for(held, 60));
    CHECK_INT(held->outcome, ATOLL_OUT_LOST);
    atoll_waiter waiter = {0};
    atoll_wait_result why;
    while (!atoll_pool_join(pool, &waiter, INFINITY, &why)) { /* its worker is still there */
    }
    bool over;
    atoll_task *told = atoll_pool_deliver(pool, &waiter, &over, &why);
    CHECK(told == held);
    release_all(told);
    atomic_store(&gate_open, true);
    atoll_task_release(held);
    end(pool);
}

TEST(pool_of_the_parent_is_left_alone_in_a_forked_child) {
    atoll_pools_init();
    atoll_pool *pool = new_pool(1);
    CHECK(!atoll_pool_is_foreign(pool));
    pid_t child = fork();
    if (child == 0) {
        bool right = atoll_pool_is_foreign(pool) && atoll_pools_threads() == 0;
        atoll_pool_shut(pool);
        atoll_pool_release(pool); /* does nothing: its threads are not here */
        atoll_pool *own = atoll_pool_new(1, &ops);
        right = right && !atoll_pool_is_foreign(own);
        atoll_pool_release(own);
        _exit(right ? 0 : 1);
    }
    int status = -1;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK_INT(status, 0);
    end(pool);
}
