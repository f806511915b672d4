/* A thread that waits for something that another thread does.
 *
 * The waiter lives on the stack of the thread that waits.  Whoever has something to wait for keeps its waiters in a
 * list, in the order of their coming, under a lock of its own.  One that is woken is taken off the list by its
 * waker; one that gives up takes itself off.  Who was woken in vain, because somebody else was faster, or by a signal, and waits
 * again, is no newcomer.
 *
 *   operation x operation   grant              interrupt             block (the waiter's own thread)
 *   grant                   once: under the    both arrive: granted  returns; the waiter may be gone before the
 *                           list's lock        and interrupted       waker has finished: it wakes an address only
 *   interrupt               both arrive        once is enough        returns
 *
 * A thread that waits spins first, for as long as waiting has lately been short: a wake-up through the kernel costs
 * 5 to 50 us, an answer from a thread on another core often less than one.  While it spins it is on no list and looks
 * at what it waits for itself, so that whoever makes it come true need not even know.  The time to spin is kept with what
 * is waited for; it doubles when spinning helped, halves when it did not, and when it has come to nothing it is tried
 * again after a sleep that was short.  Who waits for a thread that was last seen on the same processor does not spin,
 * because that thread cannot run meanwhile; with one processor nobody does.  Nothing is held and no thread state is
 * attached, so spinning costs processor time only.
 *
 * A signal ends a sleep, but one that comes just before it, when signals have been looked for the last time, does not, and a thread
 * may lose its processor there.  So a thread that is to notice signals has `recheck` set: its sleep ends as by a signal after that time, and
 * each further one after twice the time before.  A signal is noticed at the latest when the wait has become twice as long, and
 * a long wait wakes up hardly ever.
 */
#ifndef ATOLL_CORE_BASE_WAIT_H
#define ATOLL_CORE_BASE_WAIT_H

#include "core/base/lock.h"

typedef struct atoll_waiter {
    struct atoll_waiter *next; /* in the list of what is waited for, under its lock */
    struct atoll_waiter *prev;
    struct atoll_waiter *entry_next; /* in the list of its interpreter's entry, under the entry's lock */
    struct atoll_waiter *entry_prev;
    _Atomic(uint32_t) state;   /* a grant is the last that its waker does with the waiter */
    _Atomic(bool) interrupted; /* to be looked at and reset by its thread */
    bool linked;               /* in its list, under the list's lock */
    uint64_t turn;             /* 0: it has not been in its list yet; who comes back has the place he had */
    bool spun;                 /* in vain: sleep now */
    double recheck;            /* s; 0: never */
    void *about;               /* for who keeps the list */
} atoll_waiter;

typedef struct {
    atoll_waiter *first; /* by their turns */
    atoll_waiter *last;
    uint64_t turns; /* given out */
} atoll_waiters;

/* Belongs to what is waited for. */
typedef struct {
    _Atomic(uint32_t) ns;  /* how long to spin */
    _Atomic(uint32_t) cpu; /* where the thread ran that granted last, plus 1 */
} atoll_spin;

/* Whether there is more than one processor. */
bool atoll_spin_may(void);
void atoll_spin_init(atoll_spin *spin);
/* The calling thread grants a waiter. */
void atoll_spin_granted(atoll_spin *spin);
/* Before the waiter is added to a list: spins until ready(what) or an interrupt, as long as it may.  True: try again
 * (also after it spun in vain: a signal may have come meanwhile, which no sleep will tell); false: sleep. */
bool atoll_waiter_spin(atoll_waiter *waiter, atoll_spin *spin, bool (*ready)(void *what), void *what);

/* Makes it not granted and not awake. */
void atoll_waiter_reset(atoll_waiter *waiter);
/* With the list's lock held; add() resets. */
void atoll_waiters_add(atoll_waiters *list, atoll_waiter *waiter);
void atoll_waiters_remove(atoll_waiters *list, atoll_waiter *waiter);
/* Grants a waiter that was taken off its list under the lock that is still held; it may be gone at once.  Returns the
 * word to wake when the lock is given back, NULL when its thread does not sleep. */
_Atomic(uint32_t) *atoll_waiter_grant(atoll_waiter *waiter);
/* False may mean that a waker is about to: with the list's lock taken and given once more, it is certain. */
bool atoll_waiter_is_granted(const atoll_waiter *waiter);

/* Makes a waiter come back.  The caller keeps it from going away meanwhile (the entry's lock). */
void atoll_waiter_interrupt(atoll_waiter *waiter);

/* Waiters of one list that are granted and asleep: to be woken when its lock is given back. */
#define ATOLL_ASLEEP_MOST 16
typedef struct {
    _Atomic(uint32_t) *words[ATOLL_ASLEEP_MOST];
    int count;
} atoll_asleep;
/* With the list's lock held: takes waiters off and grants them, first come, first served, while *most, which falls, and the room in
 * `asleep` last.  count: how many are in the list, spin: of what they wait for; or NULL. */
void atoll_waiters_grant(atoll_waiters *list, _Atomic(uint32_t) *count, atoll_spin *spin, uint64_t *most,
                         atoll_asleep *asleep);
/* The same with one waiter, for which there is room. */
void atoll_waiters_grant_one(atoll_waiters *list, _Atomic(uint32_t) *count, atoll_spin *spin,
                             atoll_waiter *waiter, atoll_asleep *asleep);
void atoll_asleep_wake(const atoll_asleep *asleep);

/* The usual way to wake and to sleep: a list, its lock, its length and the time to spin (or NULL).  No lock is held. */
void atoll_waiters_wake(atoll_lock *lock, atoll_waiters *list, _Atomic(uint32_t) *count, atoll_spin *spin,
                        uint64_t most);
/* Until ready(what), a grant, an interrupt or the deadline.  OK: granted, which goes before all else; or ready, or for no reason. */
atoll_wait_result atoll_waiters_sleep(atoll_lock *lock, atoll_waiters *list, _Atomic(uint32_t) *count,
                                      atoll_spin *spin, bool (*ready)(void *what), void *what,
                                      atoll_waiter *waiter, double deadline);

/* Sleeps while the word is as expected, as atoll_word_wait() does; SIGNAL also when signals are to be looked for again. */
atoll_wait_result atoll_waiter_wait_word(atoll_waiter *waiter, _Atomic(uint32_t) *word, uint32_t expected,
                                         double deadline);
/* Sleeps, after the waiter was added.  OK: granted or interrupted, or for no reason. */
atoll_wait_result atoll_waiter_block(atoll_waiter *waiter, double deadline, atoll_spin *spin /* or NULL */);

/* The tests': gives up the processor now and then, where threads meet. */
#ifdef ATOLL_TEST_YIELD
void atoll_test_yield(void);
#else
static inline void atoll_test_yield(void) {}
#endif

#endif
