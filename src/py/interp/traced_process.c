/* Traces of the process: who starts, stops and writes them, and how interpreters hear of it.
 *
 * Where somebody starts or stops a trace, that interpreter puts its functions in place, or takes them away (traced.c), at once.  The others
 * get a job (core/registry) for it, which their next session runs, or a pending call when they are busy.  A job looks whether a trace is on
 * when it runs, so the last one is right, whatever came before.  An interpreter that is made while a trace is on has them from the start.
 *
 * ATOLL_TRACE is looked at when main imports Atoll, once in a process.  What is on when the process ends is written then, after all
 * interpreters have ended.  Names of interpreters are told when they end, and when the trace does.
 *
 * Everything runs attached; a trace is written with the thread state detached.  Locks: none of its own.
 * Failure: an interpreter for which there is no memory for a job is traced without imports and collections.
 */
#include "py/interp/export.h"
#include "py/interp/traced.h"

#include <errno.h>
#include <stdlib.h>

/* ---- all interpreters ---- */

typedef struct {
    atoll_job job;
    atoll_entry *entry; /* which has the job */
} settling;

static void run_job(atoll_job *job, bool alive) {
    /* What changes from here on needs another; what has changed before is seen from here on, by who finds this one due. */
    (void)atomic_exchange(&((settling *)job)->entry->settle_due, false);
    if (alive) {
        atoll_traced_settle();
    }
    free(job);
}

static void ask_to_settle(atoll_entry *entry) {
    if (entry->interp == PyInterpreterState_Get()) {
        atoll_traced_settle();
        return;
    }
    if (atomic_exchange(&entry->settle_due, true)) {
        return;
    }
    settling *s = malloc(sizeof *s);
    if (s == NULL) {
        atomic_store(&entry->settle_due, false);
        return;
    }
    *s = (settling){{.run = run_job}, entry};
    atoll_interp_hand_over(entry, &s->job);
}

static void tell_name(atoll_entry *entry) {
    bool is_main = entry->interp == PyInterpreterState_Main() && entry->name[0] == '\0';
    atoll_trace_call_interp(entry->id, is_main ? "main" : entry->name);
}

static bool is_there(const atoll_entry *entry) {
    return atoll_entry_life(entry) == ATOLL_LIFE_SPARE || atoll_entry_is_open(entry);
}

static void for_all(void (*what)(atoll_entry *entry)) {
    atoll_entry *entry = atoll_registry_find(PyInterpreterState_GetID(PyInterpreterState_Main()));
    if (entry != NULL) {
        what(entry);
        atoll_entry_release(entry);
    }
    for (int64_t below = INT64_MAX; (entry = atoll_registry_newest(below, is_there)) != NULL;) {
        below = entry->id;
        what(entry);
        atoll_entry_release(entry);
    }
}

/* ---- beginning and end ---- */

/* error: an errno code; about: what an OSError begins with. */
static void raise_error(const char *path, int error, const char *about) {
    PyObject *name = PyUnicode_DecodeFSDefault(path);
    if (name == NULL) {
        return;
    }
    if (error == EBUSY) {
        PyErr_Format(PyExc_RuntimeError, "the trace %R cannot be begun: one of this process is on", name);
    } else if (error == ENOMEM) {
        PyErr_NoMemory();
    } else {
        const char *why = error == EWOULDBLOCK ? "another trace is being written to it"
                          : error == EINVAL    ? "a trace is written to a regular file"
                                               : strerror(error);
        PyObject *text = PyUnicode_FromFormat("%s%s", about, why);
        PyObject *exc = text != NULL ? PyObject_CallFunction(PyExc_OSError, "iOO", error, text, name) : NULL;
        Py_XDECREF(text);
        if (exc != NULL) {
            PyErr_SetRaisedException(exc);
        }
    }
    Py_DECREF(name);
}

uint32_t atoll_traced_start(const char *path, uint64_t most) {
    int error;
    uint32_t trace = atoll_trace_start(path, most, &error);
    if (trace == 0) {
        raise_error(path, error, "");
        return 0;
    }
    for_all(ask_to_settle);
    return trace;
}

bool atoll_traced_stop(uint32_t trace, atoll_trace_result *result) {
    for_all(tell_name);
    PyThreadState *tstate = PyEval_SaveThread();
    bool stopped = atoll_trace_stop(trace, result);
    PyEval_RestoreThread(tstate);
    if (stopped) {
        for_all(ask_to_settle);
    } else {
        atoll_traced_settle(); /* in a forked child nobody else does */
    }
    return stopped;
}

/* ---- the environment's ---- */

enum { MOST = 1000000 };

/* The path with the process's number for each %p; malloc, or NULL with MemoryError. */
static char *expand(const char *pattern) {
    char number[16];
    int digits = snprintf(number, sizeof number, "%d", atoll_thread_main_number());
    char *path = malloc(strlen(pattern) * sizeof number + 1);
    char *to = path;
    for (const char *from = pattern; path != NULL && *from != '\0';) {
        if (from[0] == '%' && from[1] == 'p') {
            memcpy(to, number, (size_t)digits);
            to += digits;
            from += 2;
        } else {
            *to++ = *from++;
        }
    }
    if (path == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    *to = '\0';
    return path;
}

int atoll_traced_from_environment(void) {
    static bool looked;
    const char *pattern = getenv("ATOLL_TRACE");
    if (looked || pattern == NULL || pattern[0] == '\0') {
        return 0;
    }
    looked = true;
    char *path = expand(pattern);
    if (path == NULL) {
        return -1;
    }
    int error = 0;
    int rc = 0;
    if (atoll_trace_start(path, MOST, &error) != 0) {
        atoll_traced_settle();
    } else if (error ==
               EWOULDBLOCK) { /* this process's parent does, which was started with the same environment */
        rc = PyErr_WarnFormat(PyExc_RuntimeWarning, 1,
                              "ATOLL_TRACE: another process is writing a trace to '%s'; this one is not "
                              "traced (%%p in the name stands for the process's number)",
                              path);
    } else {
        raise_error(path, error, "ATOLL_TRACE: ");
        rc = -1;
    }
    free(path);
    return rc;
}

void atoll_traced_at_exit(void) {
    atoll_trace_result result;
    uint32_t trace = atomic_load(&atoll_trace_on);
    /* Who stops it now, in another thread, is waited for. */
    bool stopped = trace != 0 ? atoll_traced_stop(trace, &result) : atoll_trace_stop(0, &result);
    if (!stopped) {
        return;
    }
    if (result.error != 0) {
        PySys_WriteStderr("atoll: the trace could not be written: %s\n", strerror(result.error));
    } else if (result.dropped != 0) {
        PySys_WriteStderr("atoll: the trace has the first %llu events; %llu were dropped\n",
                          (unsigned long long)result.events, (unsigned long long)result.dropped);
    }
}
