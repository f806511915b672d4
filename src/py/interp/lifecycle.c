/* How an interpreter is made.
 *
 * What CPython does to make one and to free one is serialised by the lifecycle lock, process-wide, because that is not safe
 * against each other: two that 3.13 made at once have failed to import `encodings`, one time in some thousands.  It is awaited with the
 * thread state detached, so that its holder can get any GIL it needs, and it is recursive.  No code of users runs with it held: what a
 * new interpreter imports, and what one that ends runs last, may wait for other interpreters and threads that want it (ending.c).
 *
 *   with it held      Py_NewInterpreterFromConfig; an entry: a spare, so nobody finds it
 *   without           loader; bootstrap of atoll._atoll; site; then it is opened, by a thread that is back where it was
 *
 * A half-made interpreter in which code has run ends as any other before the caller hears of its failure.
 *
 * CPython itself does not survive it on all versions when memory runs out while it makes one (3.14 and 3.15 end an interpreter that
 * has no types yet), so whether there is enough is seen before; and so is whether a file can
 * be opened, without which CPython says that paths cannot be evaluated.
 *
 * Thread states: every function is called attached to `from`'s interpreter and returns so, but for the detached ones.
 * ending.c has the way to the end, exit.c the end of the process, lookup.c the questions.
 */
#include "py/extension/extension.h"
#include "py/frozen/frozen.h"
#include "py/interp/lifecycle_internal.h"
#include "py/interp/pools.h"
#include "py/interp/process.h"
#include "py/interp/runtime_list.h"
#include "py/interp/site.h"
#include "py/interp/threading.h"
#include "py/interp/traced.h"
#include "py/interp/tracing.h"
#include "py/interp/tripped.h"
#include "py/interp/wind_down.h"
#include "py/memory/memory.h"

#include <math.h>
#include <stdlib.h>

/* ---- creation ---- */

static int set_path(atoll_state *state, const atoll_message *path) {
    PyObject *list = atoll_decode(state->codec, path);
    if (list == NULL) {
        return -1;
    }
    int rc = PySys_SetObject("path", list);
    Py_DECREF(list);
    if (rc == 0 && atoll_interp_installed()) {
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
    if (stale->path && set_path(state, &print->path) < 0) {
        return -1;
    }
    return stale->limits ? atoll_limits_set(state->entry, &print->wishes.limits) : 0; /* last */
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
    PyObject *module = PyImport_ImportModule("atoll._interp.child");
    Py_XDECREF(module);
    return module != NULL ? 0 : -1;
}

/* Attached to a new interpreter: makes it ready; its gate stays shut.  False, with *why (malloc). */
static bool settle_in(atoll_entry *entry, const atoll_blueprint *print, const atoll_site *site, char **why) {
    const atoll_stale stale = {.path = true, .limits = true};
    bool usual = atoll_builtin_types_settle() == 0; /* before classes are made */
    if (usual) {
        atoll_threading_prepare();
    }
    /* The loader first, so that whatever site imports finds it; and Atoll, which that may import. */
    entry->loader = usual ? atoll_loader_install(print->wishes.extensions, entry->stats) : NULL;
    if (usual && atoll_trace_wants()) {
        atoll_traced_settle();
    }
    atoll_state *state = PyErr_Occurred() ? NULL : atoll_state_ensure();
    if (state == NULL || atoll_frozen_constants() < 0 || atoll_process_settle_streams() < 0 ||
        atoll_site_import(site) < 0 || atoll_interp_prepare(state, print, &stale) < 0 ||
        (print->wishes.fork && prepare_fork() < 0)) {
        *why = atoll_interp_exception_text();
        return false;
    }
    size_t before;
    (void)atoll_process_stack_raise(&before);
    entry->may_fork = print->wishes.fork;
    state->files = atoll_files_note();
    atoll_entry_add_user(entry);
    return true;
}

/* More than Py_NewInterpreterFromConfig() takes on any version: 4 MiB. */
static const size_t enough = (size_t)5 * 1024 * 1024;

static bool is_there_memory(void) {
    void *memory = atoll_map_zeroed(enough);
    if (memory != NULL) {
        atoll_unmap(memory, enough);
    }
    return memory != NULL;
}

/* With the lifecycle lock held and no thread state attached: with one of main's attached, 3.13 and newer do not survive an audit
 * hook that refuses.  The new interpreter is attached afterwards, unless it is NULL with *why (malloc, or NULL: out of memory). */
static atoll_entry *make_locked(const atoll_blueprint *print, atoll_site *site, char **why) {
    const PyInterpreterConfig config = {
        .use_main_obmalloc = 0,
        .allow_fork = print->wishes.fork,
        .allow_exec = print->wishes.fork,
        .allow_threads = 1,
        .allow_daemon_threads = !print->wishes.no_daemon_threads, /* libraries start them: see stragglers.c */
        .check_multi_interp_extensions = 1,
        .gil = PyInterpreterConfig_OWN_GIL,
    };
    PyThreadState *tstate = NULL;
    if (atoll_tracing_refuses()) {
        *why = strdup(atoll_tracing_refusal);
        return NULL;
    }
    if (!is_there_memory()) {
        return NULL;
    }
    int shortage = atoll_file_shortage();
    if (shortage != 0) {
        *why = strdup(strerror(shortage));
        return NULL;
    }
    atoll_site_begin(site, print->wishes.no_site);
    PyStatus status = Py_NewInterpreterFromConfig(&tstate, &config);
    atoll_site_end(site);
    if (PyStatus_Exception(status) || tstate == NULL) {
        (void)PyThreadState_Swap(NULL);
        *why = strdup(status.err_msg != NULL ? status.err_msg : "unknown reason");
        return NULL;
    }
    (void)atoll_runtime_list_find(); /* which some versions allow only now that there are two */
    PyInterpreterState *interp = PyThreadState_GetInterpreter(tstate);
    atoll_entry *entry = atoll_registry_add(PyInterpreterState_GetID(interp), interp, true);
    if (entry != NULL) {
        atomic_store(&entry->depth, print->depth);
        if (print->wishes.name != NULL) {
            atoll_entry_set_name(entry, print->wishes.name);
        }
    }
    if (entry == NULL || !atoll_account_show(entry) || atoll_builtin_types_compare() < 0 ||
        atoll_tstate_keep(entry, tstate) < 0) {
        int64_t owner = atoll_memory_owner(PyInterpreterState_GetID(interp));
        Py_EndInterpreter(tstate);                       /* nothing has run in it */
        atoll_leftovers_free(owner, ATOLL_KEEPERS_NONE); /* and its account ends before its entry */
        if (entry != NULL) {
            atoll_registry_remove(entry);
            atoll_entry_release(entry);
        }
        return NULL;
    }
    return entry;
}

/* Attached to main: what other interpreters take from it.  0, or -1 with an exception. */
static int learn_from_main(void) {
    atoll_process_note_streams();
    return atoll_datetime_hold(atoll_lifecycle_lock, atoll_lifecycle_unlock) < 0 ? -1
                                                                                 : atoll_builtin_types_note();
}

/* Exit handlers run in main: it must know Atoll, whoever creates the first interpreter; and where something is called in it. */
int atoll_interp_know_main(atoll_state *from) {
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
        atoll_session *s = atoll_session_open(entry);
        rc = s != NULL ? atoll_session_enter(s, from) : -1;
        if (rc == 0) {
            bool ready = atoll_state_ensure() != NULL && learn_from_main() == 0;
            char *why = ready ? NULL : atoll_interp_exception_text();
            atoll_session_leave(s);
            if (!ready && !atoll_session_interrupted(s)) {
                PyErr_Format(from->error, "Atoll cannot be loaded in the main interpreter: %s",
                             why != NULL ? why : "out of memory");
            }
            rc = ready ? 0 : -1;
            free(why);
        }
        atoll_session_close(s);
    }
    atoll_entry_release(entry);
    return rc;
}

/* From here on, top-level code of modules makes none: a module that does is imported in each of them, without end. */
enum { DEEPEST = 2 };

/* 0, or -1 with an exception. */
static int check_depth(unsigned depth) {
    if (depth <= DEEPEST) {
        return 0;
    }
    PyObject *helper = PyImport_ImportModule("atoll._crossing.places");
    PyObject *done = helper != NULL ? PyObject_CallMethod(helper, "refuse_top_level", NULL) : NULL;
    Py_XDECREF(helper);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

int atoll_blueprint_init(atoll_state *from, const atoll_interp_wishes *wishes, atoll_blueprint *print) {
    *print = (atoll_blueprint){.wishes = *wishes, .depth = atomic_load(&from->entry->depth) + 1};
    if (check_depth(print->depth) < 0) {
        return -1;
    }
    if (atoll_tracing_refuses()) {
        PyErr_SetString(from->error, atoll_tracing_refusal);
        return -1;
    }
    if (atoll_interp_know_main(from) < 0) {
        return -1;
    }
    atoll_parsers_init();
    atoll_site_prove();
    if (from->interp == PyInterpreterState_Main()) {
        atoll_tripped_init();
        atoll_leftovers_init();
    }
    atoll_blocks_init();
    atoll_limits_prepare(&wishes->limits);
    PyObject *sys_path = PySys_GetObject("path"); /* borrowed */
    if (sys_path == NULL || !PyList_Check(sys_path)) {
        PyErr_SetString(PyExc_RuntimeError, "sys.path is not a list");
        return -1;
    }
    return atoll_encode_whole(from->codec, &print->path, sys_path, "sys.path");
}

void atoll_blueprint_clear(atoll_blueprint *print) {
    atoll_message_clear(&print->path);
    atoll_message_clear(&print->imports);
}

static const char at_exit[] = "no interpreter can be created while the process exits";

/* 0, or -1 with an exception. */
static int prepare_spare(atoll_state *from, atoll_entry *entry, const atoll_blueprint *print,
                         const atoll_stale *stale) {
    atoll_session *s = atoll_session_open(entry);
    int rc = s != NULL ? atoll_session_enter(s, from) : -1;
    if (rc == 0) {
        rc = atoll_interp_prepare(entry->state, print, stale);
        char *why = rc < 0 ? atoll_interp_exception_text() : NULL;
        atoll_session_leave(s);
        if (rc < 0 && !atoll_session_interrupted(s)) {
            PyErr_Format(from->error, "interpreter creation failed: %s", why != NULL ? why : "out of memory");
        }
        free(why);
    }
    atoll_session_close(s);
    return rc;
}

/* CPython asks audit hooks only where a thread state is attached, which for make_locked() none is. */
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

/* One that is made for the main thread by another one. */
typedef struct {
    const atoll_blueprint *print;
    atoll_signal_mask signals;
    atoll_entry *entry;
    char *why;
    _Atomic(uint32_t) done;
} commission;

static void carry_out(void *raw) {
    commission *c = raw;
    atoll_signal_mask_set(&c->signals); /* for what site starts */
    atoll_thread_name("atoll_create");
    c->entry = atoll_interp_create_detached(c->print, &c->why);
    if (c->entry != NULL) {
        PyEval_RestoreThread(atoll_tstate_of(c->entry));
        atoll_tstate_discard(c->entry);
    }
    _Atomic(uint32_t) *done = &c->done;
    atomic_store(done, 1); /* from here on it may be gone: only its address is used */
    atoll_word_wake(done, 1);
}

/* Where that takes the main thread half of the time and more, another one makes it. */
static atoll_entry *create_elsewhere(const atoll_blueprint *print, char **why) {
    commission c = {.print = print};
    if (ATOLL_CREATION_LOOKS_FOR_STACK && atoll_thread_is_main()) {
        atoll_signal_mask_get(&c.signals);
        if (atoll_thread_start(carry_out, &c, 0) == 0) {
            while (atomic_load(&c.done) == 0) {
                (void)atoll_word_wait(&c.done, 0, INFINITY);
            }
            *why = c.why;
            return c.entry;
        }
    }
    return atoll_interp_create_detached(print, why);
}

static atoll_entry *create(atoll_state *from, const atoll_interp_wishes *wishes) {
    atoll_interp_sweep(from);
    atoll_blueprint print;
    if (audit_creation(from) < 0 || atoll_blueprint_init(from, wishes, &print) < 0) {
        return NULL;
    }
    atoll_stale stale;
    atoll_entry *entry = atoll_interp_exiting() ? NULL : atoll_the_pools->take_spare(&print, &stale);
    if (entry != NULL &&
        (!atoll_tstate_is_stale(&stale) || prepare_spare(from, entry, &print, &stale) == 0)) {
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
    entry = create_elsewhere(&print, &why);
    PyEval_RestoreThread(here);
    if (entry != NULL) {
        atoll_entry_open(entry); /* and may be closed at once */
    } else if (why != NULL && strcmp(why, at_exit) == 0) {
        PyErr_SetString(from->error, at_exit);
    } else {
        PyErr_Format(from->error, "interpreter creation failed: %s", why != NULL ? why : "out of memory");
    }
    free(why);
    atoll_blueprint_clear(&print);
    return entry;
}

atoll_entry *atoll_interp_create(atoll_state *from, const atoll_interp_wishes *wishes) {
    uint64_t began = atoll_trace_begin();
    atoll_entry *entry = create(from, wishes);
    if (entry != NULL) {
        atoll_trace_end(began, ATOLL_TRACE_CREATING, from->interp_id, (uint64_t)entry->id);
    }
    return entry;
}

atoll_entry *atoll_interp_create_detached(const atoll_blueprint *print, char **why) {
    uint64_t began = atoll_trace_begin();
    atoll_site site;
    atoll_entry *entry = NULL;
    *why = NULL;
    atoll_interp_work_begin();
    atoll_lifecycle_lock_detached();
    if (atoll_interp_exiting()) {
        *why = strdup(at_exit);
    } else {
        entry = make_locked(print, &site, why);
    }
    atoll_lifecycle_unlock();
    atoll_interp_work_end(); /* an entry shows the rest */
    if (entry == NULL) {
        return NULL;
    }
    bool ready = settle_in(entry, print, &site, why);
    (void)PyThreadState_Swap(NULL);
    atoll_trace_end(began, ATOLL_TRACE_CREATE, entry->id, 0);
    if (!ready) {
        atoll_interp_end_failed(entry);
        return NULL;
    }
    return entry;
}
