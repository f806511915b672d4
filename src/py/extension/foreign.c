/* Clones' calls into Python that would otherwise mean the main interpreter.
 *
 * A thread that a library has started itself enters Python with PyGILState_Ensure(), which in CPython always is the
 * main interpreter.  Here it is the one that the clone belongs to:
 *
 *   attached there already          nothing to do
 *   attached there before, and has  the same thread state again: PyGILState_Ensure() inside of
 *   given the GIL back since        Py_BEGIN_ALLOW_THREADS, or inside of another PyGILState_Ensure()
 *   anything else                   a new thread state, deleted by the PyGILState_Release() that fits; a thread state of
 *                                   another interpreter that was attached is so again afterwards
 *
 * What PyGILState_Release() has to do is on a stack of the thread's own.  An Ensure that had nothing to do is not on it.
 *
 * Closing.  `inside` counts the threads that have a thread state made here.  Whoever closes the interpreter sets the
 * phase, then waits for the count to fall to zero; a thread that wants to enter counts itself, then looks at the phase,
 * and takes itself back when it is not open.  Both are sequentially consistent, so one of them sees the other.  A
 * thread that finds the door shut sleeps until it is open again (the close was refused) or the interpreter is
 * gone: then it sleeps for ever, as CPython has it do when the process ends, and the clone stays mapped
 * because the thread is counted (core/clone/natives.h).
 *
 *   operation x operation   ensure       add_pending_call   shut              ending
 *   ensure                  both         both               waits outside     sleeps
 *   add_pending_call        both         both               both              refused
 *
 * A view of main (PEP 788) can be had by any thread, with or without a GIL, also when the interpreter is gone: then it leads nowhere.
 * There is one for all of an interpreter's clones, which nobody but this closes.
 *
 * Locks: `lock` is a leaf and never held while a GIL is awaited.
 */
#include "py/extension/foreign.h"

#include <stdlib.h>
#include <string.h>

#define GRACE 5.0 /* seconds that a foreign thread gets to leave an interpreter that is to be closed */
#define FEW 8

/* ---- the thread's stack ---- */

typedef struct {
    PyThreadState *before; /* what was attached: NULL, or of another interpreter */
    PyThreadState *own;
    bool made;
} entrance;

static _Thread_local struct {
    entrance few[FEW];
    entrance *many; /* NULL as long as the few are enough */
    size_t room;
    size_t depth;
} entrances;

static entrance *push(void) {
    size_t depth = entrances.depth;
    if (depth >= FEW && depth - FEW >= entrances.room) {
        size_t room = entrances.room * 2 + 32;
        entrance *many = realloc(entrances.many, room * sizeof *many);
        if (many == NULL) {
            Py_FatalError("PyGILState_Ensure: out of memory"); /* it has no way to fail */
        }
        entrances.many = many;
        entrances.room = room;
    }
    entrances.depth++;
    return depth < FEW ? &entrances.few[depth] : &entrances.many[depth - FEW];
}

static entrance pop(void) {
    if (entrances.depth == 0) {
        Py_FatalError("PyGILState_Release: without PyGILState_Ensure");
    }
    size_t depth = --entrances.depth;
    entrance top = depth < FEW ? entrances.few[depth] : entrances.many[depth - FEW];
    if (depth == FEW) {
        free(entrances.many);
        entrances.many = NULL;
        entrances.room = 0;
    }
    return top;
}

/* How many of this thread's entrances have a thread state that was made here. */
static size_t made_here(const atoll_foreign *f) {
    size_t count = 0;
    for (size_t i = 0; i < entrances.depth; i++) {
        const entrance *e = i < FEW ? &entrances.few[i] : &entrances.many[i - FEW];
        count += e->made && PyThreadState_GetInterpreter(e->own) == f->interp;
    }
    return count;
}

/* ---- the door ---- */

static void leave(atoll_foreign *f) {
    atomic_fetch_sub(&f->inside, 1);
    if (atomic_load(&f->phase) != ATOLL_FOREIGN_OPEN) {
        atoll_mutex_lock(&f->lock);
        atoll_cond_broadcast(&f->changed);
        atoll_mutex_unlock(&f->lock);
    }
}

/* Counts the thread in when the phase is at most this, or it is the one that closes. */
static bool try_enter(atoll_foreign *f, int phase) {
    atomic_fetch_add(&f->inside, 1);
    if (atomic_load(&f->phase) <= phase) {
        return true;
    }
    if (atomic_load(&f->phase) != ATOLL_FOREIGN_ENDED &&
        pthread_equal(atomic_load(&f->closer), pthread_self())) {
        return true;
    }
    leave(f);
    return false;
}

/* No thread state is attached.  Returns once the thread is counted in, or never. */
static void enter_detached(atoll_foreign *f) {
    while (!try_enter(f, ATOLL_FOREIGN_OPEN)) {
        atoll_mutex_lock(&f->lock);
        while (atomic_load(&f->phase) == ATOLL_FOREIGN_SHUT) {
            atoll_cond_wait(&f->changed, &f->lock);
        }
        bool over = atomic_load(&f->phase) != ATOLL_FOREIGN_OPEN;
        atoll_mutex_unlock(&f->lock);
        if (over) {
            atoll_thread_park();
        }
    }
}

static void set_phase(atoll_foreign *f, int phase) {
    atoll_mutex_lock(&f->lock);
    atomic_store(&f->phase, phase);
    atoll_cond_broadcast(&f->changed);
    atoll_mutex_unlock(&f->lock);
}

/* No thread state is attached.  Whether all have left before the deadline.  Once the count was zero with the door shut nobody
 * gets in any more; it may grow again for a moment, by threads that find the door shut. */
static bool wait_until_empty(atoll_foreign *f, double deadline) {
    bool empty;
    atoll_mutex_lock(&f->lock);
    while (!(empty = atomic_load(&f->inside) == 0)) {
        double left = deadline - atoll_clock();
        if (left <= 0) {
            break;
        }
        (void)atoll_cond_wait_for(&f->changed, &f->lock, left);
    }
    atoll_mutex_unlock(&f->lock);
    return empty;
}

bool atoll_foreign_shut(atoll_foreign *f, double patience) {
    atomic_store(&f->closer, pthread_self());
    set_phase(f, ATOLL_FOREIGN_SHUT);
    if (atomic_load(&f->inside) == 0) {
        return true;
    }
    PyThreadState *tstate = PyEval_SaveThread();
    bool empty = wait_until_empty(f, atoll_clock() + patience);
    PyEval_RestoreThread(tstate);
    return empty;
}

void atoll_foreign_reopen(atoll_foreign *f) { set_phase(f, ATOLL_FOREIGN_OPEN); }

void atoll_foreign_ending(atoll_foreign *f) {
    atomic_store(&f->closer, pthread_self());
    set_phase(f, ATOLL_FOREIGN_ENDING);
    if (atomic_load(&f->inside) != 0) { /* an Py_AddPendingCall() that is about to return */
        PyThreadState *tstate = PyEval_SaveThread();
        (void)wait_until_empty(f, atoll_clock() + GRACE);
        PyEval_RestoreThread(tstate);
    }
    (void)Py_MakePendingCalls();
    PyErr_Clear();
}

void atoll_foreign_ended(atoll_foreign *f) {
    set_phase(f, ATOLL_FOREIGN_ENDED);
    atoll_foreign_count_more(f->has_clones ? -1 : 0);
    while (f->nexits > 0) { /* nobody adds any more */
        f->exits[--f->nexits]();
    }
}

void atoll_foreign_fork(atoll_foreign *f, atoll_fork_moment when) {
    atoll_mutex_fork(&f->lock, when);
    if (when == ATOLL_FORK_CHILD) {
        atoll_cond_init(&f->changed);
        atomic_store(&f->phase, ATOLL_FOREIGN_OPEN);
        atomic_store(&f->inside, (long)made_here(f));
    }
}

/* ---- PyGILState ---- */

/* The thread state of this interpreter that this thread was last attached with and is detached from, or NULL. */
static PyThreadState *suspended(const atoll_foreign *f) {
    PyThreadState *last = PyGILState_GetThisThreadState();
    return last != NULL && PyThreadState_GetInterpreter(last) == f->interp ? last : NULL;
}

static bool is_attached(const atoll_foreign *f, PyThreadState *current) {
    return current != NULL && PyThreadState_GetInterpreter(current) == f->interp;
}

static int ensure(void *owner) {
    atoll_foreign *f = owner;
    PyThreadState *current = atoll_thread_state_attached();
    if (is_attached(f, current)) {
        return PyGILState_LOCKED;
    }
    PyThreadState *own = current == NULL ? suspended(f) : NULL;
    bool made = own == NULL;
    if (made) {
        if (current != NULL) {
            (void)PyEval_SaveThread();
        }
        enter_detached(f);
        own = PyThreadState_New(f->interp);
        if (own == NULL) {
            Py_FatalError("PyGILState_Ensure: no thread state can be made"); /* CPython's answer, too */
        }
    }
    *push() = (entrance){current, own, made};
    PyEval_RestoreThread(own);
    return PyGILState_UNLOCKED;
}

static void release(void *owner, int state) {
    atoll_foreign *f = owner;
    if (state == PyGILState_LOCKED) {
        return;
    }
    entrance top = pop();
    if (!top.made) {
        (void)PyEval_SaveThread();
        return;
    }
    PyThreadState_Clear(top.own); /* runs code */
    PyThreadState_DeleteCurrent();
    leave(f);
    if (top.before != NULL) {
        PyEval_RestoreThread(top.before);
    }
}

static int check(void *owner) { return is_attached(owner, atoll_thread_state_attached()); }

static void *this_thread_state(void *owner) {
    PyThreadState *current = atoll_thread_state_attached();
    return is_attached(owner, current) ? current : current == NULL ? suspended(owner) : NULL;
}

/* ---- the rest of CPython's ---- */

static int add_pending_call(void *owner, int (*function)(void *), void *arg) {
    atoll_foreign *f = owner;
    if (!try_enter(f, ATOLL_FOREIGN_SHUT)) {
        return -1;
    }
    int rc = atoll_compat_add_pending_call(f->interp, function, arg);
    leave(f);
    return rc == 0 ? 0 : -1;
}

static void *main_interpreter(void *owner) { return ((atoll_foreign *)owner)->interp; }

/* Of PEP 788. */
static void *main_view(void *owner) { return ((atoll_foreign *)owner)->view; }

static void view_close(void *owner, void *view) {
#if ATOLL_HAS_INTERPRETER_VIEWS
    if (view != ((atoll_foreign *)owner)->view) {
        PyInterpreterView_Close(view);
    }
#else
    (void)owner; /* no clone has this function's name */
    (void)view;
#endif
}

static void *make_view(void) {
#if ATOLL_HAS_INTERPRETER_VIEWS
    PyInterpreterView *view = PyInterpreterView_FromCurrent();
    if (view == NULL) {
        PyErr_Clear(); /* who asks for it is told so */
    }
    return view;
#else
    return NULL;
#endif
}

static void free_view(void *view) {
#if ATOLL_HAS_INTERPRETER_VIEWS
    if (view != NULL) {
        PyInterpreterView_Close(view);
    }
#else
    (void)view;
#endif
}

static int add_exit(void *owner, void (*function)(void)) {
    atoll_foreign *f = owner;
    int rc = -1;
    atoll_mutex_lock(&f->lock);
    if (f->nexits == f->exits_room) {
        size_t room = f->exits_room * 2 + 8;
        void (**exits)(void) = realloc((void *)f->exits, room * sizeof *exits);
        if (exits != NULL) {
            f->exits = exits;
            f->exits_room = room;
        }
    }
    if (f->nexits < f->exits_room && atomic_load(&f->phase) != ATOLL_FOREIGN_ENDED) {
        f->exits[f->nexits++] = function;
        rc = 0;
    }
    atoll_mutex_unlock(&f->lock);
    return rc;
}

static int is_initialized(void *owner) {
    return atomic_load(&((atoll_foreign *)owner)->phase) != ATOLL_FOREIGN_ENDED && Py_IsInitialized();
}

static int is_finalizing(void *owner) {
    return atomic_load(&((atoll_foreign *)owner)->phase) >= ATOLL_FOREIGN_ENDING || atoll_is_finalizing();
}

/* ---- */

void atoll_foreign_init(atoll_foreign *f, atoll_clones *clones, bool has_clones) {
    *f = (atoll_foreign){
        .shim = {.owner = f,
                 .ensure = ensure,
                 .release = release,
                 .check = check,
                 .this_thread_state = this_thread_state,
                 .add_pending_call = add_pending_call,
                 .main_interpreter = main_interpreter,
                 .main_view = main_view,
                 .view_close = view_close,
                 .at_exit = add_exit,
                 .is_initialized = is_initialized,
                 .is_finalizing = is_finalizing},
        .interp = PyInterpreterState_Get(),
        .clones = clones,
        .has_clones = has_clones,
        .natives = clones->natives,
        .view = make_view(),
    };
    atoll_mutex_init(&f->lock);
    atoll_cond_init(&f->changed);
    atoll_foreign_makes_modules(&f->shim);
    atoll_foreign_uses_natives(&f->shim);
    atoll_foreign_count_more(has_clones ? 1 : 0);
}

void atoll_foreign_free(atoll_foreign *f) {
    free((void *)f->exits);
    free_view(f->view);
    atoll_declared_free(f->declared);
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->changed);
}
