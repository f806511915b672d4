/* What a thread has of interpreters that it has been in: for session.c. */
#ifndef ATOLL_PY_INTERP_THREAD_STATES_H
#define ATOLL_PY_INTERP_THREAD_STATES_H

#include "py/interp/session.h"

typedef struct {
    atoll_cached **slots; /* open addressing by the entry's serial number; NULL: free */
    uint64_t *serials;
    size_t cap; /* power of two or 0 */
    size_t used;
    atoll_session *top;
    atoll_session *idle;      /* sessions to be opened again, linked by `prev`; only the first has storage */
    const atoll_session *cut; /* was the innermost when the process was forked */
    atoll_message spare[2];   /* empty messages with storage */
    atoll_meter meter;
    bool is_main;
} atoll_thread_table;

/* An empty message that is kept has storage of so many bytes at most. */
#define ATOLL_SPARE_BYTES ((size_t)1 << 20)

/* NULL: this thread has been in none.  At hand, for every call reads it. */
extern _Thread_local __attribute__((tls_model("initial-exec"))) atoll_thread_table *atoll_this_thread;

atoll_thread_table *atoll_tstate_table_make(void);
/* Made where it is not there; NULL: out of memory. */
static inline atoll_thread_table *atoll_tstate_table_get(void) {
    return atoll_this_thread != NULL ? atoll_this_thread : atoll_tstate_table_make();
}

/* main_ended: called when the process's main thread ends.  0 or -1. */
int atoll_tstates_init(void (*main_ended)(void));

#endif
