/* Sessions and the cache of thread states.
 *
 * Creating a thread state costs 14 to 190 us, swapping to one that exists 0.03 us.  So every OS
 * thread keeps one thread state for each interpreter it has been in, in a table of its own, and a
 * session is: pin the interpreter's gate, find the thread state, swap, work, swap back, unpin.
 *
 * Ownership.  A cached thread state is shared by two: the OS thread's table, which finds it,
 * and the interpreter's entry, which must delete it before the interpreter ends.  Between them
 * stands an atoll_cached node, guarded by the entry's mutex:
 *
 *   the OS thread ends first      the node becomes an orphan; the next session in that interpreter,
 *                                 or its close, clears and deletes the thread state and frees the node
 *   the interpreter ends first    it deletes the thread state and leaves the node, marked by
 *                                 tstate == NULL, to the OS thread's table, which frees it when it
 *                                 grows or when the thread ends
 *
 * Nodes are found by the serial number of the entry, which is never used twice in a process, so a stale node
 * can only be forgotten memory, never a wrong hit.
 *
 * Where PyGILState_Ensure() looks.  C code that knows nothing of interpreters finds its thread state in a slot that
 * each OS thread has, and CPython keeps a bit in the thread state that says that it is in one.  What must hold:
 *
 *   attached               the slot has that thread state: swapping sees to it
 *   detached               it has the one attached last, or nothing
 *   the slot's is deleted  by the thread itself: the slot is empty; by another: the slot is stale, so that thread
 *                          must not attach again (a guest whose interpreter is closed, a thread that is gone)
 *
 * PyThreadState_Delete() goes by the bit and empties the slot of the thread that calls it.  Where it deletes another
 * thread's, the bit is cleared before: else the next PyGILState_Ensure() here would enter the main interpreter, with
 * this one's objects.
 *
 * Nesting.  Sessions of one OS thread form a stack.  Entering an interpreter that is already on this
 * thread's stack, suspended, reuses the thread state it is suspended in (main -> X -> main runs
 * on main's own thread state, so threading.local and context variables are those the user sees
 * there); frames simply stack up on it and unwind in reverse order.  Each interpreter guards the C stack
 * with a recursion limit that counts its own frames only, so the depth of the stack has a bound of its own, and what is left
 * of the stack is shared: in bytes, and, where CPython counts C calls, by handing the count on.  Where greenlets put parts of the stack
 * aside, the order of sessions is kept by refusing to open one (greenlets.c).
 *
 * Locks: entry->lock only, never while a GIL is awaited.  The thread-local table needs none.
 */
#include "py/interp/session.h"
#include "py/interp/signals.h"

#include "py/interp/child.h"
#include "py/interp/greenlets.h"

#include <stdlib.h>

#define MAX_DEPTH 1000
#define REPORT_BYTES                                                                                         \
    (16 * 1024) /* of stack, for whoever describes that there is too little to open one more */
#define KEEP_BYTES (1024 * 1024) /* storage kept per OS thread for each of its two next messages */

typedef struct {
    atoll_cached **slots; /* open addressing by the entry's serial number; NULL: free */
    uint64_t *serials;
    size_t cap; /* power of two or 0 */
    size_t used;
    atoll_session *top;
    atoll_session *idle;      /* sessions to be opened again, linked by `prev` */
    const atoll_session *cut; /* was the innermost when the process was forked */
    atoll_message spare[2];   /* empty messages with storage */
    bool is_main;
} thread_table;

static _Thread_local thread_table *this_thread;
static unsigned long main_ident;

static void thread_ended(void *raw) {
    thread_table *table = raw;
    if (table->is_main) {
        atoll_signals_end();
    }
    for (size_t i = 0; i < table->cap; i++) {
        atoll_cached *node = table->slots[i];
        if (node == NULL) {
            continue;
        }
        atoll_entry *entry = node->entry;
        atoll_mutex_lock(&entry->lock);
        bool dead = node->tstate == NULL;
        if (!dead) {
            node->orphan = true;
            atomic_fetch_add(&entry->orphans, 1);
        }
        atoll_mutex_unlock(&entry->lock);
        if (dead) {
            free(node);
            atoll_entry_release(entry);
        }
    }
    atoll_message_clear(&table->spare[0]);
    atoll_message_clear(&table->spare[1]);
    while (table->idle != NULL) {
        atoll_session *s = table->idle;
        table->idle = s->prev;
        free(s);
    }
    free(table->slots);
    free(table->serials);
    free(table);
    this_thread = NULL;
}

static int init_result;

static void init_thread_exit(void) {
    init_result = atoll_thread_exit_init(thread_ended);
    main_ident = atoll_thread_is_main() ? PyThread_get_thread_ident() : 0;
}

int atoll_session_init(void) {
    static atoll_once once = ATOLL_ONCE_INIT;
    atoll_once_run(&once, init_thread_exit);
    return init_result;
}

void atoll_session_keep_only(const PyInterpreterState *interp) {
    main_ident = PyThread_get_thread_ident();
    thread_table *table = this_thread;
    PyThreadState *current = atoll_thread_state_attached();
    for (size_t i = 0; table != NULL && i < table->cap; i++) {
        atoll_cached *node = table->slots[i];
        if (node != NULL && node->entry->interp == interp && node->tstate == current) {
            node->next = NULL;
            node->entry->cached = node;
        } else if (node != NULL) {
            node->tstate = NULL; /* CPython deletes it, or it is gone with its interpreter */
        }
    }
    if (table != NULL) {
        table->cut = table->top;
        table->top = NULL;
        table->is_main = atoll_thread_is_main();
    }
}

bool atoll_session_is_cut(const atoll_session *s) { return this_thread != NULL && this_thread->cut == s; }

static thread_table *table_get(void) {
    thread_table *table = this_thread;
    if (table == NULL) {
        table = calloc(1, sizeof *table);
        if (table == NULL) {
            return NULL;
        }
        table->is_main = atoll_thread_is_main();
        this_thread = table;
        atoll_thread_at_exit(table);
    }
    return table;
}

static size_t slot_of(const thread_table *table, uint64_t serial) {
    size_t mask = table->cap - 1;
    size_t i = (size_t)(serial * UINT64_C(0x9E3779B97F4A7C15) >> 32) & mask;
    while (table->slots[i] != NULL && table->serials[i] != serial) {
        i = (i + 1) & mask;
    }
    return i;
}

/* Frees a node whose interpreter is gone; false when it is still alive. */
static bool node_reap(atoll_cached *node) {
    atoll_entry *entry = node->entry;
    atoll_mutex_lock(&entry->lock);
    bool dead = node->tstate == NULL;
    atoll_mutex_unlock(&entry->lock);
    if (dead) {
        free(node);
        atoll_entry_release(entry);
    }
    return dead;
}

static size_t count_alive(const thread_table *table) {
    size_t alive = 0;
    for (size_t i = 0; i < table->cap; i++) {
        atoll_cached *node = table->slots[i];
        if (node != NULL) {
            atoll_mutex_lock(&node->entry->lock);
            alive += node->tstate != NULL;
            atoll_mutex_unlock(&node->entry->lock);
        }
    }
    return alive;
}

/* Makes the table at most half full, without the nodes of interpreters that are gone.  Without memory it stays as it is: sessions
 * that are open use the thread states in it. */
static int table_make_room(thread_table *table) {
    if ((table->used + 1) * 2 <= table->cap) {
        return 0;
    }
    size_t alive = count_alive(table);
    thread_table fresh = *table;
    fresh.used = 0;
    fresh.cap = 16;
    while ((alive + 1) * 4 > fresh.cap) {
        fresh.cap *= 2;
    }
    fresh.slots = calloc(fresh.cap, sizeof *fresh.slots);
    fresh.serials = calloc(fresh.cap, sizeof *fresh.serials);
    if (fresh.slots == NULL || fresh.serials == NULL) {
        free(fresh.slots);
        free(fresh.serials);
        return -1;
    }
    for (size_t i = 0; i < table->cap; i++) {
        atoll_cached *node = table->slots[i];
        if (node != NULL && !node_reap(node)) {
            size_t at = slot_of(&fresh, table->serials[i]);
            fresh.slots[at] = node;
            fresh.serials[at] = table->serials[i];
            fresh.used++;
        }
    }
    free(table->slots);
    free(table->serials);
    *table = fresh;
    return 0;
}

static PyThreadState *table_find(const thread_table *table, uint64_t serial) {
    if (table->cap == 0) {
        return NULL;
    }
    atoll_cached *node = table->slots[slot_of(table, serial)];
    /* The gate is held, so nobody deletes the thread state meanwhile: no lock needed to read it. */
    return node != NULL ? node->tstate : NULL;
}

int atoll_thread_state_keep(atoll_entry *entry, PyThreadState *tstate) {
    thread_table *table = table_get();
    if (table == NULL || table_make_room(table) < 0) {
        return -1;
    }
    atoll_cached *node = calloc(1, sizeof *node);
    if (node == NULL) {
        return -1;
    }
    node->entry = entry;
    node->tstate = tstate;
    atoll_entry_retain(entry);
    atoll_mutex_lock(&entry->lock);
    node->next = entry->cached;
    entry->cached = node;
    atoll_mutex_unlock(&entry->lock);
    size_t at = slot_of(table, entry->serial);
    if (table->slots[at] != NULL) { /* discarded before */
        (void)node_reap(table->slots[at]);
        table->used--;
    }
    table->slots[at] = node;
    table->serials[at] = entry->serial;
    table->used++;
    return 0;
}

PyThreadState *atoll_thread_state(atoll_entry *entry) {
    thread_table *table = table_get();
    if (table == NULL) {
        return NULL;
    }
    PyThreadState *tstate = table_find(table, entry->serial);
    if (tstate != NULL) {
        return tstate;
    }
    tstate = PyThreadState_New(entry->interp);
    if (tstate != NULL && atoll_thread_state_keep(entry, tstate) < 0) {
        /* It never ran anything, so Clear finds nothing whose release would need that interpreter's GIL. */
        PyThreadState_Clear(tstate);
        PyThreadState_Delete(tstate);
        tstate = NULL;
    }
    return tstate;
}

bool atoll_thread_state_is_cached(atoll_entry *entry, PyThreadState *tstate) {
    atoll_mutex_lock(&entry->lock);
    atoll_cached *node = entry->cached;
    while (node != NULL && node->tstate != tstate) {
        node = node->next;
    }
    atoll_mutex_unlock(&entry->lock);
    return node != NULL;
}

/* Gives an interpreter a thread state that no OS thread has: the next session there, or its end, deletes it.  A NULL
 * from CPython (out of memory) is passed over: then the interpreter is of no use, which the next attempt finds. */
static void leave_placeholder(atoll_entry *entry) {
    atoll_cached *node = calloc(1, sizeof *node);
    PyThreadState *tstate = node != NULL ? PyThreadState_New(entry->interp) : NULL;
    if (tstate == NULL) {
        free(node);
        return;
    }
    node->entry = entry;
    node->tstate = tstate;
    node->orphan = true;
    atoll_entry_retain(entry);
    atomic_fetch_add(&entry->orphans, 1);
    atoll_mutex_lock(&entry->lock);
    node->next = entry->cached;
    entry->cached = node;
    atoll_mutex_unlock(&entry->lock);
}

void atoll_thread_state_discard(atoll_entry *entry) {
    PyThreadState *tstate = PyThreadState_Get();
    if (ATOLL_FIRST_THREAD_STATE_ONCE) {
        leave_placeholder(entry);
    }
    PyThreadState_Clear(tstate);
    atoll_mutex_lock(&entry->lock);
    atoll_cached **link = &entry->cached;
    while (*link != NULL && (*link)->tstate != tstate) {
        link = &(*link)->next;
    }
    if (*link != NULL) {
        atoll_cached *node = *link;
        *link = node->next;
        node->tstate = NULL; /* this thread's table frees it */
    }
    atoll_mutex_unlock(&entry->lock);
    PyThreadState_DeleteCurrent();
}

/* Takes one node (an orphan, when asked for) out of the entry's list; NULL when there is none. */
static atoll_cached *take_cached(atoll_entry *entry, bool orphans_only) {
    atoll_mutex_lock(&entry->lock);
    atoll_cached **link = &entry->cached;
    while (*link != NULL && orphans_only && !(*link)->orphan) {
        link = &(*link)->next;
    }
    atoll_cached *node = *link;
    if (node != NULL) {
        *link = node->next;
    }
    atoll_mutex_unlock(&entry->lock);
    return node;
}

static void delete_cached(atoll_entry *entry, atoll_cached *node, PyThreadState *keep) {
    PyThreadState *tstate = node->tstate;
    if (tstate != keep) {
        /* Runs destructors of thread-local data, so no lock is held. */
        PyThreadState_Clear(tstate);
        atoll_thread_state_unbind(tstate);
        PyThreadState_Delete(tstate);
    }
    atoll_mutex_lock(&entry->lock);
    bool orphan = node->orphan;
    node->tstate = NULL;
    atoll_mutex_unlock(&entry->lock);
    if (orphan) {
        atomic_fetch_sub(&entry->orphans, 1);
        free(node);
        atoll_entry_release(entry);
    }
}

void atoll_thread_states_drop(atoll_entry *entry, PyThreadState *keep) {
    atoll_cached *node;
    while ((node = take_cached(entry, false)) != NULL) {
        delete_cached(entry, node, keep);
    }
}

void atoll_session_housekeeping(atoll_entry *entry) {
    atoll_entry_run_jobs(entry, true);
    if (atomic_load_explicit(&entry->orphans, memory_order_relaxed) != 0) {
        atoll_cached *node;
        while ((node = take_cached(entry, true)) != NULL) {
            delete_cached(entry, node, NULL);
        }
    }
}

unsigned long atoll_session_main_ident(void) { return main_ident; }

atoll_message atoll_spare_take(void) {
    thread_table *table = this_thread;
    atoll_message msg = {0};
    for (int i = 0; table != NULL && msg.body.data == NULL && i < 2; i++) {
        msg = table->spare[i];
        table->spare[i] = (atoll_message){0};
    }
    return msg;
}

void atoll_spare_give(atoll_message *msg) {
    thread_table *table = msg->body.data != NULL ? table_get() : NULL;
    atoll_message_reset(msg, KEEP_BYTES);
    for (int i = 0; table != NULL && i < 2; i++) {
        if (table->spare[i].body.data == NULL) {
            table->spare[i] = *msg;
            *msg = (atoll_message){0};
            return;
        }
    }
    atoll_message_clear(msg);
}

/* NULL: out of memory. */
static atoll_session *take_session(thread_table *table) {
    atoll_session *s = table != NULL ? table->idle : NULL;
    if (s != NULL) {
        table->idle = s->prev;
        return s;
    }
    return table != NULL ? malloc(sizeof *s) : NULL;
}

atoll_session *atoll_session_open(atoll_entry *entry) {
    atoll_session *s = take_session(table_get());
    if (s == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    *s = (atoll_session){.entry = entry, .out = atoll_spare_take(), .back = atoll_spare_take()};
    return s;
}

int atoll_session_enter(atoll_session *s, atoll_state *from) {
    atoll_entry *entry = s->entry;
    thread_table *table = table_get();
    if (table == NULL) {
        PyErr_NoMemory();
        return -1;
    }
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
    if (table->top != NULL && atoll_greenlet_check(table->top, entry) < 0) {
        return -1;
    }
    if (!atoll_entry_pin(entry)) {
        atoll_raise_not_found(from, entry->id);
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
        tstate = atoll_thread_state(entry);
        if (tstate == NULL) {
            atoll_entry_unpin(entry);
            PyErr_NoMemory();
            return -1;
        }
    }
    s->from = PyThreadState_Get();
    table->top = s;
    if (tstate != NULL && tstate != s->from) {
        s->c_calls = atoll_share_c_calls(tstate, s->from);
        (void)PyThreadState_Swap(tstate);
    }
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
    return 0;
}

void atoll_session_leave(atoll_session *s) {
    thread_table *table = this_thread;
    if (s == table->cut) {
        atoll_child_ends(false);
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
    PyThreadState *inside = PyThreadState_Get();
    if (inside != s->from) {
        atoll_unshare_c_calls(inside, s->c_calls);
        (void)PyThreadState_Swap(s->from);
    }
    table->top = s->prev;
    atoll_entry_unpin(s->entry);
    if (atomic_load_explicit(&s->from_entry->jobs, memory_order_relaxed) != NULL) {
        atoll_session_housekeeping(s->from_entry); /* what the code inside let go of */
    }
}

atoll_session *atoll_session_begin_wind_down(atoll_entry *entry, PyThreadState *here) {
    thread_table *table = this_thread;
    atoll_session *s = here != NULL && table != NULL && table->is_main ? take_session(table) : NULL;
    if (s == NULL) {
        return NULL;
    }
    *s = (atoll_session){.prev = table->top, .entry = entry, .from = here};
    s->depth = s->prev != NULL ? s->prev->depth + 1 : 1;
    s->from_interp = PyThreadState_GetInterpreter(here);
    table->top = s;
    s->winding = atoll_signals_wind_down(entry);
    atoll_signals_watch(entry);
    return s;
}

void atoll_session_end_wind_down(atoll_session *s) {
    atoll_signals_watch(s->prev != NULL ? s->prev->entry : NULL);
    (void)atoll_signals_wind_down(s->winding);
    this_thread->top = s->prev;
}

void atoll_session_close(atoll_session *s) {
    if (s == NULL) {
        return;
    }
    Py_CLEAR(s->interrupt); /* caught by the code inside */
    atoll_spare_give(&s->out);
    atoll_spare_give(&s->back);
    s->prev = this_thread->idle;
    this_thread->idle = s;
}

atoll_session *atoll_session_current(void) { return this_thread != NULL ? this_thread->top : NULL; }

bool atoll_session_is_below(const PyInterpreterState *interp) {
    const atoll_session *s = atoll_session_current();
    while (s != NULL && s->from_interp != interp) {
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
