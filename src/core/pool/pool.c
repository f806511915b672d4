/* Pools: their list, the work queue, waiting, the end.  See pool.h for the design. */
#include "core/pool/internal.h"

#include <math.h>
#include <stdlib.h>

#define GRANTS 16 /* sleeping threads woken in one go */

static atoll_mutex pools_lock = ATOLL_MUTEX_INIT; /* the list of pools; taken before a pool's lock */
static atoll_pool *pools;
static _Atomic(uint32_t) threads;
static unsigned era;

/* ---- pools ---- */

static void before_fork(void) { atoll_mutex_lock(&pools_lock); }
static void after_fork_parent(void) { atoll_mutex_unlock(&pools_lock); }
static void after_fork_child(void) {
    /* Threads and locks of its pools are not here: they stay as they are, for ever. */
    atoll_mutex_init(&pools_lock);
    pools = NULL;
    atomic_store(&threads, 0);
    era++;
}

void atoll_pools_forget(void) {
    atoll_mutex_lock(&pools_lock);
    pools = NULL;
    atomic_store(&threads, 0);
    era++;
    atoll_mutex_unlock(&pools_lock);
}

static void prepare_fork(void) { atoll_at_fork(before_fork, after_fork_parent, after_fork_child); }

void atoll_pools_init(void) {
    static atoll_once once = ATOLL_ONCE_INIT;
    atoll_once_run(&once, prepare_fork);
}

bool atoll_pool_is_foreign(const atoll_pool *pool) { return pool->era != era; }

atoll_pool *atoll_pool_new(uint32_t max_workers, const atoll_pool_ops *ops) {
    atoll_pool *pool = aligned_alloc(64, sizeof *pool);
    if (pool == NULL) {
        return NULL;
    }
    memset(pool, 0, sizeof *pool);
    pool->max_workers = max_workers;
    pool->timeout = INFINITY;
    pool->ops = ops;
    pool->era = era;
    atomic_init(&pool->refs, 1);
    atoll_spin_init(&pool->work_spin);
    atoll_spin_init(&pool->done_spin);
    atoll_mutex_lock(&pools_lock);
    pool->next_pool = pools;
    if (pools != NULL) {
        pools->prev = pool;
    }
    pools = pool;
    atoll_mutex_unlock(&pools_lock);
    return pool;
}

void atoll_pool_retain(atoll_pool *pool) { atomic_fetch_add_explicit(&pool->refs, 1, memory_order_relaxed); }

void atoll_pool_release(atoll_pool *pool) {
    if (atoll_pool_is_foreign(pool) || atomic_fetch_sub_explicit(&pool->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    atoll_mutex_lock(&pools_lock);
    *(pool->prev != NULL ? &pool->prev->next_pool : &pools) = pool->next_pool;
    if (pool->next_pool != NULL) {
        pool->next_pool->prev = pool->prev;
    }
    atoll_mutex_unlock(&pools_lock);
    if (pool->free_settings != NULL) {
        pool->free_settings(pool->settings);
    }
    atoll_message_clear(&pool->why);
    free(pool);
}

void atoll_pool_wake(atoll_lock *lock, atoll_waiters *list, _Atomic(uint32_t) *count, atoll_spin *spin,
                     uint32_t most) {
    for (bool more = true; more;) {
        _Atomic(uint32_t) *asleep[GRANTS];
        int n = 0;
        atoll_lock_take(lock);
        while (n < GRANTS && most > 0 && list->first != NULL) {
            atoll_waiter *waiter = list->first;
            atoll_waiters_remove(list, waiter);
            if (count != NULL) {
                atomic_fetch_sub(count, 1);
            }
            if (spin != NULL) {
                atoll_spin_granted(spin);
            }
            asleep[n] = atoll_waiter_grant(waiter);
            n += asleep[n] != NULL;
            most--;
        }
        more = n == GRANTS;
        atoll_lock_give(lock);
        for (int i = 0; i < n; i++) {
            atoll_word_wake(asleep[i], 1);
        }
    }
}

atoll_wait_result atoll_pool_await(atoll_lock *lock, atoll_waiters *list, _Atomic(uint32_t) *count,
                                   atoll_spin *spin, bool (*ready)(void *what), void *what,
                                   atoll_waiter *waiter, double deadline) {
    if (spin != NULL && atoll_waiter_spin(waiter, spin, ready, what)) {
        return atomic_load(&waiter->interrupted) ? ATOLL_WAIT_SIGNAL : ATOLL_WAIT_OK;
    }
    atoll_lock_take(lock);
    waiter->turn = 0;
    atoll_waiters_add(list, waiter);
    if (count != NULL) {
        atomic_fetch_add(count, 1);
    }
    atoll_lock_give(lock);
    atoll_wait_result result = ATOLL_WAIT_OK;
    if (!ready(what) && !atomic_load(&waiter->interrupted)) {
        result = atoll_waiter_block(waiter, deadline, spin);
    }
    /* Under the lock once more, so that a waker has let go of the waiter. */
    atoll_lock_take(lock);
    if (waiter->linked) {
        atoll_waiters_remove(list, waiter);
        if (count != NULL) {
            atomic_fetch_sub(count, 1);
        }
    }
    atoll_lock_give(lock);
    if (atomic_load(&waiter->interrupted)) {
        return ATOLL_WAIT_SIGNAL;
    }
    return result;
}

/* ---- the queue ---- */

/* Nobody is there to take a task that is cancelled: it would keep the pool, and the pool what it works for. */
static void take_back(atoll_pool *pool, atoll_task *task) {
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
    *(pool->last != NULL ? &pool->last->next : &pool->first) = task;
    pool->last = task;
    uint32_t open = atomic_fetch_add(&pool->open, 1) + 1;
    atomic_fetch_add(&pool->queued, 1);
    uint32_t workers = atomic_load_explicit(&pool->workers, memory_order_relaxed);
    atoll_lock_give(&pool->lock);
    if (atomic_load(&pool->sleeping) != 0) {
        atoll_pool_wake(&pool->lock, &pool->idle, &pool->sleeping, &pool->work_spin, 1);
    }
    if (open > workers && workers < pool->max_workers && atoll_pool_staff(pool) < 0 &&
        atomic_load(&pool->workers) == 0 && atoll_task_cancel(task) != ATOLL_CANCEL_REFUSED) {
        take_back(pool, task);
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
    atomic_fetch_add(&pool->queued, nparts);
    atoll_lock_give(&pool->lock);
    if (atomic_load(&pool->sleeping) != 0) {
        atoll_pool_wake(&pool->lock, &pool->idle, &pool->sleeping, &pool->work_spin, nparts);
    }
    for (uint32_t i = 1; i < nparts && atoll_pool_staff(pool) == 0; i++) {
    }
    return true;
}

static void wake_all(atoll_pool *pool) {
    atoll_pool_wake(&pool->lock, &pool->idle, &pool->sleeping, NULL, UINT32_MAX);
    atoll_pool_wake(&pool->lock, &pool->deliverers, &pool->attention, NULL, UINT32_MAX);
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

void atoll_pools_stop(void) {
    atoll_mutex_lock(&pools_lock);
    for (atoll_pool *pool = pools; pool != NULL; pool = pool->next_pool) {
        atomic_store(&pool->stopped, true);
        atoll_pool_shut(pool);
    }
    atoll_mutex_unlock(&pools_lock);
}

uint32_t atoll_pools_threads(void) { return atomic_load(&threads); }

void atoll_pools_count_thread(int change) { atomic_fetch_add(&threads, (uint32_t)change); }

static bool nobody_lives(void *pool) { return atomic_load(&((atoll_pool *)pool)->live) == 0; }

bool atoll_pool_join(atoll_pool *pool, atoll_waiter *waiter, double deadline, atoll_wait_result *why) {
    *why = ATOLL_WAIT_OK;
    if (!nobody_lives(pool)) {
        *why =
            atoll_pool_await(&pool->lock, &pool->joiners, NULL, NULL, nobody_lives, pool, waiter, deadline);
    }
    return nobody_lives(pool);
}

/* ---- delivery ---- */

static bool is_finished(atoll_pool *pool) {
    return atomic_load(&pool->shut) && atomic_load(&pool->open) == 0 && atomic_load(&pool->telling) == 0;
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
    atoll_lock_give(&pool->lock);
    atoll_message_clear(why);
    while (task != NULL) {
        atoll_task *next = task->next;
        if (atoll_task_step(task, ATOLL_TASK_PENDING, ATOLL_TASK_ENDING) != UINT32_MAX) {
            task->outcome = ATOLL_OUT_BROKEN;
            atoll_task_finished(pool, task);
        }
        atoll_task_release(task);
        task = next;
    }
    wake_all(pool);
}

void atoll_pool_left(atoll_pool *pool) {
    if (nobody_lives(pool)) {
        atoll_pool_wake(&pool->lock, &pool->joiners, NULL, NULL, UINT32_MAX);
        atoll_pool_watch_wake(pool);
    }
}
