/* What a trace (core/trace) has of Python: see traced.c, and traced_process.c. */
#ifndef ATOLL_PY_INTERP_TRACED_H
#define ATOLL_PY_INTERP_TRACED_H

#include "core/trace/trace.h"
#include "py/state.h"

/* atoll_trace_add() with the name of what was called. */
void atoll_traced_note(uint64_t began, atoll_trace_kind kind, PyObject *callable, int64_t interp,
                       int64_t number);
/* atoll_trace_end() with the name of what was called (NULL: it is not known).  Attached; runs no code, keeps the exception. */
static inline void atoll_traced_call(uint64_t began, atoll_trace_kind kind, PyObject *callable,
                                     int64_t interp, int64_t number) {
    if (__builtin_expect(began != 0, 0)) {
        atoll_traced_note(began, kind, callable, interp, number);
    }
}

/* Attached: what this interpreter imports and collects is noted from now on, if a trace is on, else no more. */
void atoll_traced_settle(void);
/* Its interpreter has ended, which began then (0: not in a trace). */
void atoll_traced_ended(uint64_t began, const atoll_entry *entry);

/* ---- traced_process.c ---- */

/* Starts a trace of the process; path is the file system's.  Its number, or 0 with an exception: RuntimeError when one is on, OSError. */
uint32_t atoll_traced_start(const char *path, uint64_t most);
/* Stops and writes it, with the GIL given back.  False: it is not on any more. */
bool atoll_traced_stop(uint32_t trace, atoll_trace_result *result);

/* Attached to main, once: starts the trace that the environment variable ATOLL_TRACE asks for.  0, or -1 with OSError. */
int atoll_traced_from_environment(void);
/* The process ends: what is on is written, and what went wrong is said. */
void atoll_traced_at_exit(void);

#endif
