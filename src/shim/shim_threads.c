/* Threads of clones, what is called when a thread ends, and how many threads a library should start (shim.c). */
#include "shim/shim_internal.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <threads.h>
#include <unistd.h>

EXPORT int atoll_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                                void *arg);
EXPORT int atoll_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                                void *arg) {
    return shim->thread_create(shim->owner, thread, attributes, run, arg);
}

/* CPython's takes a function that returns nothing. */
typedef struct {
    void (*run)(void *);
    void *arg;
} python_call;

static void *run_python(void *raw) {
    python_call call = *(python_call *)raw;
    free(raw);
    call.run(call.arg);
    return NULL;
}

EXPORT unsigned long atoll_PyThread_start_new_thread(void (*run)(void *), void *arg);
EXPORT unsigned long atoll_PyThread_start_new_thread(void (*run)(void *), void *arg) {
    python_call *call = malloc(sizeof *call);
    if (call == NULL) {
        return (unsigned long)-1;
    }
    *call = (python_call){run, arg};
    unsigned long started = shim->python_thread_start(shim->owner, run_python, call);
    if (started == (unsigned long)-1) {
        free(call);
    }
    return started;
}

/* The names are C++'s, mangled; a unique_ptr is passed by the address of its one pointer. */
EXPORT void start_std_thread(void *thread, void **state,
                             void (*depend)(void)) __asm__("atoll_" ATOLL_SHIM_STD_THREAD);
EXPORT void start_std_thread(void *thread, void **state, void (*depend)(void)) {
    shim->std_thread_start(shim->owner, __builtin_return_address(0), thread, state, depend);
}

EXPORT int atoll_pthread_key_create(pthread_key_t *key, void (*destroy)(void *));
EXPORT int atoll_pthread_key_create(pthread_key_t *key, void (*destroy)(void *)) {
    return shim->key_create(shim->owner, key, destroy);
}

EXPORT int atoll_pthread_key_delete(pthread_key_t key);
EXPORT int atoll_pthread_key_delete(pthread_key_t key) { return shim->key_delete(shim->owner, key); }

/* C++'s, and the C library's for everybody else; `library` tells whose code it is, which is known here. */
EXPORT int atoll___cxa_thread_atexit(void (*destroy)(void *), void *object, void *library);
EXPORT int atoll___cxa_thread_atexit(void (*destroy)(void *), void *object, void *library) {
    (void)library;
    return shim->at_thread_end(shim->owner, destroy, object);
}

EXPORT int atoll___cxa_thread_atexit_impl(void (*destroy)(void *), void *object, void *library);
EXPORT int atoll___cxa_thread_atexit_impl(void (*destroy)(void *), void *object, void *library) {
    (void)library;
    return shim->at_thread_end(shim->owner, destroy, object);
}

/* C's threads are the system's under other names. */
typedef struct {
    thrd_start_t run;
    void *arg;
} thrd_call;

static void *run_thrd(void *raw) {
    thrd_call call = *(thrd_call *)raw;
    free(raw);
    return (void *)(intptr_t)call.run(call.arg);
}

EXPORT int atoll_thrd_create(thrd_t *thread, thrd_start_t run, void *arg);
EXPORT int atoll_thrd_create(thrd_t *thread, thrd_start_t run, void *arg) {
    _Static_assert(sizeof(thrd_t) == sizeof(pthread_t), "a thread of C's is one of the system's");
    thrd_call *call = malloc(sizeof *call);
    if (call == NULL) {
        return thrd_nomem;
    }
    *call = (thrd_call){run, arg};
    pthread_t made;
    int rc = shim->thread_create(shim->owner, &made, NULL, run_thrd, call);
    if (rc != 0) {
        free(call);
        return rc == ENOMEM ? thrd_nomem : thrd_error;
    }
    *thread = (thrd_t)made;
    return thrd_success;
}

EXPORT int atoll_tss_create(tss_t *key, tss_dtor_t destroy);
EXPORT int atoll_tss_create(tss_t *key, tss_dtor_t destroy) {
    pthread_key_t made;
    if (shim->key_create(shim->owner, &made, destroy) != 0) {
        return thrd_error;
    }
    *key = made;
    return thrd_success;
}

EXPORT void atoll_tss_delete(tss_t key);
EXPORT void atoll_tss_delete(tss_t key) { (void)shim->key_delete(shim->owner, key); }

/* ---- how many there should be ---- */

EXPORT unsigned std_concurrency(void) __asm__("atoll_" ATOLL_SHIM_STD_CONCURRENCY);
EXPORT unsigned std_concurrency(void) { return (unsigned)shim->processors(shim->owner); }

EXPORT int atoll_get_nprocs(void);
EXPORT int atoll_get_nprocs(void) { return (int)shim->processors(shim->owner); }

EXPORT long atoll_sysconf(int name);
EXPORT long atoll_sysconf(int name) {
    return name == _SC_NPROCESSORS_ONLN || name == _SC_NPROCESSORS_CONF ? shim->processors(shim->owner)
                                                                        : sysconf(name);
}

/* Leaves the first `most` processors of a set. */
static void limit(size_t size, cpu_set_t *set, long most) {
    for (size_t cpu = 0; cpu < size * 8; cpu++) {
        if (CPU_ISSET_S(cpu, size, set) && most-- <= 0) {
            CPU_CLR_S(cpu, size, set);
        }
    }
}

EXPORT int atoll_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set);
EXPORT int atoll_sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set) {
    int rc = sched_getaffinity(pid, size, set);
    if (rc == 0 && (pid == 0 || pid == getpid())) {
        limit(size, set, shim->processors(shim->owner));
    }
    return rc;
}

EXPORT int atoll_pthread_getaffinity_np(pthread_t thread, size_t size, cpu_set_t *set);
EXPORT int atoll_pthread_getaffinity_np(pthread_t thread, size_t size, cpu_set_t *set) {
    int rc = pthread_getaffinity_np(thread, size, set);
    if (rc == 0) {
        limit(size, set, shim->processors(shim->owner));
    }
    return rc;
}
