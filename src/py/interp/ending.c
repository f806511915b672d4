/* The way of an interpreter to its end.  There is one, in three steps:
 *
 *   step            life (registry.h)   what happens, in this order                          runs code of users     locks
 *   may it end?     closing             what others handed over is done;                     what they release      -
 *                                       foreign threads are kept out, and waited for
 *   wind down       winding             thread states of sessions are deleted;               destructors            -
 *                                       threads are joined, exit functions called,           yes, and theirs
 *                                       foreign threads may enter meanwhile;
 *                   stopping            foreign threads are kept out;                        pending calls
 *                                       daemon threads are interrupted and waited for;       what they do then
 *                                       its items in queues are unbound;
 *                                       what others see keeps it: __main__ goes              finalizers             -
 *   end             stopping            Py_EndInterpreter: modules, then their objects       finalizers             -
 *                                       CPython frees the interpreter                        -                      lifecycle
 *                   ended               locks that it holds are lost, clones end,            destructors of C       -
 *                                       and its memory is taken back
 *
 * The first step changes nothing: who is refused opens the gate again.  From the second on there is no way back.  It ends with
 * a zombie when a thread is left that does not end, which CPython would end the process for, or when memory of its objects is
 * seen elsewhere (export.c): closed for everyone, ended by a sweep that finds it alone.  Then foreign threads may enter
 * again, as what is left in it may wait for them.  One without threads has let go of what its __main__ had, so that those that see each
 * other's memory end.  A zombie that is tried once more is only looked at.
 *
 * A collection while all is there, as CPython makes it at the end of the main interpreter, has the collector know what refers to something
 * before that: in this order finalizers run later, so that a file is written before the one below it is closed.  It is left out where no file has
 * been opened since the interpreter was made.
 *
 * Everybody takes that way: close(), `with`, the last user that goes, a create() that fails, a pool's worker, a surplus spare, the end
 * of the process.  They differ in what they wait for (atoll_patience).
 *
 *   close()             a little for foreign threads, and for its own until they have ended; within a time, and by force: reap.c
 *   the last user goes  for nothing that may take long: one whose threads still run is closed by a sweep, or at the end
 *   a worker, a spare   as close(), on a thread of their own
 *   sweep               nothing
 *   end of the process  for its threads; who is inside is waited for by exit.c
 *
 * Sessions: a thread that ends an interpreter is as if it were in a session there until that is freed (session.c): exit functions and finalizers
 * that call where it has come from find its thread state, and what they may not close.  While the main thread winds one down it handles
 * signals.
 *
 * Fork: a child that was forked by what runs then, where the interpreter may fork, ends with that (child.c).
 *
 * The lifecycle lock is taken in the middle of Py_EndInterpreter, by an object that CPython drops when it has finished with
 * modules and begins to clear the interpreter: it is in the dict of the last thread state.  Before that finalizers run, and
 * guards are waited for (PEP 788).  What CPython itself still has then, and drops later, are objects that no code could reach but
 * through it; what they run has the lock, which is recursive.
 *
 * Thread states: every function is called attached to `from`'s interpreter and returns so, but for the detached ones, which
 * have none.
 */
#include "py/extension/extension.h"
#include "py/frozen/frozen.h"
#include "py/interp/lifecycle_internal.h"
#include "py/interp/signals.h"
#include "py/interp/stragglers.h"
#include "py/interp/traced.h"
#include "py/interp/wind_down.h"

#include "core/queue/queue.h"
#include "core/sync/sync.h"

#include <stdlib.h>
#include <string.h>

static const atoll_patience closing = {.foreign = 5.0, .daemons = 1.0};
static const atoll_patience on_own_thread = {.foreign = 5.0, .daemons = 1.0};
static const atoll_patience last_user_gone = {.foreign = 5.0, .daemons = 1.0, .idle_only = true};
static const atoll_patience sweeping = {.daemons = 1.0, .idle_only = true};
static const atoll_patience at_exit = {.daemons = 1.0};
static const atoll_patience a_look = {.idle_only = true};

static _Atomic(bool) sweep_due;

void atoll_interp_sweep_later(void) { atomic_store(&sweep_due, true); }

/* ---- the three steps: entry's interpreter is attached through `mine` ---- */

static bool may_end(atoll_entry *entry, PyThreadState *mine, const atoll_patience *patience) {
    atoll_session_housekeeping(entry);
    bool idle = atoll_loader_shut(entry->loader, patience->foreign) &&
                (!patience->idle_only || !atoll_has_threads(entry, mine));
    atoll_loader_reopen(entry->loader);
    return idle;
}

typedef struct {
    bool gone;
    bool forgotten; /* nobody wants to know: who finds it gone frees this */
} presence;

static void tell_gone(PyObject *capsule) {
    presence *it = PyCapsule_GetPointer(capsule, NULL);
    it->gone = true;
    if (it->forgotten) {
        free(it);
    }
}

/* All names but __builtins__ are None, those with one underscore first. */
static void clear_names(PyObject *dict) {
    PyObject *names = PyDict_Keys(dict);
    for (int hidden = 1; hidden >= 0; hidden--) {
        for (Py_ssize_t i = 0; names != NULL && i < PyList_GET_SIZE(names); i++) {
            PyObject *name = PyList_GET_ITEM(names, i);
            const char *text = PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : NULL;
            if (text != NULL && strcmp(text, "__builtins__") != 0 &&
                (text[0] == '_' && text[1] != '_') == (hidden == 1)) {
                (void)PyDict_SetItem(dict, name, Py_None);
            }
            PyErr_Clear();
        }
    }
    Py_XDECREF(names);
}

/* What __main__ has goes, with finalizers, as CPython lets a module go: if it is not gone when nothing refers to it, its names are
 * cleared.  For an interpreter that could not end else, or not with all that it has: one that sees what another one has that sees what it
 * has, and one that sees its own memory as others see it (module/sharedview.c), through which the collector does not look. */
static void let_main_go(atoll_state *state) {
    static const char sentinel[] = "atoll: it is there";
    PyObject *dict = state->main_dict;
    PyObject *empty = PyDict_New();
    presence *it = calloc(1, sizeof *it);
    PyObject *capsule = it != NULL ? PyCapsule_New(it, NULL, tell_gone) : NULL;
    if (capsule == NULL || empty == NULL || PyDict_SetItemString(dict, sentinel, capsule) < 0) {
        PyErr_Clear();
        Py_XDECREF(capsule);
        free(it);
        Py_XDECREF(empty);
        return;
    }
    Py_DECREF(capsule);
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed */
    if (modules != NULL && PyDict_DelItemString(modules, "__main__") < 0) {
        PyErr_Clear();
    }
    state->main_dict = empty;
    Py_DECREF(dict);
    (void)PyGC_Collect();
    if (!it->gone) { /* the dict has the capsule, so it is there */
        Py_INCREF(dict);
        clear_names(dict);
        Py_DECREF(dict);
        (void)PyGC_Collect();
    }
    it->forgotten = true;
    if (it->gone) {
        free(it);
    }
}

/* In a forked child that is what the interpreter has become: it ends with the process, and nobody is left to go back to. */
static void end_if_forked(const atoll_entry *entry) {
    if (!entry->owned) {
        atoll_session_cut_off();
    }
}

/* Whether it is alone now, and nobody sees its memory: it can be ended.  Else it is a zombie. */
static bool wind_down(atoll_entry *entry, PyThreadState *mine, const atoll_patience *patience) {
    bool fresh = atoll_entry_life(entry) == ATOLL_LIFE_CLOSING;
    if (fresh) {
        atoll_entry_set_life(entry, ATOLL_LIFE_WINDING);
        /* 3.12's threading waits for the thread state of the thread that imported it first: cached ones go before. */
        atoll_tstates_drop(entry, mine);
        atoll_join_threads();
        atoll_run_exit_functions();
        end_if_forked(entry);
        atoll_entry_set_life(entry, ATOLL_LIFE_STOPPING);
    } else {
        atoll_tstates_drop(entry, mine);
    }
    bool alone = atoll_loader_shut(entry->loader,
                                   patience->foreign); /* who is still inside is a thread that is left */
    alone = atoll_stop_daemons(entry, mine, patience->daemons) && alone;
    atoll_queues_unbind(entry->id); /* what its items lend from it comes back, */
    const atoll_state *state = entry->state;
    if (fresh && alone && (state == NULL || atoll_files_note() != state->files)) {
        (void)PyGC_Collect(); /* see above */
    }
    atoll_session_housekeeping(entry); /* and is released */
    if (fresh && alone && entry->state != NULL &&
        (atomic_load(&entry->exports) != 0 || atomic_load(&entry->homes) != 0)) {
        let_main_go(entry->state);
        atoll_session_housekeeping(entry);
    }
    if (alone && atomic_load(&entry->exports) == 0) {
        atoll_loader_ending(entry->loader); /* runs what is pending, which may start threads */
        if (atoll_stop_daemons(entry, mine, patience->daemons) && atomic_load(&entry->exports) == 0) {
            PyErr_Clear();
            return true;
        }
    }
    PyErr_Clear();
    atoll_loader_reopen(entry->loader);
    return false;
}

static void take_lock(PyObject *capsule) {
    bool *taken = PyCapsule_GetPointer(capsule, NULL);
    if (!*taken) {
        atoll_lifecycle_lock();
        *taken = true;
    }
}

/* No thread state is attached afterwards. */
static void end(atoll_entry *entry, PyThreadState *mine) {
    static const char key[] = "atoll: the interpreter is freed";
    bool locked = false;
    PyObject *dict = PyThreadState_GetDict(); /* borrowed */
    PyObject *capsule = PyCapsule_New(&locked, NULL, take_lock);
    if (dict == NULL || capsule == NULL || PyDict_SetItemString(dict, key, capsule) < 0) {
        PyErr_Clear();
        atoll_lifecycle_lock();
        locked = true;
    }
    Py_XDECREF(capsule);
    atoll_state_let_go(entry->state);
    atoll_account_set_limit(entry, 0);
    Py_EndInterpreter(mine);
    atoll_signals_forget();
    atoll_registry_remove(entry);
    if (locked) {
        atoll_lifecycle_unlock();
    }
    atoll_entry_set_life(entry, ATOLL_LIFE_ENDED);
    atoll_syncs_lose(entry->serial, entry->id);
    atoll_entry_run_jobs(entry, false); /* handed over after its module was cleared */
}

atoll_end_result atoll_interp_end(atoll_entry *entry, const atoll_patience *patience) {
    uint64_t began = atoll_trace_begin();
    PyThreadState *here = atoll_thread_state_attached();
    PyThreadState *mine = atoll_tstate_of(entry);
    if (mine == NULL) {
        if (here != NULL) {
            PyErr_NoMemory();
        }
        return ATOLL_END_FAILED;
    }
    (void)PyThreadState_Swap(mine);
    bool fresh = atoll_entry_life(entry) == ATOLL_LIFE_CLOSING;
    bool may = !fresh || may_end(entry, mine, patience);
    end_if_forked(entry);
    if (!may) {
        (void)PyThreadState_Swap(here);
        return ATOLL_END_REFUSED;
    }
    atoll_session *winding = atoll_session_begin_wind_down(entry, here);
    atoll_account_relax(entry, true);
    bool alone = wind_down(entry, mine, fresh ? patience : &a_look);
    end_if_forked(entry);
    if (winding != NULL) {
        atoll_session_end_wind_down(winding);
    }
    if (alone) {
        atoll_interp_work_begin();
        end(entry, mine);
        atoll_loader *loader = entry->loader;
        entry->loader = NULL;
        atoll_keepers keepers = atoll_loader_ended(loader);
        if (atomic_load(&entry->exports) != 0) { /* somebody has a view of its memory */
            keepers = ATOLL_KEEPERS_LOADED;
        }
        atoll_leftovers_free(atoll_memory_owner(entry->id), keepers);
        atoll_areas_ended(entry->id, keepers != ATOLL_KEEPERS_LOADED);
        atoll_traced_ended(began, entry);
        atoll_interp_work_end();
        if (here != NULL) {
            (void)PyThreadState_Swap(here);
        }
    } else {
        atoll_account_relax(entry, false);
        /* Dropping has forgotten it; without memory the next that tries makes another. */
        (void)atoll_tstate_keep(entry, mine);
        (void)PyThreadState_Swap(here);
        atoll_entry_set_life(entry, ATOLL_LIFE_ZOMBIE);
        atoll_syncs_lose(entry->serial, entry->id); /* nobody waits for a thread that does not end */
    }
    if (winding != NULL) {
        atoll_session_leave_wind_down(winding);
        (void)atoll_session_interrupted(winding);
        atoll_session_close(winding);
    }
    return alone ? ATOLL_END_DONE : ATOLL_END_ZOMBIE;
}

/* ---- who takes that way ---- */

bool atoll_interp_end_zombie(atoll_entry *entry) {
    if (!atoll_entry_claim_zombie(entry)) {
        return false;
    }
    atoll_end_result result = atoll_interp_end(entry, &a_look);
    if (result >= ATOLL_END_REFUSED) {
        atoll_entry_set_life(entry, ATOLL_LIFE_ZOMBIE);
    }
    return result == ATOLL_END_DONE;
}

void atoll_interp_end_failed(atoll_entry *entry) {
    if (atoll_entry_begin_close(entry) == ATOLL_CLOSE_BEGUN &&
        atoll_interp_end(entry, &closing) >= ATOLL_END_REFUSED) {
        atoll_entry_set_life(entry, ATOLL_LIFE_ZOMBIE); /* it cannot be opened: it is tried again */
        atoll_interp_sweep_later();
    }
    atoll_entry_release(entry);
}

bool atoll_interp_end_detached(atoll_entry *entry) {
    return atoll_interp_end_shut(entry, atoll_entry_begin_close(entry) == ATOLL_CLOSE_BEGUN);
}

bool atoll_interp_end_shut(atoll_entry *entry, bool shut) {
    atoll_end_result result = ATOLL_END_REFUSED;
    if (shut) {
        result = atoll_interp_end(entry, &on_own_thread);
    }
    if (result >= ATOLL_END_REFUSED) {
        if (shut) {
            atoll_entry_open(entry);
        }
        atoll_interp_sweep_later(); /* somebody is inside: whoever can closes it when they have left */
    }
    (void)atoll_entry_remove_user(entry);
    atoll_entry_release(entry);
    return result == ATOLL_END_DONE;
}

int atoll_interp_check_close(atoll_state *from, const atoll_entry *entry, bool waits) {
    atoll_label label;
    const char *id = atoll_entry_label(entry, &label);
    if (!entry->owned) {
        PyErr_Format(from->error, "cannot close unrecognized interpreter %s", id);
        return -1;
    }
    atoll_life life = atoll_entry_life(entry);
    if (waits ? life == ATOLL_LIFE_SPARE || life >= ATOLL_LIFE_ZOMBIE : !atoll_entry_is_open(entry)) {
        atoll_session_raise_shut(from, entry, "close");
        return -1;
    }
    if (entry->interp == from->interp) {
        PyErr_Format(from->error, "cannot close the current interpreter (%s)", id);
        return -1;
    }
    return 0;
}

void atoll_interp_raise_pooled(atoll_state *from, const atoll_entry *entry) {
    atoll_label label;
    const char *end = strrchr(entry->name, '_'); /* then comes the worker's number */
    PyErr_Format(from->error,
                 "cannot close interpreter %s: it is running as a worker of the pool '%.*s', whose "
                 "shutdown() closes it",
                 atoll_entry_label(entry, &label), end != NULL ? (int)(end - entry->name) : ATOLL_STATS_NAME,
                 entry->name);
}

static void raise_running(atoll_state *from, const atoll_entry *entry) {
    atoll_label label;
    if (atomic_load(&entry->pooled)) {
        atoll_interp_raise_pooled(from, entry);
        return;
    }
    PyErr_Format(from->error, "cannot close interpreter %s: interpreter already running",
                 atoll_entry_label(entry, &label));
}

static int close_interp(atoll_state *from, atoll_entry *entry, const atoll_patience *patience) {
    atoll_label label;
    const char *id = atoll_entry_label(entry, &label);
    if (atoll_interp_check_close(from, entry, false) < 0) {
        return -1;
    }
    if (atoll_interp_is_running(entry->interp)) {
        raise_running(from, entry);
        return -1;
    }
    if (atoll_session_is_below(
            entry->interp)) { /* of a thread of its own, which no session has brought there */
        PyErr_Format(from->error, "cannot close interpreter %s: this thread runs in it", id);
        return -1;
    }
    /* It is not gone for others before it is known that it ends. */
    switch (atoll_entry_begin_close_barred(entry)) {
    case ATOLL_CLOSE_GONE:
        atoll_session_raise_shut(from, entry, "close");
        return -1;
    case ATOLL_CLOSE_BUSY:
        raise_running(from, entry);
        return -1;
    case ATOLL_CLOSE_BEGUN:
        break;
    }
    atoll_end_result result = atoll_interp_end(entry, patience);
    if (result >= ATOLL_END_REFUSED) {
        atoll_entry_open(entry);
    }
    atoll_entry_unbar(entry);
    if (result >= ATOLL_END_REFUSED) {
        if (result == ATOLL_END_REFUSED) {
            PyErr_Format(from->error, "cannot close interpreter %s: a thread %s", id,
                         patience->idle_only ? "still runs in it" : "of an extension module is still inside");
        }
        return -1;
    }
    atoll_interp_sweep(from);         /* of what only its objects used */
    return PyErr_Occurred() ? -1 : 0; /* Ctrl-C, while it was waited for its threads */
}

int atoll_interp_close(atoll_state *from, atoll_entry *entry) {
    uint64_t began = atoll_trace_begin();
    int rc = close_interp(from, entry, &closing);
    atoll_trace_end(began, ATOLL_TRACE_CLOSING, from->interp_id, (uint64_t)entry->id);
    return rc;
}

int atoll_interp_close_at_exit(atoll_state *from, atoll_entry *entry) {
    return close_interp(from, entry, &at_exit);
}

/* Ctrl-C where no exception can be raised: once more, for whoever comes next. */
static void put_off(void) {
    if (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) {
        PyErr_SetInterrupt();
    }
    PyErr_Clear();
}

/* Nobody uses it.  What is still running is tried again by the next sweep. */
static void close_unused(atoll_state *from, atoll_entry *entry, const atoll_patience *patience) {
    if (entry->interp == from->interp || close_interp(from, entry, patience) < 0) {
        put_off();
        atoll_interp_sweep_later();
    }
}

void atoll_interp_drop_user(atoll_state *from, atoll_entry *entry) {
    atoll_entry_retain(entry);
    if (atoll_entry_remove_user(entry) && atoll_entry_is_open(entry)) {
        PyObject *exc = PyErr_GetRaisedException();
        close_unused(from, entry, &last_user_gone);
        PyErr_SetRaisedException(exc);
    }
    atoll_entry_release(entry);
}

static bool is_unused(const atoll_entry *entry) {
    return atomic_load(&entry->users) == 0 && atoll_entry_is_open(entry);
}

static bool may_be_dead(const atoll_entry *entry) {
    return atoll_entry_life(entry) == ATOLL_LIFE_ZOMBIE &&
           (atomic_load(&entry->exports) == 0 || atomic_load(&entry->jobs) != NULL);
}

static bool is_ending(const atoll_entry *entry) {
    atoll_life life = atoll_entry_life(entry);
    return life >= ATOLL_LIFE_CLOSING && life <= ATOLL_LIFE_STOPPING;
}

void atoll_interp_sweep(atoll_state *from) {
    if (!atomic_load_explicit(&sweep_due, memory_order_relaxed) || atoll_interp_exiting()) {
        return;
    }
    atomic_store(&sweep_due, false);
    PyObject *exc = PyErr_GetRaisedException();
    atoll_entry *entry = atoll_registry_newest(INT64_MAX, is_ending);
    if (entry != NULL) {
        /* Who has let go of its memory may have told before it is a zombie: it is looked at once more. */
        atoll_interp_sweep_later();
        atoll_entry_release(entry);
    }
    for (int64_t below = INT64_MAX; (entry = atoll_registry_newest(below, is_unused)) != NULL;) {
        below = entry->id;
        close_unused(from, entry, &sweeping);
        atoll_entry_release(entry);
    }
    for (int64_t below = INT64_MAX; (entry = atoll_registry_newest(below, may_be_dead)) != NULL;) {
        below = entry->id;
        (void)atoll_interp_end_zombie(entry);
        put_off();
        atoll_entry_release(entry);
    }
    PyErr_SetRaisedException(exc);
}
