/* Limits of interpreters: create(memory_limit=, cpu_limit=), and a pool's worker_limits.
 *
 * Memory is counted and refused where it is taken (py/memory/account.c).  A limit is set when the interpreter is ready, before anything of a
 * user's runs in it; what it has taken until then counts.  It is lifted when the interpreter is freed.
 *
 * A soft limit is noticed where memory is taken as well, with any lock of CPython's held, and told in a pending call.  It belongs to the
 * interpreter, which sets it itself (atoll._interp.limits) when the caller of create() asks it to.
 *
 * Processor time is measured by the runs that take it, and by the keeper (budget.c).
 *
 * Locks: none.
 */
#include "py/interp/limits.h"

#include "py/interp/appending.h"
#include "py/interp/budget.h"
#include "py/memory/memory.h"

#define LEAST_FREE (256 * 1024) /* bytes that are to be left at the beginning */

void atoll_limits_prepare(const atoll_limits *limits) {
    if (limits->memory != 0 || limits->soft_memory != 0) {
        atoll_blocks_note_all();
    }
}

bool atoll_limits_count_all(void) { return atoll_blocks_notes_all(); }

void atoll_limits_count_arrays(const atoll_entry *entry, void **numpy) {
    if (atoll_account_limit(entry) != 0 || atoll_account_soft(entry) != 0) {
        (void)atoll_arrays_count(entry, numpy); /* a numpy that is not known is not counted */
    }
}

/* Arrays of a numpy that was there before there was a limit.  0, or -1 with an exception. */
static int count_arrays(void) {
    PyObject *numpy = atoll_python_module_loaded("numpy");
    if (numpy == NULL) {
        return 0;
    }
    Py_DECREF(numpy);
    PyObject *quirks = PyImport_ImportModule("atoll._extension.quirks");
    PyObject *done = quirks != NULL ? PyObject_CallMethod(quirks, "count_arrays", NULL) : NULL;
    Py_XDECREF(done);
    Py_XDECREF(quirks);
    return done != NULL ? 0 : -1;
}

/* In a pending call of the interpreter that has crossed its soft limit. */
static int on_crossed(void *Py_UNUSED(arg)) {
    atoll_state *state = atoll_state_of(PyInterpreterState_Get());
    if (state == NULL || state->entry == NULL) {
        return 0;
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *helper = PyImport_ImportModule("atoll._interp.limits");
    PyObject *done = helper != NULL
                         ? PyObject_CallMethod(helper, "crossed", "KK",
                                               (unsigned long long)atoll_account_used(state->entry),
                                               (unsigned long long)atoll_account_soft(state->entry))
                         : NULL;
    if (done == NULL) {
        PyErr_WriteUnraisable(helper);
    }
    Py_XDECREF(done);
    Py_XDECREF(helper);
    PyErr_SetRaisedException(exc);
    return 0;
}

/* In the middle of an allocation. */
static void tell(int64_t id) {
    atoll_entry *entry = atoll_registry_find(id);
    if (entry != NULL && atoll_entry_guard(entry)) {
        (void)atoll_compat_add_pending_call(entry->interp, on_crossed, NULL);
        atoll_entry_unguard(entry);
    }
    if (entry != NULL) {
        atoll_entry_release(entry);
    }
}

enum { PROBE = 64 * 1024, TRIES = 20 };

/* Whether what the interpreter takes comes by where it is counted.  0, or -1 with an exception. */
static int prove_counted(const atoll_entry *entry) {
    atoll_blocks_check(); /* puts back what somebody has taken out */
    for (int i = 0; i < TRIES;
         i++) { /* 3.12 has another allocator for a moment while another interpreter is made */
        uint64_t before = atoll_account_used(entry);
        void *probe = PyObject_Malloc(PROBE);
        bool counted = probe == NULL || atoll_account_used(entry) >= before + PROBE;
        PyObject_Free(probe);
        if (counted) {
            return 0;
        }
        atoll_yield();
    }
    PyErr_SetString(
        PyExc_RuntimeError,
        "the memory of an interpreter cannot be limited: Python's allocator of objects is another "
        "one (PYTHONMALLOC=malloc, or something has replaced it)");
    return -1;
}

int atoll_limits_set_soft(atoll_entry *entry, uint64_t bytes) {
    if (prove_counted(entry) < 0) {
        return -1;
    }
    atoll_account_set_soft(entry, bytes, tell);
    return count_arrays();
}

PyObject *atoll_limits_report(atoll_entry *entry, PyObject *function) {
    atoll_run *run = atoll_run_innermost();
    bool deaf = run != NULL && run->deaf;
    atoll_account_relax(entry, true);
    if (run != NULL && atoll_budget_is_limited(entry) && atoll_budget_is_spent(entry)) {
        atoll_run_set_deaf(run, true);
    }
    PyObject *result = PyObject_CallNoArgs(function);
    if (run != NULL) {
        atoll_run_set_deaf(run, deaf);
    }
    atoll_account_relax(entry, false);
    return result;
}

uint64_t atoll_limits_refusals(const atoll_entry *entry) { return atoll_account_refusals(entry); }

uint64_t atoll_limits_begin_task(atoll_entry *entry, bool is_guest) {
    if (!is_guest && atoll_budget_is_limited(entry)) {
        atoll_budget_renew(entry);
    }
    return atoll_limits_refusals(entry);
}

PyObject *atoll_limits_error(atoll_state *state, const char *limit, PyObject *amount, const char *format) {
    PyObject *text = amount != NULL ? PyUnicode_FromFormat(format, amount) : NULL;
    PyObject *exc = text != NULL ? PyObject_CallOneArg(state->limit_exceeded, text) : NULL;
    PyObject *name = exc != NULL ? PyUnicode_FromString(limit) : NULL;
    if (name == NULL || PyObject_SetAttrString(exc, "limit", name) < 0 ||
        PyObject_SetAttrString(exc, "amount", amount) < 0) {
        Py_CLEAR(exc);
    }
    Py_XDECREF(name);
    Py_XDECREF(text);
    Py_XDECREF(amount);
    return exc;
}

int atoll_limits_set(atoll_entry *entry, const atoll_limits *limits) {
    if (limits->cpu != 0) {
        double ns = limits->cpu * 1e9;
        uint64_t limit = ns < 1 ? 1 : ns < 9e18 ? (uint64_t)ns : INT64_MAX;
        atomic_store(&entry->cpu_limit, limit);
        atoll_budget_renew(entry);
        atoll_stat_set(entry->stats, ATOLL_STAT_CPU_LIMIT_NS, limit);
    }
    if (limits->memory == 0) {
        return 0;
    }
    if (prove_counted(entry) < 0) {
        return -1;
    }
    /* A MemoryError is to be described. */
    PyObject *helper = PyImport_ImportModule("atoll._interp.excinfo");
    PyObject *done = helper != NULL ? PyObject_CallMethod(helper, "prepare", NULL) : NULL;
    Py_XDECREF(done);
    Py_XDECREF(helper);
    if (done == NULL) {
        return -1;
    }
    uint64_t used = atoll_account_used(entry);
    if (used + LEAST_FREE > limits->memory) {
        PyErr_Format(PyExc_ValueError,
                     "memory_limit of %llu bytes is too small: a new interpreter takes %llu, and needs more",
                     (unsigned long long)limits->memory, (unsigned long long)used);
        return -1;
    }
    atoll_appending_make_safe();
    atoll_account_set_limit(entry, limits->memory);
    return count_arrays();
}
