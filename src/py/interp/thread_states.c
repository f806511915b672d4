/* The cache of thread states.
 *
 * Creating a thread state costs 14 to 190 us, swapping to one that exists 0.03 us.  So every OS
 * thread keeps one thread state for each interpreter it has been in, in a table of its own.
 *
 * Ownership.  A cached thread state is shared by two: the OS thread's table, which finds it,
 * and the interpreter's entry, which must delete it before the interpreter ends.  Between them
 * stands an atoll_cached node, guarded by the entry's mutex:
 *
 *   the OS thread ends first      the node becomes an orphan; the next session in that interpreter,
 *                                 or its close, clears and deletes the thread state and frees the node;
 *                                 but if it ends inside of a session there, which pins the interpreter for
 *                                 ever, the thread state stays, as what has been begun in it refers to it
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
 * A thread that is attached to nothing before and after (a program's own) would go on with a slot that becomes stale when that
 * interpreter is closed, and PyGILState_Ensure() would attach it there meanwhile: it deletes its thread state when it leaves.
 *
 * Locks: entry->lock only, never while a GIL is awaited.  The thread-local table needs none.
 */
#include "py/interp/thread_states.h"

#include <stdlib.h>

_Thread_local __attribute__((tls_model("initial-exec"))) atoll_thread_table *atoll_this_thread;
static unsigned long main_ident;
static void (*on_main_end)(void);

/* Whether the thread, which ends, never came back from there. */
static bool is_left_inside(const atoll_thread_table *table, const atoll_entry *entry) {
    const atoll_session *s = table->top;
    while (s != NULL && s->entry != entry) {
        s = s->prev;
    }
    return s != NULL;
}

static void thread_ended(void *raw) {
    atoll_thread_table *table = raw;
    if (table->is_main) {
        on_main_end();
    }
    atoll_runs_thread_ends();
    for (size_t i = 0; i < table->cap; i++) {
        atoll_cached *node = table->slots[i];
        if (node == NULL) {
            continue;
        }
        atoll_entry *entry = node->entry;
        atoll_mutex_lock(&entry->lock);
        bool dead = node->tstate == NULL;
        if (!dead && !is_left_inside(table, entry)) {
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
        atoll_message_clear(&s->out);
        atoll_message_clear(&s->back);
        free(s);
    }
    free(table->slots);
    free(table->serials);
    free(table);
    atoll_this_thread = NULL;
}

static int init_result;
static atoll_thread_key exit_key;

static void init_thread_exit(void) {
    init_result = atoll_thread_key_init(&exit_key, thread_ended);
    main_ident = atoll_thread_is_main() ? PyThread_get_thread_ident() : 0;
}

int atoll_tstates_init(void (*main_ended)(void)) {
    on_main_end = main_ended; /* the same each time */
    static atoll_once once = ATOLL_ONCE_INIT;
    atoll_once_run(&once, init_thread_exit);
    return init_result;
}

void atoll_session_keep_only(const PyInterpreterState *interp) {
    main_ident = PyThread_get_thread_ident();
    atoll_thread_table *table = atoll_this_thread;
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

const atoll_session *atoll_session_cut(void) {
    return atoll_this_thread != NULL ? atoll_this_thread->cut : NULL;
}

atoll_thread_table *atoll_tstate_table_make(void) {
    atoll_thread_table *table = calloc(1, sizeof *table);
    if (table != NULL) {
        table->is_main = atoll_thread_is_main();
        atoll_this_thread = table;
        atoll_thread_at_exit(exit_key, table);
    }
    return table;
}

static size_t slot_of(const atoll_thread_table *table, uint64_t serial) {
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

static size_t count_alive(const atoll_thread_table *table) {
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
static int table_make_room(atoll_thread_table *table) {
    if ((table->used + 1) * 2 <= table->cap) {
        return 0;
    }
    size_t alive = count_alive(table);
    atoll_thread_table fresh = *table;
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

static PyThreadState *table_find(const atoll_thread_table *table, uint64_t serial) {
    if (table->cap == 0) {
        return NULL;
    }
    atoll_cached *node = table->slots[slot_of(table, serial)];
    /* The gate is held, so nobody deletes the thread state meanwhile: no lock needed to read it. */
    return node != NULL ? node->tstate : NULL;
}

int atoll_tstate_keep(atoll_entry *entry, PyThreadState *tstate) {
    atoll_thread_table *table = atoll_tstate_table_get();
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

PyThreadState *atoll_tstate_of(atoll_entry *entry) {
    atoll_thread_table *table = atoll_tstate_table_get();
    if (table == NULL) {
        return NULL;
    }
    PyThreadState *tstate = table_find(table, entry->serial);
    if (tstate != NULL) {
        return tstate;
    }
    tstate = PyThreadState_New(entry->interp);
    if (tstate != NULL && atoll_tstate_keep(entry, tstate) < 0) {
        /* It never ran anything, so Clear finds nothing whose release would need that interpreter's GIL. */
        PyThreadState_Clear(tstate);
        PyThreadState_Delete(tstate);
        tstate = NULL;
    }
    return tstate;
}

bool atoll_tstate_is_cached(atoll_entry *entry, PyThreadState *tstate) {
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

void atoll_tstate_discard(atoll_entry *entry) {
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
        atoll_compat_tstate_unbind(tstate);
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

void atoll_tstates_drop(atoll_entry *entry, PyThreadState *keep) {
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

atoll_session *atoll_session_current(void) {
    return atoll_this_thread != NULL ? atoll_this_thread->top : NULL;
}

/* ---- storage for the thread's next messages ---- */

atoll_message atoll_spare_message(void) {
    atoll_thread_table *table = atoll_this_thread;
    atoll_message msg = {0};
    for (int i = 0; table != NULL && msg.body.data == NULL && i < 2; i++) {
        msg = table->spare[i];
        table->spare[i] = (atoll_message){0};
    }
    return msg;
}

void atoll_spare_message_return(atoll_message *msg) {
    atoll_thread_table *table = msg->body.data != NULL ? atoll_tstate_table_get() : NULL;
    atoll_message_reset(msg, ATOLL_SPARE_BYTES);
    for (int i = 0; table != NULL && i < 2; i++) {
        if (table->spare[i].body.data == NULL) {
            table->spare[i] = *msg;
            *msg = (atoll_message){0};
            return;
        }
    }
    atoll_message_clear(msg);
}
