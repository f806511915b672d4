/* Threads that code in an interpreter has started, when that is closed by force (reap.c).
 *
 * They are in no run (runs.c), so nobody can mark them.  Instead their interpreter is marked, and whoever is asked to look there, and is
 * in no run, raises SystemExit, each time: in a pending call, in a wait of Atoll's, and between two system calls, to which it is led.  An
 * asynchronous exception would do that as well, but in places where it does harm; here it is looked where the thread is.
 *
 * Locks: none.  Fork: a child has no thread that closes anything.
 */
#include "py/interp/forced.h"

#include "port/port.h"
#include "py/interp/moments.h"

static _Atomic(uint32_t) forcing;      /* entries that are marked */
static _Thread_local bool forces;      /* this thread sees to that, and is none of those that are to end */
static _Thread_local unsigned put_off; /* so often, one after the other, at bad moments (moments.h) */

void atoll_force_set(atoll_entry *entry, bool forced) {
    forces = forced;
    if (atomic_exchange(&entry->forced, forced) != forced) {
        atomic_fetch_add(&forcing, forced ? 1 : UINT32_MAX);
    }
}

static bool is_asked(void) {
    if (atomic_load_explicit(&forcing, memory_order_relaxed) == 0 || forces) {
        return false;
    }
    const atoll_state *state = atoll_state_of(PyInterpreterState_Get());
    return state != NULL && atomic_load(&state->entry->forced);
}

int atoll_force_check(void) {
    if (!is_asked()) {
        return 0;
    }
    atoll_redirect_arrived();
    PyErr_SetNone(PyExc_SystemExit);
    return -1;
}

/* On any thread, also in a run, which is asked otherwise. */
static int on_knock(void *Py_UNUSED(arg)) {
    if (is_asked() && put_off < ATOLL_MOMENTS_MOST && atoll_moment_is_bad(NULL)) {
        put_off++;
        (void)atoll_compat_add_pending_call(PyInterpreterState_Get(), on_knock, NULL);
        return 0;
    }
    put_off = 0;
    return atoll_force_check();
}

void atoll_force_knock(atoll_entry *entry) {
    (void)atoll_compat_add_pending_call(entry->interp, on_knock, NULL);
}
