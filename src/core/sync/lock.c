/* Locks, plain and reentrant.  sync.h says how they work.
 *
 * Without `inner`, the word of a lock goes from 0, or WAITED alone, to held, and from held alone to 0.  Whoever finds any other
 * takes `inner` first, so under it nothing happens to a lock that is held and waited for, nor to one whose holder is gone.
 */
#include "core/sync/internal.h"

enum { PAUSE = 32, LOOKS = 3 };

static uint64_t word_of(const atoll_sync *lock) {
    return atomic_load_explicit(&lock->word, memory_order_relaxed);
}

static uint32_t depth_of(const atoll_sync *lock) {
    return atomic_load_explicit(&lock->depth, memory_order_relaxed);
}

void atoll_sync_lock_set_depth(atoll_sync *lock, uint32_t depth) {
    atomic_store_explicit(&lock->depth, depth, memory_order_relaxed);
}

static uint64_t held_by(const atoll_sync_who *who) {
    return who->interp << ATOLL_SYNC_OWNER | ATOLL_SYNC_HELD;
}

/* With `inner` held, while the lock is free: takes the first waiter off, which is to try.  The word to wake. */
static _Atomic(uint32_t) *call_first_locked(atoll_sync *lock) {
    atoll_waiter *first = lock->waiters.first;
    if (first == NULL) {
        return NULL;
    }
    atoll_waiters_remove(&lock->waiters, first);
    atoll_spin_granted(&lock->spin);
    return atoll_waiter_grant(first);
}

static void wake(_Atomic(uint32_t) *asleep) {
    if (asleep != NULL) {
        atoll_word_wake(asleep, 1);
    }
}

static uint64_t waited(const atoll_sync *lock) { return lock->waiters.first != NULL ? ATOLL_SYNC_WAITED : 0; }

/* The holder is gone: tells it the calling thread, and lets the others on. */
static atoll_sync_result tell(atoll_sync *lock) {
    _Atomic(uint32_t) *asleep = NULL;
    atoll_sync_result result = ATOLL_SYNC_AGAIN;
    atoll_lock_take(&lock->inner);
    if ((word_of(lock) & ATOLL_SYNC_GONE) != 0) {
        asleep = call_first_locked(lock);
        atomic_store(&lock->word, waited(lock));
        result = ATOLL_SYNC_LOST;
    }
    atoll_lock_give(&lock->inner);
    wake(asleep);
    return result;
}

bool atoll_sync_lock_is_mine(const atoll_sync *lock, const atoll_sync_who *who) {
    return atomic_load_explicit(&lock->thread, memory_order_relaxed) == who->thread &&
           (word_of(lock) & ATOLL_SYNC_HELD) != 0;
}

atoll_sync_result atoll_sync_lock_try(atoll_sync *lock, const atoll_sync_who *who) {
    if (lock->kind == ATOLL_SYNC_RLOCK && atoll_sync_lock_is_mine(lock, who)) {
        atoll_sync_lock_set_depth(lock, depth_of(lock) + 1);
        return ATOLL_SYNC_OK;
    }
    uint64_t word = 0;
    while (!atomic_compare_exchange_weak_explicit(&lock->word, &word, word | held_by(who),
                                                  memory_order_acquire, memory_order_relaxed)) {
        if ((word & ATOLL_SYNC_HELD) != 0) {
            return ATOLL_SYNC_AGAIN;
        }
        if ((word & ATOLL_SYNC_GONE) != 0) {
            atoll_sync_result told = tell(lock);
            if (told == ATOLL_SYNC_LOST) {
                return told;
            }
            word = word_of(lock) & ATOLL_SYNC_WAITED;
        }
    }
    atoll_test_yield();
    atomic_store_explicit(&lock->thread, who->thread, memory_order_relaxed);
    return ATOLL_SYNC_OK;
}

/* Whoever looks at a lock takes its cache line away from the thread that works with it: so nobody looks often. */
static void pause_for(int n) {
    for (int i = 0; i < n; i++) {
        atoll_cpu_relax();
    }
}

static bool is_free(void *lock) {
    pause_for(PAUSE);
    return (word_of(lock) & ATOLL_SYNC_HELD) == 0;
}

atoll_sync_result atoll_sync_lock_try_soon(atoll_sync *lock, const atoll_sync_who *who) {
    atoll_sync_result result = ATOLL_SYNC_AGAIN;
    for (int i = 0; i < LOOKS && result == ATOLL_SYNC_AGAIN && atoll_spin_may() &&
                    word_of(lock) >> ATOLL_SYNC_OWNER != who->interp;
         i++) {
        pause_for(PAUSE);
        result = atoll_sync_lock_try(lock, who);
    }
    return result;
}

atoll_sync_result atoll_sync_lock_await(atoll_sync *lock, atoll_sync_wait *wait, atoll_waiter *waiter,
                                        double deadline) {
    if (wait->since == 0) {
        wait->since = atoll_clock();
    }
    /* A holder in the same interpreter needs its GIL for a while, which others want as well. */
    waiter->spun = waiter->spun || word_of(lock) >> ATOLL_SYNC_OWNER == wait->who.interp;
    if (atoll_waiter_spin(waiter, &lock->spin, is_free, lock)) {
        return atomic_load(&waiter->interrupted) ? ATOLL_SYNC_SIGNAL : ATOLL_SYNC_AGAIN;
    }
    wait->handed = false;
    waiter->about = wait;
    atoll_lock_take(&lock->inner);
    uint64_t word = word_of(lock);
    do {
        if ((word & ATOLL_SYNC_HELD) == 0) {
            atoll_lock_give(&lock->inner);
            return ATOLL_SYNC_AGAIN;
        }
    } while (!atomic_compare_exchange_weak(&lock->word, &word, word | ATOLL_SYNC_WAITED));
    atoll_waiters_add(&lock->waiters, waiter);
    atoll_lock_give(&lock->inner);
    atoll_test_yield();
    atoll_wait_result result = ATOLL_WAIT_OK;
    if (!atomic_load(&waiter->interrupted)) {
        result = atoll_waiter_block(waiter, deadline, &lock->spin);
    }
    if (!atoll_waiter_is_granted(waiter)) {
        atoll_lock_take(&lock->inner);
        if (waiter->linked) {
            atoll_waiters_remove(&lock->waiters, waiter);
            if (lock->waiters.first == NULL) {
                atomic_fetch_and(&lock->word, ~(uint64_t)ATOLL_SYNC_WAITED);
            }
        }
        atoll_lock_give(&lock->inner);
    }
    if (atoll_waiter_is_granted(waiter)) { /* before a time-out or a signal: nobody else was told */
        waiter->spun = false;              /* so it tries before it looks for signals */
        return wait->handed ? ATOLL_SYNC_OK : ATOLL_SYNC_AGAIN;
    }
    return atomic_load(&waiter->interrupted) ? ATOLL_SYNC_SIGNAL
           : result == ATOLL_WAIT_TIMEOUT    ? ATOLL_SYNC_TIMEOUT
           : result == ATOLL_WAIT_SIGNAL     ? ATOLL_SYNC_SIGNAL
                                             : ATOLL_SYNC_AGAIN;
}

/* Somebody waits for it, or its holder is gone. */
static atoll_sync_result give_locked(atoll_sync *lock) {
    atoll_lock_take(&lock->inner);
    uint64_t word = word_of(lock);
    if ((word & (ATOLL_SYNC_HELD | ATOLL_SYNC_GONE)) == 0) {
        atoll_lock_give(&lock->inner);
        return ATOLL_SYNC_REFUSED;
    }
    atoll_waiter *first = lock->waiters.first;
    atoll_sync_wait *wait = first != NULL ? atoll_sync_wait_of(first) : NULL;
    _Atomic(uint32_t) *asleep;
    if (wait != NULL && atoll_clock() - wait->since >= ATOLL_SYNC_PATIENCE) {
        wait->handed = true;
        atomic_store_explicit(&lock->thread, wait->who.thread, memory_order_relaxed);
        uint64_t holder = held_by(&wait->who);
        asleep = call_first_locked(lock);
        atomic_store(&lock->word, holder | waited(lock));
    } else {
        atomic_store_explicit(&lock->thread, 0, memory_order_relaxed);
        asleep = call_first_locked(lock);
        atomic_store(&lock->word, waited(lock));
    }
    atoll_lock_give(&lock->inner);
    atoll_test_yield();
    wake(asleep);
    return ATOLL_SYNC_OK;
}

atoll_sync_result atoll_sync_lock_give(atoll_sync *lock, const atoll_sync_who *who) {
    if (lock->kind == ATOLL_SYNC_RLOCK) {
        if (!atoll_sync_lock_is_mine(lock, who)) {
            return ATOLL_SYNC_REFUSED;
        }
        uint32_t depth = depth_of(lock);
        if (depth > 0) {
            atoll_sync_lock_set_depth(lock, depth - 1);
            return ATOLL_SYNC_OK;
        }
    }
    uint64_t word = word_of(lock);
    if (word == 0) {
        return ATOLL_SYNC_REFUSED;
    }
    if ((word & (ATOLL_SYNC_WAITED | ATOLL_SYNC_GONE)) == 0) {
        atomic_store_explicit(&lock->thread, 0, memory_order_relaxed);
        if (atomic_compare_exchange_strong_explicit(&lock->word, &word, 0, memory_order_release,
                                                    memory_order_relaxed)) {
            return ATOLL_SYNC_OK;
        }
    }
    return give_locked(lock);
}

bool atoll_sync_lock_is_held(const atoll_sync *lock) { return (word_of(lock) & ATOLL_SYNC_HELD) != 0; }

bool atoll_sync_lock_is_held_by(const atoll_sync *lock, uint64_t interp) {
    uint64_t word = word_of(lock);
    return (word & ATOLL_SYNC_HELD) != 0 && word >> ATOLL_SYNC_OWNER == interp;
}

uint32_t atoll_sync_lock_depth(const atoll_sync *lock) { return depth_of(lock); }

int64_t atoll_sync_lock_lost(const atoll_sync *lock) { return atomic_load(&lock->lost); }

void atoll_sync_lock_lose(atoll_sync *lock, uint64_t interp, int64_t id) {
    if (!atoll_sync_lock_is_held_by(lock, interp)) {
        return;
    }
    _Atomic(uint32_t) *asleep = NULL;
    atoll_lock_take(&lock->inner);
    uint64_t word = word_of(lock);
    while ((word & ATOLL_SYNC_HELD) != 0 && word >> ATOLL_SYNC_OWNER == interp) {
        atomic_store(&lock->lost, id);
        if (atomic_compare_exchange_weak(&lock->word, &word, ATOLL_SYNC_GONE | (word & ATOLL_SYNC_WAITED))) {
            atomic_store_explicit(&lock->thread, 0, memory_order_relaxed);
            atoll_sync_lock_set_depth(lock, 0);
            asleep = call_first_locked(lock);
            atomic_store(&lock->word, ATOLL_SYNC_GONE | waited(lock));
            break;
        }
    }
    atoll_lock_give(&lock->inner);
    wake(asleep);
}

static void make_free(atoll_sync *lock) {
    atomic_store(&lock->word, 0);
    atomic_store(&lock->thread, 0);
    atoll_sync_lock_set_depth(lock, 0);
}

void atoll_sync_lock_forked(atoll_sync *lock, uint64_t thread) {
    uint64_t word = word_of(lock);
    if ((word & ATOLL_SYNC_HELD) != 0 && atomic_load(&lock->thread) != thread) {
        make_free(lock);
    } else {
        atomic_store(&lock->word, word & ~(uint64_t)ATOLL_SYNC_WAITED);
    }
}

void atoll_sync_lock_keep_only(atoll_sync *lock, uint64_t interp) {
    uint64_t word = word_of(lock);
    if ((word & ATOLL_SYNC_HELD) != 0 && word >> ATOLL_SYNC_OWNER != interp) {
        make_free(lock);
    }
}
