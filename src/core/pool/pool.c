/* Pools: making one, its work queue, what it delivers.  See pool.h for the design. */
#include "core/pool/internal.h"

#include <math.h>
#include <stdlib.h>

/* ---- pools ---- */

atoll_pool *atoll_pool_new(uint32_t max_workers, const atoll_pool_ops *ops) {
    atoll_pool *pool = aligned_alloc(64, sizeof *pool);
    if (pool == NULL) {
        return NULL;
    }
    memset(pool, 0, sizeof *pool);
    pool->stats = atoll_stats_pool_new(max_workers);
    if (pool->stats == NULL) {
        free(pool);
        return NULL;
    }
    pool->max_workers = max_workers;
    pool->timeout = INFINITY;
    pool->ops = ops;
    atomic_init(&pool->refs, 1);
    atoll_spin_init(&pool->work_spin);
    atoll_spin_init(&pool->done_spin);
    pool->watch = atoll_pool_watch;
    atoll_pool_enlist(pool);
    return pool;
}

/* ---- the queue ---- */

static atoll_pool_result submit(atoll_pool *pool, atoll_task *task, const _Atomic(bool) *refused) {
    atoll_lock_take(&pool->lock);
    if (atomic_load_explicit(refused, memory_order_relaxed) || atomic_load(&pool->broken)) {
        bool broken = atomic_load(&pool->broken);
        atoll_lock_give(&pool->lock);
        return broken ? ATOLL_POOL_BROKEN : ATOLL_POOL_SHUT;
    }
    if (pool->line != NULL && !atoll_line_join(pool->line, task)) {
        atoll_lock_give(&pool->lock);
        return ATOLL_POOL_CLOSING;
    }
    atoll_task_retain(task);
    task->next = NULL;
    uint64_t before = atoll_stats_get(&pool->stats->submitted);
    task->since = before % 8 == 0 ? atoll_ticks() : 0; /* the clock costs more than all other statistics */
    atoll_stats_set(&pool->stats->submitted, before + 1);
    *(pool->last != NULL ? &pool->last->next : &pool->first) = task;
    pool->last = task;
    uint32_t open = atomic_fetch_add(&pool->open, 1) + 1;
    atomic_fetch_add(&pool->untold, 1);
    atomic_fetch_add(&pool->queued, 1);
    uint32_t workers = atomic_load_explicit(&pool->workers, memory_order_relaxed);
    atoll_lock_give(&pool->lock);
    if (atomic_load(&pool->sleeping) != 0) {
        atoll_waiters_wake(&pool->lock, &pool->idle, &pool->sleeping, &pool->work_spin, 1);
    }
    if (open > workers && workers < pool->max_workers && atoll_pool_staff(pool) < 0 &&
        atomic_load(&pool->workers) == 0 && atoll_task_cancel(task) != ATOLL_CANCEL_REFUSED) {
        atoll_task_take_back(pool, task);
        return ATOLL_POOL_NO_THREAD;
    }
    return ATOLL_POOL_OK;
}

atoll_pool_result atoll_pool_submit(atoll_pool *pool, atoll_task *task) {
    return submit(pool, task, &pool->shut);
}

atoll_pool_result atoll_pool_submit_late(atoll_pool *pool, atoll_task *task) {
    return submit(pool, task, &pool->stopped);
}

bool atoll_pool_divide(atoll_task *task, atoll_task **parts, uint32_t nparts) {
    atoll_pool *pool = task->pool;
    atoll_lock_take(&pool->lock);
    if (atomic_load(&pool->stopped) || atomic_load(&pool->broken) ||
        atoll_task_now(task) != ATOLL_TASK_RUNNING) {
        atoll_lock_give(&pool->lock);
        return false;
    }
    atoll_stats_add(&pool->stats->submitted, nparts);
    task->parts = parts;
    task->nparts = nparts;
    for (uint32_t i = nparts; i > 0; i--) {
        atoll_task *part = parts[i - 1];
        atoll_task_retain(part);
        part->next = pool->first;
        pool->first = part;
        if (pool->last == NULL) {
            pool->last = part;
        }
    }
    atomic_fetch_add(&pool->open, nparts);
    atomic_fetch_add(&pool->untold, nparts);
    atomic_fetch_add(&pool->queued, nparts);
    atoll_lock_give(&pool->lock);
    if (atomic_load(&pool->sleeping) != 0) {
        atoll_waiters_wake(&pool->lock, &pool->idle, &pool->sleeping, &pool->work_spin, nparts);
    }
    for (uint32_t i = 1; i < nparts && atoll_pool_staff(pool) == 0; i++) {
    }
    return true;
}

bool atoll_pool_join(atoll_pool *pool, atoll_waiter *waiter, double deadline, atoll_wait_result *why) {
    *why = ATOLL_WAIT_OK;
    if (atoll_pool_is_foreign(pool)) {
        return true;
    }
    if (!atoll_pool_is_left(pool)) {
        *why = atoll_pool_await(&pool->lock, &pool->joiners, NULL, NULL, atoll_pool_is_left, pool, waiter,
                                deadline);
    }
    return atoll_pool_is_left(pool);
}

/* ---- delivery ---- */

static bool is_finished(atoll_pool *pool) {
    return atomic_load(&pool->shut) && atomic_load(&pool->untold) == 0;
}

static bool is_deliverable(void *pool) {
    return atomic_load(&((atoll_pool *)pool)->delivery) != NULL || is_finished(pool);
}

atoll_task *atoll_pool_deliver(atoll_pool *pool, atoll_waiter *waiter, bool *over, atoll_wait_result *why) {
    *why = ATOLL_WAIT_OK;
    if (!is_deliverable(pool)) {
        *why = atoll_pool_await(&pool->lock, &pool->deliverers, &pool->attention, NULL, is_deliverable, pool,
                                waiter, INFINITY);
    }
    bool last = is_finished(pool); /* before the list is looked at */
    atoll_task *task = atomic_exchange(&pool->delivery, NULL);
    atoll_task *oldest = NULL;
    while (task != NULL) {
        atoll_task *next = task->next;
        task->next = oldest;
        oldest = task;
        task = next;
    }
    *over = last && oldest == NULL;
    return oldest;
}
