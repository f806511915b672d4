/* What a fork does to Atoll.
 *
 * A forked child has one thread, the one that forked, and one interpreter: the one that this thread is attached to, which is
 * the main interpreter unless create(fork=True) made it.  All others are leaked: they lie in memory as their threads left
 * them at that moment, with GILs that nobody gives back, and nothing touches them any more.
 *
 * CPython would end them.  PyOS_AfterFork_Child(), which runs in the child once fork() has returned, walks the list of
 * interpreters and frees each but the main one with the wrong thread state attached: it crashes or hangs.  So before that, in
 * a handler of the system's (pthread_atfork), they are taken off its list (runtime_list.c).  It also insists on being run
 * by the main interpreter.  An interpreter that may fork is made that: it gets what the main one has (signals above all: see
 * atoll/_interp/child.py), and for the rest of the process get_main() returns it.  Where the list is not known, a child that has
 * other interpreters says so and ends at once, instead of crashing later.
 *
 * Sessions.  Calls that the thread was inside of are cut off: their interpreters are gone, except the innermost, whose code
 * goes on.  When that code is over, the process ends (child.c).
 *
 *   forked in                         the child's interpreter     the child ends with
 *   main, outside of any call         main                        the program, as ever
 *   main, called from main            main                        the program: the call returns in both
 *   main, called from X               main                        the function that main was called with
 *   main, a future's callback         main                        the callback
 *   X (fork=True), in a call          X                           that call
 *   X (fork=True), in a pool's task   X                           that task
 *   X (fork=True), a thread of X's    X                           the thread
 *   X (fork=True), while X is closed  X                           exit functions, or the finalizer
 *
 * Locks.  Every leaf is taken before the fork, one part after the other, and is a new one in the child: so what it guards is
 * whole there.  Whoever holds one leaves it within a few instructions, takes no other that comes later in the table, and
 * waits for no GIL; so the thread that forks may wait for it, with its GIL.  Two locks are held for long and awaited
 * without a GIL, so they cannot be taken here:
 *
 *   lifecycle    what it guards is CPython's, which has locks of its own for a fork; it is free in the child
 *   `loading`    of the only interpreter that stays: is taken if nobody has it; else that interpreter loads no more clones
 *
 * The dynamic linker has locks of its own, which only the C library knows: port keeps others out of it.
 *
 * Conditions are made anew, because one on which others were waiting cannot be used.
 *
 * Locks of core/sync that others held are free: what they guard is as it was at that moment.
 *
 * What is left of others' work: tasks of pools of before have no workers (core/pool/pool.h: such a pool is foreign, and its futures
 * are broken), queues have the items that were in them (core/queue/all.c), spares are gone, memory that interpreters have lent is
 * still there and is never given back to them.
 *
 * The handlers write memory only, and the child's allocates nothing: fork() may be called where just functions that are safe in a
 * signal handler may follow, by C code that knows nothing of Python.  There, with no thread state attached,
 * main is the interpreter that stays.
 */
#include "py/interp/fork.h"

#include "core/map/map.h"
#include "core/pool/pool.h"
#include "core/shared/shared.h"
#include "core/sync/sync.h"
#include "core/trace/trace.h"
#include "py/extension/extension.h"
#include "py/frozen/frozen.h"
#include "py/interp/interrupt.h"
#include "py/interp/lifecycle_internal.h"
#include "py/interp/pools.h"
#include "py/interp/runtime_list.h"
#include "py/interp/session.h"
#include "py/interp/signals.h"
#include "py/memory/memory.h"

static void fork_spares(atoll_fork_moment when) { atoll_the_pools->fork_spares(when); }

static void (*const parts[])(atoll_fork_moment when) = {
    atoll_dl_fork,          atoll_lifecycle_fork,     fork_spares,
    atoll_signals_fork,     atoll_parsers_fork,       atoll_loaders_fork,
    atoll_plain_files_fork, atoll_scratch_fork,       atoll_registry_fork,
    atoll_syncs_fork,       atoll_hashmaps_fork,      atoll_spaces_fork,
    atoll_arenas_fork,      atoll_blocks_fork,        atoll_frozen_constants_fork,
    atoll_areas_fork,       atoll_clone_signals_fork, atoll_shared_fork,
    atoll_stats_fork,       atoll_arrivals_fork,      atoll_interrupt_fork,
    atoll_inner_fork,       atoll_trace_fork,
};

enum { PARTS = sizeof parts / sizeof *parts };

/* The interpreter that stays in a child. */
static PyInterpreterState *staying(void) {
    PyInterpreterState *oldest = PyInterpreterState_Main();
    PyThreadState *tstate = atoll_thread_state_attached();
    PyInterpreterState *interp = tstate != NULL ? PyThreadState_GetInterpreter(tstate) : oldest;
    if (interp == oldest) {
        return oldest;
    }
    atoll_entry *entry = atoll_registry_find(PyInterpreterState_GetID(interp));
    bool may_fork = entry != NULL && entry->may_fork;
    if (entry != NULL) {
        atoll_entry_release(entry);
    }
    return may_fork ? interp : oldest;
}

static void before(void) {
    for (int i = 0; i < PARTS; i++) {
        parts[i](ATOLL_FORK_BEFORE);
    }
}

static void in_parent(void) {
    for (int i = PARTS; i > 0; i--) {
        parts[i - 1](ATOLL_FORK_PARENT);
    }
}

static void in_child(void) {
    for (int i = PARTS; i > 0; i--) {
        parts[i - 1](ATOLL_FORK_CHILD);
    }
    PyInterpreterState *interp = staying();
    if (!atoll_runtime_list_keep_only(interp)) {
        atoll_exit_abandon(
            "atoll: this build of Python cannot be forked beside interpreters: its list of them "
            "was not found\n",
            1);
    }
    atoll_registry_keep_only(interp);
    atoll_entry *entry = atoll_registry_find(PyInterpreterState_GetID(interp));
    atoll_syncs_keep_only(entry != NULL ? entry->serial : 0);
    if (entry != NULL) {
        atoll_entry_release(entry);
    }
    atoll_loaders_keep_only(interp);
    atoll_session_keep_only(interp);
    atoll_runs_forget();
    atoll_interp_exit_forked();
}

static void prepare(void) { atoll_at_fork(before, in_parent, in_child); }

void atoll_fork_init(void) {
    static atoll_once once = ATOLL_ONCE_INIT;
    atoll_once_run(&once, prepare);
    (void)atoll_runtime_list_find();
}
