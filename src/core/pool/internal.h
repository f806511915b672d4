/* What the files of the room share, each of which uses those before it: held, line, task, ending, worker, watch, pool. */
#ifndef ATOLL_CORE_POOL_INTERNAL_H
#define ATOLL_CORE_POOL_INTERNAL_H

#include "core/pool/pool.h"

/* Spins, then sleeps in a list of the pool's (atoll_waiters_sleep), as a newcomer each time. */
atoll_wait_result atoll_pool_await(atoll_lock *lock, atoll_waiters *list, _Atomic(uint32_t) *count,
                                   atoll_spin *spin, bool (*ready)(void *what), void *what,
                                   atoll_waiter *waiter, double deadline);
/* Into the list of all pools; the first one, linked by next_pool, with the list's lock held. */
void atoll_pool_enlist(atoll_pool *pool);
atoll_pool *atoll_pool_list_lock(void);
void atoll_pool_list_unlock(void);
/* No thread of the pool (an atoll_pool *) is left.  The last may have gone: wakes whoever waits for that. */
bool atoll_pool_is_left(void *pool);
void atoll_pool_left(atoll_pool *pool);
void atoll_pools_count_thread(int change);
/* Its tasks have time limits, or it is ended by force. */
bool atoll_pool_has_limits(const atoll_pool *pool);

/* From one state to another, flags kept.  The flags, or UINT32_MAX when it was in another state. */
uint32_t atoll_task_step(atoll_task *task, uint32_t from, uint32_t to);
/* Out of the queue with a task that was cancelled, when nobody is there to take it, or to pass it over: it would keep the pool, and the pool
 * what it works for. */
void atoll_task_take_back(atoll_pool *pool, atoll_task *task);
/* The outcome of a task that was claimed is written: tells whoever is to hear of it. */
void atoll_task_finished(atoll_pool *pool, atoll_task *task);

/* Shuts and stops every pool.  What take_locked() takes from it, with its lock held, and puts before `tasks`, is LOST. */
void atoll_pools_end(atoll_task *(*take_locked)(atoll_pool *pool, atoll_task *tasks));

/* With the pool's lock held: it takes no more tasks.  The task that it runs, now ENDING and the caller's to finish, with a
 * reference; NULL when it runs none. */
atoll_task *atoll_worker_bereave_locked(atoll_worker *worker);
/* The same, and its thread may come back or not: it is no worker any more. */
atoll_task *atoll_worker_abandon_locked(atoll_worker *worker);
/* A worker's deadline has come nearer. */
void atoll_pool_watch_wake(atoll_pool *pool);

#endif
