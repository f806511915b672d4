#include "core/natives.h"

#include "core/shim.h"

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

#define PATIENCE 1.0 /* seconds for a destructor that runs */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t end_key;    /* of threads that are counted */
static pthread_key_t object_key; /* of threads that have thread_local objects */
static bool have_keys;

static void thread_ends(void *raw);
static void objects_end(void *value);

static void make_keys(void) {
    have_keys =
        pthread_key_create(&end_key, thread_ends) == 0 && pthread_key_create(&object_key, objects_end) == 0;
}

atoll_natives *atoll_natives_new(void) {
    (void)pthread_once(&once, make_keys);
    atoll_natives *natives = have_keys ? calloc(1, sizeof *natives) : NULL;
    if (natives != NULL) {
        atomic_init(&natives->refs, 1);
        atoll_mutex_init(&natives->lock);
    }
    return natives;
}

void atoll_natives_release(atoll_natives *natives) {
    if (atomic_fetch_sub(&natives->refs, 1) == 1) {
        free(natives->keys);
        pthread_mutex_destroy(&natives->lock);
        free(natives);
    }
}

/* ---- threads ---- */

/* A thread that is counted. */
typedef struct {
    atoll_natives *natives;
    void *(*run)(void *);
    void *arg;
    int round;
} counted_thread;

static void thread_ends(void *raw) {
    counted_thread *thread = raw;
    if (++thread->round < LAST_ROUND && pthread_setspecific(end_key, thread) == 0) {
        return;
    }
    atomic_fetch_sub(&thread->natives->threads, 1); /* from here on the natives may be gone */
    free(thread);
}

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

/* Without memory for the value the thread stays counted, and what it runs stays mapped. */
static void *run_thread(void *raw) {
    counted_thread *thread = raw;
    void *(*run)(void *) = thread->run;
    void *arg = thread->arg;
    (void)pthread_setspecific(end_key, thread);
    return run(arg);
}

int atoll_natives_thread(atoll_natives *natives, pthread_t *thread, const pthread_attr_t *attributes,
                         void *(*run)(void *), void *arg) {
    counted_thread *counted = count_thread(natives);
    if (counted == NULL) {
        return EAGAIN;
    }
    counted->run = run;
    counted->arg = arg;
    int rc = pthread_create(thread, attributes, run_thread, counted);
    if (rc != 0) {
        never_started(counted);
    }
    return rc;
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

static void state_run(std_state *self) {
    wrapped_state *wrapped = (wrapped_state *)self;
    (void)pthread_setspecific(end_key, wrapped->thread);
    wrapped->thread = NULL;
    wrapped->inner->functions[RUN](wrapped->inner);
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

/* ---- thread_local objects ---- */

typedef struct thread_object {
    struct thread_object *next; /* on the thread's list: made before this one */
    atoll_natives *natives;     /* a reference; NULL: it is destroyed */
    void (*destroy)(void *);
    void *object;
} thread_object;

static _Thread_local thread_object *thread_objects; /* the last made is the first */

/* The C library's; it keeps the library that the handle belongs to, which is Atoll's, loaded.  Other C libraries have none. */
extern int __cxa_thread_atexit_impl(void (*destroy)(void *), void *object, void *library)
    __attribute__((weak));
extern void *__dso_handle __attribute__((visibility("hidden")));

static void destroy_object(thread_object *item) {
    atoll_natives *natives = item->natives;
    item->natives = NULL;
    if (natives == NULL) {
        return;
    }
    atomic_fetch_add(&natives->running, 1);
    if (!atomic_load(&natives->over)) {
        item->destroy(item->object);
    }
    atomic_fetch_sub(&natives->running, 1);
    atoll_natives_release(natives);
}

/* The thread ends: for each item, those made later first. */
static void object_ends(void *raw) {
    thread_object *item = raw;
    thread_object **link = &thread_objects;
    while (*link != NULL && *link != item) {
        link = &(*link)->next;
    }
    if (*link != NULL) {
        *link = item->next;
    }
    if (!atoll_thread_is_main()) {
        destroy_object(item);
    }
    free(item);
}

/* The same for all, where the C library does not call object_ends(); a destructor may make more. */
static void objects_end(void *value) {
    (void)value;
    while (thread_objects != NULL) {
        object_ends(thread_objects);
    }
}

int atoll_natives_at_thread_end(atoll_natives *natives, void (*destroy)(void *), void *object) {
    thread_object *item = malloc(sizeof *item);
    if (item == NULL) {
        return -1;
    }
    *item = (thread_object){thread_objects, natives, destroy, object};
    atomic_fetch_add(&natives->refs, 1);
    int rc = __cxa_thread_atexit_impl != NULL ? __cxa_thread_atexit_impl(object_ends, item, &__dso_handle)
                                              : pthread_setspecific(object_key, item);
    if (rc != 0) {
        atoll_natives_release(natives);
        free(item);
        return -1;
    }
    thread_objects = item;
    return 0;
}

void atoll_natives_thread_end(atoll_natives *natives) {
    for (thread_object *item = thread_objects; item != NULL;) {
        if (item->natives == natives) {
            destroy_object(item);
            item = thread_objects; /* it may have made more */
        } else {
            item = item->next;
        }
    }
}

bool atoll_natives_end(atoll_natives *natives) {
    atomic_store(&natives->over, true);
    atoll_natives_keys_end(natives);
    for (double deadline = atoll_clock() + PATIENCE;
         atomic_load(&natives->running) != 0 || !atoll_natives_keys_ended(natives); atoll_yield()) {
        if (atoll_clock() > deadline) {
            return false;
        }
    }
    return true;
}
