/* Interrupting what runs in an interpreter, at once or when its time is over: interrupt.c says how. */
#ifndef ATOLL_PY_INTERP_INTERRUPT_H
#define ATOLL_PY_INTERP_INTERRUPT_H

#include "py/interp/runs.h"

/* Raises it in each run of the entry's for which match() holds: how many will get it.  Any thread; no thread state is needed, and no
 * lock may be held. */
int atoll_interrupt(atoll_entry *entry, atoll_interruption *interruption,
                    bool (*match)(const atoll_run *run, void *arg), void *arg);
/* The same for all. */
int atoll_interrupt_all(atoll_entry *entry, atoll_interruption *interruption);
/* The same with an interpreter whose gate is shut, by who keeps it from ending. */
int atoll_interrupt_kept(atoll_entry *entry, atoll_interruption *interruption);

/* Attached, before a limit is set: 0, or -1 with RuntimeError when nobody would see to it, because no thread can be started. */
int atoll_interrupt_prepare(void);

/* Time limits of calls that this thread makes: each holds for those into one interpreter that begin before it is over. */
typedef struct atoll_time_limit {
    struct atoll_time_limit *outer; /* of this thread */
    atoll_entry *entry;             /* a reference, which goes when it is freed */
    double seconds;
    double deadline;
    _Atomic(bool) over; /* it holds no more */
    bool is_borrowed;   /* its owner frees it, and has the reference */
} atoll_time_limit;

/* Read by every call. */
extern _Thread_local __attribute__((tls_model("initial-exec"))) atoll_time_limit *atoll_time_limits;

/* On the thread that it is for.  0, or -1 with RuntimeError: nobody would see to it. */
int atoll_time_limit_begin(atoll_time_limit *limit, double seconds);
/* On any thread; one that is borrowed, on its own.  One that is not is freed, now or by its thread. */
void atoll_time_limit_end(atoll_time_limit *limit);
/* Of those that this thread has for the entry the one that is over first, or NULL. */
const atoll_time_limit *atoll_time_limit_find(const atoll_entry *entry);
/* Attached to the run's interpreter, by its thread: it is interrupted when its time is over.  True: that is so already, and it is marked as late. */
bool atoll_time_limit_keep(atoll_run *run);

/* Attached likewise, of an interpreter with a limit of processor time: interrupted when that is spent. */
void atoll_budget_keep(atoll_run *run);

/* Python ends, attached to main: nothing is seen to any more, until atoll_watched_forget(). */
void atoll_interrupt_end(void);
void atoll_interrupt_fork(atoll_fork_moment when);

#endif
