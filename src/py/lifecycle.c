/* The life of an interpreter.
 *
 * Creation and destruction are serialised by the lifecycle lock, process-wide, because CPython's are not safe
 * against each other in every version.  It is awaited with the thread state detached, so that its holder can
 * get any GIL it needs, and it is recursive, because a destructor that runs while an interpreter
 * ends may drop the last Interpreter object of another.
 *
 * create   lock; Py_NewInterpreterFromConfig; entry with a shut gate; bootstrap of atoll._atoll; open the gate;
 *          swap back; unlock.  On failure the half-made interpreter is ended before the caller hears of it.
 * close    shut the gate (refused while a session is inside); attach; refuse and reopen when threads
 *          are left that nobody would join; lock; delete all cached thread states;
 *          Py_EndInterpreter; unlock; swap back; forget the entry.
 * zombie   an interpreter whose objects' memory is still seen from elsewhere (memoryview) is closed for
 *          everyone but ended only when the last view is gone: the memory belongs to its objects.
 * sweep    closes what could not be closed when its last user went: it was running, or the
 *          user was a message dropped by a thread without a thread state.
 *
 * Thread states: every function is called attached to `from`'s interpreter and returns so.  exit.c has the end of
 * the process, lookup.c the questions.
 */
#include "py/lifecycle_internal.h"

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

void atoll_interp_sweep_later(void) { atomic_store(&sweep_due, true); }

static void lifecycle_lock_detached(void) {
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
    lifecycle_lock_detached();
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

/* ---- creation ---- */

/* Makes sys.path of the attached interpreter what the message says, and atoll's names what install() promises. */
static int prepare_interpreter(atoll_state *state, const atoll_message *path) {
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

/* The current exception as UTF-8 in a malloc block (it must survive its interpreter); clears it. */
static char *exception_text(void) {
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *text = exc != NULL ? PyUnicode_FromFormat("%s: %S", Py_TYPE(exc)->tp_name, exc) : NULL;
    const char *utf8 = text != NULL ? PyUnicode_AsUTF8(text) : NULL;
    char *copy = strdup(utf8 != NULL ? utf8 : "unknown error");
    PyErr_Clear();
    Py_XDECREF(text);
    Py_XDECREF(exc);
    return copy;
}

/* Attached to a new interpreter: its entry, open, or NULL with *why (malloc). */
static atoll_entry *adopt_interpreter(PyThreadState *tstate, const atoll_message *path, char **why) {
    PyInterpreterState *interp = PyThreadState_GetInterpreter(tstate);
    atoll_entry *entry = atoll_registry_add(PyInterpreterState_GetID(interp), interp, true);
    if (entry == NULL) {
        *why = strdup("out of memory");
        return NULL;
    }
    (void)atoll_entry_begin_close(entry);
    atoll_state *state = bootstrap_state();
    if (state == NULL || prepare_interpreter(state, path) < 0) {
        *why = exception_text();
    } else if (atoll_thread_state_keep(entry, tstate) < 0) {
        *why = strdup("out of memory");
    } else {
        atoll_entry_add_user(entry);
        atoll_entry_reopen(entry);
        return entry;
    }
    atoll_registry_remove(entry);
    atoll_entry_release(entry);
    return NULL;
}

static atoll_entry *create_locked(atoll_state *from, PyThreadState *here, const atoll_message *path) {
    const PyInterpreterConfig config = {
        .use_main_obmalloc = 0,
        .allow_fork = 0,
        .allow_exec = 0,
        .allow_threads = 1,
        .allow_daemon_threads = 0,
        .check_multi_interp_extensions = 1,
        .gil = PyInterpreterConfig_OWN_GIL,
    };
    PyThreadState *tstate = NULL;
    PyStatus status = Py_NewInterpreterFromConfig(&tstate, &config);
    if (PyStatus_Exception(status) || tstate == NULL) {
        (void)PyThreadState_Swap(here);
        PyErr_Format(from->error, "interpreter creation failed: %s",
                     status.err_msg != NULL ? status.err_msg : "unknown reason");
        return NULL;
    }
    char *why = NULL;
    atoll_entry *entry = adopt_interpreter(tstate, path, &why);
    if (entry == NULL) {
        Py_EndInterpreter(tstate);
    }
    (void)PyThreadState_Swap(here);
    if (entry == NULL) {
        PyErr_Format(from->error, "interpreter creation failed: %s", why != NULL ? why : "out of memory");
        free(why);
    }
    return entry;
}

/* Exit handlers run in main: it must know Atoll, whoever creates the first interpreter. */
static int ensure_main(atoll_state *from) {
    atoll_entry *entry = atoll_registry_find(0);
    if (entry == NULL) {
        PyInterpreterState *interp = PyInterpreterState_Main();
        if (from->interp == interp) {
            PyErr_SetString(from->error, "the main interpreter is being finalized");
            return -1;
        }
        entry = atoll_registry_add(0, interp, false);
        if (entry == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    int rc = 0;
    if (entry->state == NULL) {
        atoll_session s;
        atoll_session_open(&s, entry);
        rc = atoll_session_enter(&s, from);
        if (rc == 0) {
            char *why = bootstrap_state() == NULL ? exception_text() : NULL;
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

atoll_entry *atoll_interp_create(atoll_state *from) {
    atoll_interp_sweep(from);
    if (ensure_main(from) < 0) {
        return NULL;
    }
    PyObject *sys_path = PySys_GetObject("path"); /* borrowed */
    atoll_message path = {0};
    if (sys_path == NULL || !PyList_Check(sys_path)) {
        PyErr_SetString(PyExc_RuntimeError, "sys.path is not a list");
        return NULL;
    }
    if (atoll_encode(from->codec, &path, sys_path, "sys.path") < 0) {
        return NULL;
    }
    atoll_lifecycle_lock();
    atoll_entry *entry = NULL;
    if (atoll_interp_exiting()) {
        PyErr_SetString(from->error, "no interpreter can be created while the process exits");
    } else {
        entry = create_locked(from, PyThreadState_Get(), &path);
    }
    atoll_lifecycle_unlock();
    atoll_message_clear(&path);
    return entry;
}

/* ---- closing ---- */

/* The module of this name if it was imported in the attached interpreter; else NULL, without an exception. */
static PyObject *loaded_module(const char *name) {
    PyObject *key = PyUnicode_FromString(name);
    PyObject *module = key != NULL ? PyImport_GetModule(key) : NULL;
    Py_XDECREF(key);
    PyErr_Clear();
    return module;
}

/* Threads of the attached interpreter that Py_EndInterpreter would not join, which is fatal to the process:
 * the ident of one, 0 when there is none, -1 with an exception. */
static long long stray_thread(atoll_entry *entry, PyThreadState *mine) {
    PyObject *joined = NULL;
    long long found = 0;
    PyObject *threading = loaded_module("threading");
    if (threading != NULL) {
        joined = PyObject_CallMethod(threading, "enumerate", NULL);
        Py_DECREF(threading);
        if (joined == NULL) {
            return -1;
        }
    }
    for (PyThreadState *t = PyInterpreterState_ThreadHead(entry->interp); t != NULL && found == 0;
         t = PyThreadState_Next(t)) {
        if (t == mine || atoll_thread_state_is_cached(entry, t)) {
            continue;
        }
        bool known = false;
        for (Py_ssize_t i = 0; joined != NULL && i < PyList_GET_SIZE(joined) && !known; i++) {
            PyObject *thread = PyList_GET_ITEM(joined, i);
            PyObject *ident = PyObject_GetAttrString(thread, "ident");
            PyObject *daemon = PyObject_GetAttrString(thread, "daemon");
            known = ident != NULL && daemon == Py_False && PyLong_Check(ident) &&
                    PyLong_AsUnsignedLong(ident) == t->thread_id;
            Py_XDECREF(ident);
            Py_XDECREF(daemon);
            PyErr_Clear();
        }
        found = known ? 0 : (long long)t->thread_id;
    }
    Py_XDECREF(joined);
    return found;
}

static PyObject *do_nothing(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(args)) { Py_RETURN_NONE; }

/* Joins the attached interpreter's threads, as Py_EndInterpreter would.  Done before it, because that runs with
 * the lifecycle lock held, which those threads may want; and only once, because threading's shutdown is not
 * made to run twice in every version. */
static void join_threads(void) {
    static PyMethodDef nothing = {"_shutdown", do_nothing, METH_NOARGS, NULL};
    PyObject *threading = loaded_module("threading");
    if (threading == NULL) {
        return;
    }
    PyObject *done = PyObject_CallMethod(threading, "_shutdown", NULL);
    if (done == NULL) {
        PyErr_WriteUnraisable(threading);
    }
    Py_XDECREF(done);
    PyObject *instead = PyCFunction_New(&nothing, NULL);
    if (instead == NULL || PyObject_SetAttrString(threading, "_shutdown", instead) < 0) {
        PyErr_WriteUnraisable(threading);
    }
    Py_XDECREF(instead);
    Py_DECREF(threading);
}

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

atoll_end_result atoll_interp_end(atoll_entry *entry, long long *stray) {
    PyThreadState *here = PyThreadState_Get();
    PyThreadState *mine = atoll_thread_state(entry);
    if (mine == NULL) {
        PyErr_NoMemory();
        return ATOLL_END_FAILED;
    }
    atoll_queues_unbind(entry->id); /* what its items lend from it comes back */
    (void)PyThreadState_Swap(mine);
    atoll_session_housekeeping(entry);
    *stray = stray_thread(entry, mine);
    if (*stray != 0) {
        PyErr_Clear();
        (void)PyThreadState_Swap(here);
        return ATOLL_END_STRAY;
    }
    /* 3.12's threading waits for the thread state of the thread that imported it first: cached ones go before. */
    atoll_thread_states_drop(entry, mine);
    join_threads();
    long long late = stray_thread(entry, mine);
    PyErr_Clear();
    /* A thread that was started while the others were joined makes ending fatal: keep the interpreter. */
    if (late != 0 || (atomic_load(&entry->exports) != 0 && !atoll_interp_exiting())) {
        atomic_store(&entry->zombie, true);
        (void)atoll_thread_state_keep(entry,
                                      mine); /* drop() forgot it; without memory the next end makes another */
        (void)PyThreadState_Swap(here);
        return ATOLL_END_ZOMBIE;
    }
    atoll_lifecycle_lock();
    end_locked(entry, mine);
    atoll_lifecycle_unlock();
    (void)PyThreadState_Swap(here);
    return ATOLL_END_DONE;
}

int atoll_interp_close(atoll_state *from, atoll_entry *entry) {
    long long id = (long long)entry->id;
    if (!entry->owned) {
        PyErr_Format(from->error, "cannot close unrecognized interpreter %lld", id);
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
    long long stray = 0;
    switch (atoll_interp_end(entry, &stray)) {
    case ATOLL_END_STRAY:
        atoll_entry_reopen(entry);
        PyErr_Format(
            from->error,
            "cannot close interpreter %lld: thread %lld still runs in it and was not started by threading",
            id, stray);
        return -1;
    case ATOLL_END_FAILED:
        atoll_entry_reopen(entry);
        return -1;
    case ATOLL_END_DONE:
    case ATOLL_END_ZOMBIE:
        break;
    }
    atoll_interp_sweep(from); /* of what only its objects used */
    return 0;
}

void atoll_interp_drop_user(atoll_state *from, atoll_entry *entry) {
    atoll_entry_retain(entry);
    if (atoll_entry_remove_user(entry) && atoll_entry_is_open(entry)) {
        PyObject *exc = PyErr_GetRaisedException();
        if (entry->interp == from->interp || atoll_interp_close(from, entry) < 0) {
            PyErr_Clear();
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
            PyErr_Clear();
            atoll_interp_sweep_later(); /* still running: the next sweep tries again */
        }
        atoll_entry_release(entry);
    }
    for (int64_t below = INT64_MAX; (entry = atoll_registry_newest(below, is_dead_zombie)) != NULL;) {
        below = entry->id;
        long long stray = 0;
        /* Whoever resets the mark ends it; atoll_interp_end marks it again if views are left. */
        if (atomic_exchange(&entry->zombie, false) && atoll_interp_end(entry, &stray) >= ATOLL_END_STRAY) {
            atomic_store(&entry->zombie, true);
            PyErr_Clear();
        }
        atoll_entry_release(entry);
    }
    PyErr_SetRaisedException(exc);
}
