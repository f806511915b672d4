/* Interpreters that a program has made itself, with CPython's functions, and that Atoll may run code in (module/capi.c).
 *
 * Who has made one ends it: Atoll never closes it.  Py_EndInterpreter() insists that nobody else is inside, and ends the process when another
 * thread has a thread state there.  So when it calls the exit functions, one of which is Atoll's, nobody is let in any more, who is inside is
 * waited for, and the thread states that threads keep for it are deleted.  A thread that ends the interpreter from inside of a visit is not
 * waited for.
 *
 * Thread states: both functions are called attached to the interpreter; the wait is detached.  Locks: none is held.
 */
#include "py/interp/lifecycle.h"
#include "py/interp/session.h"

#include <math.h>

void atoll_interp_adopt(atoll_entry *entry) {
    if (!entry->owned && entry->interp != PyInterpreterState_Main()) {
        atomic_store(&entry->adopted, true);
    }
}

void atoll_interp_end_adopted(atoll_entry *entry) {
    if (!atomic_load(&entry->adopted) || atoll_session_is_inside(entry)) {
        return;
    }
    atoll_waiter waiter = {0};
    atoll_entry_bar(entry);
    PyThreadState *tstate = PyEval_SaveThread();
    while (atoll_entry_begin_close(entry) == ATOLL_CLOSE_BUSY) {
        (void)atoll_entry_await(entry, atoll_entry_is_left, entry, &waiter, INFINITY);
    }
    PyEval_RestoreThread(tstate);
    atoll_entry_unbar(entry);
    atoll_tstates_drop(entry, tstate);
    atoll_session_housekeeping(entry);
}
