/* Creating, finding and closing interpreters. */
#ifndef ATOLL_PY_INTERP_LIFECYCLE_H
#define ATOLL_PY_INTERP_LIFECYCLE_H

#include "py/codec/codec.h"
#include "py/extension/extension.h"
#include "py/interp/limits.h"
#include "py/state.h"

/* What whoever creates an interpreter may choose; 0 is the usual. */
typedef struct {
    atoll_extensions extensions;
    const char *name;       /* UTF-8, the caller's; NULL: none */
    bool fork;              /* it may fork the process, and replace it */
    bool no_site;           /* it does not import site */
    bool no_daemon_threads; /* threading starts none in it */
    atoll_limits limits;
} atoll_interp_wishes;
/* Whether any interpreter that loads extensions in the same way would do, under another name. */
static inline bool atoll_interp_wishes_are_usual(const atoll_interp_wishes *wishes) {
    return !wishes->fork && !wishes->no_site && !wishes->no_daemon_threads;
}

/* Creates an interpreter with its own GIL.  A reference to its entry with one user, or NULL with an exception. */
atoll_entry *atoll_interp_create(atoll_state *from, const atoll_interp_wishes *wishes);

/* Attached to any interpreter: main knows Atoll from here on, whoever asks first.  0, or -1 with an exception. */
int atoll_interp_know_main(atoll_state *from);

/* What creating an interpreter takes from the one that asks for it; a lasting copy. */
typedef struct {
    atoll_message path;    /* its sys.path */
    atoll_message imports; /* names of modules that a spare imports: empty, or a tuple */
    atoll_interp_wishes wishes;
    unsigned depth; /* of the interpreter's entry */
} atoll_blueprint;
/* 0, or -1 with an exception: also when the main interpreter cannot be prepared. */
int atoll_blueprint_init(atoll_state *from, const atoll_interp_wishes *wishes, atoll_blueprint *print);
void atoll_blueprint_clear(atoll_blueprint *print);
/* The same on a thread without a thread state, from a blueprint.  NULL with *why (malloc, or NULL: out of memory).  Its gate is shut, so that
 * nobody finds it, until atoll_entry_open(): not before this thread is attached to where it goes on, or ends, as what
 * PyGILState_Ensure() finds here is a thread state of the new interpreter (thread_states.c). */
atoll_entry *atoll_interp_create_detached(const atoll_blueprint *print, char **why);
/* What of an interpreter is not as it would be if it were made now. */
typedef struct {
    bool path; /* sys.path, and what atoll.install() promises */
    bool environment;
    bool zone;
    bool limits; /* none is set, and the blueprint has some */
} atoll_stale;
static inline bool atoll_tstate_is_stale(const atoll_stale *stale) {
    return stale->path || stale->environment || stale->zone || stale->limits;
}
/* Makes that of the attached interpreter what the blueprint and the process say.  0, or -1 with an exception. */
int atoll_interp_prepare(atoll_state *state, const atoll_blueprint *print, const atoll_stale *stale);
/* Attached: the current exception as UTF-8 in a malloc block (it must survive its interpreter); clears it. */
char *atoll_interp_exception_text(void);
/* Ends an owned interpreter of which the caller has one user and one reference, which it gives back.  No thread state is
 * attached.  False: it could not be ended now, a sweep will; then this thread is to attach to no other interpreter, because
 * its thread state there is going to be deleted by another (see atoll_tstate_discard). */
bool atoll_interp_end_detached(atoll_entry *entry);
/* The same of one whose gate this thread has shut, or could not. */
bool atoll_interp_end_shut(atoll_entry *entry, bool shut);

/* Ends entry's interpreter: joins its threads, runs its exit handlers, frees it.  0, or -1 with an exception:
 * InterpreterError when it is current, running or not Atoll's, InterpreterNotFoundError when it is gone. */
int atoll_interp_close(atoll_state *from, atoll_entry *entry);

/* Whether this thread, attached to from, may close it within a time: 0, or -1 with an exception. */
int atoll_interp_check_close_within(atoll_state *from, const atoll_entry *entry);
/* After that: the same, not later than that many seconds from now: who is inside is waited for, calls and threads of its own, and by force is
 * interrupted until it ends.  0, or -1 with an exception: as close; by force InterpreterStuckError when something does not end. */
int atoll_interp_close_within(atoll_state *from, atoll_entry *entry, double seconds, bool force);
/* After that, the line being shut: the same on a thread of its own, when what was submitted has ended and nobody is inside.  0, or -1 with an
 * exception when that thread cannot be had, or the interpreter is gone. */
int atoll_interp_close_later(atoll_state *from, atoll_entry *entry);
/* 1: this thread closes one, and nobody waits for that but the end of the process; -1: it has. */
void atoll_interp_count_unattended(int by);

/* Attached to it: Atoll may run code in an interpreter that others made.  And when they end it, from its exit functions: nobody is let in any more;
 * waits for who is inside. */
void atoll_interp_adopt(atoll_entry *entry);
void atoll_interp_end_adopted(atoll_entry *entry);

/* Takes a user away; the last user of an owned interpreter closes it, if it can be closed now, else the
 * next sweep does.  Keeps the current exception. */
void atoll_interp_drop_user(atoll_state *from, atoll_entry *entry);

/* Closes what nobody uses any more and could not be closed at once.  Cheap when there is nothing. */
void atoll_interp_sweep(atoll_state *from);
/* Says that a sweep is due.  Any thread, no thread state needed. */
void atoll_interp_sweep_later(void);

/* At the end of the process (attached to main): closes everything, with a warning for what was left open. */
int atoll_interp_exit(atoll_state *main_state);

/* Whether that has begun. */
bool atoll_interp_exiting(void);
/* In a forked child: it has begun only if the thread that forked was the one that ends the process. */
void atoll_interp_exit_forked(void);
/* Python has ended, and begins again. */
void atoll_interp_exit_forget(void);

/* Flushes sys.stdout and sys.stderr of the attached interpreter, and C's streams.  Leaves no exception. */
void atoll_flush_streams(void);

struct atoll_session;
/* Called inside a session of a thread that is about to return: never returns when the process is ending and the
 * thread would go back to main (which is finalizing). */
void atoll_interp_park_if_exiting(struct atoll_session *s);

/* A list of (id, whence) of every interpreter of the process, by id. */
PyObject *atoll_interp_list(atoll_state *from);
/* 1 and *whence for an existing interpreter, 0 for none, -1 with an exception. */
int atoll_interp_exists(atoll_state *from, int64_t id, long *whence);
/* 1 when code runs in its __main__, 0 when not, -1 with InterpreterNotFoundError. */
int atoll_interp_running(atoll_state *from, int64_t id);

/* Whether atoll.install() holds for interpreters created from now on. */
void atoll_interp_set_installed(bool value);
bool atoll_interp_installed(void);

enum { ATOLL_WHENCE_RUNTIME = 1, ATOLL_WHENCE_ATOLL = 100 };

/* Ends one that could not be made ready: a spare, of which the caller has a reference, which it gives back.  No thread state is
 * attached. */
void atoll_interp_end_failed(atoll_entry *entry);

#endif
