/* Waiting for something of Atoll's with the thread state detached. */
#ifndef ATOLL_PY_INTERP_BLOCKING_H
#define ATOLL_PY_INTERP_BLOCKING_H

#include "py/state.h"

typedef struct {
    atoll_waiter waiter; /* for the core's wait functions */
    double deadline;     /* for the core's wait functions */
    atoll_entry *entry;
    PyThreadState *tstate;
    uint64_t began; /* ticks */
    atoll_waits_for what;
    int64_t id;
} atoll_blocking;

#define ATOLL_NO_WAIT (-1.0) /* instead of a deadline */

/* A number of seconds, also a negative one or nan; infinity for None or NULL.  0, or -1 with TypeError. */
int atoll_timeout(PyObject *timeout, double *seconds);
/* The deadline of a wait that begins now. */
double atoll_deadline_after(double seconds);
/* Seconds on the monotonic clock at which a wait that begins now is over: a non-negative number of seconds from now, None
 * for never.  0, or -1 with TypeError or ValueError. */
int atoll_deadline(PyObject *timeout, double *deadline);

/* Detaches; nothing of Python may be touched until the end.  what, and its id or 0: for who looks at what threads wait for. */
void atoll_blocking_begin(atoll_blocking *b, atoll_state *state, double deadline, atoll_waits_for what,
                          int64_t id);
/* After each wait: true when there may be signals to handle, because it said so, or because this is the main thread
 * and it span, during which nothing tells of a signal. */
bool atoll_blocking_look(const atoll_blocking *b, atoll_wait_result why);
/* Then: attaches, runs the handlers of signals that have arrived, detaches again.  0, or -1 when that raised: then it is
 * attached, and the end. */
int atoll_blocking_interrupted(atoll_blocking *b);
/* The same for work that takes long, attached all the time.  0, or -1 with an exception: it is to end. */
int atoll_blocking_check(atoll_entry *entry);
/* Attaches. */
void atoll_blocking_end(atoll_blocking *b);

/* A wait that began then, in ticks, is over: in the trace, if there is one. */
void atoll_blocking_trace(uint64_t began, atoll_waits_for what, int64_t interp, int64_t id);

/* All of it: until the word is not what was seen, or the deadline.  0, or -1 when that raised. */
int atoll_blocking_await_word(_Atomic(uint32_t) *word, uint32_t seen, double deadline);

#endif
