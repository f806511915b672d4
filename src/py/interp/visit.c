/* A visit is what a call is, but for the code that runs: that is C's, between atoll_enter() and atoll_leave() (module/capi.c).
 *
 * It is a session, so the interpreter is not closed meanwhile, and a run, so it can be interrupted: whatever Python code the visitor calls raises
 * then.  What comes too late for that is what comes of the visit, as is an exception that the visitor has left.
 *
 * A thread that was attached to nothing gets a thread state for the time of the visit only (thread_states.c).  What it goes on to from inside is
 * found again, as long as the outermost visit lasts.
 *
 * Ownership: a visit belongs to its thread; it has its session, and its run is in it.  Which visits a thread has is what its sessions say: one
 * that was left, or is another thread's, is not looked into.  Locks: none of its own.
 * Failure: what cannot begin leaves the thread where it was.  In a forked child no visit goes on: who was inside stays attached to what
 * is left, and is_last() says that there is no way back.  At the end of the process a thread that would go back to main is parked, as any
 * other (lifecycle.h).
 */
#include "py/interp/visit.h"

#include "py/interp/budget.h"
#include "py/interp/lifecycle.h"
#include "py/interp/run.h"

#include <stdlib.h>

static void drop(atoll_visit *visit) {
    atoll_session_close(visit->session);
    free(visit);
}

/* In the interpreter: whether Atoll is there, which in one that others made it need not be. */
static bool is_ready(const atoll_entry *entry) {
    if (entry->state == NULL && atoll_state_ensure() == NULL) {
        PyErr_Clear();
        return false;
    }
    return true;
}

static atoll_visit_result enter(atoll_state *from, atoll_visit *visit) {
    atoll_session *s = visit->session;
    if (from != NULL) {
        return atoll_session_enter(s, from) == 0 ? ATOLL_VISIT_BEGUN : ATOLL_VISIT_RAISED;
    }
    switch (atoll_session_enter_detached(s)) {
    case ATOLL_SESSION_ENTERED:
        return ATOLL_VISIT_BEGUN;
    case ATOLL_SESSION_SHUT:
        return ATOLL_VISIT_SHUT;
    default:
        return ATOLL_VISIT_NO_MEMORY;
    }
}

atoll_visit_result atoll_visit_begin(atoll_state *from, atoll_entry *entry, atoll_visit **out) {
    if (from != NULL && atoll_run_check_visit(from, entry) < 0) {
        return ATOLL_VISIT_RAISED;
    }
    if (from == NULL && atoll_budget_is_limited(entry) && atoll_budget_is_spent(entry)) {
        return ATOLL_VISIT_SPENT;
    }
    atoll_visit *visit = calloc(1, sizeof *visit);
    if (visit == NULL || (visit->session = atoll_session_open_detached(entry)) == NULL) {
        free(visit);
        if (from != NULL) {
            PyErr_NoMemory();
        }
        return from != NULL ? ATOLL_VISIT_RAISED : ATOLL_VISIT_NO_MEMORY;
    }
    visit->session->visit = visit;
    atoll_visit_result result = enter(from, visit);
    if (result != ATOLL_VISIT_BEGUN) {
        drop(visit);
        return result;
    }
    if (!is_ready(entry)) {
        atoll_session_leave(visit->session);
        drop(visit);
        if (from != NULL) {
            PyErr_Format(from->error, "Atoll cannot be loaded in interpreter %lld", (long long)entry->id);
        }
        return from != NULL ? ATOLL_VISIT_RAISED : ATOLL_VISIT_NO_STATE;
    }
    visit->inside = PyThreadState_Get();
    atoll_run_begin_visit(visit->session);
    *out = visit;
    return ATOLL_VISIT_BEGUN;
}

bool atoll_visit_is_last(const atoll_visit *visit) {
    const atoll_session *s = atoll_session_current();
    return visit != NULL && s != NULL && s->visit == visit && atoll_thread_state_attached() == visit->inside;
}

bool atoll_visit_is_cut(const atoll_visit *visit) {
    const atoll_session *s = visit != NULL ? atoll_session_cut() : NULL;
    while (s != NULL && s->visit != visit) {
        s = s->prev;
    }
    return s != NULL;
}

int atoll_visit_end(atoll_visit *visit, bool *cut_off, char **why) {
    atoll_session *s = visit->session;
    *cut_off = false;
    *why = NULL;
    bool raised = s->from == NULL && PyErr_Occurred();
    if (raised) {
        *cut_off = PyErr_ExceptionMatches(PyExc_KeyboardInterrupt);
        *why = atoll_interp_exception_text();
    }
    int outcome = atoll_run_end_visit(s);
    *cut_off |= atoll_run_is_cut_off(outcome);
    atoll_session_leave(s);
    int rc = raised || outcome != 0 ? -1 : 0;
    if (s->from != NULL && rc < 0) {
        atoll_state *from = atoll_state_live(s->from_entry->state);
        if (from != NULL) {
            atoll_run_raise_visit(from, s, outcome);
        }
    } else if (rc < 0 && *why == NULL) {
        *why = strdup("what ran in the interpreter was interrupted");
    }
    drop(visit);
    return rc;
}
