/* What the C library would keep of a clone's (shim.c), beyond the time that the clone is there: functions to be called when the
 * process ends, signal handlers, strings of the environment, buffers of streams. */
#include "shim/shim_internal.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
