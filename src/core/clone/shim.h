/* What a clone asks of Atoll instead of CPython or the C library.
 *
 * Some functions silently mean the main interpreter, or the process: PyGILState_Ensure(), Py_AtExit(),
 * pthread_key_create().  In a clone the undefined symbols of these names get a prefix (core/elf/elf.h), and a small library
 * defines them under it: the shim, of which each interpreter has a copy, so that it can know whose it is.  All that
 * the shim does is to call these functions with their owner.  They are set once, before any clone is loaded, and stay
 * valid as long as the shim is mapped.
 *
 * Python's types are opaque here: the shim, like core, knows no Python.
 */
#ifndef ATOLL_CORE_CLONE_SHIM_H
#define ATOLL_CORE_CLONE_SHIM_H

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#define ATOLL_SHIM_PREFIX "atoll_"
#define ATOLL_SHIM_BIND "atoll_shim_bind"
#define ATOLL_SHIM_FINISH "atoll_shim_finish"
#define ATOLL_SHIM_HAS_STREAMS "atoll_shim_has_streams"
#define ATOLL_SHIM_FILE "_shim.so"

/* The symbols that every clone's shim provides. */
#define ATOLL_SHIM_SYMBOLS                                                                                   \
    "PyGILState_Ensure", "PyGILState_Release", "PyGILState_Check", "PyGILState_GetThisThreadState",          \
        "Py_AddPendingCall", "PyInterpreterState_Main", "PyInterpreterView_FromMain",                        \
        "PyInterpreterView_Close", "Py_AtExit", "Py_IsInitialized", "Py_IsFinalizing", "_Py_IsFinalizing",   \
        "PyModule_Create2", "PyModule_FromDefAndSpec2", "PyModule_FromSlotsAndSpec",                         \
        "PyOS_ReadlineFunctionPointer", "PyOS_InputHook", "PyThread_tss_create", "PyThread_tss_delete",      \
        "PyThread_tss_free", "PyThread_start_new_thread", "pthread_create", "pthread_key_create",            \
        "pthread_key_delete", "__cxa_thread_atexit", "__cxa_thread_atexit_impl", "__cxa_atexit", "on_exit",  \
        "dladdr", "dladdr1", "dlsym", "dlopen", "dlclose", "dlerror", "dlinfo", "dl_iterate_phdr", "putenv", \
        "setvbuf", "setbuf", "setbuffer", "thrd_create", "tss_create", "tss_delete", "openlog", "initstate", \
        "setstate", "fopencookie", "fmemopen", "fclose", ATOLL_SHIM_STD_THREAD, ATOLL_SHIM_WAITS,            \
        ATOLL_SHIM_SIGNALS, ATOLL_SHIM_OPTIONS

/* Reading a command line, of which the C library has one state for the process: see shim/shim_options.c. */
#define ATOLL_SHIM_OPTIONS                                                                                   \
    "getopt", "__posix_getopt", "getopt_long", "getopt_long_only", "optarg", "optind", "opterr", "optopt"

/* What installs handlers of signals, or asks for them: see core/clone/signals.c. */
#define ATOLL_SHIM_SIGNALS                                                                                   \
    "sigaction", "__sigaction", "signal", "bsd_signal", "ssignal", "sysv_signal", "__sysv_signal", "sigset", \
        "PyOS_setsig", "PyOS_getsig", "sigaltstack"

/* Where threads wait for something to do: see core/clone/native_threads.c. */
#define ATOLL_SHIM_WAITS                                                                                     \
    "pthread_cond_wait", "pthread_cond_timedwait", "pthread_cond_clockwait", "cnd_wait", "cnd_timedwait",    \
        "sem_wait", "sem_timedwait", "sem_clockwait", "poll", "ppoll", "select", "epoll_wait",               \
        "epoll_pwait", "nanosleep", "clock_nanosleep", "usleep", "sleep", "pause", "syscall", "sched_yield", \
        "pthread_sigmask", "sigprocmask", ATOLL_SHIM_STD_WAIT

/* And those by which a library that starts threads finds out how many it should: see core/clone/natives.h. */
#define ATOLL_SHIM_PROCESSORS                                                                                \
    "sysconf", "get_nprocs", "sched_getaffinity", "pthread_getaffinity_np", ATOLL_SHIM_STD_CONCURRENCY

/* std::thread::_M_start_thread(std::unique_ptr<_State>, void (*)()) and std::thread::hardware_concurrency(). */
#define ATOLL_SHIM_STD_THREAD                                                                                \
    "_ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_StateESt14default_deleteIS1_EEPFvvE"
#define ATOLL_SHIM_STD_CONCURRENCY "_ZNSt6thread20hardware_concurrencyEv"
/* std::condition_variable::wait(std::unique_lock<std::mutex> &) */
#define ATOLL_SHIM_STD_WAIT "_ZNSt18condition_variable4waitERSt11unique_lockISt5mutexE"

typedef struct {
    void *owner;
    int (*ensure)(void *owner);
    void (*release)(void *owner, int state);
    int (*check)(void *owner);
    void *(*this_thread_state)(void *owner);
    int (*add_pending_call)(void *owner, int (*function)(void *), void *arg);
    void *(*main_interpreter)(void *owner);
    void *(*main_view)(void *owner);
    void (*view_close)(void *owner, void *view);
    int (*at_exit)(void *owner, void (*function)(void));
    int (*is_initialized)(void *owner);
    int (*is_finalizing)(void *owner);
    void *(*module_create)(void *owner, void *definition, int version);
    void *(*module_from)(void *owner, void *definition, void *spec, int version);
    void *(*module_from_slots)(void *owner, const void *slots, void *spec);
    int (*tss_create)(void *owner, void *key);
    void (*tss_delete)(void *owner, void *key);
    void (*tss_free)(void *owner, void *key);
    int (*thread_create)(void *owner, pthread_t *thread, const pthread_attr_t *attributes,
                         void *(*run)(void *), void *arg);
    /* As PyThread_start_new_thread(). */
    unsigned long (*python_thread_start)(void *owner, void *(*run)(void *), void *arg);
    void (*std_thread_start)(void *owner, const void *caller, void *thread, void **state,
                             void (*depend)(void));
    void (*wait_begins)(void); /* see core/clone/natives.h */
    void (*wait_ends)(void);
    void (*signals_changed)(void);
    int (*key_create)(void *owner, pthread_key_t *key, void (*destroy)(void *));
    int (*key_delete)(void *owner, pthread_key_t key);
    /* As sigaction(). */
    int (*signal_action)(void *owner, int number, const struct sigaction *action, struct sigaction *old);
    int (*at_thread_end)(void *owner, void (*destroy)(void *), void *object);
    const char *(*original)(void *owner, const void *address); /* of the clone that it is in, or NULL */
    /* As dlopen(), for code at `caller`. */
    void *(*library_open)(void *owner, const void *caller, const char *file, int mode);
    const char *(*library_of)(void *owner, const void *handle); /* the original's file, NULL: no clone's */
    char *(*library_error)(void *owner); /* why library_open() failed on this thread, once; or NULL */
    long (*processors)(void *owner);     /* how many a library of this interpreter should use, at least 1 */
} atoll_shim;

#endif
