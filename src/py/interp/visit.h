/* Visits: a thread of C code stays in an interpreter.  See visit.c. */
#ifndef ATOLL_PY_INTERP_VISIT_H
#define ATOLL_PY_INTERP_VISIT_H

#include "py/interp/runs.h"
#include "py/interp/session.h"

typedef struct atoll_visit {
    atoll_session *session;
    PyThreadState *inside; /* what it has attached */
    bool
        ensured; /* who began it has attached the thread to a thread state that it had, for the time of it: */
    PyGILState_STATE before;
} atoll_visit;

typedef enum {
    ATOLL_VISIT_BEGUN,
    ATOLL_VISIT_RAISED, /* an exception is set where it was to begin */
    ATOLL_VISIT_SHUT,   /* the others are only of a thread that is attached to nothing */
    ATOLL_VISIT_NO_MEMORY,
    ATOLL_VISIT_NO_STATE, /* Atoll cannot be loaded there */
    ATOLL_VISIT_SPENT     /* its interpreter has had all the processor time that it may have */
} atoll_visit_result;

/* Attached to from's interpreter; or from is NULL, and the thread is attached to nothing and has no thread state.  Afterwards it is attached to
 * entry's interpreter, or where it was.  Blocks until its GIL is free. */
atoll_visit_result atoll_visit_begin(atoll_state *from, atoll_entry *entry, atoll_visit **out);
/* Whether it is the innermost of this thread, in this process, and the thread is attached as it was when it began.  It may be gone, or NULL. */
bool atoll_visit_is_last(const atoll_visit *visit);
/* Whether the process was forked inside of it, by this thread; likewise. */
bool atoll_visit_is_cut(const atoll_visit *visit);
/* Then: back to where it began.  The exception that is set, or what has interrupted it, is what comes of it: 0; or -1 with an exception, or with *why
 * where there is no thread state (malloc; NULL: out of memory).  *cut_off: it was interrupted.  The visit is gone. */
int atoll_visit_end(atoll_visit *visit, bool *cut_off, char **why);

#endif
