#include "core/base/wait.h"

#include <stddef.h>

enum { AWAKE, ASLEEP, KICKED, GRANTED };

#define LOCK_SPINS 100
#define SPIN_MOST 20000 /* ns: beyond that a sleep costs less than what is lost on others */
#define SPIN_LEAST 500
#define SHORT_WAIT 60e-6 /* s: of which spinning might have caught most, with both threads' wake-ups in it */

bool atoll_spin_may(void) {
    static _Atomic(int) processors; /* the value is the same whoever asks first */
    int n = atomic_load_explicit(&processors, memory_order_relaxed);
    if (n == 0) {
        n = atoll_cpu_count();
        atomic_store_explicit(&processors, n, memory_order_relaxed);
    }
    return n > 1;
}

void atoll_lock_wait(atoll_lock *lock) {
    for (int i = 0; i < LOCK_SPINS && atoll_spin_may(); i++) {
        uint32_t none = 0;
        if (atomic_load_explicit(&lock->word, memory_order_relaxed) == 0 &&
            atomic_compare_exchange_weak_explicit(&lock->word, &none, 1, memory_order_acquire,
                                                  memory_order_relaxed)) {
            return;
        }
        atoll_cpu_relax();
    }
    while (atomic_exchange_explicit(&lock->word, 2, memory_order_acquire) != 0) {
        (void)atoll_word_wait(&lock->word, 2, 1e18);
    }
}

void atoll_waiter_reset(atoll_waiter *waiter) {
    /* Before `interrupted` is looked at, which an interrupt sets before the state. */
    atomic_store(&waiter->state, AWAKE);
}

void atoll_waiters_add(atoll_waiters *list, atoll_waiter *waiter) {
    atoll_waiter_reset(waiter);
    waiter->linked = true;
    if (waiter->turn == 0) {
        waiter->turn = ++list->turns;
    }
    atoll_waiter *before = list->last;
    atoll_waiter *after = NULL;
    if (before != NULL && before->turn > waiter->turn) { /* it has been here: its place is near the front */
        after = list->first;
        while (after->turn < waiter->turn) {
            after = after->next;
        }
        before = after->prev;
    }
    waiter->prev = before;
    waiter->next = after;
    *(before != NULL ? &before->next : &list->first) = waiter;
    *(after != NULL ? &after->prev : &list->last) = waiter;
}

void atoll_waiters_remove(atoll_waiters *list, atoll_waiter *waiter) {
    *(waiter->prev != NULL ? &waiter->prev->next : &list->first) = waiter->next;
    *(waiter->next != NULL ? &waiter->next->prev : &list->last) = waiter->prev;
    waiter->linked = false;
}

_Atomic(uint32_t) *atoll_waiter_grant(atoll_waiter *waiter) {
    _Atomic(uint32_t) *word = &waiter->state;
    return atomic_exchange(word, GRANTED) == ASLEEP ? word : NULL;
}

void atoll_waiter_interrupt(atoll_waiter *waiter) {
    atomic_store(&waiter->interrupted, true);
    uint32_t state = atomic_load(&waiter->state);
    while (state < KICKED && !atomic_compare_exchange_weak(&waiter->state, &state, KICKED)) {
    }
    if (state == ASLEEP) {
        atoll_word_wake(&waiter->state, 1);
    }
}

bool atoll_waiter_is_granted(const atoll_waiter *waiter) {
    return atomic_load_explicit(&waiter->state, memory_order_acquire) == GRANTED;
}

static bool is_woken(const atoll_waiter *waiter) {
    return atomic_load_explicit(&waiter->state, memory_order_acquire) >= KICKED;
}

void atoll_spin_init(atoll_spin *spin) {
    atomic_init(&spin->ns, SPIN_MOST); /* waiting is expected to be short until it has been long */
    atomic_init(&spin->cpu, 0);
}

void atoll_spin_granted(atoll_spin *spin) {
    atomic_store_explicit(&spin->cpu, atoll_cpu_current() + 1, memory_order_relaxed);
}

static uint32_t time_to_spin(atoll_spin *spin) {
    if (!atoll_spin_may() ||
        atomic_load_explicit(&spin->cpu, memory_order_relaxed) == atoll_cpu_current() + 1) {
        return 0;
    }
    return atomic_load_explicit(&spin->ns, memory_order_relaxed);
}

static void set_spin(atoll_spin *spin, uint32_t ns) {
    atomic_store_explicit(&spin->ns, ns, memory_order_relaxed);
}

bool atoll_waiter_spin(atoll_waiter *waiter, atoll_spin *spin, bool (*ready)(void *what), void *what) {
    uint32_t ns = waiter->spun ? 0 : time_to_spin(spin);
    if (ns == 0) {
        return false;
    }
    double until = atoll_clock() + ns * 1e-9;
    do {
        for (int i = 0; i < 16; i++) {
            if (ready(what) || atomic_load_explicit(&waiter->interrupted, memory_order_relaxed)) {
                set_spin(spin, ns < SPIN_MOST / 2 ? ns * 2 : SPIN_MOST);
                return true;
            }
            atoll_cpu_relax();
        }
    } while (atoll_clock() < until);
    set_spin(spin, ns > 2 * SPIN_LEAST ? ns / 2 : 0);
    waiter->spun = true;
    return true;
}

atoll_wait_result atoll_waiter_wait_word(atoll_waiter *waiter, _Atomic(uint32_t) *word, uint32_t expected,
                                         double deadline) {
    double until = waiter->recheck > 0 ? atoll_clock() + waiter->recheck : deadline;
    if (until >= deadline) {
        return atoll_word_wait(word, expected, deadline);
    }
    atoll_wait_result result = atoll_word_wait(word, expected, until);
    if (result == ATOLL_WAIT_TIMEOUT) {
        waiter->recheck *= 2;
        result = ATOLL_WAIT_SIGNAL;
    }
    return result;
}

atoll_wait_result atoll_waiter_block(atoll_waiter *waiter, double deadline, atoll_spin *spin) {
    double began = atoll_clock();
    uint32_t awake = AWAKE;
    atoll_wait_result result = ATOLL_WAIT_OK;
    if (atomic_compare_exchange_strong(&waiter->state, &awake, ASLEEP)) {
        do {
            result = atoll_waiter_wait_word(waiter, &waiter->state, ASLEEP, deadline);
        } while (result == ATOLL_WAIT_OK && !is_woken(waiter));
    }
    waiter->spun = false;
    if (spin != NULL && atomic_load_explicit(&spin->ns, memory_order_relaxed) == 0 &&
        atoll_clock() - began < SHORT_WAIT) {
        set_spin(spin, SPIN_MOST);
    }
    return result;
}

void atoll_waiters_grant_one(atoll_waiters *list, _Atomic(uint32_t) *count, atoll_spin *spin,
                             atoll_waiter *waiter, atoll_asleep *asleep) {
    atoll_waiters_remove(list, waiter);
    if (count != NULL) {
        atomic_fetch_sub(count, 1);
    }
    if (spin != NULL) {
        atoll_spin_granted(spin);
    }
    asleep->words[asleep->count] = atoll_waiter_grant(waiter);
    asleep->count += asleep->words[asleep->count] != NULL;
}

void atoll_waiters_grant(atoll_waiters *list, _Atomic(uint32_t) *count, atoll_spin *spin, uint64_t *most,
                         atoll_asleep *asleep) {
    while (asleep->count < ATOLL_ASLEEP_MOST && *most > 0 && list->first != NULL) {
        atoll_waiters_grant_one(list, count, spin, list->first, asleep);
        --*most;
    }
}

void atoll_asleep_wake(const atoll_asleep *asleep) {
    for (int i = 0; i < asleep->count; i++) {
        atoll_word_wake(asleep->words[i], 1);
    }
}

void atoll_waiters_wake(atoll_lock *lock, atoll_waiters *list, _Atomic(uint32_t) *count, atoll_spin *spin,
                        uint64_t most) {
    atoll_asleep asleep;
    do {
        asleep.count = 0;
        atoll_lock_take(lock);
        atoll_waiters_grant(list, count, spin, &most, &asleep);
        atoll_lock_give(lock);
        atoll_asleep_wake(&asleep);
    } while (asleep.count == ATOLL_ASLEEP_MOST);
}

atoll_wait_result atoll_waiters_sleep(atoll_lock *lock, atoll_waiters *list, _Atomic(uint32_t) *count,
                                      atoll_spin *spin, bool (*ready)(void *what), void *what,
                                      atoll_waiter *waiter, double deadline) {
    atoll_lock_take(lock);
    atoll_waiters_add(list, waiter);
    if (count != NULL) {
        atomic_fetch_add(count, 1);
    }
    atoll_lock_give(lock);
    atoll_test_yield();
    atoll_wait_result result = ATOLL_WAIT_OK;
    /* Whoever made it ready before we were in the list did not tell us, so this looks again. */
    if (!ready(what) && !atomic_load(&waiter->interrupted)) {
        result = atoll_waiter_block(waiter, deadline, spin);
    }
    if (!atoll_waiter_is_granted(waiter)) { /* under the lock it is certain */
        atoll_lock_take(lock);
        if (waiter->linked) {
            atoll_waiters_remove(list, waiter);
            if (count != NULL) {
                atomic_fetch_sub(count, 1);
            }
        }
        atoll_lock_give(lock);
    }
    if (atoll_waiter_is_granted(waiter)) {
        waiter->spun = false; /* nobody else was told: it tries before it looks for signals */
        return ATOLL_WAIT_OK;
    }
    return atomic_load(&waiter->interrupted) ? ATOLL_WAIT_SIGNAL : result;
}
