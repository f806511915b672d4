/* Argument parsers of clones.
 *
 * An extension module made with CPython's own tools keeps the parser of each function's arguments in a static variable.  At
 * the first use CPython puts it on a list of the process, which it goes through when the process ends: by then a clone that
 * had some is unloaded.  So before that they are taken off the list.
 *
 * Where the list begins is private to CPython: somewhere in _PyRuntime.  A parser of Atoll's own, used once, is the first
 * on it, so the word of _PyRuntime that has its address is the one.  When another thread's came in between, a second one
 * is tried.
 *
 * Other threads may put parsers on the list at the same time, at its beginning only and without a lock that could be
 * had.  What is behind the first one can be unlinked in peace; the first one is exchanged atomically.  CPython 3.12 writes
 * the beginning without looking again, so the list is looked through until nothing is found twice in a row.
 *
 * The names that a parser has made are objects of the main interpreter (3.13 and newer), or of one that is gone; they are
 * lost: some bytes for each function that was called with keywords.
 */
#include "py/extension/parsers.h"

#include "port/port.h"

#include <string.h>

#define TRIES 4

static const char *const keywords[] = {"none", NULL};
static atoll_arg_parser own[TRIES];
static _Atomic(atoll_arg_parser *) *list;            /* where it begins, or NULL */
static atoll_mutex one_at_a_time = ATOLL_MUTEX_INIT; /* a leaf */

void atoll_parsers_fork(atoll_fork_moment when) { atoll_mutex_fork(&one_at_a_time, when); }

static _Atomic(atoll_arg_parser *) *find(const atoll_arg_parser *first) {
    size_t size = atoll_dl_symbol_size(atoll_runtime);
    for (size_t at = 0; at + sizeof(void *) <= size; at += sizeof(void *)) {
        _Atomic(atoll_arg_parser *) *word = (void *)(atoll_runtime + at);
        if (atomic_load(word) == first) {
            return word;
        }
    }
    return NULL;
}

void atoll_parsers_init(void) {
    static _Atomic(bool) done;
    if (atomic_exchange(&done, true)) {
        return;
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *none = PyTuple_New(0);
    for (int i = 0; list == NULL && none != NULL && i < TRIES; i++) {
        PyObject *value = NULL;
        own[i].format = "|O:none";
        own[i].keywords = keywords;
        if (atoll_parse_arguments(none, NULL, &own[i], &value)) {
            list = find(&own[i]);
        }
    }
    Py_XDECREF(none);
    PyErr_SetRaisedException(exc);
}

static bool is_in(const atoll_arg_parser *parser, uintptr_t low, uintptr_t high) {
    return (uintptr_t)parser >= low && (uintptr_t)parser < high;
}

/* One walk; whether it found any. */
static bool unlink_all(uintptr_t low, uintptr_t high) {
    bool found = false;
    atoll_arg_parser *parser;
    while (is_in(parser = atomic_load(list), low, high)) {
        found = true;
        (void)atomic_compare_exchange_strong(list, &parser, parser->next);
    }
    for (; parser != NULL; parser = parser->next) {
        while (is_in(parser->next, low, high)) {
            found = true;
            parser->next = parser->next->next;
        }
    }
    return found;
}

bool atoll_parsers_forget(uintptr_t low, uintptr_t high) {
    if (list == NULL) {
        return false;
    }
    atoll_mutex_lock(&one_at_a_time);
    for (int quiet = 0; quiet < 2;) {
        quiet = unlink_all(low, high) ? 0 : quiet + 1;
        atoll_yield();
    }
    atoll_mutex_unlock(&one_at_a_time);
    return true;
}
