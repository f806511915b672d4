/* What clones call for threads, keys, signals and processors: core/clone has it, here it is told whose it is.
 *
 * Keys are CPython's where they are made by its functions (Py_tss_t): the system's number of one is read out of the struct, and where
 * it is not found there, the clone that has the key stays mapped.  No lock; any thread may call, attached to anything or nothing.
 */
#include "py/extension/foreign.h"

#include <stdlib.h>

static _Atomic(int) interpreters; /* that have clones, or could */

void atoll_foreign_count(int count) { atomic_store(&interpreters, count); }

void atoll_foreign_count_more(int change) { atomic_fetch_add(&interpreters, change); }

/* ---- thread-specific data ---- */

/* Whether the struct has the system's number of the key where it is expected. */
static bool is_number_of(Py_tss_t *key) {
    bool known = PyThread_tss_set(key, key) == 0 && pthread_getspecific(ATOLL_TSS_NUMBER(key)) == key;
    return PyThread_tss_set(key, NULL) == 0 && known;
}

static int tss_create(void *owner, void *raw) {
    Py_tss_t *key = raw;
    if (PyThread_tss_is_created(key)) {
        return 0;
    }
    atoll_foreign *f = owner;
    int rc = PyThread_tss_create(key);
    if (rc == 0 && is_number_of(key)) {
        /* Not counted when there is no memory for that: then the key is never given back. */
        (void)atoll_natives_key_add(f->natives, ATOLL_TSS_NUMBER(key));
    } else if (rc == 0) {
        atomic_store(&f->clones->is_kept, true); /* whoever has the key would use it when the clone is gone */
    }
    return rc;
}

static void tss_delete(void *owner, void *raw) {
    atoll_natives *natives = ((atoll_foreign *)owner)->natives;
    Py_tss_t *key = raw;
    if (!PyThread_tss_is_created(key)) {
        return;
    }
    if (atomic_load(&natives->over)) {
        ATOLL_TSS_FORGET(key); /* it was deleted, and the number may be another's by now */
        return;
    }
    atoll_natives_key_remove(natives, ATOLL_TSS_NUMBER(key));
    PyThread_tss_delete(key);
}

static void tss_free(void *owner, void *raw) {
    if (raw != NULL) {
        tss_delete(owner, raw);
        PyThread_tss_free(raw);
    }
}

static int thread_create(void *owner, pthread_t *thread, const pthread_attr_t *attributes,
                         void *(*run)(void *), void *arg) {
    return atoll_natives_thread(((atoll_foreign *)owner)->natives, thread, attributes, run, arg);
}

static bool start_python_thread(void (*begin)(void *), void *thread, void *started) {
    unsigned long ident = PyThread_start_new_thread(begin, thread);
    *(unsigned long *)started = ident;
    return ident != PYTHREAD_INVALID_THREAD_ID;
}

static unsigned long python_thread_start(void *owner, void *(*run)(void *), void *arg) {
    unsigned long started = PYTHREAD_INVALID_THREAD_ID;
    (void)atoll_natives_thread_by(((atoll_foreign *)owner)->natives, start_python_thread, &started, run, arg);
    return started;
}

static void std_thread_start(void *owner, const void *caller, void *thread, void **state,
                             void (*depend)(void)) {
    atoll_foreign *f = owner;
    void *scope = atoll_clones_scope(f->clones, caller, ATOLL_SHIM_STD_THREAD);
    atoll_natives_std_thread(f->natives, scope, thread, state, depend);
}

static const char *original(void *owner, const void *address) {
    const atoll_clone *clone = atoll_clones_at(((atoll_foreign *)owner)->clones, address);
    return clone != NULL ? clone->file : NULL;
}

static int key_create(void *owner, pthread_key_t *key, void (*destroy)(void *)) {
    return atoll_natives_key_create(((atoll_foreign *)owner)->natives, key, destroy);
}

static int key_delete(void *owner, pthread_key_t key) {
    return atoll_natives_key_delete(((atoll_foreign *)owner)->natives, key);
}

static int at_thread_end(void *owner, void (*destroy)(void *), void *object) {
    return atoll_natives_at_thread_end(((atoll_foreign *)owner)->natives, destroy, object);
}

static int signal_action(void *owner, int number, const struct sigaction *action, struct sigaction *old) {
    return atoll_clone_signal_action(((atoll_foreign *)owner)->clones, number, action, old);
}

/* ---- threads of pools ---- */

/* ATOLL_NATIVE_THREADS, or this interpreter's share of the processors. */
static long processors(void *Py_UNUSED(owner)) {
    const char *wanted = getenv("ATOLL_NATIVE_THREADS");
    long given = wanted != NULL ? strtol(wanted, NULL, 10) : 0;
    if (given > 0) {
        return given;
    }
    int sharers = atomic_load(&interpreters);
    long share = atoll_cpu_count() / (sharers > 0 ? sharers : 1);
    return share > 0 ? share : 1;
}

void atoll_foreign_uses_natives(atoll_shim *shim) {
    shim->tss_create = tss_create;
    shim->tss_delete = tss_delete;
    shim->tss_free = tss_free;
    shim->thread_create = thread_create;
    shim->python_thread_start = python_thread_start;
    shim->std_thread_start = std_thread_start;
    shim->wait_begins = atoll_natives_wait_begins;
    shim->wait_ends = atoll_natives_wait_ends;
    shim->signals_changed = atoll_natives_signals_changed;
    shim->key_create = key_create;
    shim->key_delete = key_delete;
    shim->signal_action = signal_action;
    shim->at_thread_end = at_thread_end;
    shim->original = original;
    shim->processors = processors;
}
