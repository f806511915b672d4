#include "core/clone/natives.h"

#include <stdlib.h>
#include <string.h>

#define PATIENCE 1.0 /* seconds for threads that are ended, and as many for a destructor that runs */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t object_key; /* of threads that have thread_local objects */
static bool have_keys;

static void objects_end(void *value);

static void make_keys(void) {
    have_keys = atoll_natives_threads_init() && pthread_key_create(&object_key, objects_end) == 0;
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
    if (!atoll_natives_threads_end(natives, PATIENCE)) {
        return false;
    }
    atoll_natives_keys_end(natives);
    for (double deadline = atoll_clock() + PATIENCE;
         atomic_load(&natives->running) != 0 || !atoll_natives_keys_ended(natives); atoll_yield()) {
        if (atoll_clock() > deadline) {
            return false;
        }
    }
    return true;
}
