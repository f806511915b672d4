/* What the C library would keep of a clone's (shim.c), beyond the time that the clone is there: functions to be called when the
 * process ends, signal handlers, strings, the memory of a signal stack and of random numbers.
 *
 * Memory of a clone's is replaced by memory that stays, for as long as the process does: as long as the C library may have it, which
 * nobody is told the end of.  The same memory of the clone's has the same stand-in each time. */
#include "shim/shim_internal.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

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

/* ---- signal handlers ---- */

typedef void (*signal_handler)(int number);

EXPORT int atoll_sigaction(int number, const struct sigaction *action, struct sigaction *old);
EXPORT int atoll_sigaction(int number, const struct sigaction *action, struct sigaction *old) {
    return shim->signal_action(shim->owner, number, action, old);
}

EXPORT int atoll___sigaction(int number, const struct sigaction *action, struct sigaction *old);
EXPORT int atoll___sigaction(int number, const struct sigaction *action, struct sigaction *old) {
    return shim->signal_action(shim->owner, number, action, old);
}

/* With these flags; the signal itself is blocked meanwhile where `block` says so. */
static signal_handler set_handler(int number, signal_handler handler, int flags, bool block) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    struct sigaction old;
    if (handler == SIG_ERR) {
        errno = EINVAL;
        return SIG_ERR;
    }
    (void)sigemptyset(&action.sa_mask);
    if (block && sigaddset(&action.sa_mask, number) != 0) {
        return SIG_ERR;
    }
    return shim->signal_action(shim->owner, number, &action, &old) == 0 ? old.sa_handler : SIG_ERR;
}

EXPORT signal_handler atoll_signal(int number, signal_handler handler);
EXPORT signal_handler atoll_signal(int number, signal_handler handler) {
    return set_handler(number, handler, SA_RESTART, true);
}

EXPORT signal_handler atoll_bsd_signal(int number, signal_handler handler);
EXPORT signal_handler atoll_bsd_signal(int number, signal_handler handler) {
    return set_handler(number, handler, SA_RESTART, true);
}

EXPORT signal_handler atoll_ssignal(int number, signal_handler handler);
EXPORT signal_handler atoll_ssignal(int number, signal_handler handler) {
    return set_handler(number, handler, SA_RESTART, true);
}

#define AS_UNIX_HAD_IT ((int)(SA_RESETHAND | SA_NODEFER))

EXPORT signal_handler atoll_sysv_signal(int number, signal_handler handler);
EXPORT signal_handler atoll_sysv_signal(int number, signal_handler handler) {
    return set_handler(number, handler, AS_UNIX_HAD_IT, false);
}

/* What signal() is for who asks for no more than C and POSIX. */
EXPORT signal_handler atoll___sysv_signal(int number, signal_handler handler);
EXPORT signal_handler atoll___sysv_signal(int number, signal_handler handler) {
    return set_handler(number, handler, AS_UNIX_HAD_IT, false);
}

/* Blocks the signal, or unblocks it and sets its handler; the answer is SIG_HOLD where it was blocked. */
EXPORT signal_handler atoll_sigset(int number, signal_handler handler);
EXPORT signal_handler atoll_sigset(int number, signal_handler handler) {
    static const signal_handler hold = (signal_handler)2;
    struct sigaction old;
    sigset_t set;
    sigset_t blocked;
    (void)sigemptyset(&set);
    if (sigaddset(&set, number) != 0 || shim->signal_action(shim->owner, number, NULL, &old) != 0) {
        return SIG_ERR;
    }
    signal_handler before = handler != hold ? set_handler(number, handler, 0, false) : old.sa_handler;
    if (before == SIG_ERR || sigprocmask(handler == hold ? SIG_BLOCK : SIG_UNBLOCK, &set, &blocked) != 0) {
        return SIG_ERR;
    }
    return sigismember(&blocked, number) != 0 ? hold : before;
}

EXPORT signal_handler atoll_PyOS_setsig(int number, signal_handler handler);
EXPORT signal_handler atoll_PyOS_setsig(int number, signal_handler handler) {
    return set_handler(number, handler, SA_ONSTACK, false);
}

EXPORT signal_handler atoll_PyOS_getsig(int number);
EXPORT signal_handler atoll_PyOS_getsig(int number) {
    struct sigaction old;
    return shim->signal_action(shim->owner, number, NULL, &old) == 0 ? old.sa_handler : SIG_ERR;
}

/* ---- memory ---- */

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

typedef struct stand_in {
    struct stand_in *next;
    char *theirs;
    char *ours; /* stays */
    size_t size;
} stand_in;

static pthread_mutex_t stand_ins_lock = PTHREAD_MUTEX_INITIALIZER;
static stand_in *stand_ins; /* the last made is the first */

__attribute__((destructor)) static void free_stand_ins(void) {
    while (stand_ins != NULL) {
        stand_in *next = stand_ins->next;
        free(stand_ins);
        stand_ins = next;
    }
}

/* What to give the C library instead of memory that may be a clone's; NULL: out of memory. */
static void *for_good(void *memory, size_t size) {
    if (memory == NULL || shim->original(shim->owner, memory) == NULL) {
        return memory;
    }
    (void)pthread_mutex_lock(&stand_ins_lock);
    stand_in *found = stand_ins;
    while (found != NULL && (found->theirs != memory || found->size < size)) {
        found = found->next;
    }
    if (found == NULL && (found = malloc(sizeof *found)) != NULL) {
        *found = (stand_in){stand_ins, memory, malloc(size), size};
        if (found->ours != NULL) {
            stand_ins = found;
        } else {
            free(found);
            found = NULL;
        }
    }
    (void)pthread_mutex_unlock(&stand_ins_lock);
    return found != NULL ? found->ours : NULL;
}

/* The last stand-in for this memory, or the memory itself. */
static char *ours_for(char *memory) {
    (void)pthread_mutex_lock(&stand_ins_lock);
    const stand_in *found = stand_ins;
    while (found != NULL && found->theirs != memory) {
        found = found->next;
    }
    char *ours = found != NULL ? found->ours : memory;
    (void)pthread_mutex_unlock(&stand_ins_lock);
    return ours;
}

/* The state of random() and its like.  What was the state before is told as it is: memory that stays, whoever's it is. */
EXPORT char *atoll_initstate(unsigned seed, char *state, size_t size);
EXPORT char *atoll_initstate(unsigned seed, char *state, size_t size) {
    char *own = for_good(state, size);
    return own != NULL ? initstate(seed, own, size) : NULL;
}

EXPORT char *atoll_setstate(char *state);
EXPORT char *atoll_setstate(char *state) { return setstate(ours_for(state)); }

EXPORT int atoll_sigaltstack(const stack_t *stack, stack_t *before);
EXPORT int atoll_sigaltstack(const stack_t *stack, stack_t *before) {
    if (stack == NULL || (stack->ss_flags & SS_DISABLE) != 0) {
        return sigaltstack(stack, before);
    }
    stack_t own = *stack;
    own.ss_sp = for_good(stack->ss_sp, stack->ss_size);
    if (own.ss_sp == NULL && stack->ss_sp != NULL) {
        errno = ENOMEM;
        return -1;
    }
    return sigaltstack(&own, before);
}

/* The name that is put before each line of the log.  Without memory, none: then it is the program's. */
EXPORT void atoll_openlog(const char *name, int options, int facility);
EXPORT void atoll_openlog(const char *name, int options, int facility) {
    size_t size = name != NULL ? strlen(name) + 1 : 0;
    char *own = for_good((char *)(uintptr_t)name, size);
    if (own != name && own != NULL) {
        memcpy(own, name, size); /* as it is now */
    }
    openlog(own, options, facility);
}
