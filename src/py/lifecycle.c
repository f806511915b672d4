/* The life of an interpreter.
 *
 * Creation and destruction are serialised by the lifecycle lock, process-wide, because CPython's are not safe
 * against each other in every version.  It is awaited with the thread state detached, so that its holder can
 * get any GIL it needs, and it is recursive, because a destructor that runs while an interpreter
 * ends may drop the last Interpreter object of another.
 *
 * create   detach; lock; Py_NewInterpreterFromConfig; entry with a shut gate; loader; bootstrap of atoll._atoll; site;
 *          open the gate; unlock; attach.  On failure the half-made interpreter is ended as any other before the caller
 *          hears of it.
 * close    shut the gate (refused while a session is inside); attach; refuse and reopen when a foreign thread
 *          is still inside; delete all cached thread states; join threads and run exit functions,
 *          while foreign threads may still enter; keep those out; stop daemon threads; lock;
 *          Py_EndInterpreter; unlock; swap back; forget the entry.
 * zombie   an interpreter whose objects' memory is still seen from elsewhere (memoryview) is closed for
 *          everyone but ended only when the last view is gone: the memory belongs to its objects.
 * sweep    closes what could not be closed when its last user went: it was running, or the
 *          user was a message dropped by a thread without a thread state.
 *
 * Thread states: every function is called attached to `from`'s interpreter and returns so.  exit.c has the end of
 * the process, lookup.c the questions.
 */
#include "py/blocks.h"
#include "py/builtin_datetime.h"
#include "py/builtin_types.h"
#include "py/lifecycle_internal.h"
#include "py/loader.h"
#include "py/parsers.h"
#include "py/process.h"
#include "py/runtime_list.h"
#include "py/signals.h"
#include "py/site.h"
#include "py/stragglers.h"
#include "py/threading.h"
#include "py/tracing.h"
#include "py/tripped.h"
#include "py/worker.h"

#include "core/queue.h"

#include <stdlib.h>

static struct {
    atoll_mutex lock;
    atoll_cond released;
    bool cond_ready;
    bool held;
    unsigned depth;
    pthread_t owner;
} lifecycle = {.lock = ATOLL_MUTEX_INIT};

static atoll_bootstrap bootstrap_state;
static _Atomic(bool) sweep_due;
static _Atomic(bool) install_in_new;

void atoll_lifecycle_init(atoll_bootstrap bootstrap) { bootstrap_state = bootstrap; }

void atoll_interp_set_installed(bool value) { atomic_store(&install_in_new, value); }

bool atoll_interp_installed(void) { return atomic_load(&install_in_new); }

void atoll_interp_sweep_later(void) { atomic_store(&sweep_due, true); }

void atoll_lifecycle_lock_detached(void) {
    pthread_t self = pthread_self();
    atoll_mutex_lock(&lifecycle.lock);
    if (!lifecycle.cond_ready) {
        atoll_cond_init(&lifecycle.released);
        lifecycle.cond_ready = true;
    }
    while (lifecycle.held && !pthread_equal(lifecycle.owner, self)) {
        atoll_cond_wait(&lifecycle.released, &lifecycle.lock);
    }
    lifecycle.held = true;
    lifecycle.owner = self;
    lifecycle.depth++;
    atoll_mutex_unlock(&lifecycle.lock);
}

void atoll_lifecycle_lock(void) {
    PyThreadState *tstate = PyEval_SaveThread();
    atoll_lifecycle_lock_detached();
    PyEval_RestoreThread(tstate);
}

void atoll_lifecycle_unlock(void) {
    atoll_mutex_lock(&lifecycle.lock);
    if (--lifecycle.depth == 0) {
        lifecycle.held = false;
        atoll_cond_broadcast(&lifecycle.released);
    }
    atoll_mutex_unlock(&lifecycle.lock);
}

/* Awaited for long, so a fork takes only what guards it. */
void atoll_lifecycle_fork(atoll_fork_moment when) {
    atoll_mutex_fork(&lifecycle.lock, when);
    if (when == ATOLL_FORK_CHILD) {
        lifecycle.cond_ready = false;
        if (lifecycle.held && !pthread_equal(lifecycle.owner, pthread_self())) {
            lifecycle.held = false;
            lifecycle.depth = 0;
        }
    }
}

/* ---- creation ---- */

static int set_path(atoll_state *state, const atoll_message *path) {
    PyObject *list = atoll_decode(state->codec, path);
    if (list == NULL) {
        return -1;
    }
    int rc = PySys_SetObject("path", list);
    Py_DECREF(list);
    if (rc == 0 && atomic_load(&install_in_new)) {
        PyObject *package = PyImport_ImportModule("atoll");
        PyObject *done = package != NULL ? PyObject_CallMethod(package, "install", NULL) : NULL;
        Py_XDECREF(package);
        Py_XDECREF(done);
        rc = done != NULL ? 0 : -1;
    }
    return rc;
}

int atoll_interp_prepare(atoll_state *state, const atoll_blueprint *print, const atoll_stale *stale) {
    if (stale->environment && atoll_process_renew_environment() < 0) {
        return -1;
    }
    if (stale->zone && atoll_process_renew_zone() < 0) {
        return -1;
    }
    return stale->path ? set_path(state, &print->path) : 0;
}

char *atoll_interp_exception_text(void) {
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *text = exc != NULL ? PyUnicode_FromFormat("%s: %S", Py_TYPE(exc)->tp_name, exc) : NULL;
    const char *utf8 = text != NULL ? PyUnicode_AsUTF8(text) : NULL;
    char *copy = strdup(utf8 != NULL ? utf8 : "unknown error");
    PyErr_Clear();
    Py_XDECREF(text);
    Py_XDECREF(exc);
    return copy;
}

/* Attached to an interpreter that may fork: what it does in a child, where it is the main one. */
static int prepare_fork(void) {
    PyObject *module = PyImport_ImportModule("atoll._child");
    Py_XDECREF(module);
    return module != NULL ? 0 : -1;
}

/* Attached to a new interpreter: makes it ready, and opens its gate.  False, with *why (malloc). */
static bool settle_in(atoll_entry *entry, const atoll_blueprint *print, const atoll_site *site, char **why) {
    const atoll_stale stale = {.path = true};
    bool usual = atoll_builtin_types_settle() == 0; /* before classes are made */
    if (usual) {
        atoll_threading_prepare();
    }
    /* The loader first, so that whatever site imports finds it; and Atoll, which that may import. */
    entry->loader = usual ? atoll_loader_install(print->extensions) : NULL;
    atoll_state *state = PyErr_Occurred() ? NULL : bootstrap_state();
    if (state == NULL || atoll_site_import(site) < 0 || atoll_interp_prepare(state, print, &stale) < 0 ||
        (print->fork && prepare_fork() < 0)) {
        *why = atoll_interp_exception_text();
        return false;
    }
    size_t before;
    (void)atoll_process_stack_raise(&before);
    entry->may_fork = print->fork;
    atoll_entry_add_user(entry);
    if (!print->hidden) {
        atoll_entry_reopen(entry);
    }
    return true;
}

/* One that could not be made ready, its gate shut.  Code has run in it, which may have started threads: it ends as any other,
 * and is tried again later when it cannot end now. */
static void end_failed(atoll_entry *entry) {
    if (atoll_interp_end(entry) >= ATOLL_END_BUSY) {
        atomic_store(&entry->zombie, true);
        atoll_interp_sweep_later();
    }
    atoll_entry_release(entry);
}

/* No thread state is attached, nor afterwards: with one of main's attached, 3.13 and newer do not survive an audit hook that
 * refuses.  NULL with *why (malloc, or NULL: out of memory). */
static atoll_entry *create_locked(const atoll_blueprint *print, char **why) {
    const PyInterpreterConfig config = {
        .use_main_obmalloc = 0,
        .allow_fork = print->fork,
        .allow_exec = print->fork,
        .allow_threads = 1,
        .allow_daemon_threads = 1, /* libraries start them: see stragglers.c */
        .check_multi_interp_extensions = 1,
        .gil = PyInterpreterConfig_OWN_GIL,
    };
    PyThreadState *tstate = NULL;
    atoll_site site;
    *why = NULL;
    if (atoll_tracing_refuses()) {
        *why = strdup(atoll_tracing_refusal);
        return NULL;
    }
    atoll_site_begin(&site);
    PyStatus status = Py_NewInterpreterFromConfig(&tstate, &config);
    atoll_site_end(&site);
    if (PyStatus_Exception(status) || tstate == NULL) {
        (void)PyThreadState_Swap(NULL);
        *why = strdup(status.err_msg != NULL ? status.err_msg : "unknown reason");
        return NULL;
    }
    (void)atoll_runtime_list_find(); /* which some versions allow only now that there are two */
    PyInterpreterState *interp = PyThreadState_GetInterpreter(tstate);
    atoll_entry *entry = atoll_registry_add(PyInterpreterState_GetID(interp), interp, true);
    if (entry == NULL || atoll_thread_state_keep(entry, tstate) < 0) {
        if (entry != NULL) {
            atoll_registry_remove(entry);
            atoll_entry_release(entry);
        }
        Py_EndInterpreter(tstate); /* nothing has run in it */
        return NULL;
    }
    (void)atoll_entry_begin_close(entry);
    bool ready = settle_in(entry, print, &site, why);
    (void)PyThreadState_Swap(NULL);
    if (!ready) {
        end_failed(entry);
        return NULL;
    }
    return entry;
}

/* Attached to main: what other interpreters take from it.  0, or -1 with an exception. */
static int learn_from_main(void) {
    atoll_datetime_hold();
    return atoll_builtin_types_note();
}

/* Exit handlers run in main: it must know Atoll, whoever creates the first interpreter. */
static int ensure_main(atoll_state *from) {
    PyInterpreterState *interp = PyInterpreterState_Main();
    int64_t id = PyInterpreterState_GetID(interp); /* not 0 in a child that another interpreter forked */
    atoll_entry *entry = atoll_registry_find(id);
    if (entry == NULL) {
        if (from->interp == interp) {
            PyErr_SetString(from->error, "the main interpreter is being finalized");
            return -1;
        }
        entry = atoll_registry_add(id, interp, false);
        if (entry == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    int rc = 0;
    if (entry->state == from) {
        rc = learn_from_main();
    } else if (entry->state == NULL || !atoll_datetime_is_settled() || !atoll_builtin_types_noted()) {
        atoll_session s;
        atoll_session_open(&s, entry);
        rc = atoll_session_enter(&s, from);
        if (rc == 0) {
            bool ready = bootstrap_state() != NULL && learn_from_main() == 0;
            char *why = ready ? NULL : atoll_interp_exception_text();
            atoll_session_leave(&s);
            if (why != NULL) {
                PyErr_Format(from->error, "Atoll cannot be loaded in the main interpreter: %s", why);
                free(why);
                rc = -1;
            }
        }
        atoll_session_close(&s);
    }
    atoll_entry_release(entry);
    return rc;
}

int atoll_blueprint_init(atoll_state *from, atoll_extensions extensions, atoll_blueprint *print) {
    *print = (atoll_blueprint){.extensions = extensions};
    if (atoll_tracing_refuses()) {
        PyErr_SetString(from->error, atoll_tracing_refusal);
        return -1;
    }
    if (ensure_main(from) < 0) {
        return -1;
    }
    atoll_parsers_init();
    atoll_site_prove();
    if (from->interp == PyInterpreterState_Main()) {
        atoll_tripped_init();
    }
    atoll_blocks_init();
    PyObject *sys_path = PySys_GetObject("path"); /* borrowed */
    if (sys_path == NULL || !PyList_Check(sys_path)) {
        PyErr_SetString(PyExc_RuntimeError, "sys.path is not a list");
        return -1;
    }
    return atoll_encode_whole(from->codec, &print->path, sys_path, "sys.path");
}

void atoll_blueprint_clear(atoll_blueprint *print) { atoll_message_clear(&print->path); }

static const char at_exit[] = "no interpreter can be created while the process exits";

/* 0, or -1 with an exception. */
static int prepare_spare(atoll_state *from, atoll_entry *entry, const atoll_blueprint *print,
                         const atoll_stale *stale) {
    atoll_session s;
    char *why = NULL;
    atoll_session_open(&s, entry);
    int rc = atoll_session_enter(&s, from);
    if (rc == 0) {
        if (atoll_interp_prepare(entry->state, print, stale) < 0) {
            why = atoll_interp_exception_text();
            rc = -1;
        }
        atoll_session_leave(&s);
    }
    if (why != NULL) {
        PyErr_Format(from->error, "interpreter creation failed: %s", why);
        free(why);
    }
    atoll_session_close(&s);
    return rc;
}

/* CPython asks audit hooks only where a thread state is attached, which for create_locked() none is. */
static int audit_creation(atoll_state *from) {
    if (PySys_Audit("cpython.PyInterpreterState_New", NULL) == 0) {
        return 0;
    }
    if (PyErr_ExceptionMatches(PyExc_Exception)) {
        PyObject *refusal = PyErr_GetRaisedException();
        PyErr_Format(from->error, "interpreter creation failed: an audit hook refuses it: %s: %S",
                     Py_TYPE(refusal)->tp_name, refusal);
        PyObject *exc = PyErr_GetRaisedException();
        PyException_SetCause(exc, refusal); /* takes it */
        PyErr_SetRaisedException(exc);
    }
    return -1;
}

atoll_entry *atoll_interp_create(atoll_state *from, atoll_extensions extensions, bool may_fork) {
    atoll_interp_sweep(from);
    atoll_blueprint print;
    if (audit_creation(from) < 0 || atoll_blueprint_init(from, extensions, &print) < 0) {
        return NULL;
    }
    print.fork = may_fork; /* no spare may */
    atoll_stale stale;
    atoll_entry *entry = atoll_interp_exiting() || may_fork ? NULL : atoll_spares_take(&print, &stale);
    if (entry != NULL && (!atoll_is_stale(&stale) || prepare_spare(from, entry, &print, &stale) == 0)) {
        atoll_blueprint_clear(&print);
        return entry;
    }
    if (entry != NULL) { /* it may be changed, so it is not a spare any more */
        atoll_interp_drop_user(from, entry);
        atoll_entry_release(entry);
        atoll_blueprint_clear(&print);
        return NULL;
    }
    char *why = NULL;
    PyThreadState *here = PyEval_SaveThread();
    entry = atoll_interp_create_detached(&print, &why);
    PyEval_RestoreThread(here);
    if (entry == NULL && why != NULL && strcmp(why, at_exit) == 0) {
        PyErr_SetString(from->error, at_exit);
    } else if (entry == NULL) {
        PyErr_Format(from->error, "interpreter creation failed: %s", why != NULL ? why : "out of memory");
    }
    free(why);
    atoll_blueprint_clear(&print);
    return entry;
}

atoll_entry *atoll_interp_create_detached(const atoll_blueprint *print, char **why) {
    atoll_lifecycle_lock_detached();
    atoll_entry *entry = NULL;
    if (atoll_interp_exiting()) {
        *why = strdup(at_exit);
    } else {
        entry = create_locked(print, why);
    }
    atoll_lifecycle_unlock();
    return entry;
}

/* ---- closing ---- */

/* The gate is shut and entry's interpreter attached through `mine`, with the lifecycle lock held.  Ends it; no thread
 * state is attached afterwards. */
static void end_locked(atoll_entry *entry, PyThreadState *mine) {
    atoll_session_housekeeping(entry);
    atoll_thread_states_drop(entry, mine);
    Py_EndInterpreter(mine);
    atoll_job *job = atoll_entry_take_jobs(entry);
    while (job != NULL) { /* handed over while it ended: what they would free is gone */
        atoll_job *next = job->next;
        job->run(job);
        job = next;
    }
    atoll_signals_forget();
    atoll_registry_remove(entry);
}

atoll_end_result atoll_interp_end(atoll_entry *entry) {
    PyThreadState *here = atoll_thread_state_attached();
    PyThreadState *mine = atoll_thread_state(entry);
    if (mine == NULL) {
        if (here != NULL) {
            PyErr_NoMemory();
        }
        return ATOLL_END_FAILED;
    }
    atoll_queues_unbind(entry->id); /* what its items lend from it comes back */
    (void)PyThreadState_Swap(mine);
    atoll_session_housekeeping(entry);
    if (!atoll_loader_shut(entry->loader)) {
        atoll_loader_reopen(entry->loader);
        (void)PyThreadState_Swap(here);
        return ATOLL_END_BUSY;
    }
    /* 3.12's threading waits for the thread state of the thread that imported it first: cached ones go before. */
    atoll_thread_states_drop(entry, mine);
    /* These may wait for foreign threads, which must get in for that. */
    atoll_loader_reopen(entry->loader);
    atoll_session winding; /* the main thread handles signals meanwhile */
    bool inside = atoll_session_begin_wind_down(&winding, entry, here);
    atoll_join_threads();
    atoll_run_exit_functions();
    (void)atoll_loader_shut(entry->loader); /* who is still inside after that is a thread that is left */
    atoll_loader_ending(entry->loader);
    bool alone = atoll_stop_daemons(entry, mine);
    PyErr_Clear();
    if (inside) {
        atoll_session_end_wind_down(&winding);
    }
    /* A thread that is left makes ending fatal, and views of its memory do not end with it: keep the interpreter. */
    if (!alone || (atomic_load(&entry->exports) != 0 && !atoll_interp_exiting())) {
        atomic_store(&entry->zombie, true);
        (void)atoll_thread_state_keep(entry,
                                      mine); /* drop() forgot it; without memory the next end makes another */
        (void)PyThreadState_Swap(here);
        if (inside) {
            (void)atoll_session_interrupted(&winding);
        }
        return ATOLL_END_ZOMBIE;
    }
    atoll_lifecycle_lock();
    end_locked(entry, mine);
    atoll_lifecycle_unlock();
    atoll_loader *loader = entry->loader;
    entry->loader = NULL;
    atoll_loader_ended(loader, entry->id);
    if (here != NULL) {
        (void)PyThreadState_Swap(here);
    }
    if (inside) {
        (void)atoll_session_interrupted(&winding);
    }
    return ATOLL_END_DONE;
}

bool atoll_interp_end_detached(atoll_entry *entry) {
    atoll_end_result result = ATOLL_END_BUSY;
    bool shut = atoll_entry_begin_close(entry) == ATOLL_CLOSE_BEGUN;
    if (shut) {
        result = atoll_interp_end(entry);
    }
    if (result == ATOLL_END_BUSY || result == ATOLL_END_FAILED) {
        if (shut) {
            atoll_entry_reopen(entry);
        }
        atoll_interp_sweep_later(); /* somebody is inside: whoever can closes it when they have left */
    }
    (void)atoll_entry_remove_user(entry);
    atoll_entry_release(entry);
    return result == ATOLL_END_DONE;
}

int atoll_interp_close(atoll_state *from, atoll_entry *entry) {
    long long id = (long long)entry->id;
    if (!entry->owned) {
        atoll_raise_unrecognized(from, "close", id);
        return -1;
    }
    if (!atoll_entry_is_open(entry)) {
        atoll_raise_not_found(from, entry->id);
        return -1;
    }
    if (entry->interp == from->interp) {
        PyErr_Format(from->error, "cannot close the current interpreter (%lld)", id);
        return -1;
    }
    if (atoll_interp_is_running(entry->interp)) {
        PyErr_Format(from->error, "cannot close interpreter %lld: interpreter already running", id);
        return -1;
    }
    switch (atoll_entry_begin_close(entry)) {
    case ATOLL_CLOSE_GONE:
        atoll_raise_not_found(from, entry->id);
        return -1;
    case ATOLL_CLOSE_BUSY:
        PyErr_Format(from->error, "cannot close interpreter %lld: interpreter already running", id);
        return -1;
    case ATOLL_CLOSE_BEGUN:
        break;
    }
    switch (atoll_interp_end(entry)) {
    case ATOLL_END_BUSY:
        atoll_entry_reopen(entry);
        PyErr_Format(from->error,
                     "cannot close interpreter %lld: a thread of an extension module is still inside", id);
        return -1;
    case ATOLL_END_FAILED:
        atoll_entry_reopen(entry);
        return -1;
    case ATOLL_END_DONE:
    case ATOLL_END_ZOMBIE:
        break;
    }
    atoll_interp_sweep(from);         /* of what only its objects used */
    return PyErr_Occurred() ? -1 : 0; /* Ctrl-C, while it was waited for its threads */
}

/* Ctrl-C where no exception can be raised: once more, for whoever comes next. */
static void put_off(void) {
    if (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) {
        PyErr_SetInterrupt();
    }
    PyErr_Clear();
}

void atoll_interp_drop_user(atoll_state *from, atoll_entry *entry) {
    atoll_entry_retain(entry);
    if (atoll_entry_remove_user(entry) && atoll_entry_is_open(entry)) {
        PyObject *exc = PyErr_GetRaisedException();
        if (entry->interp == from->interp || atoll_interp_close(from, entry) < 0) {
            put_off();
            atoll_interp_sweep_later();
        }
        PyErr_SetRaisedException(exc);
    }
    atoll_entry_release(entry);
}

static bool is_unused(const atoll_entry *entry) {
    return atomic_load(&entry->users) == 0 && atoll_entry_is_open(entry);
}

static bool is_dead_zombie(const atoll_entry *entry) {
    return atomic_load(&entry->zombie) &&
           (atomic_load(&entry->exports) == 0 || atomic_load(&entry->jobs) != NULL);
}

void atoll_interp_sweep(atoll_state *from) {
    if (!atomic_load_explicit(&sweep_due, memory_order_relaxed) || atoll_interp_exiting()) {
        return;
    }
    atomic_store(&sweep_due, false);
    PyObject *exc = PyErr_GetRaisedException();
    atoll_entry *entry;
    for (int64_t below = INT64_MAX; (entry = atoll_registry_newest(below, is_unused)) != NULL;) {
        below = entry->id;
        if (entry->interp == from->interp || atoll_interp_close(from, entry) < 0) {
            put_off();
            atoll_interp_sweep_later(); /* still running: the next sweep tries again */
        }
        atoll_entry_release(entry);
    }
    for (int64_t below = INT64_MAX; (entry = atoll_registry_newest(below, is_dead_zombie)) != NULL;) {
        below = entry->id;
        /* Whoever resets the mark ends it; atoll_interp_end marks it again if views are left. */
        if (atomic_exchange(&entry->zombie, false) && atoll_interp_end(entry) >= ATOLL_END_BUSY) {
            atomic_store(&entry->zombie, true);
        }
        put_off();
        atoll_entry_release(entry);
    }
    PyErr_SetRaisedException(exc);
}
