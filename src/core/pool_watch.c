/* Time limits of tasks.
 *
 * A pool with a time limit has one more thread.  It sleeps until the nearest deadline of its workers.  When a deadline
 * has come, the worker is interrupted, again every REPEAT seconds (code may swallow an interrupt), and when it has not
 * reacted for GRACE seconds it is abandoned: its task is ended here, in its place, and another worker is started.  A
 * stuck thread keeps its interpreter until it comes back; then it finds itself abandoned and ends.
 *
 * The thread holds a reference to the pool and ends when the pool is shut and no thread of it is left.  No thread state
 * is attached, ever: the interrupt (pool->ops) needs none.
 */
#include "core/pool_internal.h"

#include <math.h>

#define REPEAT 0.1
#define GRACE 1.0

void atoll_pool_watch_wake(atoll_pool *pool) {
    if (!isinf(pool->timeout)) {
        atomic_fetch_add(&pool->watch_word, 1);
        atoll_word_wake(&pool->watch_word, 1);
    }
}

/* Deals with one worker whose time has come; the nearest deadline, in *next, when there is none. */
static bool look(atoll_pool *pool, double now, double *next) {
    atoll_worker *due = NULL;
    atoll_task *task = NULL;
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
        if (due->interrupted && due->started + pool->timeout + GRACE <= now) {
            task = atoll_worker_abandon_locked(due);
        } else {
            due->interrupted = true;
            due->deadline = now + REPEAT;
            atomic_store(&due->wanted, atomic_load(&due->turn));
        }
    }
    atoll_lock_give(&pool->lock);
    if (due == NULL) {
        return false;
    }
    if (task != NULL) {
        task->outcome = ATOLL_OUT_TIMEOUT;
        atoll_task_finished(pool, task);
        atoll_task_release(task);
        (void)atoll_pool_staff(pool);
        atoll_pool_left(pool);
    } else {
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
            break;
        }
        (void)atoll_word_wait(&pool->watch_word, word, next);
    }
    atoll_pool_release(pool);
}

void atoll_pool_watch(atoll_pool *pool) {
    if (isinf(pool->timeout) || atomic_exchange(&pool->watching, true)) {
        return;
    }
    atoll_pool_retain(pool);
    if (atoll_thread_start(watch, pool) < 0) {
        atomic_store(&pool->watching, false);
        atoll_pool_release(pool);
    }
}
