/* Workers: how they start, take tasks, end them, and go.  See pool.h; pool/watch.c has their time limits. */
#include "core/pool/internal.h"

#include <math.h>
#include <stdlib.h>

static _Thread_local atoll_worker *current; /* whose thread this is, or NULL */

void atoll_worker_be(atoll_worker *worker) { current = worker; }

atoll_worker *atoll_worker_current(void) { return current; }

static bool needs_worker(const atoll_pool *pool) {
    uint32_t workers = atomic_load(&pool->workers);
    return workers < pool->max_workers && atomic_load(&pool->open) > workers && !atomic_load(&pool->broken) &&
           !atomic_load(&pool->killed);
}

int atoll_pool_staff(atoll_pool *pool) {
    if (!needs_worker(pool)) {
        return 0;
    }
    if (!pool->watch(pool)) { /* no task without its time limit */
        return -1;
    }
    atoll_worker *worker = calloc(1, sizeof *worker);
    if (worker == NULL) {
        return -1;
    }
    atomic_init(&worker->refs, 1);
    atoll_pool_retain(pool);
    worker->pool = pool;
    worker->deadline = INFINITY;
    atoll_lock_take(&pool->lock);
    if (!needs_worker(pool)) { /* another one was faster */
        atoll_lock_give(&pool->lock);
        atoll_worker_release(worker);
        return 0;
    }
    worker->number = pool->made++;
    worker->listed = true;
    worker->next = pool->list;
    if (pool->list != NULL) {
        pool->list->prev = worker;
    }
    pool->list = worker;
    atomic_fetch_add(&pool->workers, 1);
    atomic_fetch_add(&pool->live, 1);
    atoll_stats_add(&pool->stats->workers, 1);
    atoll_lock_give(&pool->lock);
    atoll_pools_count_thread(1);
    if (pool->ops->start(worker) < 0) {
        atoll_worker_gone(worker);
        return -1;
    }
    return 0;
}

/* The lock is held. */
static void unlink_first(atoll_pool *pool) {
    pool->first = pool->first->next;
    if (pool->first == NULL) {
        pool->last = NULL;
    }
    atomic_fetch_sub_explicit(&pool->queued, 1, memory_order_relaxed);
}

/* Workers pass over what was cancelled, but where nothing else is to be done there may be none: it would keep the pool. */
static void drop_cancelled(atoll_pool *pool) {
    for (;;) {
        atoll_lock_take(&pool->lock);
        atoll_task *task = pool->first;
        bool drops = task != NULL && atoll_task_now(task) == ATOLL_TASK_CANCELLED;
        if (drops) {
            unlink_first(pool);
        }
        atoll_lock_give(&pool->lock);
        if (!drops) {
            return;
        }
        atoll_task_release(task);
    }
}

void atoll_pool_restaff(atoll_pool *pool) {
    static const char text[] = "no thread can be started for what it has to do";
    if (atoll_pool_staff(pool) < 0 && atomic_load(&pool->workers) == 0) {
        atoll_message why = {0};
        atoll_put_bytes(&why.body, text, sizeof text - 1);
        atoll_pool_break(pool, &why, true);
    }
    drop_cancelled(pool);
}

/* Of a pool in whose line others may come first. */
static bool has_turn(const atoll_pool *pool) { return pool->line == NULL || atomic_load(&pool->turn); }

/* Of a pool, whose lock is held: a task has waited, and has run. */
static void begun_locked(atoll_pool *pool, atoll_task *task) {
    if (task->since != 0) {
        uint64_t ns = (uint64_t)((double)atoll_ticks_since(task->since) * atoll_tick_ns());
        atoll_stats_add(&pool->stats->wait_ns, ns);
        atoll_stats_add(&pool->stats->waited[atoll_stats_bucket(ns)], 1);
    }
    task->since = atoll_ticks();
    atoll_stats_add(&pool->stats->started, 1);
}

static void ended_locked(atoll_pool *pool, atoll_task *task, uint64_t ns) {
    task->seconds = (float)((double)ns * 1e-9);
    atoll_stats_add(&pool->stats->done, 1);
    atoll_stats_add(&pool->stats->calls, task->items);
    atoll_stats_add(&pool->stats->run_ns, ns);
    atoll_stats_add(&pool->stats->ran[atoll_stats_bucket(ns)], 1);
}

atoll_task *atoll_worker_try_take(atoll_worker *worker) {
    atoll_pool *pool = worker->pool;
    worker->is_full = false;
    for (;;) {
        if (atomic_load_explicit(&pool->queued, memory_order_acquire) == 0) {
            return NULL;
        }
        atoll_lock_take(&pool->lock);
        atoll_task *task = worker->abandoned || atomic_load(&pool->stopped) ? NULL : pool->first;
        if (task == NULL || (!has_turn(pool) && atoll_task_now(task) == ATOLL_TASK_PENDING)) {
            atoll_lock_give(&pool->lock);
            return NULL;
        }
        worker->is_full = task->items > worker->room && worker->room < pool->max_tasks;
        if (worker->is_full) {
            atoll_lock_give(&pool->lock);
            return NULL;
        }
        unlink_first(pool);
        bool taken = atoll_task_step(task, ATOLL_TASK_PENDING, ATOLL_TASK_RUNNING) != UINT32_MAX;
        if (taken) {
            task->next = NULL;
            task->worker = worker;
            worker->task = task;
            worker->interrupts = 0;
            begun_locked(pool, task);
            atomic_fetch_add_explicit(&worker->turn, 1, memory_order_relaxed);
            if (!isinf(pool->timeout)) {
                worker->deadline = atoll_clock() + pool->timeout;
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

/* It can take a task, or has to end. */
static bool has_work(void *raw) {
    const atoll_pool *pool = raw;
    return (atomic_load(&pool->queued) != 0 ? has_turn(pool) : atomic_load(&pool->shut)) ||
           atomic_load(&pool->stopped) || atomic_load(&pool->broken);
}

atoll_task *atoll_worker_take(atoll_worker *worker) {
    atoll_pool *pool = worker->pool;
    for (;;) {
        atoll_task *task = atoll_worker_try_take(worker);
        if (task != NULL || worker->is_full) {
            return task;
        }
        atoll_lock_take(&pool->lock);
        bool over = worker->abandoned || atomic_load(&pool->broken) || atomic_load(&pool->stopped) ||
                    (atomic_load(&pool->shut) && pool->first == NULL);
        atoll_lock_give(&pool->lock);
        if (over) {
            return NULL;
        }
        (void)atoll_pool_await(&pool->lock, &pool->idle, &pool->sleeping, &pool->work_spin, has_work, pool,
                               &worker->waiter, INFINITY);
    }
}

bool atoll_worker_claim(atoll_worker *worker, atoll_task *task) {
    atoll_pool *pool = worker->pool;
    uint64_t ns = (uint64_t)((double)atoll_ticks_since(task->since) * atoll_tick_ns());
    atoll_lock_take(&pool->lock);
    bool mine = atoll_task_step(task, ATOLL_TASK_RUNNING, ATOLL_TASK_ENDING) != UINT32_MAX;
    atomic_fetch_add_explicit(&worker->turn, 1, memory_order_relaxed);
    if (worker->task == task) {
        worker->task = NULL;
        if (!atomic_load(&pool->killed)) { /* else it is to end, too */
            worker->deadline = INFINITY;
        }
    }
    if (mine) {
        task->worker = NULL;
        task->late = worker->interrupts != 0;
        ended_locked(pool, task, ns);
    }
    atoll_lock_give(&pool->lock);
    return mine;
}

void atoll_worker_end_task(atoll_worker *worker, atoll_task *task) {
    atoll_task_finished(worker->pool, task);
    atoll_task_release(task);
}

void atoll_worker_next_turn(atoll_worker *worker) {
    atoll_lock_take(&worker->pool->lock);
    atomic_fetch_add_explicit(&worker->turn, 1, memory_order_relaxed);
    atoll_lock_give(&worker->pool->lock);
}

void atoll_worker_set_place(atoll_worker *worker, void *place) {
    atoll_lock_take(&worker->pool->lock);
    worker->place = place;
    atoll_lock_give(&worker->pool->lock);
}

/* It is found and counted no more. */
static void unlist_locked(atoll_worker *worker) {
    atoll_pool *pool = worker->pool;
    worker->listed = false;
    *(worker->prev != NULL ? &worker->prev->next : &pool->list) = worker->next;
    if (worker->next != NULL) {
        worker->next->prev = worker->prev;
    }
    atomic_fetch_sub(&pool->workers, 1);
    atomic_fetch_sub(&pool->live, 1);
    atoll_stats_add(&pool->stats->workers, (uint64_t)-1);
}

atoll_task *atoll_worker_bereave_locked(atoll_worker *worker) {
    atoll_task *task = worker->task;
    if (task != NULL) {
        /* Nobody else ends it: the lock is held. */
        (void)atoll_task_step(task, ATOLL_TASK_RUNNING, ATOLL_TASK_ENDING);
        atoll_task_retain(task); /* the worker has its own, and still reads the call */
        task->worker = NULL;
        worker->task = NULL;
        atoll_stats_add(&worker->pool->stats->lost, 1);
    }
    worker->abandoned = true;
    return task;
}

atoll_task *atoll_worker_abandon_locked(atoll_worker *worker) {
    atoll_task *task = atoll_worker_bereave_locked(worker);
    worker->deadline = INFINITY;
    unlist_locked(worker);
    return task;
}

/* Of the workers that run a task and whose number is not below `from` the first one, with a reference; NULL: none. */
static atoll_worker *next_busy_locked(const atoll_pool *pool, uint32_t from) {
    atoll_worker *next = NULL;
    for (atoll_worker *worker = pool->list; worker != NULL; worker = worker->next) {
        if (worker->task != NULL && worker->number >= from &&
            (next == NULL || worker->number < next->number)) {
            next = worker;
        }
    }
    if (next != NULL) {
        atoll_worker_retain(next);
    }
    return next;
}

void atoll_pool_interrupt(atoll_pool *pool) {
    for (uint32_t from = 0;;) {
        atoll_lock_take(&pool->lock);
        atoll_worker *worker = next_busy_locked(pool, from);
        if (worker != NULL) {
            atomic_store(&worker->wanted, atomic_load(&worker->turn));
        }
        atoll_lock_give(&pool->lock);
        if (worker == NULL) {
            return;
        }
        from = worker->number + 1;
        pool->ops->interrupt(worker);
        atoll_worker_release(worker);
    }
}

void atoll_pool_abandon(atoll_pool *pool) {
    for (;;) {
        atoll_lock_take(&pool->lock);
        atoll_worker *worker = next_busy_locked(pool, 0);
        atoll_task *task = worker != NULL ? atoll_worker_abandon_locked(worker) : NULL;
        atoll_lock_give(&pool->lock);
        if (worker == NULL) {
            return;
        }
        task->outcome = ATOLL_OUT_LOST;
        atoll_stats_add_shared(&pool->stats->restarts, 1);
        atoll_task_finished(pool, task);
        atoll_task_release(task);
        atoll_pool_restaff(pool);
        atoll_pool_left(pool);
        atoll_worker_release(worker);
    }
}

void atoll_worker_gone(atoll_worker *worker) {
    atoll_pool *pool = worker->pool;
    atoll_lock_take(&pool->lock);
    if (worker->listed) {
        unlist_locked(worker);
    }
    atoll_lock_give(&pool->lock);
    atoll_pools_count_thread(-1);
    atoll_pool_left(pool);
    atoll_worker_release(worker);
}
