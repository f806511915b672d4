/* Who holds a pool, and who sleeps for it: the list of pools, references, counts of threads, waking and waiting.  See pool.h. */
#include "core/pool/internal.h"

#include <math.h>
#include <stdlib.h>

static atoll_mutex pools_lock = ATOLL_MUTEX_INIT; /* the list of pools; taken before a pool's lock */
static atoll_pool *pools;
static _Atomic(uint32_t) threads;
static unsigned era;

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

void atoll_pool_enlist(atoll_pool *pool) {
    pool->era = era;
    atoll_mutex_lock(&pools_lock);
    pool->next_pool = pools;
    if (pools != NULL) {
        pools->prev = pool;
    }
    pools = pool;
    atoll_mutex_unlock(&pools_lock);
}

atoll_pool *atoll_pool_list_lock(void) {
    atoll_mutex_lock(&pools_lock);
    return pools;
}

void atoll_pool_list_unlock(void) { atoll_mutex_unlock(&pools_lock); }

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
    atoll_stats_pool_free(pool->stats);
    free(pool);
}

void atoll_worker_retain(atoll_worker *worker) {
    atomic_fetch_add_explicit(&worker->refs, 1, memory_order_relaxed);
}

void atoll_worker_release(atoll_worker *worker) {
    if (atomic_fetch_sub_explicit(&worker->refs, 1, memory_order_acq_rel) == 1) {
        atoll_pool_release(worker->pool);
        free(worker);
    }
}

atoll_wait_result atoll_pool_await(atoll_lock *lock, atoll_waiters *list, _Atomic(uint32_t) *count,
                                   atoll_spin *spin, bool (*ready)(void *what), void *what,
                                   atoll_waiter *waiter, double deadline) {
    if (spin != NULL && atoll_waiter_spin(waiter, spin, ready, what)) {
        return atomic_load(&waiter->interrupted) ? ATOLL_WAIT_SIGNAL : ATOLL_WAIT_OK;
    }
    waiter->turn = 0;
    atoll_wait_result result = atoll_waiters_sleep(lock, list, count, spin, ready, what, waiter, deadline);
    atoll_lock_take(lock); /* so that a waker has let go of the list, and of what it is in */
    atoll_lock_give(lock);
    return atomic_load(&waiter->interrupted) ? ATOLL_WAIT_SIGNAL : result;
}

/* ---- threads ---- */

uint32_t atoll_pools_threads(void) { return atomic_load(&threads); }

void atoll_pools_count_thread(int change) { atomic_fetch_add(&threads, (uint32_t)change); }

bool atoll_pool_has_limits(const atoll_pool *pool) {
    return !isinf(pool->timeout) || atomic_load(&pool->killed);
}

void atoll_pool_watch_wake(atoll_pool *pool) {
    if (atoll_pool_has_limits(pool)) {
        atomic_fetch_add(&pool->watch_word, 1);
        atoll_word_wake(&pool->watch_word, 1);
    }
}

bool atoll_pool_is_left(void *pool) { return atomic_load(&((atoll_pool *)pool)->live) == 0; }

void atoll_pool_left(atoll_pool *pool) {
    if (atoll_pool_is_left(pool)) {
        atoll_waiters_wake(&pool->lock, &pool->joiners, NULL, NULL, UINT32_MAX);
        atoll_pool_watch_wake(pool);
    }
}
