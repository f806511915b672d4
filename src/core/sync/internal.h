/* What the files of core/sync share. */
#ifndef ATOLL_CORE_SYNC_INTERNAL_H
#define ATOLL_CORE_SYNC_INTERNAL_H

#include "core/sync/sync.h"

/* A lock's word; from ATOLL_SYNC_OWNER on, who holds it. */
enum {
    ATOLL_SYNC_HELD = 1,
    ATOLL_SYNC_WAITED = 2, /* changed under `inner`; while nobody holds it a thread is on its way */
    ATOLL_SYNC_GONE = 4,   /* not held: its holder has ended, and the next taker is to be told */
    ATOLL_SYNC_OWNER = 8   /* a shift */
};

struct atoll_sync {
    atoll_link link; /* in atoll_syncs */
    atoll_sync_kind kind;
    _Atomic(uint32_t) refs;
    _Atomic(uint64_t) word; /* a lock's; an event's: whether it is set */
    _Atomic(uint64_t)
        thread; /* of a lock: who took it.  Zero before it is given back, as its own thread trusts it */
    _Atomic(uint32_t) depth; /* of a reentrant lock, the holder's */
    _Atomic(int64_t) lost;   /* the id of the interpreter that was lost */
    _Atomic(int64_t) value;  /* a semaphore's, a number's */
    int64_t limit;           /* a bounded semaphore's first value, a barrier's parties */
    uint64_t serial;
    atoll_sync *lock; /* a condition's: a reference */

    atoll_lock inner;
    atoll_waiters waiters;       /* each with its atoll_sync_wait */
    _Atomic(uint32_t) attention; /* how many wait in line, for who does not take `inner` */
    uint64_t signals;
    atoll_spin spin;

    /* A barrier's, under `inner` */
    _Atomic(int64_t) arrived;
    _Atomic(bool) broken;
    uint64_t actor; /* the thread that acts for all, 0 when none does */
    uint64_t actor_interp;
    uint64_t generation; /* how many have passed or broken */
    uint64_t broke;      /* a bit for each of the last 64 of them, the latest in bit 0 */
    uint64_t whole_from; /* none has broken from this one on */
    atoll_message action;
};

/* sync.c */
extern atoll_list atoll_syncs;

static inline atoll_sync_wait *atoll_sync_wait_of(const atoll_waiter *waiter) { return waiter->about; }

/* line.c.  With `inner` held: adds a waiter, which is counted. */
void atoll_sync_line_add_locked(atoll_sync *sync, atoll_sync_wait *wait, atoll_waiter *waiter);
/* Likewise: grants up to `count` waiters, the first first, for which want() holds (NULL: all), and gives `inner` back. */
void atoll_sync_line_grant_locked(atoll_sync *sync, uint64_t count,
                                  bool (*want)(const atoll_sync_wait *wait, int64_t about), int64_t about);
/* Without: sleeps after the waiter was added.  OK: granted; TIMEOUT or SIGNAL, and then it is on the line no more. */
atoll_sync_result atoll_sync_line_sleep(atoll_sync *sync, atoll_sync_wait *wait, atoll_waiter *waiter,
                                        double deadline);

/* lock.c, of a lock, for all.c: its holder is lost. */
void atoll_sync_lock_lose(atoll_sync *lock, uint64_t interp, int64_t id);
/* barrier.c: a generation is over, and the next one begins; nobody is told.  With `inner` held. */
void atoll_sync_barrier_turn_locked(atoll_sync *barrier, bool broken);
/* Likewise who acts for all is lost. */
void atoll_sync_barrier_lose(atoll_sync *barrier, uint64_t interp);
/* In a forked child: whoever waited is gone, and whoever held it but this thread. */
void atoll_sync_lock_forked(atoll_sync *lock, uint64_t thread);
/* Likewise: but this interpreter. */
void atoll_sync_lock_keep_only(atoll_sync *lock, uint64_t interp);

#endif
