/* Tasks, the work queue, waiting.  See pool.h for the design. */
#include "core/pool.h"

#include <math.h>
#include <stdlib.h>

#define GRANTS 16 /* sleeping threads woken in one go */

static atoll_mutex pools_lock = ATOLL_MUTEX_INIT; /* the list of pools; taken before a pool's lock */
static atoll_pool *pools;
static _Atomic(uint32_t) threads;
static unsigned forks;

/* ---- pools ---- */

static void before_fork(void) { atoll_mutex_lock(&pools_lock); }
static void after_fork_parent(void) { atoll_mutex_unlock(&pools_lock); }
static void after_fork_child(void) {
    /* Threads and locks of its pools are not here: they stay as they are, for ever. */
    atoll_mutex_init(&pools_lock);
    pools = NULL;
    atomic_store(&threads, 0);
    forks++;
}

void atoll_pools_init(void) {
    static atoll_mutex once = ATOLL_MUTEX_INIT;
    static bool done;
    atoll_mutex_lock(&once);
    if (!done) {
        atoll_at_fork(before_fork, after_fork_parent, after_fork_child);
        done = true;
    }
    atoll_mutex_unlock(&once);
}

bool atoll_pool_is_foreign(const atoll_pool *pool) { return pool->forks != forks; }

atoll_pool *atoll_pool_new(uint32_t max_workers, const atoll_pool_ops *ops) {
    atoll_pool *pool = aligned_alloc(64, sizeof *pool);
    if (pool == NULL) {
        return NULL;
    }
    memset(pool, 0, sizeof *pool);
    pool->max_workers = max_workers;
    pool->timeout = INFINITY;
    pool->ops = ops;
    pool->forks = forks;
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

/* Grants waiters of a list, `most` of them, and wakes those that sleep.  No lock held. */
static void wake(atoll_pool *pool, atoll_waiters *list, _Atomic(uint32_t) *count, atoll_spin *spin,
                 uint32_t most) {
    for (bool more = true; more;) {
        _Atomic(uint32_t) *asleep[GRANTS];
        int n = 0;
        atoll_lock_take(&pool->lock);
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
        atoll_lock_give(&pool->lock);
        for (int i = 0; i < n; i++) {
            atoll_word_wake(asleep[i], 1);
        }
    }
}

/* Waits on a list until ready(what), a grant, an interrupt or the deadline. */
static atoll_wait_result await(atoll_pool *pool, atoll_waiters *list, _Atomic(uint32_t) *count,
                               atoll_spin *spin, bool (*ready)(void *what), void *what, atoll_waiter *waiter,
                               double deadline) {
    if (spin != NULL && atoll_waiter_spin(waiter, spin, ready, what)) {
        return atomic_load(&waiter->interrupted) ? ATOLL_WAIT_SIGNAL : ATOLL_WAIT_OK;
    }
    atoll_lock_take(&pool->lock);
    waiter->returning = false;
    atoll_waiters_add(list, waiter);
    if (count != NULL) {
        atomic_fetch_add(count, 1);
    }
    atoll_lock_give(&pool->lock);
    atoll_wait_result result = ATOLL_WAIT_OK;
    if (!ready(what) && !atomic_load(&waiter->interrupted)) {
        result = atoll_waiter_block(waiter, deadline, spin);
    }
    /* Under the lock once more, so that a waker has let go of the waiter. */
    atoll_lock_take(&pool->lock);
    if (waiter->linked) {
        atoll_waiters_remove(list, waiter);
        if (count != NULL) {
            atomic_fetch_sub(count, 1);
        }
    }
    atoll_lock_give(&pool->lock);
    if (atomic_load(&waiter->interrupted)) {
        return ATOLL_WAIT_SIGNAL;
    }
    return result;
}

/* ---- tasks ---- */

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
        atoll_function_release(task->function);
    }
    atoll_pool_release(task->pool);
    free(task);
}

void atoll_function_retain(atoll_function *function) {
    atomic_fetch_add_explicit(&function->refs, 1, memory_order_relaxed);
}

void atoll_function_release(atoll_function *function) {
    if (atomic_fetch_sub_explicit(&function->refs, 1, memory_order_acq_rel) == 1) {
        atoll_message_clear(&function->full);
        free(function);
    }
}

/* From one state to another, flags kept.  The flags, or UINT32_MAX when it was in another state. */
static uint32_t step(atoll_task *task, uint32_t from, uint32_t to) {
    uint32_t seen = atomic_load_explicit(&task->state, memory_order_relaxed);
    do {
        if ((seen & ATOLL_TASK_STATE) != from) {
            return UINT32_MAX;
        }
    } while (!atomic_compare_exchange_weak(&task->state, &seen, to | (seen & ~(uint32_t)ATOLL_TASK_STATE)));
    return seen & ~(uint32_t)ATOLL_TASK_STATE;
}

/* Followed by tell(). */
static void task_closed(atoll_pool *pool) {
    atomic_fetch_add(&pool->telling, 1);
    atomic_fetch_sub(&pool->open, 1);
}

/* The task is over, with these flags: tells who waits for it and the list of deliveries. */
static void tell(atoll_pool *pool, atoll_task *task, uint32_t flags) {
    if ((flags & ATOLL_TASK_AWAITED) != 0) {
        wake(pool, &task->waiters, NULL, &pool->done_spin, UINT32_MAX);
    }
    if ((flags & ATOLL_TASK_OBSERVED) != 0) {
        atoll_task_retain(task);
        atoll_task *head = atomic_load_explicit(&pool->delivery, memory_order_relaxed);
        do {
            task->next = head;
        } while (!atomic_compare_exchange_weak(&pool->delivery, &head, task));
    }
    atomic_fetch_sub(&pool->telling, 1);
    if (atomic_load(&pool->attention) != 0 &&
        ((flags & ATOLL_TASK_OBSERVED) != 0 || atomic_load(&pool->open) == 0)) {
        wake(pool, &pool->deliverers, &pool->attention, NULL, UINT32_MAX);
    }
}

atoll_cancel_result atoll_task_cancel(atoll_task *task) {
    uint32_t flags = step(task, ATOLL_TASK_PENDING, ATOLL_TASK_CANCELLED);
    if (flags == UINT32_MAX) {
        return atoll_task_now(task) == ATOLL_TASK_CANCELLED ? ATOLL_CANCEL_WAS_DONE : ATOLL_CANCEL_REFUSED;
    }
    atoll_message_clear(&task->call);
    task_closed(task->pool);
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
    if (atoll_task_is_over(task)) {
        return true;
    }
    atoll_pool *pool = task->pool;
    if (waiter->spun) { /* about to sleep */
        atomic_fetch_or(&task->state, ATOLL_TASK_AWAITED);
    } else if (atoll_waiter_spin(waiter, &pool->done_spin, is_over, task)) {
        *why = atomic_load(&waiter->interrupted) ? ATOLL_WAIT_SIGNAL : ATOLL_WAIT_OK;
        return atoll_task_is_over(task);
    } else {
        atomic_fetch_or(&task->state, ATOLL_TASK_AWAITED);
        waiter->spun = true;
    }
    *why = await(pool, &task->waiters, NULL, &pool->done_spin, is_over, task, waiter, deadline);
    return atoll_task_is_over(task);
}

/* ---- the queue ---- */

int atoll_pool_staff(atoll_pool *pool) {
    atoll_lock_take(&pool->lock);
    uint32_t workers = atomic_load(&pool->workers);
    bool more =
        workers < pool->max_workers && atomic_load(&pool->open) > workers && !atomic_load(&pool->broken);
    uint32_t number = pool->made;
    if (more) {
        pool->made++;
        atomic_fetch_add(&pool->workers, 1);
        atomic_fetch_add(&pool->live, 1);
    }
    atoll_lock_give(&pool->lock);
    if (!more) {
        return 0;
    }
    atoll_worker *worker = calloc(1, sizeof *worker);
    if (worker != NULL) {
        atomic_init(&worker->refs, 1);
        atoll_pool_retain(pool);
        worker->pool = pool;
        worker->number = number;
        worker->deadline = INFINITY;
        atoll_lock_take(&pool->lock);
        worker->listed = true;
        worker->next = pool->list;
        if (pool->list != NULL) {
            pool->list->prev = worker;
        }
        pool->list = worker;
        atoll_lock_give(&pool->lock);
        atomic_fetch_add(&threads, 1);
        if (pool->ops->start(worker) == 0) {
            return 0;
        }
        atoll_worker_gone(worker);
        return -1;
    }
    atoll_lock_take(&pool->lock);
    atomic_fetch_sub(&pool->workers, 1);
    atomic_fetch_sub(&pool->live, 1);
    atoll_lock_give(&pool->lock);
    return -1;
}

atoll_pool_result atoll_pool_submit(atoll_pool *pool, atoll_task *task) {
    atoll_lock_take(&pool->lock);
    if (atomic_load_explicit(&pool->shut, memory_order_relaxed) || atomic_load(&pool->broken)) {
        bool broken = atomic_load(&pool->broken);
        atoll_lock_give(&pool->lock);
        return broken ? ATOLL_POOL_BROKEN : ATOLL_POOL_SHUT;
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
        wake(pool, &pool->idle, &pool->sleeping, &pool->work_spin, 1);
    }
    if (open > workers && workers < pool->max_workers && atoll_pool_staff(pool) < 0 &&
        atomic_load(&pool->workers) == 0 && atoll_task_cancel(task) != ATOLL_CANCEL_REFUSED) {
        return ATOLL_POOL_NO_THREAD;
    }
    return ATOLL_POOL_OK;
}

static void wake_all(atoll_pool *pool) {
    wake(pool, &pool->idle, &pool->sleeping, NULL, UINT32_MAX);
    wake(pool, &pool->deliverers, &pool->attention, NULL, UINT32_MAX);
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

static bool nobody_lives(void *pool) { return atomic_load(&((atoll_pool *)pool)->live) == 0; }

bool atoll_pool_join(atoll_pool *pool, atoll_waiter *waiter, double deadline, atoll_wait_result *why) {
    *why = ATOLL_WAIT_OK;
    if (!nobody_lives(pool)) {
        *why = await(pool, &pool->joiners, NULL, NULL, nobody_lives, pool, waiter, deadline);
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
        *why = await(pool, &pool->deliverers, &pool->attention, NULL, is_deliverable, pool, waiter, INFINITY);
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

/* ---- workers ---- */

void atoll_worker_retain(atoll_worker *worker) {
    atomic_fetch_add_explicit(&worker->refs, 1, memory_order_relaxed);
}

void atoll_worker_release(atoll_worker *worker) {
    if (atomic_fetch_sub_explicit(&worker->refs, 1, memory_order_acq_rel) == 1) {
        atoll_pool_release(worker->pool);
        free(worker);
    }
}

atoll_task *atoll_worker_try_take(atoll_worker *worker) {
    atoll_pool *pool = worker->pool;
    for (;;) {
        if (atomic_load_explicit(&pool->queued, memory_order_acquire) == 0) {
            return NULL;
        }
        atoll_lock_take(&pool->lock);
        atoll_task *task = worker->abandoned || atomic_load(&pool->stopped) ? NULL : pool->first;
        if (task == NULL) {
            atoll_lock_give(&pool->lock);
            return NULL;
        }
        pool->first = task->next;
        if (pool->first == NULL) {
            pool->last = NULL;
        }
        atomic_fetch_sub_explicit(&pool->queued, 1, memory_order_relaxed);
        bool taken = step(task, ATOLL_TASK_PENDING, ATOLL_TASK_RUNNING) != UINT32_MAX;
        if (taken) {
            task->next = NULL;
            task->worker = worker;
            worker->task = task;
            worker->interrupted = false;
            atomic_fetch_add_explicit(&worker->turn, 1, memory_order_relaxed);
            if (!isinf(pool->timeout)) {
                worker->started = atoll_clock();
                worker->deadline = worker->started + pool->timeout;
            }
        }
        atoll_lock_give(&pool->lock);
        if (taken) {
            if (!isinf(pool->timeout)) {
                atoll_pool_watch_wake(pool);
            }
            return task;
        }
        atoll_task_release(task); /* cancelled */
    }
}

static bool has_work(void *raw) {
    const atoll_pool *pool = raw;
    return atomic_load(&pool->queued) != 0 || atomic_load(&pool->shut) || atomic_load(&pool->broken);
}

atoll_task *atoll_worker_take(atoll_worker *worker) {
    atoll_pool *pool = worker->pool;
    for (;;) {
        atoll_task *task = atoll_worker_try_take(worker);
        if (task != NULL) {
            return task;
        }
        atoll_lock_take(&pool->lock);
        bool over = worker->abandoned || atomic_load(&pool->broken) || atomic_load(&pool->stopped) ||
                    (atomic_load(&pool->shut) && pool->first == NULL);
        atoll_lock_give(&pool->lock);
        if (over) {
            return NULL;
        }
        (void)await(pool, &pool->idle, &pool->sleeping, &pool->work_spin, has_work, pool, &worker->waiter,
                    INFINITY);
    }
}

bool atoll_worker_claim(atoll_worker *worker, atoll_task *task) {
    atoll_pool *pool = worker->pool;
    atoll_lock_take(&pool->lock);
    bool mine = step(task, ATOLL_TASK_RUNNING, ATOLL_TASK_ENDING) != UINT32_MAX;
    atomic_fetch_add_explicit(&worker->turn, 1, memory_order_relaxed);
    if (worker->task == task) {
        worker->task = NULL;
        worker->deadline = INFINITY;
    }
    if (mine) {
        task->worker = NULL;
        task->late = worker->interrupted;
    }
    atoll_lock_give(&pool->lock);
    return mine;
}

void atoll_task_finished(atoll_pool *pool, atoll_task *task) {
    task_closed(pool);
    uint32_t flags = step(task, ATOLL_TASK_ENDING, ATOLL_TASK_DONE);
    tell(pool, task, flags);
}

void atoll_worker_end_task(atoll_worker *worker, atoll_task *task) {
    atoll_task_finished(worker->pool, task);
    atoll_task_release(task);
}

void atoll_worker_set_place(atoll_worker *worker, void *place) {
    atoll_lock_take(&worker->pool->lock);
    worker->place = place;
    atoll_lock_give(&worker->pool->lock);
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
        if (step(task, ATOLL_TASK_PENDING, ATOLL_TASK_ENDING) != UINT32_MAX) {
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
        wake(pool, &pool->joiners, NULL, NULL, UINT32_MAX);
        atoll_pool_watch_wake(pool);
    }
}

void atoll_worker_gone(atoll_worker *worker) {
    atoll_pool *pool = worker->pool;
    atoll_lock_take(&pool->lock);
    bool counted = worker->listed;
    if (counted) {
        worker->listed = false;
        *(worker->prev != NULL ? &worker->prev->next : &pool->list) = worker->next;
        if (worker->next != NULL) {
            worker->next->prev = worker->prev;
        }
        atomic_fetch_sub(&pool->workers, 1);
    }
    if (counted) {
        atomic_fetch_sub(&pool->live, 1);
    }
    atoll_lock_give(&pool->lock);
    atomic_fetch_sub(&threads, 1);
    atoll_pool_left(pool);
    atoll_worker_release(worker);
}
