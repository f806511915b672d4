/* Locks, conditions, events, semaphores, barriers and numbers that threads of all interpreters share.  Pure C; src/module gives
 * them to Python (sync.c there, and a file for each type).
 *
 * Each is one atoll_sync, counted: a reference for each Python object and each message that carries it.  The last one who lets
 * go frees it; nobody waits for it then, as whoever waits has a reference.
 *
 * A lock is one word: who holds it (the serial number of an interpreter's entry, in the upper 56 bits), whether it is held,
 * whether somebody waits, whether its holder was lost.  Taking a free one and giving it back when nobody waits are one atomic
 * instruction each.  Everything else happens under the sync's own `inner` lock, a leaf held for a few instructions; so the flag
 * that somebody waits is changed there only.  Who gives a lock back that others wait for wakes the first of them, and the lock is
 * free meanwhile: a thread that passes by may be faster, which is what makes short sections fast.  One that has waited for
 * ATOLL_SYNC_PATIENCE is handed the lock instead, so that nobody starves.
 *
 * The other kinds keep their waiters in a line (core/base/wait.h), first come, first served.  A thread leaves the line
 * before it goes back to Python to handle a signal, as it may never return from there; what has been signalled to the line
 * meanwhile counts as if it had been there: a condition may so wake one thread more than was asked for, never one less.
 *
 *   operation x operation   take (lock)     give back       notify, set     lose (an interpreter ends)
 *   take                    one succeeds    inner, or the   nothing shared  inner: the next taker is told, once
 *                                           lock's word
 *   give back               -               the second      nothing shared  one of them happened first: it is free
 *                                           is refused
 *   notify, set, arrive     nothing shared  nothing shared  inner           waiters leave by themselves: they are interrupted
 *
 * Failure.  Who held a lock when its interpreter ended cannot give it back, and what the lock guards may be half done.
 * atoll_syncs_lose() marks such locks: the next that takes one is told (ATOLL_SYNC_LOST) and does not have it; after that it is free.
 * A semaphore has no holders, a condition is as good as its lock, and a barrier breaks when somebody that waits at it is
 * interrupted for good, or acts for all in an interpreter that has ended.  Out of memory: only when one is made.
 *
 * Fork.  In the child, locks that other threads held are free, nobody waits, and a barrier has nobody at it: for who forked there, in a
 * signal's handler, it is broken.
 *
 * No function needs a thread state, and none blocks but those whose names end in _await or _sleep.  A waiter belongs to its thread; the
 * caller may be interrupted (ATOLL_SYNC_SIGNAL), and calls again.
 */
#ifndef ATOLL_CORE_SYNC_H
#define ATOLL_CORE_SYNC_H

#include "core/base/base.h"

/* Seconds: who has waited for so long for a lock or a semaphore gets it before anybody that comes by. */
#define ATOLL_SYNC_PATIENCE 1e-3

typedef enum {
    ATOLL_SYNC_LOCK,
    ATOLL_SYNC_RLOCK,
    ATOLL_SYNC_CONDITION,
    ATOLL_SYNC_EVENT,
    ATOLL_SYNC_SEMAPHORE,
    ATOLL_SYNC_BOUNDED_SEMAPHORE,
    ATOLL_SYNC_BARRIER,
    ATOLL_SYNC_ATOMIC,
    ATOLL_SYNC_KINDS
} atoll_sync_kind;

typedef enum {
    ATOLL_SYNC_OK,      /* it is so: taken, woken, changed, passed */
    ATOLL_SYNC_AGAIN,   /* it would have to wait, or it is to be tried again */
    ATOLL_SYNC_TIMEOUT, /* the deadline has passed */
    ATOLL_SYNC_SIGNAL,  /* the waiter was interrupted */
    ATOLL_SYNC_LOST,    /* the interpreter that held the lock has ended; the lock is free now */
    ATOLL_SYNC_BROKEN,  /* the barrier */
    ATOLL_SYNC_REFUSED, /* not held, not by this thread, too many times */
    ATOLL_SYNC_LAST     /* this thread is the last of a barrier's parties, and is to act before they pass */
} atoll_sync_result;

typedef struct atoll_sync atoll_sync;

/* A thread in an interpreter: who takes a lock. */
typedef struct {
    uint64_t interp; /* the serial number of its entry (core/registry/registry.h) */
    uint64_t thread; /* atoll_sync_thread() */
} atoll_sync_who;

/* What a thread that waits has with its waiter; zero at first but for `who`. */
typedef struct {
    atoll_sync_who who;
    double since;        /* it has waited */
    bool handed;         /* it was given what it waits for */
    bool came_back;      /* it left the line and is to look what it has missed */
    uint64_t seen;       /* signals of the line until then */
    int64_t expected;    /* of a number that is to change */
    uint64_t generation; /* of a barrier: the one it is part of */
    int64_t index;       /* likewise: how many came before it */
    bool entering;       /* likewise: it is not part of one yet */
    atoll_sync_result outcome;
} atoll_sync_wait;

/* A new one with one reference, NULL when out of memory.  value: a semaphore's, a barrier's parties, a number's. */
atoll_sync *atoll_sync_new(atoll_sync_kind kind, int64_t value);
/* A condition of a lock, of which it takes a reference. */
atoll_sync *atoll_sync_condition_new(atoll_sync *lock);
void atoll_sync_retain(atoll_sync *sync);
void atoll_sync_release(atoll_sync *sync);
extern const atoll_handle_class atoll_sync_class;
atoll_sync_kind atoll_sync_kind_of(const atoll_sync *sync);
/* The value that it was made with. */
int64_t atoll_sync_limit(const atoll_sync *sync);
/* No other of the process ever has it. */
uint64_t atoll_sync_serial(const atoll_sync *sync);

/* The number of the calling thread, never used twice. */
uint64_t atoll_sync_thread(void);

/* ---- locks, plain and reentrant ---- */

/* OK, AGAIN or LOST. */
atoll_sync_result atoll_sync_lock_try(atoll_sync *lock, const atoll_sync_who *who);
/* After that was AGAIN: tries a few times, for some microseconds, if the holder is in another interpreter. */
atoll_sync_result atoll_sync_lock_try_soon(atoll_sync *lock, const atoll_sync_who *who);
/* After that: waits for a while.  OK: it has it; AGAIN: try; TIMEOUT, SIGNAL. */
atoll_sync_result atoll_sync_lock_await(atoll_sync *lock, atoll_sync_wait *wait, atoll_waiter *waiter,
                                        double deadline);
/* REFUSED when it is not held, or reentrant and not held by this thread.  One that was lost is free then. */
atoll_sync_result atoll_sync_lock_give(atoll_sync *lock, const atoll_sync_who *who);
/* By anybody. */
bool atoll_sync_lock_is_held(const atoll_sync *lock);
/* By a thread of this interpreter, when it took the lock. */
bool atoll_sync_lock_is_held_by(const atoll_sync *lock, uint64_t interp);
/* By this thread. */
bool atoll_sync_lock_is_mine(const atoll_sync *lock, const atoll_sync_who *who);
/* How often its holder has taken a reentrant lock more than once; only the holder may ask and change it. */
uint32_t atoll_sync_lock_depth(const atoll_sync *lock);
void atoll_sync_lock_set_depth(atoll_sync *lock, uint32_t depth);
/* The interpreter that was lost last: for the error. */
int64_t atoll_sync_lock_lost(const atoll_sync *lock);

/* ---- conditions ---- */

atoll_sync *atoll_sync_condition_lock(const atoll_sync *condition);
/* False: it was signalled while this thread was away, and does not wait.  Before the lock is given back. */
bool atoll_sync_condition_join(atoll_sync *condition, atoll_sync_wait *wait, atoll_waiter *waiter);
/* Then: OK, TIMEOUT or SIGNAL (join again). */
atoll_sync_result atoll_sync_condition_sleep(atoll_sync *condition, atoll_sync_wait *wait,
                                             atoll_waiter *waiter, double deadline);
void atoll_sync_condition_notify(atoll_sync *condition, uint64_t count);

/* ---- events ---- */

bool atoll_sync_event_is_set(const atoll_sync *event);
void atoll_sync_event_set(atoll_sync *event);
void atoll_sync_event_clear(atoll_sync *event);
/* OK, TIMEOUT or SIGNAL. */
atoll_sync_result atoll_sync_event_await(atoll_sync *event, atoll_sync_wait *wait, atoll_waiter *waiter,
                                         double deadline);

/* ---- semaphores ---- */

/* OK or AGAIN. */
atoll_sync_result atoll_sync_semaphore_try(atoll_sync *semaphore);
/* As that of a lock. */
atoll_sync_result atoll_sync_semaphore_await(atoll_sync *semaphore, atoll_sync_wait *wait,
                                             atoll_waiter *waiter, double deadline);
/* REFUSED: more than a bounded one began with, or more than there are numbers. */
atoll_sync_result atoll_sync_semaphore_give(atoll_sync *semaphore, int64_t count);
int64_t atoll_sync_semaphore_value(const atoll_sync *semaphore);

/* ---- barriers ---- */

/* A message that travels with it: what its parties do when they are all there.  Set once, before others see it. */
atoll_message *atoll_sync_barrier_action(atoll_sync *barrier);
/* OK: it has passed, as the last; LAST: it calls atoll_sync_barrier_pass() when it has acted; AGAIN: it sleeps now; BROKEN.
 * acts: the last has something to do. */
atoll_sync_result atoll_sync_barrier_arrive(atoll_sync *barrier, atoll_sync_wait *wait, atoll_waiter *waiter,
                                            bool acts);
/* OK, BROKEN, AGAIN (arrive once more), TIMEOUT or SIGNAL: after these two leave, or stay.  The deadline is for the parties to come: what the
 * last of them does takes as long as it takes. */
atoll_sync_result atoll_sync_barrier_sleep(atoll_sync *barrier, atoll_sync_wait *wait, atoll_waiter *waiter,
                                           double deadline);
/* It goes on waiting: as arrive(), when it is not too late. */
atoll_sync_result atoll_sync_barrier_stay(atoll_sync *barrier, atoll_sync_wait *wait, atoll_waiter *waiter,
                                          bool acts);
/* It gives up, and the barrier is broken: BROKEN, or OK when its parties have passed already. */
atoll_sync_result atoll_sync_barrier_leave(atoll_sync *barrier, atoll_sync_wait *wait);
/* The last has acted: OK or BROKEN. */
atoll_sync_result atoll_sync_barrier_pass(atoll_sync *barrier, const atoll_sync_wait *wait);
void atoll_sync_barrier_abort(atoll_sync *barrier);
void atoll_sync_barrier_reset(atoll_sync *barrier);
bool atoll_sync_barrier_is_broken(const atoll_sync *barrier);
int64_t atoll_sync_barrier_waiting(const atoll_sync *barrier);

/* ---- numbers ---- */

int64_t atoll_sync_atomic_load(const atoll_sync *atomic);
/* The value before. */
int64_t atoll_sync_atomic_exchange(atoll_sync *atomic, int64_t value);
/* Adds; *before is the value before.  False: the sum is beyond 64 bits, and nothing has changed. */
bool atoll_sync_atomic_add(atoll_sync *atomic, int64_t delta, int64_t *before);
/* Whether it was `expected`, and is `value` now. */
bool atoll_sync_atomic_compare(atoll_sync *atomic, int64_t expected, int64_t value);
/* Until it is not wait->expected: OK, TIMEOUT or SIGNAL. */
atoll_sync_result atoll_sync_atomic_await(atoll_sync *atomic, atoll_sync_wait *wait, atoll_waiter *waiter,
                                          double deadline);

/* ---- all of them ---- */

/* An interpreter has ended, or is closed for good: the locks that it holds are lost. */
void atoll_syncs_lose(uint64_t interp, int64_t id);
/* Python has ended: no interpreter is left. */
void atoll_syncs_forget(void);
/* Holds every lock of this room while the process is forked. */
void atoll_syncs_fork(atoll_fork_moment when);
/* In a forked child, after that: the locks of all interpreters but this are free. */
void atoll_syncs_keep_only(uint64_t interp);

#endif
