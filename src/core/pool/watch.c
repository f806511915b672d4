/* Time limits of tasks, and the end by force.
 *
 * A pool with a time limit has one more thread.  It sleeps until the nearest deadline of its workers.  When a deadline
 * has come, the worker is interrupted, again every REPEAT seconds (code may swallow an interrupt), and when it has not
 * reacted to MOST_INTERRUPTS it is abandoned: its task is ended here, in its place, and another worker is started.
 * What counts is how often, not how long: on a busy machine each interrupt takes longer to arrive.  A stuck thread keeps
 * its interpreter until it comes back; then it finds itself abandoned and ends.
 *
 * A pool that is ended by force has the deadline now, for each of its workers, and no worker is started in place of one
 * that was abandoned.  What runs is ended before, when it is to be so at once.  A worker that runs no user code is not
 * interrupted: it ends by itself, unless what its interpreter runs at its end does not, and then it is abandoned too.
 *
 * The thread holds a reference to the pool and ends when the pool is shut and no thread of it is left.  No thread state
 * is attached, ever: the interrupt (pool->ops) needs none.
 */
#include "core/pool/internal.h"

#include <math.h>

#define REPEAT 0.1
enum { MOST_INTERRUPTS = 10 }; /* a second, on a machine that has a processor for it */

/* Deals with one worker whose time has come; the nearest deadline, in *next, when there is none. */
static bool look(atoll_pool *pool, double now, double *next) {
    atoll_worker *due = NULL;
    atoll_task *task = NULL;
    bool abandoned = false;
    bool busy = false;
    *next = INFINITY;
    atoll_lock_take(&pool->lock);
    for (atoll_worker *worker = pool->list; worker != NULL && due == NULL; worker = worker->next) {
        if (worker->deadline > now) {
            *next = worker->deadline < *next ? worker->deadline : *next;
            continue;
        }
        due = worker;
        atoll_worker_retain(due);
    }
    if (due != NULL) {
        abandoned = due->interrupts == MOST_INTERRUPTS;
        if (abandoned) {
            task = atoll_worker_abandon_locked(due);
        } else {
            uint64_t turn = atomic_load(&due->turn);
            busy = turn % 2 != 0;
            due->interrupts++;
            due->deadline = now + REPEAT;
            if (busy) {
                atomic_store(&due->wanted, turn);
            }
        }
    }
    atoll_lock_give(&pool->lock);
    if (due == NULL) {
        return false;
    }
    if (task != NULL) {
        task->outcome = atomic_load(&pool->killed) ? ATOLL_OUT_BROKEN : ATOLL_OUT_TIMEOUT;
        atoll_task_finished(pool, task);
        atoll_task_release(task);
    }
    if (abandoned) {
        if (!atomic_load(&pool->killed)) {
            atoll_stats_add_shared(&pool->stats->restarts, 1);
        }
        atoll_pool_restaff(pool);
        atoll_pool_left(pool);
    } else if (busy) {
        pool->ops->interrupt(due);
    }
    atoll_worker_release(due);
    return true;
}

static void watch(void *raw) {
    atoll_pool *pool = raw;
    for (;;) {
        uint32_t word = atomic_load(&pool->watch_word);
        double next;
        if (look(pool, atoll_clock(), &next)) {
            continue;
        }
        if (atomic_load(&pool->shut) && atomic_load(&pool->live) == 0) {
            atomic_store(&pool->watching, false);
            /* A worker that was started meanwhile has found it watching. */
            if (atomic_load(&pool->live) == 0 || atomic_exchange(&pool->watching, true)) {
                break;
            }
        }
        (void)atoll_word_wait(&pool->watch_word, word, next);
    }
    atoll_pool_release(pool);
}

bool atoll_pool_watch(atoll_pool *pool) {
    if (!atoll_pool_has_limits(pool) || atomic_exchange(&pool->watching, true)) {
        return true;
    }
    atoll_pool_retain(pool);
    if (atoll_thread_start(watch, pool, 0) < 0) {
        atomic_store(&pool->watching, false);
        atoll_pool_release(pool);
        return false;
    }
    return true;
}

/* The tasks that workers run, taken from them, linked and ENDING. */
static atoll_task *bereave_all_locked(atoll_pool *pool) {
    atoll_task *tasks = NULL;
    for (atoll_worker *worker = pool->list; worker != NULL; worker = worker->next) {
        atoll_task *task = atoll_worker_bereave_locked(worker);
        if (task != NULL) {
            task->next = tasks;
            tasks = task;
        }
    }
    return tasks;
}

atoll_task *atoll_pool_kill(atoll_pool *pool, bool now) {
    static const char text[] = "its workers were terminated";
    atoll_pool_shut(pool);
    atomic_store(&pool->stopped, true);
    atoll_task *cancelled = atoll_pool_drain(pool);
    double began = atoll_clock();
    atoll_lock_take(&pool->lock);
    atomic_store(&pool->killed, true);
    for (atoll_worker *worker = pool->list; worker != NULL; worker = worker->next) {
        worker->deadline = began;
        worker->interrupts = 0;
    }
    atoll_task *task = now ? bereave_all_locked(pool) : NULL;
    atoll_lock_give(&pool->lock);
    atoll_message why = {0};
    atoll_put_bytes(&why.body, text, sizeof text - 1);
    atoll_pool_break(pool, &why, true); /* wakes all */
    while (task != NULL) {
        atoll_task *next = task->next;
        task->next = NULL;
        task->outcome = ATOLL_OUT_BROKEN;
        atoll_task_finished(pool, task);
        atoll_task_release(task);
        task = next;
    }
    double next;
    while (look(pool, began, &next)) {
    }
    if (atomic_load(&pool->live) != 0) {
        (void)atoll_pool_watch(pool); /* else those that do not react are waited for */
        atoll_pool_watch_wake(pool);
    }
    return cancelled;
}

/* What runs, ENDING, before `tasks`; the workers are given up. */
static atoll_task *take_running_locked(atoll_pool *pool, atoll_task *tasks) {
    while (pool->list != NULL) {
        atoll_task *task = atoll_worker_abandon_locked(pool->list);
        if (task != NULL) {
            task->next = tasks;
            tasks = task;
        }
    }
    return tasks;
}

void atoll_pools_give_up(void) { atoll_pools_end(take_running_locked); }
