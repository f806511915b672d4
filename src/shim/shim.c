/* The shim: see core/shim.h.  A shared library of its own, of which each interpreter has a copy.
 *
 * Knows no Python and links with nothing but the C library.  Every function is called from a clone's code, in
 * whatever thread and thread state that is in.
 */
#include "core/shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <linux/futex.h>
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

static const atoll_shim *shim;

EXPORT void atoll_shim_bind(const atoll_shim *calls);
EXPORT void atoll_shim_bind(const atoll_shim *calls) { shim = calls; }

/* ---- Python's ---- */

EXPORT int atoll_PyGILState_Ensure(void);
EXPORT int atoll_PyGILState_Ensure(void) { return shim->ensure(shim->owner); }

EXPORT void atoll_PyGILState_Release(int state);
EXPORT void atoll_PyGILState_Release(int state) { shim->release(shim->owner, state); }

EXPORT int atoll_PyGILState_Check(void);
EXPORT int atoll_PyGILState_Check(void) { return shim->check(shim->owner); }

EXPORT void *atoll_PyGILState_GetThisThreadState(void);
EXPORT void *atoll_PyGILState_GetThisThreadState(void) { return shim->this_thread_state(shim->owner); }

EXPORT int atoll_Py_AddPendingCall(int (*function)(void *), void *arg);
EXPORT int atoll_Py_AddPendingCall(int (*function)(void *), void *arg) {
    return shim->add_pending_call(shim->owner, function, arg);
}

EXPORT void *atoll_PyInterpreterState_Main(void);
EXPORT void *atoll_PyInterpreterState_Main(void) { return shim->main_interpreter(shim->owner); }

EXPORT void *atoll_PyInterpreterView_FromMain(void);
EXPORT void *atoll_PyInterpreterView_FromMain(void) { return shim->main_view(shim->owner); }

EXPORT int atoll_Py_AtExit(void (*function)(void));
EXPORT int atoll_Py_AtExit(void (*function)(void)) { return shim->at_exit(shim->owner, function); }

EXPORT int atoll_Py_IsInitialized(void);
EXPORT int atoll_Py_IsInitialized(void) { return shim->is_initialized(shim->owner); }

EXPORT int atoll_Py_IsFinalizing(void);
EXPORT int atoll_Py_IsFinalizing(void) { return shim->is_finalizing(shim->owner); }

/* Its name before it became public, in 3.13. */
EXPORT int atoll__Py_IsFinalizing(void);
EXPORT int atoll__Py_IsFinalizing(void) { return shim->is_finalizing(shim->owner); }

EXPORT void *atoll_PyModule_Create2(void *definition, int version);
EXPORT void *atoll_PyModule_Create2(void *definition, int version) {
    return shim->module_create(shim->owner, definition, version);
}

EXPORT void *atoll_PyModule_FromDefAndSpec2(void *definition, void *spec, int version);
EXPORT void *atoll_PyModule_FromDefAndSpec2(void *definition, void *spec, int version) {
    return shim->module_from(shim->owner, definition, spec, version);
}

EXPORT void *atoll_PyModule_FromSlotsAndSpec(const void *slots, void *spec);
EXPORT void *atoll_PyModule_FromSlotsAndSpec(const void *slots, void *spec) {
    return shim->module_from_slots(shim->owner, slots, spec);
}

/* Pointers to functions that CPython calls when it reads from a terminal, set by readline and tkinter.  The process has one
 * of each, and it must not lead into a clone: clones get variables that nobody looks at. */
EXPORT void *atoll_PyOS_ReadlineFunctionPointer;
EXPORT void *atoll_PyOS_InputHook;

EXPORT int atoll_PyThread_tss_create(void *key);
EXPORT int atoll_PyThread_tss_create(void *key) { return shim->tss_create(shim->owner, key); }

EXPORT void atoll_PyThread_tss_delete(void *key);
EXPORT void atoll_PyThread_tss_delete(void *key) { shim->tss_delete(shim->owner, key); }

EXPORT void atoll_PyThread_tss_free(void *key);
EXPORT void atoll_PyThread_tss_free(void *key) { shim->tss_free(shim->owner, key); }

/* ---- the system's ---- */

EXPORT int atoll_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                                void *arg);
EXPORT int atoll_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                                void *arg) {
    return shim->thread_create(shim->owner, thread, attributes, run, arg);
}

/* Where a thread waits, it may be made to leave: between the two calls it must hold nothing that is not the clone's.  So what
 * is called there is bound when the shim is loaded, which its link options say. */
#define WAITING(type, call)                                                                                  \
    shim->wait_begins();                                                                                     \
    type result_ = (call);                                                                                   \
    shim->wait_ends();                                                                                       \
    return result_

EXPORT int atoll_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex);
EXPORT int atoll_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex) {
    WAITING(int, pthread_cond_wait(condition, mutex));
}

EXPORT int atoll_pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                                        const struct timespec *until);
EXPORT int atoll_pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                                        const struct timespec *until) {
    WAITING(int, pthread_cond_timedwait(condition, mutex, until));
}

/* Younger than the oldest C library that there is a wheel for, and so perhaps not in its headers: who asks for them has them.
 * NOLINTBEGIN(readability-redundant-declaration, readability-inconsistent-declaration-parameter-name) */
extern int pthread_cond_clockwait(pthread_cond_t *condition, pthread_mutex_t *mutex, clockid_t clock,
                                  const struct timespec *until) __attribute__((weak));
extern int sem_clockwait(sem_t *semaphore, clockid_t clock, const struct timespec *until)
    __attribute__((weak));
/* NOLINTEND(readability-redundant-declaration, readability-inconsistent-declaration-parameter-name) */

EXPORT int atoll_pthread_cond_clockwait(pthread_cond_t *condition, pthread_mutex_t *mutex, clockid_t clock,
                                        const struct timespec *until);
EXPORT int atoll_pthread_cond_clockwait(pthread_cond_t *condition, pthread_mutex_t *mutex, clockid_t clock,
                                        const struct timespec *until) {
    WAITING(int, pthread_cond_clockwait(condition, mutex, clock, until));
}

EXPORT int atoll_cnd_wait(cnd_t *condition, mtx_t *mutex);
EXPORT int atoll_cnd_wait(cnd_t *condition, mtx_t *mutex) { WAITING(int, cnd_wait(condition, mutex)); }

EXPORT int atoll_cnd_timedwait(cnd_t *condition, mtx_t *mutex, const struct timespec *until);
EXPORT int atoll_cnd_timedwait(cnd_t *condition, mtx_t *mutex, const struct timespec *until) {
    WAITING(int, cnd_timedwait(condition, mutex, until));
}

EXPORT int atoll_sem_wait(sem_t *semaphore);
EXPORT int atoll_sem_wait(sem_t *semaphore) { WAITING(int, sem_wait(semaphore)); }

EXPORT int atoll_sem_timedwait(sem_t *semaphore, const struct timespec *until);
EXPORT int atoll_sem_timedwait(sem_t *semaphore, const struct timespec *until) {
    WAITING(int, sem_timedwait(semaphore, until));
}

EXPORT int atoll_sem_clockwait(sem_t *semaphore, clockid_t clock, const struct timespec *until);
EXPORT int atoll_sem_clockwait(sem_t *semaphore, clockid_t clock, const struct timespec *until) {
    WAITING(int, sem_clockwait(semaphore, clock, until));
}

EXPORT int atoll_poll(struct pollfd *files, nfds_t count, int timeout);
EXPORT int atoll_poll(struct pollfd *files, nfds_t count, int timeout) {
    WAITING(int, poll(files, count, timeout));
}

EXPORT int atoll_ppoll(struct pollfd *files, nfds_t count, const struct timespec *timeout,
                       const sigset_t *mask);
EXPORT int atoll_ppoll(struct pollfd *files, nfds_t count, const struct timespec *timeout,
                       const sigset_t *mask) {
    WAITING(int, ppoll(files, count, timeout, mask));
}

EXPORT int atoll_select(int count, fd_set *to_read, fd_set *to_write, fd_set *urgent,
                        struct timeval *timeout);
EXPORT int atoll_select(int count, fd_set *to_read, fd_set *to_write, fd_set *urgent,
                        struct timeval *timeout) {
    WAITING(int, select(count, to_read, to_write, urgent, timeout));
}

EXPORT int atoll_epoll_wait(int file, struct epoll_event *events, int most, int timeout);
EXPORT int atoll_epoll_wait(int file, struct epoll_event *events, int most, int timeout) {
    WAITING(int, epoll_wait(file, events, most, timeout));
}

EXPORT int atoll_epoll_pwait(int file, struct epoll_event *events, int most, int timeout,
                             const sigset_t *mask);
EXPORT int atoll_epoll_pwait(int file, struct epoll_event *events, int most, int timeout,
                             const sigset_t *mask) {
    WAITING(int, epoll_pwait(file, events, most, timeout, mask));
}

EXPORT int atoll_nanosleep(const struct timespec *time, struct timespec *left);
EXPORT int atoll_nanosleep(const struct timespec *time, struct timespec *left) {
    WAITING(int, nanosleep(time, left));
}

EXPORT int atoll_clock_nanosleep(clockid_t clock, int flags, const struct timespec *time,
                                 struct timespec *left);
EXPORT int atoll_clock_nanosleep(clockid_t clock, int flags, const struct timespec *time,
                                 struct timespec *left) {
    WAITING(int, clock_nanosleep(clock, flags, time, left));
}

EXPORT int atoll_usleep(useconds_t time);
EXPORT int atoll_usleep(useconds_t time) { WAITING(int, usleep(time)); }

EXPORT unsigned atoll_sleep(unsigned seconds);
EXPORT unsigned atoll_sleep(unsigned seconds) { WAITING(unsigned, sleep(seconds)); }

EXPORT int atoll_pause(void);
EXPORT int atoll_pause(void) { WAITING(int, pause()); }

/* What spins waits as well: OpenCV's threads do so before they sleep. */
EXPORT int atoll_sched_yield(void);
EXPORT int atoll_sched_yield(void) { WAITING(int, sched_yield()); }

EXPORT int atoll_pthread_sigmask(int how, const sigset_t *set, sigset_t *before);
EXPORT int atoll_pthread_sigmask(int how, const sigset_t *set, sigset_t *before) {
    int rc = pthread_sigmask(how, set, before);
    shim->signals_changed();
    return rc;
}

EXPORT int atoll_sigprocmask(int how, const sigset_t *set, sigset_t *before);
EXPORT int atoll_sigprocmask(int how, const sigset_t *set, sigset_t *before) {
    int rc = sigprocmask(how, set, before);
    int error = errno;
    shim->signals_changed();
    errno = error;
    return rc;
}

/* Rust, and C++20's atomics, wait in a futex that they ask the system for themselves.  What has fewer arguments than six gets
 * whatever is where they would be, as from the C library. */
EXPORT long atoll_syscall(long number, ...);
EXPORT long atoll_syscall(long number, ...) {
    va_list list;
    long a[6];
    va_start(list, number);
    for (int i = 0; i < 6; i++) {
        a[i] = va_arg(list, long);
    }
    va_end(list);
    long operation = a[1] & FUTEX_CMD_MASK;
    if (number == SYS_futex && (operation == FUTEX_WAIT || operation == FUTEX_WAIT_BITSET)) {
        WAITING(long, syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]));
    }
    return syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* C++'s condition variable is the system's, and a lock of it begins with a pointer to its mutex, which is the
 * system's, too: the header of libstdc++ has all waits with a time in it, which rely on that. */
typedef struct {
    pthread_mutex_t *mutex;
} std_lock;

EXPORT void std_wait(pthread_cond_t *condition, std_lock *lock) __asm__("atoll_" ATOLL_SHIM_STD_WAIT);
EXPORT void std_wait(pthread_cond_t *condition, std_lock *lock) {
    (void)atoll_pthread_cond_wait(condition, lock->mutex);
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

/* What is called when the process ends, or before that when the interpreter has ended: last first, whichever clone it is
 * from, as the C library does it, which keeps the list.  The shim's variable stands for all clones of the interpreter. */
extern int __cxa_atexit(void (*function)(void *), void *arg, void *library);
extern void __cxa_finalize(void *library);

EXPORT int atoll___cxa_atexit(void (*function)(void *), void *arg, void *library);
EXPORT int atoll___cxa_atexit(void (*function)(void *), void *arg, void *library) {
    (void)library;
    return __cxa_atexit(function, arg, (void *)&shim);
}

typedef struct {
    void (*function)(int status, void *arg);
    void *arg;
} on_exit_call;

/* The C library passes the process's exit status as well, or 0 before its end. */
static void call_on_exit(void *raw, int status) {
    on_exit_call call = *(on_exit_call *)raw;
    free(raw);
    call.function(status, call.arg);
}

EXPORT int atoll_on_exit(void (*function)(int status, void *arg), void *arg);
EXPORT int atoll_on_exit(void (*function)(int status, void *arg), void *arg) {
    on_exit_call *call = malloc(sizeof *call);
    if (call == NULL) {
        return -1;
    }
    *call = (on_exit_call){function, arg};
    int rc = __cxa_atexit((void (*)(void *))(void (*)(void))call_on_exit, call, (void *)&shim);
    if (rc != 0) {
        free(call);
    }
    return rc;
}

EXPORT void atoll_shim_finish(void);
EXPORT void atoll_shim_finish(void) { __cxa_finalize((void *)&shim); }

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

/* ---- the dynamic linker's ---- */

/* A library finds what lies beside it by the path that it was loaded from: the original's. */

/* Copies of link maps with that path, one for each that was asked for; the rest, and their neighbours, are as they are. */
typedef struct link_copy {
    struct link_copy *next;
    const struct link_map *of;
    struct link_map map;
} link_copy;

static pthread_mutex_t copies_lock = PTHREAD_MUTEX_INITIALIZER;
static link_copy *copies;

__attribute__((destructor)) static void free_copies(void) {
    while (copies != NULL) {
        link_copy *next = copies->next;
        free(copies);
        copies = next;
    }
}

/* Without memory, the map itself. */
static struct link_map *with_original(struct link_map *map, const char *path) {
    (void)pthread_mutex_lock(&copies_lock);
    link_copy *copy = copies;
    while (copy != NULL && copy->of != map) {
        copy = copy->next;
    }
    if (copy == NULL && (copy = malloc(sizeof *copy)) != NULL) {
        *copy = (link_copy){.next = copies, .of = map, .map = *map};
        copy->map.l_name = (char *)(uintptr_t)path;
        copies = copy;
    }
    (void)pthread_mutex_unlock(&copies_lock);
    return copy != NULL ? &copy->map : map;
}

EXPORT int atoll_dladdr(const void *address, Dl_info *info);
EXPORT int atoll_dladdr(const void *address, Dl_info *info) {
    int rc = dladdr(address, info);
    const char *path = rc != 0 ? shim->original(shim->owner, address) : NULL;
    if (path != NULL) {
        info->dli_fname = path;
    }
    return rc;
}

EXPORT int atoll_dladdr1(const void *address, Dl_info *info, void **extra, int flags);
EXPORT int atoll_dladdr1(const void *address, Dl_info *info, void **extra, int flags) {
    int rc = dladdr1(address, info, extra, flags);
    const char *path = rc != 0 ? shim->original(shim->owner, address) : NULL;
    if (path != NULL) {
        info->dli_fname = path;
        if (flags == RTLD_DL_LINKMAP) {
            *extra = with_original(*extra, path);
        }
    }
    return rc;
}

EXPORT int atoll_dlinfo(void *handle, int request, void *into);
EXPORT int atoll_dlinfo(void *handle, int request, void *into) {
    int rc = dlinfo(handle, request, into);
    const char *path = rc == 0 && (request == RTLD_DI_LINKMAP || request == RTLD_DI_ORIGIN)
                           ? shim->library_of(shim->owner, handle)
                           : NULL;
    if (path != NULL && request == RTLD_DI_LINKMAP) {
        *(struct link_map **)into = with_original(*(struct link_map **)into, path);
    } else if (path !=
               NULL) { /* a buffer that is long enough, as the caller believes without knowing how long */
        const char *slash = strrchr(path, '/');
        size_t length = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
        memcpy(into, length != 0 ? path : ".", length != 0 ? length : 1);
        ((char *)into)[length != 0 ? length : 1] = '\0';
    }
    return rc;
}

typedef struct {
    int (*look)(struct dl_phdr_info *info, size_t size, void *arg);
    void *arg;
} phdr_search;

static int look_with_original(struct dl_phdr_info *info, size_t size, void *raw) {
    const phdr_search *search = raw;
    const char *name = info->dlpi_name;
    const char *path = NULL;
    /* Paths of clones look so; others need not be looked for. */
    if (name != NULL && (strstr(name, ".atoll") != NULL || strncmp(name, "/proc/self/fd/", 14) == 0)) {
        for (int i = 0; path == NULL && i < info->dlpi_phnum; i++) {
            const ElfW(Phdr) *header = &info->dlpi_phdr[i];
            path = header->p_type == PT_LOAD
                       ? shim->original(shim->owner, (const void *)(info->dlpi_addr + header->p_vaddr))
                       : NULL;
        }
    }
    if (path == NULL) {
        return search->look(info, size, search->arg);
    }
    struct dl_phdr_info own = {0};
    memcpy(&own, info, size < sizeof own ? size : sizeof own);
    own.dlpi_name = path;
    return search->look(&own, size < sizeof own ? size : sizeof own, search->arg);
}

EXPORT int atoll_dl_iterate_phdr(int (*look)(struct dl_phdr_info *info, size_t size, void *arg), void *arg);
EXPORT int atoll_dl_iterate_phdr(int (*look)(struct dl_phdr_info *info, size_t size, void *arg), void *arg) {
    phdr_search search = {look, arg};
    return dl_iterate_phdr(look_with_original, &search);
}

EXPORT void *atoll_dlopen(const char *file, int mode);
EXPORT void *atoll_dlopen(const char *file, int mode) {
    if (file == NULL || file[0] == '\0') { /* the program */
        return dlopen(file, mode);
    }
    void *handle = shim->library_open(shim->owner, __builtin_return_address(0), file, mode);
    (void)dlerror(); /* of what was tried on the way */
    return handle;
}

EXPORT int atoll_dlclose(void *handle);
EXPORT int atoll_dlclose(void *handle) {
    return shim->library_of(shim->owner, handle) != NULL ? 0 : dlclose(handle);
}

EXPORT char *atoll_dlerror(void);
EXPORT char *atoll_dlerror(void) {
    char *own = shim->library_error(shim->owner);
    return own != NULL ? own : dlerror();
}

/* ---- what the C library keeps ---- */

/* What the C library would keep a pointer to, in memory of a clone that will be gone: the environment's strings, and
 * the buffers of streams. */
EXPORT int atoll_putenv(char *text);
EXPORT int atoll_putenv(char *text) {
    const char *equals = strchr(text, '=');
    if (equals == NULL) {
        return unsetenv(text);
    }
    char *name = strndup(text, (size_t)(equals - text));
    int rc = name != NULL ? setenv(name, equals + 1, 1) : -1; /* which copies */
    free(name);
    return rc;
}

EXPORT int atoll_setvbuf(FILE *stream, char *buffer, int mode, size_t size);
EXPORT int atoll_setvbuf(FILE *stream, char *buffer, int mode, size_t size) {
    bool goes = buffer != NULL && shim->original(shim->owner, buffer) != NULL;
    return setvbuf(stream, goes ? NULL : buffer, mode, size);
}

EXPORT void atoll_setbuffer(FILE *stream, char *buffer, size_t size);
EXPORT void atoll_setbuffer(FILE *stream, char *buffer, size_t size) {
    (void)atoll_setvbuf(stream, buffer, buffer != NULL ? _IOFBF : _IONBF, size);
}

EXPORT void atoll_setbuf(FILE *stream, char *buffer);
EXPORT void atoll_setbuf(FILE *stream, char *buffer) { atoll_setbuffer(stream, buffer, BUFSIZ); }

/* The names are C++'s, mangled; a unique_ptr is passed by the address of its one pointer. */
EXPORT void start_std_thread(void *thread, void **state,
                             void (*depend)(void)) __asm__("atoll_" ATOLL_SHIM_STD_THREAD);
EXPORT void start_std_thread(void *thread, void **state, void (*depend)(void)) {
    shim->std_thread_start(shim->owner, __builtin_return_address(0), thread, state, depend);
}

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
