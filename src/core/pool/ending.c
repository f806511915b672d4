/* The end of pools: they take nothing more, what waits is cancelled, or all of it is broken.  See pool.h.
 *
 * At the end of the process nobody runs what is left, but code that runs later than that (an exit function, say) may wait for it, or for
 * the workers: so every task ends, as LOST.
 */
#include "core/pool/internal.h"

static void wake_all(atoll_pool *pool) {
    atoll_waiters_wake(&pool->lock, &pool->idle, &pool->sleeping, NULL, UINT32_MAX);
    atoll_waiters_wake(&pool->lock, &pool->deliverers, &pool->attention, NULL, UINT32_MAX);
    atoll_pool_watch_wake(pool);
}

void atoll_pool_shut(atoll_pool *pool) {
    if (atoll_pool_is_foreign(pool)) {
        return;
    }
    atoll_lock_take(&pool->lock);
    atomic_store(&pool->shut, true);
    atoll_lock_give(&pool->lock);
    wake_all(pool);
}

atoll_task *atoll_pool_drain(atoll_pool *pool) {
    atoll_lock_take(&pool->lock);
    atoll_task *task = pool->first;
    pool->first = pool->last = NULL;
    atomic_store(&pool->queued, 0);
    atoll_lock_give(&pool->lock);
    atoll_task *cancelled = NULL;
    atoll_task **end = &cancelled;
    while (task != NULL) {
        atoll_task *next = task->next;
        task->next = NULL;
        if (atoll_task_cancel(task) != ATOLL_CANCEL_DONE) {
            atoll_task_release(task); /* by others, before */
        } else {
            *end = task;
            end = &task->next;
        }
        task = next;
    }
    return cancelled;
}

/* With the pool's lock held: what waits, ENDING, before `tasks`. */
static atoll_task *take_waiting_locked(atoll_pool *pool, atoll_task *tasks) {
    atoll_task *task = pool->first;
    pool->first = pool->last = NULL;
    atomic_store(&pool->queued, 0);
    while (task != NULL) {
        atoll_task *next = task->next;
        if (atoll_task_step(task, ATOLL_TASK_PENDING, ATOLL_TASK_ENDING) != UINT32_MAX) {
            atoll_stats_add(&pool->stats->started, 1);
            atoll_stats_add(&pool->stats->lost, 1);
        }
        task->next = tasks;
        tasks = task;
        task = next;
    }
    return tasks;
}

/* What was taken ends without the list's lock, as it may be the last that refers to its pool. */
void atoll_pools_end(atoll_task *(*take_locked)(atoll_pool *pool, atoll_task *tasks)) {
    atoll_task *tasks = NULL;
    for (atoll_pool *pool = atoll_pool_list_lock(); pool != NULL; pool = pool->next_pool) {
        atomic_store(&pool->stopped, true);
        atoll_pool_shut(pool);
        atoll_lock_take(&pool->lock);
        tasks = take_locked(pool, tasks);
        atoll_lock_give(&pool->lock);
        atoll_pool_left(pool);
    }
    atoll_pool_list_unlock();
    while (tasks != NULL) {
        atoll_task *task = tasks;
        tasks = task->next;
        task->next = NULL;
        if (atoll_task_now(task) == ATOLL_TASK_ENDING) { /* else it was cancelled before */
            task->outcome = ATOLL_OUT_LOST;
            atoll_task_finished(task->pool, task);
        }
        atoll_task_release(task);
    }
}

void atoll_pools_stop(void) { atoll_pools_end(take_waiting_locked); }

void atoll_pool_break(atoll_pool *pool, atoll_message *why, bool is_text) {
    atoll_lock_take(&pool->lock);
    bool first = !atomic_load(&pool->broken);
    if (first) {
        pool->why = *why;
        pool->why_is_text = is_text;
        *why = (atoll_message){0};
        atomic_store(&pool->broken, true);
    }
    atoll_task *task = pool->first;
    pool->first = pool->last = NULL;
    atomic_store(&pool->queued, 0);
    for (atoll_task *each = task; each != NULL; each = each->next) {
        if (atoll_task_step(each, ATOLL_TASK_PENDING, ATOLL_TASK_ENDING) != UINT32_MAX) {
            atoll_stats_add(&pool->stats->started, 1);
            atoll_stats_add(&pool->stats->lost, 1);
        }
    }
    atoll_lock_give(&pool->lock);
    atoll_message_clear(why);
    while (task != NULL) {
        atoll_task *next = task->next;
        if (atoll_task_now(task) == ATOLL_TASK_ENDING) { /* else it was cancelled before */
            task->outcome = ATOLL_OUT_BROKEN;
            atoll_task_finished(pool, task);
        }
        atoll_task_release(task);
        task = next;
    }
    wake_all(pool);
}
