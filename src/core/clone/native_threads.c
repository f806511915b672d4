/* The threads of clones (natives.h): counted, and ended where they wait.
 *
 * A thread is counted from before it is started until the last of its destructors has run: it has a value under a key of
 * Atoll's, whose destructor puts itself off until the last round that POSIX grants.
 *
 * Pools of threads seldom end: Rayon's and jemalloc's never, OpenCV's, HiGHS's and Arrow's by a destructor if at all.  They wait
 * for something to do, and are gone when the process is.  So that the clones can be unloaded they are ended in the same way,
 * without notice, in the place where a process would end them: after all destructors.  It is done where that leaves
 * nothing behind that others need:
 *
 *   A thread that waits says so before and afterwards (wait_begins(), wait_ends(): shim/shim.c).  Between the two it is in
 *   one function of the C library that keeps no lock and is in no list: what it has to do with is the caller's condition
 *   variable, semaphore or mutex, memory of the clones.  It has nothing of Python's, or it would hold up the end of the
 *   interpreter.  What its stack frames own is lost, as are files that it has open.
 *
 *   Only when every thread waits, destructors are run at all (threads_wait()): they may wake threads, ask them to end and wait
 *   for it.
 *
 *   Then `ending` is set and the threads are poked (port.h).  The handler looks whether its thread waits, and if so has it go on
 *   in run_thread() or state_run(), from where it ends like any thread.  One that works meanwhile leaves by itself as soon as
 *   it comes to a wait: it sees `ending` after it has said that it waits, and whoever pokes sets it before.  Nothing of
 *   the clone's runs on the way: no frame is unwound, no destructor called.  The C library's own longjmp() would
 *   call what it has for threads that are cancelled, which takes the mutex of a condition variable.
 *
 * A thread that is never seen to wait in such a way, sits in read() say, is not ended, and what it runs stays mapped.
 *
 *   operation x operation   begin              end of a thread      threads_wait       threads_end
 *   begin                   natives->lock      natives->lock        natives->lock      the lock, then looks at `ending`
 *   end of a thread                            natives->lock        natives->lock      who is on the list is alive: the lock
 *   a wait                  own state          own state            atomic state       seq_cst: `waits`, then `ending`
 *
 * Locks: natives->lock, a leaf.  No thread state is attached in any of this that Atoll knows of.
 */
#include "core/clone/natives.h"

#include "core/clone/shim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 4 /* PTHREAD_DESTRUCTOR_ITERATIONS of every system; more would put it off for ever */

/* In the last round ThreadSanitizer has forgotten the thread. */
#if defined(__SANITIZE_THREAD__)
#define LAST_ROUND (ROUNDS - 1)
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define LAST_ROUND (ROUNDS - 1)
#endif
#endif
#ifndef LAST_ROUND
#define LAST_ROUND ROUNDS
#endif

/* A jump that restores the registers and does nothing else.  clang has it for some processors only. */
#if !defined(__clang__) || defined(__x86_64__)
#define CAN_JUMP 1
#else
#define CAN_JUMP 0
#endif

#define LOOK 0.0002 /* seconds between two looks at what threads do */
#define AGAIN 0.01  /* and two pokes */

typedef struct atoll_counted_thread {
    struct atoll_counted_thread *next;
    struct atoll_counted_thread **link; /* NULL: not listed */
    atoll_natives *natives;
    void *(*run)(void *);
    void *arg;
    int round;
    int number;
    _Atomic(bool) waits;
    void *jump[5];
} counted_thread;

static pthread_key_t end_key;

/* Of the calling thread, while it runs the clone's function; the thread is in it when a handler finds it here. */
static _Thread_local counted_thread *volatile running;
static _Thread_local bool was_ended;

bool atoll_natives_thread_was_ended(void) { return was_ended; }

static void list(counted_thread *thread) {
    atoll_natives *natives = thread->natives;
    atoll_mutex_lock(&natives->lock);
    thread->next = natives->listed;
    thread->link = &natives->listed;
    if (thread->next != NULL) {
        thread->next->link = &thread->next;
    }
    natives->listed = thread;
    atoll_mutex_unlock(&natives->lock);
}

static void unlist(counted_thread *thread) {
    atoll_mutex_lock(&thread->natives->lock);
    if (thread->link != NULL) {
        *thread->link = thread->next;
        if (thread->next != NULL) {
            thread->next->link = thread->link;
        }
    }
    atoll_mutex_unlock(&thread->natives->lock);
}

static void thread_ends(void *raw) {
    counted_thread *thread = raw;
    if (++thread->round < LAST_ROUND && pthread_setspecific(end_key, thread) == 0) {
        return;
    }
    unlist(thread);
    atomic_fetch_sub(&thread->natives->threads, 1); /* from here on the natives may be gone */
    free(thread);
}

bool atoll_natives_threads_init(void) { return pthread_key_create(&end_key, thread_ends) == 0; }

static counted_thread *count_thread(atoll_natives *natives) {
    counted_thread *thread = calloc(1, sizeof *thread);
    if (thread != NULL) {
        thread->natives = natives;
        atomic_fetch_add(&natives->threads, 1);
    }
    return thread;
}

static void never_started(counted_thread *thread) {
    atomic_fetch_sub(&thread->natives->threads, 1);
    free(thread);
}

/* ---- being ended ---- */

/* On the thread, in a handler or in what it calls about a wait.  Neither has anything that must be given back. */
static _Noreturn void leave(counted_thread *thread) {
#if CAN_JUMP
    __builtin_longjmp(thread->jump, 1);
#else
    (void)thread;
    abort(); /* cannot be: nothing is ended */
#endif
}

static void on_poke(void *context) {
    (void)context;
    counted_thread *thread = running;
    if (thread != NULL && atomic_load(&thread->waits) && atomic_load(&thread->natives->ending)) {
        leave(thread);
    }
}

static void leave_if_ending(counted_thread *thread) {
    if (thread != NULL && atomic_load(&thread->natives->ending)) {
        leave(thread);
    }
}

void atoll_natives_wait_begins(void) {
    counted_thread *thread = running;
    if (thread != NULL) {
        atomic_store(&thread->waits, true);
        leave_if_ending(thread);
    }
}

void atoll_natives_wait_ends(void) {
    counted_thread *thread = running;
    if (thread != NULL) {
        atomic_store(&thread->waits, false);
        leave_if_ending(thread);
    }
}

void atoll_natives_signals_changed(void) {
    if (running != NULL) {
        atoll_poke_allow();
    }
}

/* However the function is left, by pthread_exit() too. */
static void not_running(void *unused) {
    (void)unused;
    running = NULL;
}

/* Runs what a thread is for: false when it has been ended in it, or before. */
__attribute__((noinline)) static bool run_counted(counted_thread *thread, void (*function)(void *),
                                                  void *arg) {
    volatile bool done = false;
    (void)pthread_setspecific(end_key,
                              thread); /* without memory for it the thread stays counted, and listed */
    thread->number = atoll_thread_number();
    was_ended = false; /* makes the memory that the handler reads, too */
    atoll_poke_allow();
    list(thread);
    pthread_cleanup_push(not_running, NULL);
#if CAN_JUMP
    if (__builtin_setjmp(thread->jump) == 0) {
        running = thread;
        if (!atomic_load(&thread->natives->ending)) {
            function(arg);
            done = true;
        }
    }
#else
    function(arg);
    done = true;
#endif
    pthread_cleanup_pop(1);
    was_ended = !done;
    return done;
}

bool atoll_natives_threads_wait(atoll_natives *natives, double seconds) {
    double deadline = atoll_clock() + seconds;
    for (;;) {
        atoll_mutex_lock(&natives->lock);
        long waiting = 0;
        for (counted_thread *thread = natives->listed; thread != NULL; thread = thread->next) {
            waiting += atomic_load(&thread->waits);
        }
        bool all = waiting == atomic_load(&natives->threads);
        atoll_mutex_unlock(&natives->lock);
        if (all && waiting > 0) {
            return CAN_JUMP && atoll_poke_listen(on_poke);
        }
        if (all || atoll_clock() > deadline) {
            return all;
        }
        atoll_sleep(LOOK);
    }
}

bool atoll_natives_threads_end(atoll_natives *natives, double seconds) {
    double now = atoll_clock();
    double deadline = now + seconds;
    atomic_store(&natives->ending, true);
    for (double again = 0; atomic_load(&natives->threads) != 0; now = atoll_clock()) {
        if (now > deadline) {
            return false;
        }
        if (now > again) {
            atoll_mutex_lock(&natives->lock);
            for (counted_thread *thread = natives->listed; thread != NULL; thread = thread->next) {
                (void)atoll_poke(thread->number);
            }
            atoll_mutex_unlock(&natives->lock);
            again = now + AGAIN;
        }
        atoll_sleep(LOOK);
    }
    return true;
}

/* ---- pthread_create() ---- */

typedef struct {
    counted_thread *thread;
    void *result;
} call;

static void call_function(void *raw) {
    call *c = raw;
    c->result = c->thread->run(c->thread->arg);
}

static void *run_thread(void *raw) {
    call c = {.thread = raw};
    return run_counted(c.thread, call_function, &c) ? c.result : NULL;
}

/* NULL: there are to be no more, or there is no memory. */
static counted_thread *count_call(atoll_natives *natives, void *(*run)(void *), void *arg) {
    counted_thread *counted = atomic_load(&natives->over) ? NULL : count_thread(natives);
    if (counted != NULL) {
        counted->run = run;
        counted->arg = arg;
    }
    return counted;
}

int atoll_natives_thread(atoll_natives *natives, pthread_t *thread, const pthread_attr_t *attributes,
                         void *(*run)(void *), void *arg) {
    counted_thread *counted = count_call(natives, run, arg);
    if (counted == NULL) {
        return EAGAIN;
    }
    int rc = pthread_create(thread, attributes, run_thread, counted);
    if (rc != 0) {
        never_started(counted);
    }
    return rc;
}

static void begin_thread(void *raw) { (void)run_thread(raw); }

bool atoll_natives_thread_by(atoll_natives *natives,
                             bool (*start)(void (*begin)(void *), void *thread, void *context), void *context,
                             void *(*run)(void *), void *arg) {
    counted_thread *counted = count_call(natives, run, arg);
    bool started = counted != NULL && start(begin_thread, counted, context);
    if (counted != NULL && !started) {
        never_started(counted);
    }
    return started;
}

/* ---- std::thread ----
 *
 * libstdc++ starts the thread, not the clone, so what is wrapped is the object that it will run: a class with a virtual
 * destructor and a virtual _M_run().  In the Itanium C++ ABI, which every system with libstdc++ has, such an object
 * begins with a pointer to a table of three functions. */

typedef struct std_state {
    void (*const *functions)(struct std_state *self); /* destructor, deleting destructor, _M_run */
} std_state;

enum { DESTROY, DELETE, RUN };

typedef struct {
    std_state base;
    std_state *inner;
    counted_thread *thread; /* NULL once it runs */
} wrapped_state;

static void state_destroy(std_state *self) {
    wrapped_state *wrapped = (wrapped_state *)self;
    if (wrapped->thread != NULL) {
        never_started(wrapped->thread);
        wrapped->thread = NULL;
    }
    if (wrapped->inner != NULL) {
        wrapped->inner->functions[DELETE](wrapped->inner);
        wrapped->inner = NULL;
    }
}

static void state_delete(std_state *self) {
    state_destroy(self);
    free(self);
}

static void call_state(void *raw) {
    std_state *inner = raw;
    inner->functions[RUN](inner);
}

static void state_run(std_state *self) {
    wrapped_state *wrapped = (wrapped_state *)self;
    counted_thread *thread = wrapped->thread;
    wrapped->thread = NULL;
    if (!run_counted(thread, call_state, wrapped->inner)) {
        wrapped->inner = NULL; /* whose destructor is the clone's */
    }
}

static void (*const state_functions[])(std_state *) = {state_destroy, state_delete, state_run};

void atoll_natives_std_thread(atoll_natives *natives, void *scope, void *thread, void **state,
                              void (*depend)(void)) {
    void (*start)(void *, void **, void (*)(void)) = NULL;
    void *found = atoll_dl_symbol(scope, ATOLL_SHIM_STD_THREAD);
    memcpy(&start, &found, sizeof start);
    if (start == NULL) {
        abort(); /* cannot be: a clone that needs it is loaded with the library that has it */
    }
    counted_thread *counted = count_thread(natives);
    wrapped_state *wrapped = counted != NULL ? malloc(sizeof *wrapped) : NULL;
    if (wrapped == NULL) {
        if (counted != NULL) {
            free(counted); /* stays counted: the thread is started all the same */
        }
        start(thread, state, depend);
        return;
    }
    *wrapped = (wrapped_state){{state_functions}, *state, counted};
    *state = NULL;
    void *owned = wrapped;
    start(thread, &owned, depend);
    if (owned != NULL) { /* not taken: C++ has thrown, and comes here only where it was built not to */
        state_delete(owned);
    }
}
