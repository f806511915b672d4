/* Signals while the process's main thread is inside another interpreter: signals.c says how. */
#ifndef ATOLL_PY_INTERP_SIGNALS_H
#define ATOLL_PY_INTERP_SIGNALS_H

#include "py/state.h"

/* On the main thread: entry is where it is now, NULL when it is not in a session. */
void atoll_signals_watch(atoll_entry *entry);
/* Returns when the watcher holds no pointer to an entry that is no longer watched. */
void atoll_signals_forget(void);
/* The process's main thread ends before the process: in a child that another thread has forked, say.  The watcher, too. */
void atoll_signals_end(void);
void atoll_signals_fork(atoll_fork_moment when);
/* On the main thread: entry is where it winds an interpreter down, whose gate is shut already; NULL when that is over.  Returns
 * what it was before. */
atoll_entry *atoll_signals_wind_down(atoll_entry *entry);
/* Runs the handlers of signals that have arrived, when this is the thread for it, wherever it is.  0, or -1 with an
 * exception in the attached interpreter. */
int atoll_signals_check(void);
/* On another thread than the main one, which has just raised a signal: the main thread, if it is in another interpreter than
 * main, is to deal with it before it goes on there. */
void atoll_signals_poke(void);
/* On any other thread, for a short while: if that one is in a system call which it would only repeat, it handles signals and what is to be
 * raised in its runs instead, while go_on() says so. */
void atoll_signals_lead_out(int thread, bool (*go_on)(void));
/* Attached to main, by a handler: a signal is for the interpreter with this id.  False: the main thread is not inside it. */
bool atoll_signals_note(int64_t id, int number);

#endif
