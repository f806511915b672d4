/* Having a thread that sits in a system call come to one function instead of another.
 *
 * A signal makes the system call return with EINTR; the code that made it then, if it is CPython's, calls a function of
 * CPython's and goes on with what that returns.  That function cannot be replaced: nothing says that it is called through a
 * pointer.  So this does what a debugger does.  The handler of the signal sets the processor's trap flag in the registers that
 * the thread goes on with; after each instruction the thread then gets a SIGTRAP, whose handler looks where it is, and at the
 * first instruction of the function lets it go on at the first one of the other, without the flag.  No code is changed, no
 * other thread is concerned, and nothing is done unless somebody asks.  The way to the function is some hundred
 * instructions; when it is not found within STEPS or SECONDS the flag is taken away.  All else that is done is that the
 * thread got one signal more, and is slow for a moment.
 *
 * A thread that blocks signals while it has the flag would end the process, as glibc's threads do when they end, and one that it starts
 * would have the flag, too.  So before each instruction it is looked whether that is such a system call: then the thread is not on
 * its way, and the flag is taken away.
 *
 * The first signal is poke.c's.  When others have a handler there, or block it, nothing is done.  Neither is it under a
 * debugger, which would want the traps for itself, or where SIGTRAP is blocked, which would end the process.
 * SIGTRAP's handler is there only as long as a thread may have the flag set.
 *
 * One thread at a time.  `state` is changed by the asker when it is IDLE or OVER, by the thread's handlers when it is STEPPING,
 * and from ASKED by whoever is first; they touch nothing else and call nothing that a handler may not.
 *
 * Only x86-64 lets a program set the flag for itself.
 */
#include "port/port.h"

#if defined(__x86_64__)

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define STEPS 50000
#define SECONDS 5.0      /* for the way, */
#define BEGIN 0.02       /* and so many to begin it: the thread is in no system call otherwise */
#define LOOK 0.001       /* the asker looks so often, */
#define ASK_AGAIN 0.1    /* and asks again when it is to be given up */
#define TRAP_FLAG 0x100L /* in the processor's flags */

enum { IDLE, ASKED, STEPPING, OVER };

static atoll_mutex lock = ATOLL_MUTEX_INIT; /* who asks */
static _Atomic(int) state = IDLE;
static pid_t thread;
static atoll_redirection wanted;
static _Atomic(bool) give_up;
static bool redirected;
static unsigned steps;
static struct sigaction trap_before;

static bool is_call_interrupted(const ucontext_t *context) {
    const unsigned char *next = (const unsigned char *)context->uc_mcontext.gregs[REG_RIP];
    /* What was executed last is a system call: two bytes, which lie in the same page or the one before. */
    return context->uc_mcontext.gregs[REG_RAX] == -EINTR && next[-2] == 0x0F && next[-1] == 0x05;
}

static bool is_this_thread(void) { return (pid_t)syscall(SYS_gettid) == thread; }

/* On the thread that is asked. */
static void on_asked(void *raw) {
    ucontext_t *context = raw;
    int now = atomic_load(&state);
    if ((now != ASKED && now != STEPPING) || !is_this_thread()) {
        return;
    }
    if (now == ASKED) {
        if (is_call_interrupted(context) && !sigismember(&context->uc_sigmask, SIGTRAP) &&
            atomic_compare_exchange_strong(&state, &now, STEPPING)) {
            context->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
        }
    } else if (atomic_load(&give_up)) {
        context->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
        atomic_store(&state, OVER);
    }
}

/* A trap that is none of ours. */
static void pass_on(int number, siginfo_t *info, void *raw) {
    if (trap_before.sa_flags & SA_SIGINFO) {
        trap_before.sa_sigaction(number, info, raw);
    } else if (trap_before.sa_handler != SIG_DFL && trap_before.sa_handler != SIG_IGN) {
        trap_before.sa_handler(number);
    } else { /* as it would have ended without this */
        struct sigaction none = {.sa_handler = SIG_DFL};
        (void)sigaction(number, &none, NULL);
        (void)raise(number);
    }
}

/* Whether the next instruction is a system call that must not be made with the flag set. */
static bool is_dangerous(const greg_t *registers) {
    const unsigned char *next = (const unsigned char *)registers[REG_RIP];
    if (next[0] != 0x0F || next[1] != 0x05) {
        return false;
    }
    switch (registers[REG_RAX]) {
    case SYS_rt_sigprocmask:
    case SYS_clone:
    case SYS_clone3:
    case SYS_fork:
    case SYS_vfork:
    case SYS_execve:
        return true;
    default:
        return false;
    }
}

static void on_trap(int number, siginfo_t *info, void *raw) {
    ucontext_t *context = raw;
    if (info->si_code != TRAP_TRACE || atomic_load(&state) != STEPPING || !is_this_thread()) {
        pass_on(number, info, raw);
        return;
    }
    greg_t *registers = context->uc_mcontext.gregs;
    for (int i = 0; i < ATOLL_REDIRECTIONS; i++) {
        if (registers[REG_RIP] == (greg_t)wanted.function[i]) {
            registers[REG_RIP] = (greg_t)wanted.instead[i];
            redirected = true;
        }
    }
    if (redirected || atomic_load(&give_up) || ++steps > STEPS || is_dangerous(registers)) {
        registers[REG_EFL] &= ~TRAP_FLAG;
        atomic_store(&state, OVER);
    }
}

static bool is_traced(void) {
    char line[128];
    long tracer = 0;
    FILE *status = fopen("/proc/self/status", "re");
    while (status != NULL && fgets(line, sizeof line, status) != NULL) {
        if (strncmp(line, "TracerPid:", 10) == 0) {
            tracer = strtol(line + 10, NULL, 10);
        }
    }
    if (status != NULL) {
        (void)fclose(status);
    }
    return tracer != 0;
}

/* A thread that is gone has no flag. */
static void ask(void) {
    if (!atoll_poke(thread)) {
        atomic_store(&state, OVER);
    }
}

/* Until the thread has no trap flag any more. */
static void watch_over(bool (*go_on)(void)) {
    double began = atoll_clock();
    double again = 0;
    ask();
    while (atomic_load(&state) != OVER) {
        atoll_sleep(LOOK);
        double now = atoll_clock();
        int asked = ASKED;
        if (now > began + BEGIN && atomic_compare_exchange_strong(&state, &asked, OVER)) {
            break;
        }
        if (now > began + SECONDS || !go_on()) {
            atomic_store(&give_up, true);
            if (now > again) { /* it may be in a system call, with the flag set */
                ask();
                again = now + ASK_AGAIN;
            }
        }
    }
}

bool atoll_redirect(int which, const atoll_redirection *redirection, bool (*go_on)(void)) {
    bool done = false;
    bool traced = is_traced();
    atoll_mutex_lock(&lock);
    struct sigaction ours = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    (void)sigfillset(&ours.sa_mask);
    if (!traced && atoll_poke_listen(on_asked) && sigaction(SIGTRAP, &ours, &trap_before) == 0) {
        thread = which;
        wanted = *redirection;
        redirected = false;
        steps = 0;
        atomic_store(&give_up, false);
        atomic_store(&state, ASKED);
        watch_over(go_on);
        done = redirected;
        atomic_store(&state, IDLE);
        struct sigaction now;
        if (sigaction(SIGTRAP, NULL, &now) == 0 && (now.sa_flags & SA_SIGINFO) != 0 &&
            now.sa_sigaction == on_trap) {
            (void)sigaction(SIGTRAP, &trap_before, NULL);
        }
    }
    atoll_mutex_unlock(&lock);
    return done;
}

void atoll_redirect_arrived(void) {
    if (atomic_load(&state) == STEPPING && is_this_thread()) {
        atomic_store(&give_up, true);
    }
}

void atoll_redirect_after_fork(void) {
    atoll_mutex_init(&lock);
    atomic_store(&state, IDLE);
}

#else

bool atoll_redirect(int which, const atoll_redirection *redirection, bool (*go_on)(void)) {
    (void)which;
    (void)redirection;
    (void)go_on;
    return false;
}

void atoll_redirect_arrived(void) {}

void atoll_redirect_after_fork(void) {}

#endif
