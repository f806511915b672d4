/* CPython's list of interpreters: where it begins, and how all but one are taken off it in a forked child.
 *
 * The list hangs on a word in the runtime's state (newest first; the main interpreter, the oldest, is the last), and
 * the word behind it points to the main interpreter.  Neither is to be set by any function, so they are looked for:
 *
 *   3.13 and newer publish the place of the first word, for debuggers (compat.h)
 *   3.12 does not: while there are two interpreters or more, the place is the one where these two pointers follow
 *   each other, if there is exactly one such place
 *
 * Neither is believed.  Before they are changed, both words have to be what PyInterpreterState_Head() and
 * PyInterpreterState_Main() return, and when they were changed, these two have to return what was written; otherwise all
 * is put back.  In a forked child nobody else reads or writes them at that time, so this is a proof.
 *
 * One more word has the main interpreter: PyGILState_Ensure() attaches a thread that has no thread state to what it points to,
 * and so does much of CPython (tracemalloc).  Where another interpreter becomes the main one, it has to be
 * changed, too, or such a thread would wait for a GIL that nobody gives back.  No function returns it in every version.
 * But the main interpreter's state is part of the runtime's, and in front of that no other word but these three points to it: if
 * there is exactly one besides the two, it is that one.  Else it is left alone.
 *
 * And since 3.13 one word has the thread state that is told of signals, the main thread's in the main interpreter (CPython leaves it
 * alone in a child; one that a thread has forked is deaf there).  It is behind the list; it is changed if it is a
 * thread state of the interpreter that was main.
 *
 * No thread state is needed, nothing is allocated and no lock is taken, as in a signal handler.
 */
#include "py/interp/runtime_list.h"

#include "port/port.h"

#include <stdatomic.h>

#define TRIES 4

static _Atomic(size_t) place; /* 0: not known */
static _Atomic(bool) hidden;
static _Atomic(size_t) size; /* of the runtime's state: to be asked for before a fork */

typedef _Atomic(PyInterpreterState *) reference;

static reference *links_at(size_t at) { return (reference *)(void *)(atoll_runtime + at); }

static bool fits(size_t at, PyInterpreterState *head, PyInterpreterState *oldest) {
    const reference *links = links_at(at);
    return atomic_load_explicit(&links[0], memory_order_relaxed) == head &&
           atomic_load_explicit(&links[1], memory_order_relaxed) == oldest;
}

/* The only place that fits, or 0. */
static size_t look_for(PyInterpreterState *head, PyInterpreterState *oldest) {
    size_t found = 0;
    size_t end = atomic_load(&size);
    for (size_t at = sizeof(reference); at + 2 * sizeof(reference) <= end; at += sizeof(reference)) {
        if (fits(at, head, oldest)) {
            if (found != 0) {
                return 0;
            }
            found = at;
        }
    }
    return found;
}

bool atoll_runtime_list_find(void) {
    PyInterpreterState *oldest = PyInterpreterState_Main();
    size_t published = atoll_compat_published_head();
    if (atomic_load(&size) == 0) {
        atomic_store(&size, atoll_dl_symbol_size(atoll_runtime));
    }
    /* Others may add interpreters meanwhile. */
    for (int i = 0; i < TRIES && atomic_load(&place) == 0 && !atomic_load(&hidden); i++) {
        PyInterpreterState *head = PyInterpreterState_Head();
        size_t at = published != 0 && fits(published, head, oldest) ? published
                    : head != oldest                                ? look_for(head, oldest)
                                                                    : 0;
        if (at != 0 && PyInterpreterState_Head() == head) {
            atomic_store(&place, at);
        }
    }
    return atomic_load(&place) != 0;
}

void atoll_runtime_list_hide(void) {
    atomic_store(&hidden, true);
    atomic_store(&place, 0);
}

size_t atoll_runtime_list_place(void) { return atomic_load(&place); }

/* What threads without a thread state are attached to: another interpreter instead of the one that was main. */
static void redirect_gil_state(const PyInterpreterState *was, PyInterpreterState *now) {
    uintptr_t begin = (uintptr_t)atoll_runtime;
    uintptr_t inside = (uintptr_t)was;
    if (inside <= begin || inside >= begin + atomic_load(&size)) {
        return;
    }
    reference *found = NULL;
    for (size_t at = 0; at + sizeof(reference) <= inside - begin; at += sizeof(reference)) {
        reference *word = links_at(at);
        if (atomic_load_explicit(word, memory_order_relaxed) == was) {
            if (found != NULL) {
                return;
            }
            found = word;
        }
    }
    if (found != NULL) {
        atomic_store(found, now);
    }
}

/* Who is told of signals: the thread that has forked instead of the one that was main. */
static void redirect_signals(PyInterpreterState *was, PyThreadState *now) {
    typedef _Atomic(PyThreadState *) state_reference;
    state_reference *word =
        (state_reference *)(void *)(atoll_runtime + atomic_load(&place)) + ATOLL_MAIN_THREAD_STATE;
    for (PyThreadState *t = PyInterpreterState_ThreadHead(was); t != NULL; t = PyThreadState_Next(t)) {
        if (t == atomic_load_explicit(word, memory_order_relaxed)) {
            atomic_store(word, now);
            return;
        }
    }
}

bool atoll_runtime_list_keep_only(PyInterpreterState *interp) {
    PyInterpreterState *head = PyInterpreterState_Head();
    PyInterpreterState *oldest = PyInterpreterState_Main();
    if (head == interp && oldest == interp) {
        return true;
    }
    if (!atoll_runtime_list_find() || !fits(atomic_load(&place), head, oldest)) {
        return false;
    }
    reference *links = links_at(atomic_load(&place));
    atomic_store(&links[0], interp);
    atomic_store(&links[1], interp);
    if (PyInterpreterState_Head() == interp && PyInterpreterState_Main() == interp) {
        if (interp != oldest) {
            redirect_gil_state(oldest, interp);
            if (ATOLL_MAIN_THREAD_STATE != 0) {
                redirect_signals(oldest, atoll_thread_state_attached());
            }
        }
        return true;
    }
    atomic_store(&links[0], head);
    atomic_store(&links[1], oldest);
    return false;
}
