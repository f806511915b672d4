/* Interpreters: how they come to be, run code, wait and end; this is the whole of the room.
 *
 *   lifecycle   create, find, close, the end of the process (ending, exit, lookup, stragglers are private to the room); site, process: what
 *               an interpreter takes from the process
 *   session     code of another interpreter running on this thread: pins, thread states, housekeeping
 *   run         a call or a script in another interpreter, and what it raised (excinfo)
 *   visit       code of C that stays in an interpreter
 *   interrupt   stopping what runs, at once or after a time (runs)
 *   limits      what an interpreter may take
 *   blocking    waits with the GIL given back; signals, threading, tracing, frames: what CPython shows of one interpreter, made right
 *   export      memory of one interpreter that is seen in others
 *   traced      what a trace (core/trace) has of Python: names, imports, garbage collections
 *   fork        the process forks: what of all this a child keeps (child, runtime_list); restart: a host ends Python and begins it again
 *   pools       what this room asks of pools, which are built on it
 *
 * Ownership: an entry (core/registry) has the interpreter; users keep it open, references keep the entry.  Thread states: one for each
 * thread and interpreter, found in a thread-local table, deleted by the session or the end.  Locks: the lifecycle lock (recursive, awaited detached) is
 * taken by whoever makes or ends an interpreter, before any GIL; no other lock is held while Python runs.
 * Failure: a create() that fails ends what it made; a close() that is refused has changed nothing; what cannot be ended is left
 * behind, closed for everybody.
 */
#ifndef ATOLL_PY_INTERP_H
#define ATOLL_PY_INTERP_H

#include "py/interp/blocking.h"
#include "py/interp/child.h"
#include "py/interp/export.h"
#include "py/interp/fork.h"
#include "py/interp/frames.h"
#include "py/interp/interrupt.h"
#include "py/interp/lifecycle.h"
#include "py/interp/limits.h"
#include "py/interp/pools.h"
#include "py/interp/process.h"
#include "py/interp/restart.h"
#include "py/interp/run.h"
#include "py/interp/runs.h"
#include "py/interp/runtime_list.h"
#include "py/interp/session.h"
#include "py/interp/signals.h"
#include "py/interp/site.h"
#include "py/interp/threading.h"
#include "py/interp/traced.h"
#include "py/interp/tracing.h"
#include "py/interp/visit.h"

#endif
