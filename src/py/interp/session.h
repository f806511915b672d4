/* Sessions: running code in another interpreter on the current OS thread. */
#ifndef ATOLL_PY_INTERP_SESSION_H
#define ATOLL_PY_INTERP_SESSION_H

#include "py/codec/codec.h"
#include "py/interp/meter.h"
#include "py/interp/runs.h"
#include "py/state.h"

typedef struct atoll_session {
    struct atoll_session *prev; /* the session this one was opened inside of, on the same OS thread */
    atoll_entry *entry;
    const struct atoll_visit *visit; /* whose it is, or NULL */
    unsigned depth;                  /* how many sessions of this OS thread are open, this one included */
    PyThreadState *from;             /* what was attached before, and will be again; NULL: nothing */
    bool comes_back;                 /* into an interpreter that is suspended on this thread */
    const void *greenlet;            /* then: the one that runs there */
    int c_calls;                     /* what the thread state inside may nest, when nothing is below it */
    PyInterpreterState *from_interp; /* its interpreter, or NULL */
    atoll_entry *from_entry;         /* and that one's entry, or NULL */
    PyObject *interrupt;             /* what a signal handler raised meanwhile where this was opened */
    uint64_t noted;                  /* signals that a handler there is to be called for: one bit for each */
    bool interrupted;                /* one of them was Ctrl-C */
    atoll_entry *winding;            /* what the main thread wound down before this, */
    atoll_entry *outer_ending;       /* and what the thread's innermost run did */
    atoll_stretch time;
    bool paused; /* what the thread was in stands still meanwhile */
    /* What comes last is kept when it is opened again. */
    atoll_message out;  /* for the way in */
    atoll_message back; /* for the way out */
    /* What it runs, if anything.  Here, so that it is there when the thread ends inside, and its stack is gone. */
    atoll_run run;
} atoll_session;

/* Once per process.  ends: what becomes of a forked child whose innermost session is over, and nobody is left to go back to
 * (child.h). */
int atoll_session_init(void (*ends)(bool raised));

/* In a forked child, where this interpreter is the only one: cuts off the sessions that this thread was inside of, and forgets
 * all thread states but the one that is attached. */
void atoll_session_keep_only(const PyInterpreterState *interp);
/* The one that was the innermost at that time, or NULL: where it was opened nobody is left to go back to (py/interp/child.h). */
const atoll_session *atoll_session_cut(void);

/* Ends a child in which nobody is left to go back to. */
void atoll_session_cut_off(void);

/* An empty message, with storage where this OS thread has some to spare, so that sending seldom allocates; and its
 * return, with whatever it holds.  The message need not be given back: it may have been moved or cleared. */
atoll_message atoll_spare_message(void);
void atoll_spare_message_return(atoll_message *msg);

/* Prepares a session, which close() ends: no interpreter is touched, only its messages can be used.  NULL with MemoryError; the second, which needs
 * no thread state, without. */
atoll_session *atoll_session_open(atoll_entry *entry);
atoll_session *atoll_session_open_detached(atoll_entry *entry);
/* Attaches this OS thread to the session's interpreter.  0, or -1 with an exception in the caller:
 * InterpreterNotFoundError when it is closed, InterpreterError when it may be about to be, RecursionError, RuntimeError in a greenlet that may not, MemoryError.  Blocks until its GIL is free; the caller's
 * GIL is released meanwhile. */
int atoll_session_enter(atoll_session *s, atoll_state *from);
/* The exception of one whose gate is shut: what cannot be done. */
void atoll_session_raise_shut(atoll_state *from, const atoll_entry *entry, const char *what);
/* The same for a thread that is attached to nothing and has no thread state that it could be attached to.  Where it is, enter() may be called.  leave()
 * deletes the thread state that this one has got: see thread_states.c. */
typedef enum { ATOLL_SESSION_ENTERED, ATOLL_SESSION_SHUT, ATOLL_SESSION_NO_MEMORY } atoll_session_result;
atoll_session_result atoll_session_enter_detached(atoll_session *s);
/* Back to where enter() was called.  May be followed by another enter(). */
void atoll_session_leave(atoll_session *s);
/* Releases the messages, and the session, which must be left, or is NULL. */
void atoll_session_close(atoll_session *s);
/* The same for the thread that ends an interpreter, whose gate is shut, and is attached to it: `here` is what it was attached to before, to
 * which what runs in it at its end comes back.  NULL: without `here`, or memory. */
atoll_session *atoll_session_begin_wind_down(atoll_entry *entry, PyThreadState *here);
/* Before it is ended for good: signals are not handled any more. */
void atoll_session_end_wind_down(atoll_session *s);
/* Afterwards; to be closed as others are. */
void atoll_session_leave_wind_down(atoll_session *s);
/* After leave(): if a signal handler raised while the session ran, sets that exception here.
 * true when an exception is now set. */
bool atoll_session_interrupted(atoll_session *s);

/* The cached thread state of this OS thread in entry's interpreter, or a new one.  NULL when out of memory.
 * The gate must be held (a pin, or a close begun). */
PyThreadState *atoll_tstate_of(atoll_entry *entry);
/* Caches `tstate`, which belongs to this OS thread.  0 or -1 (out of memory, no exception). */
int atoll_tstate_keep(atoll_entry *entry, PyThreadState *tstate);
/* Deletes the attached thread state, which is this OS thread's cached one in entry's interpreter; none is attached
 * afterwards.  For a thread that attaches no other: CPython keeps, for PyGILState_Ensure, the last that a thread attached,
 * and only the thread itself can make it forget that. */
void atoll_tstate_discard(atoll_entry *entry);
/* Deletes every cached thread state of entry but `keep`, which is forgotten, not deleted.
 * The interpreter's thread state `keep` is attached and the gate is shut. */
void atoll_tstates_drop(atoll_entry *entry, PyThreadState *keep);
/* True when tstate is one of the cached ones. */
bool atoll_tstate_is_cached(atoll_entry *entry, PyThreadState *tstate);

/* The ident, as CPython has it, of the process's main thread; 0: it did not import Atoll. */
unsigned long atoll_session_main_ident(void);

/* Runs what other interpreters handed to this one, and deletes thread states of OS threads that are gone.
 * entry's interpreter is attached. */
void atoll_session_housekeeping(atoll_entry *entry);

/* Whether code of that interpreter is suspended on this OS thread, in a call to another one. */
bool atoll_session_is_below(const PyInterpreterState *interp);
/* Whether this OS thread runs in it, or has gone on from it into another one. */
bool atoll_session_is_inside(const atoll_entry *entry);

/* The innermost session of this OS thread, or NULL. */
atoll_session *atoll_session_current(void);

#endif
