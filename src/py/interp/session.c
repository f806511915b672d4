/* Sessions: running code in another interpreter on the current OS thread.
 *
 * A session is: pin the interpreter's gate, find this thread's thread state (thread_states.c), swap, work, swap back, unpin.
 *
 * Nesting.  Sessions of one OS thread form a stack.  Entering an interpreter that is already on this
 * thread's stack, suspended, reuses the thread state it is suspended in (main -> X -> main runs
 * on main's own thread state, so threading.local and context variables are those the user sees
 * there); frames simply stack up on it and unwind in reverse order.  Each interpreter guards the C stack
 * with a recursion limit that counts its own frames only, so the depth of the stack has a bound of its own, and what is left
 * of the stack is shared: in bytes, and, where CPython counts C calls, by handing the count on.  The outermost session of a thread that
 * has no thread state at all (a program's own, by the C API) goes back to nothing.  Where greenlets put parts of the stack
 * aside, the order of sessions is kept by refusing to open one (greenlets.c).
 *
 * Locks: none of its own.
 */
#include "py/interp/session.h"

#include "py/gil.h"
#include "py/interp/greenlets.h"
#include "py/interp/signals.h"
#include "py/interp/thread_states.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH 1000
#define REPORT_BYTES                                                                                         \
    (16 * 1024) /* of stack, for whoever describes that there is too little to open one more */

static void (*cut_off)(bool raised);

int atoll_session_init(void (*ends)(bool raised)) {
    cut_off = ends; /* the same each time */
    return atoll_tstates_init(atoll_signals_end);
}

void atoll_session_cut_off(void) { cut_off(false); }

/* One with nothing in it but what its messages have of storage.  NULL: out of memory. */
static atoll_session *take_session(atoll_thread_table *table) {
    atoll_session *s = table != NULL ? table->idle : NULL;
    if (s != NULL) {
        table->idle = s->prev;
        memset(s, 0, offsetof(atoll_session, out));
        return s;
    }
    return table != NULL ? calloc(1, sizeof *s) : NULL;
}

atoll_session *atoll_session_open_detached(atoll_entry *entry) {
    atoll_session *s = take_session(atoll_tstate_table_get());
    if (s != NULL) {
        s->entry = entry;
    }
    return s;
}

atoll_session *atoll_session_open(atoll_entry *entry) {
    atoll_session *s = atoll_session_open_detached(entry);
    if (s == NULL) {
        PyErr_NoMemory();
    }
    return s;
}

/* Whether one more may be opened inside of those that are: 0, or -1 with an exception. */
static int check_room(const atoll_thread_table *table, atoll_session *s) {
    s->depth = table->top != NULL ? table->top->depth + 1 : 1;
    atoll_stack_end end = atoll_thread_stack_end();
    end.margin += end.margin != 0 ? REPORT_BYTES : 0;
    if (atoll_stack_is_short(&end)) {
        PyErr_SetString(PyExc_RecursionError, "the stack is used up by calls into other interpreters");
        return -1;
    }
    if (s->depth > MAX_DEPTH) {
        PyErr_Format(PyExc_RecursionError, "more than %d calls into other interpreters inside of each other",
                     MAX_DEPTH);
        return -1;
    }
    return table->top != NULL ? atoll_greenlet_check(table->top, s->entry) : 0;
}

void atoll_session_raise_shut(atoll_state *from, const atoll_entry *entry, const char *what) {
    atoll_label label;
    if (atoll_entry_is_being_closed(entry)) {
        PyErr_Format(from->error, "cannot %s interpreter %s: it is being closed", what,
                     atoll_entry_label(entry, &label));
    } else {
        (void)atoll_raise_not_found(from, entry->id);
    }
}

/* What this thread is in stands still while it is in another session.  Attached to that. */
static void stand_still(atoll_thread_table *table, atoll_session *s) {
    atoll_session *outer = s->prev;
    atoll_tasks_meter *tasks = atoll_meter_of_tasks;
    s->paused = outer != NULL ? outer->entry == s->from_entry && outer->time.began != 0
                              : tasks != NULL && tasks->stats == s->from_entry->stats;
    if (s->paused && outer != NULL) {
        atoll_meter_end(&table->meter, &outer->time, outer->entry->stats);
    } else if (s->paused) {
        atoll_meter_pause_tasks(tasks);
    }
}

/* And goes on. */
static void go_on(atoll_thread_table *table, const atoll_session *s) {
    if (s->paused && s->prev != NULL) {
        atoll_meter_begin(&table->meter, &s->prev->time, s->prev->entry->stats);
    } else if (s->paused) {
        atoll_meter_resume_tasks(atoll_meter_of_tasks);
    }
}

/* Attached to the session's interpreter, on the way in. */
static void begin(atoll_thread_table *table, atoll_session *s) {
    atoll_entry *entry = s->entry;
    atoll_meter_begin(&table->meter, &s->time, entry->stats);
    if (s->comes_back) {
        s->greenlet = atoll_greenlet_current();
    }
    if (table->is_main) {
        atoll_signals_watch(entry);
    }
    if (atomic_load_explicit(&entry->jobs, memory_order_relaxed) != NULL ||
        atomic_load_explicit(&entry->orphans, memory_order_relaxed) != 0) {
        atoll_session_housekeeping(entry);
    }
}

int atoll_session_enter(atoll_session *s, atoll_state *from) {
    atoll_entry *entry = s->entry;
    atoll_thread_table *table = atoll_tstate_table_get();
    if (table == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (check_room(table, s) < 0) {
        return -1;
    }
    if (!atoll_entry_pin(entry)) {
        atoll_session_raise_shut(from, entry, "enter");
        return -1;
    }
    s->from_interp = from->interp;
    s->from_entry = from->entry;
    s->prev = table->top;
    PyThreadState *tstate = NULL;
    for (atoll_session *outer = s->prev; outer != NULL; outer = outer->prev) {
        if (outer->from_interp == entry->interp) {
            tstate = outer->from;
            break;
        }
    }
    s->comes_back = tstate != NULL || from->interp == entry->interp;
    if (!s->comes_back) {
        tstate = atoll_tstate_of(entry);
        if (tstate == NULL) {
            atoll_entry_unpin(entry);
            PyErr_NoMemory();
            return -1;
        }
    }
    s->from = PyThreadState_Get();
    stand_still(table, s);
    table->top = s;
    if (tstate != NULL && tstate != s->from) {
        s->c_calls = atoll_share_c_calls(tstate, s->from);
        atoll_stat_add(from->entry->stats, ATOLL_STAT_OUTSIDE, 1);
        uint64_t waits = atoll_gil_look(entry);
        (void)PyThreadState_Swap(tstate);
        atoll_gil_had(entry, waits);
    }
    begin(table, s);
    return 0;
}

atoll_session_result atoll_session_enter_detached(atoll_session *s) {
    atoll_entry *entry = s->entry;
    atoll_thread_table *table = atoll_this_thread; /* open() has made it */
    if (!atoll_entry_pin(entry)) {
        return ATOLL_SESSION_SHUT;
    }
    PyThreadState *tstate = atoll_tstate_of(entry);
    if (tstate == NULL) {
        atoll_entry_unpin(entry);
        return ATOLL_SESSION_NO_MEMORY;
    }
    s->depth = 1;
    table->top = s;
    uint64_t waits = atoll_gil_look(entry);
    (void)PyThreadState_Swap(tstate);
    atoll_gil_had(entry, waits);
    begin(table, s);
    return ATOLL_SESSION_ENTERED;
}

/* Attached to what is left: to what was attached before. */
static void go_back(const atoll_session *s) {
    PyThreadState *inside = PyThreadState_Get();
    if (s->from == NULL) {
        atoll_tstate_discard(s->entry);
    } else if (inside != s->from) {
        atoll_unshare_c_calls(inside, s->c_calls);
        uint64_t waits = atoll_gil_look(s->from_entry);
        (void)PyThreadState_Swap(s->from);
        atoll_gil_had(s->from_entry, waits);
        atoll_stat_add(s->from_entry->stats, ATOLL_STAT_OUTSIDE, (uint64_t)-1);
    }
}

void atoll_session_leave(atoll_session *s) {
    atoll_thread_table *table = atoll_this_thread;
    if (s == table->cut) {
        cut_off(false);
    }
    if (s != table->top) {
        Py_FatalError(
            "atoll: a greenlet ends a call into another interpreter before a call inside it has ended, which "
            "another greenlet was switched out of");
    }
    if (atomic_load_explicit(&s->entry->jobs, memory_order_relaxed) != NULL) {
        atoll_session_housekeeping(s->entry); /* it may be idle from here on */
    }
    if (table->is_main) {
        atoll_signals_watch(s->prev != NULL ? s->prev->entry : NULL);
    }
    atoll_meter_end(&table->meter, &s->time, s->entry->stats);
    go_back(s);
    go_on(table, s);
    table->top = s->prev;
    atoll_entry_unpin(s->entry);
    if (s->from_entry != NULL && atomic_load_explicit(&s->from_entry->jobs, memory_order_relaxed) != NULL) {
        atoll_session_housekeeping(s->from_entry); /* what the code inside let go of */
    }
}

atoll_session *atoll_session_begin_wind_down(atoll_entry *entry, PyThreadState *here) {
    atoll_thread_table *table = atoll_this_thread;
    atoll_session *s = here != NULL ? take_session(table) : NULL;
    if (s == NULL) {
        return NULL;
    }
    s->prev = table->top;
    s->entry = entry;
    s->from = here;
    s->depth = s->prev != NULL ? s->prev->depth + 1 : 1;
    s->from_interp = PyThreadState_GetInterpreter(here);
    table->top = s;
    s->outer_ending = atoll_run_begin_wind_down(entry);
    if (table->is_main) {
        s->winding = atoll_signals_wind_down(entry);
        atoll_signals_watch(entry);
    }
    return s;
}

void atoll_session_end_wind_down(atoll_session *s) {
    atoll_run_end_wind_down(s->entry, s->outer_ending);
    if (atoll_this_thread->is_main) {
        atoll_signals_watch(s->prev != NULL ? s->prev->entry : NULL);
        (void)atoll_signals_wind_down(s->winding);
    }
}

void atoll_session_leave_wind_down(atoll_session *s) {
    atoll_thread_table *table = atoll_this_thread;
    table->top = s->prev;
    if (table->is_main) { /* finalizers may have been elsewhere, and come back */
        atoll_signals_watch(s->prev != NULL ? s->prev->entry : NULL);
        atoll_signals_forget();
    }
}

void atoll_session_close(atoll_session *s) {
    if (s == NULL) {
        return;
    }
    Py_CLEAR(s->interrupt); /* caught by the code inside */
    atoll_thread_table *table = atoll_this_thread;
    atoll_message_reset(&s->out, ATOLL_SPARE_BYTES);
    atoll_message_reset(&s->back, ATOLL_SPARE_BYTES);
    if (table->idle != NULL) { /* after nested calls: it is opened after this one */
        atoll_message_clear(&table->idle->out);
        atoll_message_clear(&table->idle->back);
    }
    s->prev = table->idle;
    table->idle = s;
}

bool atoll_session_is_below(const PyInterpreterState *interp) {
    const atoll_session *s = atoll_session_current();
    while (s != NULL && s->from_interp != interp) {
        s = s->prev;
    }
    return s != NULL;
}

bool atoll_session_is_inside(const atoll_entry *entry) {
    const atoll_session *s = atoll_session_current();
    while (s != NULL && s->entry != entry && s->from_interp != entry->interp) {
        s = s->prev;
    }
    return s != NULL;
}

/* A handler raised further out than s was opened: the KeyboardInterrupt goes on unwinding towards there. */
static bool is_unwinding(const atoll_session *s) {
    for (const atoll_session *outer = s->prev; outer != NULL; outer = outer->prev) {
        if (outer->interrupt != NULL) {
            return true;
        }
    }
    return false;
}

bool atoll_session_interrupted(atoll_session *s) {
    if (s->interrupt != NULL) {
        PyErr_SetRaisedException(s->interrupt);
        s->interrupt = NULL;
        return true;
    }
    /* A handler that was set inside has dealt with Ctrl-C, by a KeyboardInterrupt in the end. */
    if (s->interrupted || is_unwinding(s)) {
        PyErr_SetNone(PyExc_KeyboardInterrupt);
        return true;
    }
    return false;
}
