/* A lock of one word for sections of a few dozen instructions that touch memory only.
 *
 * Taking it free costs one atomic instruction, as does giving it back; a thread that finds it taken spins for
 * a moment, because its holder is about to leave, and sleeps in the kernel when the holder was itself put aside.
 * Nothing is called with one held but what says so, Python never.
 */
#ifndef ATOLL_CORE_BASE_LOCK_H
#define ATOLL_CORE_BASE_LOCK_H

#include "port/port.h"

typedef struct {
    _Atomic(uint32_t) word; /* 0 free, 1 taken, 2 taken and somebody may sleep */
} atoll_lock;

void atoll_lock_wait(atoll_lock *lock);

static inline void atoll_lock_take(atoll_lock *lock) {
    uint32_t none = 0;
    if (!atomic_compare_exchange_strong_explicit(&lock->word, &none, 1, memory_order_acquire,
                                                 memory_order_relaxed)) {
        atoll_lock_wait(lock);
    }
}

static inline void atoll_lock_give(atoll_lock *lock) {
    if (atomic_exchange_explicit(&lock->word, 0, memory_order_release) == 2) {
        atoll_word_wake(&lock->word, 1);
    }
}

#endif
