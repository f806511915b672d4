/* The registry: one entry per interpreter that Atoll deals with, in any thread, without Python.
 *
 * An entry is an interpreter's life as the rest of the process sees it.  Its gate is one
 * atomic word:
 *
 *     bit 63 closing    no one may enter any more
 *     bits 48..61       bars: somebody waits for it to be left, and keeps new sessions out meanwhile
 *     bits 32..47       guards: short visits that only need the interpreter to exist
 *     bits 0..31        pins: sessions that run code inside
 *
 *   operation x operation   pin            guard          begin_close        bar
 *   pin                     both succeed   both succeed   one of them fails  those that come later fail
 *   guard                   both succeed   both succeed   close waits        both succeed
 *   begin_close             one fails      close waits    one of them fails  both succeed
 *   bar                     see above      both succeed   both succeed       both succeed
 *
 * A session never waits for a close and a close never waits for a session: whoever is
 * second is refused.  Guards are held for a few instructions, so close spins for them.
 *
 * What its life has come to is one atomic word, too.  The gate is open while that says open, and shut otherwise.
 *
 *     spare     made, not open yet: nobody finds it                  -> open, closing
 *     open                                                           -> closing
 *     closing   may it end?  It is as it was, if not                 -> winding, open
 *     winding   it ends: its threads are joined, its exit functions run      -> stopping
 *     stopping  what is left of its threads has to end               -> zombie, ended
 *     zombie    a thread or memory that others see is left           -> stopping
 *     ended     CPython has no such interpreter any more
 *     left      the process ends without it (any but ended)
 *
 * Whoever makes it closing, or a zombie stopping, is the only one that goes on from there.
 *
 * Two counts: `refs` keeps the struct (objects, messages, cached thread states, the
 * registry itself), `users` keeps the interpreter (Interpreter objects and messages
 * that carry one).  An owned interpreter without users is doomed: the next operation
 * that can close it does (see py/interp/lifecycle.c).
 *
 * Locks: the registry's mutex guards the list; an entry's mutex guards its cached thread
 * states, its waits, and that it is not freed while somebody asks who winds it down to look; another lock who waits for it to be
 * left.  All are leaves: nothing of Atoll's is called with them held.
 */
#ifndef ATOLL_CORE_REGISTRY_H
#define ATOLL_CORE_REGISTRY_H

#include "core/base/base.h"
#include "core/stats/stats.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Work that only the owner interpreter may do (release a buffer, drop a reference),
 * handed to it by another.  Embedded in what is to be freed; run() frees it. */
typedef struct atoll_job {
    struct atoll_job *next;
    /* alive: the owner's thread state is attached.  Otherwise the owner has ended, or never gets to it: what it had is gone, and
     * any thread state or none is attached. */
    void (*run)(struct atoll_job *job, bool alive);
} atoll_job;

typedef enum {
    ATOLL_LIFE_SPARE,
    ATOLL_LIFE_OPEN,
    ATOLL_LIFE_CLOSING,
    ATOLL_LIFE_WINDING,
    ATOLL_LIFE_STOPPING,
    ATOLL_LIFE_ZOMBIE,
    ATOLL_LIFE_ENDED,
    ATOLL_LIFE_LEFT,
} atoll_life;

/* A thread state cached for one (OS thread, interpreter) pair: see py/interp/session.c. */
typedef struct atoll_cached {
    struct atoll_cached *next; /* in entry->cached, under entry->lock */
    struct atoll_entry *entry; /* a reference */
    void *tstate;              /* NULL once the interpreter deleted it */
    bool orphan;               /* its OS thread is gone */
} atoll_cached;

typedef struct atoll_entry {
    int64_t id;
    uint64_t serial; /* never given to another one, also when Python has begun anew and ids with it */
    void *interp;    /* PyInterpreterState *, opaque here */
    _Atomic(void *)
        state; /* the extension module's state there, or NULL: set once, when it is whole, and back at its end */
    void *
        loader; /* of its extension modules (py/extension/loader.h), or NULL; set once, before others can see the entry */
    bool owned;                  /* made by Atoll, so that Atoll may run code in it and close it */
    _Atomic(bool) adopted;       /* others made it and end it, and Atoll may run code in it */
    bool may_fork;               /* set once, before others can see the entry */
    char name[ATOLL_STATS_NAME]; /* UTF-8; empty: none; likewise */
    _Atomic(uint64_t) gate;
    _Atomic(int) life; /* an atoll_life */
    _Atomic(uint32_t) refs;
    _Atomic(uint32_t) users;
    const _Atomic(int) *_Atomic gil; /* says whether its GIL is taken, or NULL; set once, attached */
    atoll_stats_interp *stats;       /* what is counted; it has the calls and execs inside, too */
    struct atoll_run *runs;          /* calls and execs inside, under runs_taken */
    uint64_t runs_made;
    _Atomic(uint64_t) cpu_limit; /* ns of processor time that it may have (py/interp/budget.h); 0: any */
    _Atomic(uint64_t) cpu_past;  /* that it has had, of what counts and has ended */
    _Atomic(uint32_t) exports;   /* buffers of its objects that others still see */
    _Atomic(uint32_t) homes;     /* of those that have come home: as others see them, in itself */
    _Atomic(uint32_t) orphans;   /* cached thread states whose OS thread is gone */
    _Atomic(atoll_job *) jobs;
    _Atomic(bool) settle_due; /* one of them is that of py/interp/traced_process.c */
    _Atomic(bool) drain_due;  /* a pending call of that interpreter will run them */
    _Atomic(bool) runs_taken; /* the lock of the runs: see py/interp/runs.c */
    atoll_mutex lock;
    atoll_cached *cached;
    struct atoll_waiter
        *waits;               /* of threads that are in this interpreter and wait for something of Atoll's */
    struct atoll_entry *prev; /* registry list, under the registry's mutex */
    struct atoll_entry *next;
    bool listed;
    atoll_line line;      /* of the calls that are submitted to it */
    _Atomic(bool) pooled; /* a pool's worker uses it, or it was a spare: nobody left it open */
    atoll_lock leaving;   /* of those who wait for it to be left, or to end: */
    atoll_waiters closers;
    _Atomic(bool) forced; /* threads of its own are to end: their waits raise SystemExit */
    bool
        winding; /* under the lock: a thread that runs something elsewhere winds it down, and can be asked to look */
    _Atomic(unsigned)
        depth; /* how many interpreters made one another, this one at last; 0: not of that sort */
} atoll_entry;

/* A new entry, in the registry, with one reference for the caller; NULL when out of memory.  One that is owned is a spare, any
 * other open. */
atoll_entry *atoll_registry_add(int64_t id, void *interp, bool owned);
/* Takes the entry out of the list, so that it is not found again. */
void atoll_registry_remove(atoll_entry *entry);
/* A new reference to the entry with this id, or NULL. */
atoll_entry *atoll_registry_find(int64_t id);
/* A new reference to the listed owned entry with the highest id below `below` for which want() holds, or NULL. */
atoll_entry *atoll_registry_newest(int64_t below, bool (*want)(const atoll_entry *));

/* Calls and execs inside: exact with that interpreter's GIL held. */
static inline bool atoll_entry_is_busy(const atoll_entry *entry) {
    return atoll_stat_get(entry->stats, ATOLL_STAT_RUNNERS) != 0;
}

/* Of one that nobody else sees yet: it has this name, cut where it is too long, also in the statistics. */
void atoll_entry_set_name(atoll_entry *entry, const char *name);
/* How messages name an interpreter: "3", or "3 ('io')". */
typedef struct {
    char text[ATOLL_STATS_NAME + 32];
} atoll_label;
const char *atoll_entry_label(const atoll_entry *entry, atoll_label *label);

void atoll_entry_retain(atoll_entry *entry);
void atoll_entry_release(atoll_entry *entry);

/* Users; a user implies a reference.  remove_user says whether it was the last of an owned interpreter. */
void atoll_entry_add_user(atoll_entry *entry);
bool atoll_entry_remove_user(atoll_entry *entry);

/* The gate. */
bool atoll_entry_pin(atoll_entry *entry); /* false: closing or closed */
void atoll_entry_unpin(atoll_entry *entry);
bool atoll_entry_guard(atoll_entry *entry);
void atoll_entry_unguard(atoll_entry *entry);
bool atoll_entry_is_open(const atoll_entry *entry);
uint32_t atoll_entry_pins(const atoll_entry *entry);
/* No session is begun until the same caller takes the bar away: pin() fails. */
void atoll_entry_bar(atoll_entry *entry);
void atoll_entry_unbar(atoll_entry *entry);
bool atoll_entry_is_barred(const atoll_entry *entry);
/* It is open, or barred by somebody who closes it and may have to open it again.  Else it is closed for good. */
bool atoll_entry_is_being_closed(const atoll_entry *entry);
/* Of an entry, to be awaited: whether no session is inside, or it is not open any more. */
bool atoll_entry_is_left(void *entry);
/* Waits until ready(what), which is looked at when the last session leaves one that is barred, when its life changes, and when somebody
 * tells. */
atoll_wait_result atoll_entry_await(atoll_entry *entry, bool (*ready)(void *what), void *what,
                                    atoll_waiter *waiter, double deadline);
void atoll_entry_tell(atoll_entry *entry);

typedef enum { ATOLL_CLOSE_BEGUN, ATOLL_CLOSE_BUSY, ATOLL_CLOSE_GONE } atoll_close_result;
/* Of one that is open or a spare: it is closing, its gate shut, if no session is inside; guards have passed. */
atoll_close_result atoll_entry_begin_close(atoll_entry *entry);
/* The same, and it is barred when that has begun. */
atoll_close_result atoll_entry_begin_close_barred(atoll_entry *entry);
/* Opens a spare; undoes begin_close.  One that was left meanwhile stays shut. */
void atoll_entry_open(atoll_entry *entry);

atoll_life atoll_entry_life(const atoll_entry *entry);
/* For who has begun to close it, and for the end of the process: what was left stays so. */
void atoll_entry_set_life(atoll_entry *entry, atoll_life life);
/* The process ends without it: whatever is inside, nobody enters any more. */
void atoll_entry_leave(atoll_entry *entry);
/* True for one thread only: it was a zombie, and is stopping again. */
bool atoll_entry_claim_zombie(atoll_entry *entry);

/* The waits of an interpreter's threads.  A waiter is added before it waits and removed before it is gone. */
void atoll_entry_add_wait(atoll_entry *entry, atoll_waiter *waiter);
void atoll_entry_remove_wait(atoll_entry *entry, atoll_waiter *waiter);
/* Makes every thread that waits come back and look what its interpreter has for it to do. */
void atoll_entry_interrupt_waits(atoll_entry *entry);

/* Hands a job to the entry's interpreter; the caller arranges for someone to drain the list.  Any thread, no thread
 * state needed.  Whether the list was empty. */
bool atoll_entry_push_job(atoll_entry *entry, atoll_job *job);
/* All jobs handed over so far, oldest first; the caller runs them. */
atoll_job *atoll_entry_take_jobs(atoll_entry *entry);
/* Takes and runs them. */
void atoll_entry_run_jobs(atoll_entry *entry, bool alive);

/* Holds every lock of the registry and of its entries while the process is forked. */
void atoll_registry_fork(atoll_fork_moment when);
/* In a forked child, after that: only this interpreter is left, and of its threads the one that calls.  Entries of others stay
 * allocated, shut for good; no entry has thread states or waits any more, and jobs of those that are gone are not run. */
void atoll_registry_keep_only(const void *interp);
/* Python has ended: no interpreter is left, nor a thread state.  Entries of those that were not ended stay allocated, shut for good. */
void atoll_registry_forget(void);

#endif
