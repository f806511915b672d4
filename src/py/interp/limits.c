/* Limits of interpreters: create(memory_limit=, cpu_limit=), and a pool's worker_limits.
 *
 * Memory is counted and refused where it is taken (py/memory/account.c).  A limit is set when the interpreter is ready, before anything of a
 * user's runs in it; what it has taken until then counts.  It is lifted when the interpreter is freed.
 *
 * Locks: none.
 */
#include "py/interp/limits.h"

#include "py/memory/memory.h"

#define LEAST_FREE (256 * 1024) /* bytes that are to be left at the beginning */

void atoll_limits_prepare(const atoll_limits *limits) {
    if (limits->memory != 0) {
        atoll_blocks_note_all();
    }
}

bool atoll_limits_count_all(void) { return atoll_blocks_notes_all(); }

int atoll_limits_set(atoll_entry *entry, const atoll_limits *limits) {
    if (limits->memory == 0) {
        return 0;
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
    atoll_account_set_limit(entry, limits->memory);
    return 0;
}
