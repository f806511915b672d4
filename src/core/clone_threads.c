/* Threads of a library that ends them itself when it is told to (clones.h).
 *
 * Many libraries in C++ have a pool of threads in a static variable, whose destructor ends them: at the end of a process that is
 * what ends them, and an instant later the process is gone.  Here no destructor may run while a thread is left
 * (clone_unload.c), so the pools of the libraries that are known are shut before, by the function which that destructor calls,
 * and nothing else of the library.  Whether it has worked is not believed: the threads are counted, as always.
 *
 * A task in such a pool that waits for something which never comes, the interpreter above all, keeps its thread for ever, and with
 * it whoever waits for the thread.  So the functions are called on a thread of their own, which gets a moment.
 * What it leaves, when it takes longer, is its own; the clones stay mapped then.
 *
 * The symbols are looked up in the clone, and have to be in it.  One that is not there means a version of the library that has no
 * such pool.
 */
#include "core/clones.h"

#include <stdlib.h>

#define PATIENCE 1.0 /* seconds for what runs in the pools */

/* Status ThreadPool::Shutdown(bool wait), and functions that return a ThreadPool *: Arrow's for its computations and for files,
 * unchanged since 2018.  A C++ class that has a destructor is returned through a pointer that the caller passes, as a struct of C is
 * that does not fit into registers; of this one, one word is written. */
typedef struct {
    void *words[4];
} returned;
typedef returned (*shut_function)(void *pool, bool wait);
typedef void *(*pool_function)(void);

static const char arrow_shut[] = "_ZN5arrow8internal10ThreadPool8ShutdownEb";
static const char *const arrow_pools[] = {
    "_ZN5arrow8internal16GetCpuThreadPoolEv",
    "_ZN5arrow2io8internal15GetIOThreadPoolEv",
};

enum { POOLS = sizeof arrow_pools / sizeof *arrow_pools };

typedef struct {
    _Atomic(int) refs;
    _Atomic(bool) done;
    shut_function shut;
    pool_function pools[POOLS];
} shutting;

static void release(shutting *s) {
    if (atomic_fetch_sub(&s->refs, 1) == 1) {
        free(s);
    }
}

static void shut_pools(void *raw) {
    shutting *s = raw;
    for (int i = 0; i < POOLS; i++) {
        if (s->pools[i] != NULL) {
            (void)s->shut(s->pools[i](), false);
        }
    }
    atomic_store(&s->done, true);
    release(s);
}

static void *own_symbol(const atoll_clone *clone, const char *name) {
    void *symbol = atoll_dl_symbol(clone->handle, name);
    return (uintptr_t)symbol >= clone->low && (uintptr_t)symbol < clone->high ? symbol : NULL;
}

static void end_threads_of(const atoll_clone *clone) {
    void *shut = own_symbol(clone, arrow_shut);
    shutting *s = shut != NULL ? calloc(1, sizeof *s) : NULL;
    if (s == NULL) {
        return;
    }
    memcpy(&s->shut, &shut, sizeof shut);
    for (int i = 0; i < POOLS; i++) {
        void *pool = own_symbol(clone, arrow_pools[i]);
        memcpy(&s->pools[i], &pool, sizeof pool);
    }
    atomic_init(&s->refs, 2);
    if (atoll_thread_start(shut_pools, s, 0) != 0) {
        release(s);
    } else {
        double deadline = atoll_clock() + PATIENCE;
        while (!atomic_load(&s->done) && atoll_clock() < deadline) {
            atoll_sleep(0.0005);
        }
    }
    release(s);
}

void atoll_clones_end_threads(atoll_clones *set) {
    for (size_t i = 0; i < set->count && atomic_load(&set->natives->threads) != 0; i++) {
        end_threads_of(set->items[i]);
    }
}
