/* Where in running code an exception is raised by who interrupts it, and what became of one.  See moments.c. */
#ifndef ATOLL_PY_INTERP_MOMENTS_H
#define ATOLL_PY_INTERP_MOMENTS_H

#include "py/compat.h"

#include <stdbool.h>

/* Attached: whether what is raised in that frame, after the call that it is in, would leave something behind, or be dropped.  NULL: in a
 * pending call, the frame that runs. */
bool atoll_moment_is_bad(PyFrameObject *frame);

/* Attached: whether that frame is of threading's code that starts a thread, on its own side, or on that of who starts it and, if one_starts, waits
 * for it.  Keeps no exception. */
bool atoll_moment_is_start(PyFrameObject *frame, bool one_starts);

/* So often what is due is put off, one time after the other, because of a bad moment: a thousand or so of a thread's looks at pending calls. */
enum { ATOLL_MOMENTS_MOST = 100000 };

/* With the GIL: whether that thread state's code imports a module.  Keeps no exception. */
bool atoll_moment_is_import(PyThreadState *tstate);

typedef enum { ATOLL_FATE_OPEN, ATOLL_FATE_CAUGHT, ATOLL_FATE_DROPPED } atoll_fate;
/* With the GIL, whatever is attached: what became of an exception that was raised, to which the caller has one reference.  OPEN: somebody
 * else has it, or handles it now.  Runs no Python code. */
atoll_fate atoll_moment_fate(PyObject *exc);

#endif
