/* Tasks: their states, who ends them, who hears of it.  See pool.h. */
#include "core/pool/internal.h"

#include <stdlib.h>

atoll_task *atoll_task_new(atoll_pool *pool) {
    atoll_task *task = calloc(1, sizeof *task);
    if (task != NULL) {
        atomic_init(&task->refs, 1);
        atoll_pool_retain(pool);
        task->pool = pool;
        task->items = 1;
    }
    return task;
}

void atoll_task_retain(atoll_task *task) { atomic_fetch_add_explicit(&task->refs, 1, memory_order_relaxed); }

void atoll_task_release(atoll_task *task) {
    if (atomic_fetch_sub_explicit(&task->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    atoll_message_clear(&task->call);
    atoll_message_clear(&task->result);
    atoll_message_clear(&task->error);
    if (task->function != NULL) {
        atoll_pool_function_release(task->function);
    }
    for (uint32_t i = 0; i < task->nparts; i++) {
        atoll_task_release(task->parts[i]);
    }
    free(task->parts);
    atoll_pool_release(task->pool);
    free(task);
}

void atoll_pool_function_retain(atoll_function *function) {
    atomic_fetch_add_explicit(&function->refs, 1, memory_order_relaxed);
}

void atoll_pool_function_release(atoll_function *function) {
    if (atomic_fetch_sub_explicit(&function->refs, 1, memory_order_acq_rel) == 1) {
        atoll_message_clear(&function->full);
        free(function);
    }
}

uint32_t atoll_task_step(atoll_task *task, uint32_t from, uint32_t to) {
    uint32_t seen = atomic_load_explicit(&task->state, memory_order_relaxed);
    do {
        if ((seen & ATOLL_TASK_STATE) != from) {
            return UINT32_MAX;
        }
    } while (!atomic_compare_exchange_weak(&task->state, &seen, to | (seen & ~(uint32_t)ATOLL_TASK_STATE)));
    return seen & ~(uint32_t)ATOLL_TASK_STATE;
}

/* Followed by tell(). */
static void task_closed(atoll_pool *pool, atoll_task *task) {
    if (pool->line != NULL) {
        atoll_line_leave(pool->line, task);
    }
    atomic_fetch_sub(&pool->open, 1);
}

/* The task is over, with these flags: tells who waits for it and the list of deliveries. */
static void tell(atoll_pool *pool, atoll_task *task, uint32_t flags) {
    if ((flags & ATOLL_TASK_AWAITED) != 0) {
        atoll_waiters_wake(&pool->lock, &task->waiters, NULL, &pool->done_spin, UINT32_MAX);
    }
    if ((flags & ATOLL_TASK_OBSERVED) != 0) {
        atoll_task_retain(task);
        atoll_task *head = atomic_load_explicit(&pool->delivery, memory_order_relaxed);
        do {
            task->next = head;
        } while (!atomic_compare_exchange_weak(&pool->delivery, &head, task));
    }
    bool last = atomic_fetch_sub(&pool->untold, 1) == 1;
    if (atomic_load(&pool->attention) != 0 && ((flags & ATOLL_TASK_OBSERVED) != 0 || last)) {
        atoll_waiters_wake(&pool->lock, &pool->deliverers, &pool->attention, NULL, UINT32_MAX);
    }
}

void atoll_task_take_back(atoll_pool *pool, atoll_task *task) {
    atoll_task *before = NULL;
    atoll_lock_take(&pool->lock);
    atoll_task *at = pool->first;
    while (at != NULL && at != task) {
        before = at;
        at = at->next;
    }
    if (at != NULL) {
        *(before != NULL ? &before->next : &pool->first) = task->next;
        if (pool->last == task) {
            pool->last = before;
        }
        task->next = NULL;
        atomic_fetch_sub(&pool->queued, 1);
    }
    atoll_lock_give(&pool->lock);
    if (at != NULL) {
        atoll_task_release(task);
    }
}

/* A task of a pool with a line was cancelled.  Its worker, if it has to let others go first, would sleep for what is not there any more. */
static void leave_queue(atoll_pool *pool, atoll_task *task) {
    atoll_task_take_back(pool, task);
    if (atomic_load(&pool->shut) && atomic_load(&pool->sleeping) != 0) {
        atoll_waiters_wake(&pool->lock, &pool->idle, &pool->sleeping, NULL, UINT32_MAX);
    }
}

atoll_cancel_result atoll_task_cancel(atoll_task *task) {
    uint32_t flags = atoll_task_step(task, ATOLL_TASK_PENDING, ATOLL_TASK_CANCELLED);
    if (flags == UINT32_MAX) {
        return atoll_task_now(task) == ATOLL_TASK_CANCELLED ? ATOLL_CANCEL_WAS_DONE : ATOLL_CANCEL_REFUSED;
    }
    atoll_message_clear(&task->call);
    atoll_stats_add_shared(&task->pool->stats->cancelled, 1);
    task_closed(task->pool, task);
    if (task->pool->line != NULL) {
        leave_queue(task->pool, task);
    }
    /* Who cancels delivers as well: it is in the submitting interpreter. */
    tell(task->pool, task, flags & ~(uint32_t)ATOLL_TASK_OBSERVED);
    return ATOLL_CANCEL_DONE;
}

bool atoll_task_observe(atoll_task *task) {
    uint32_t seen = atomic_load(&task->state);
    do {
        if ((seen & ATOLL_TASK_STATE) >= ATOLL_TASK_DONE) {
            return false;
        }
    } while (!atomic_compare_exchange_weak(&task->state, &seen, seen | ATOLL_TASK_OBSERVED));
    return true;
}

static bool is_over(void *task) { return atoll_task_is_over(task); }

bool atoll_task_wait(atoll_task *task, atoll_waiter *waiter, double deadline, atoll_wait_result *why) {
    *why = ATOLL_WAIT_OK;
    atoll_pool *pool = task->pool;
    if (atoll_task_is_over(task) || atoll_pool_is_foreign(pool)) {
        return true;
    }
    if (waiter->spun) { /* about to sleep */
        atomic_fetch_or(&task->state, ATOLL_TASK_AWAITED);
    } else if (atoll_waiter_spin(waiter, &pool->done_spin, is_over, task)) {
        *why = atomic_load(&waiter->interrupted) ? ATOLL_WAIT_SIGNAL : ATOLL_WAIT_OK;
        return atoll_task_is_over(task);
    } else {
        atomic_fetch_or(&task->state, ATOLL_TASK_AWAITED);
        waiter->spun = true;
    }
    *why = atoll_pool_await(&pool->lock, &task->waiters, NULL, &pool->done_spin, is_over, task, waiter,
                            deadline);
    return atoll_task_is_over(task);
}

void atoll_task_finished(atoll_pool *pool, atoll_task *task) {
    task_closed(pool, task);
    uint32_t flags = atoll_task_step(task, ATOLL_TASK_ENDING, ATOLL_TASK_DONE);
    tell(pool, task, flags);
}

bool atoll_task_interrupt(atoll_task *task) {
    atoll_pool *pool = task->pool;
    atoll_lock_take(&pool->lock);
    atoll_worker *worker = task->worker;
    if (worker != NULL) {
        atoll_worker_retain(worker);
        atomic_store(&worker->wanted, atomic_load(&worker->turn));
    }
    atoll_lock_give(&pool->lock);
    if (worker == NULL) {
        return false;
    }
    pool->ops->interrupt(worker);
    atoll_worker_release(worker);
    return true;
}
