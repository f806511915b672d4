/* Having a thread of this process look up from what it does: a signal to it, whose handler calls the functions that listen.
 *
 * The signal is SIGURG, which does nothing where nobody handles it: one that arrives late, in a program that was started in
 * place of this one say, harms nobody.  Its handler stays.  When others have one there nothing is done, and who asks is told so.
 *
 * The list of functions only grows, and is read by the handler; a listener decides from state of its own whether it was meant,
 * and calls nothing that a handler may not.
 */
#include "port/port.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LISTENERS = 2 }; /* redirect.c, core/clone/native_threads.c */

static _Atomic(atoll_poke_listener) listeners[LISTENERS];

static void on_poke(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)info;
    for (int i = 0; i < LISTENERS; i++) {
        atoll_poke_listener listener = atomic_load(&listeners[i]);
        if (listener != NULL) {
            listener(context);
        }
    }
}

bool atoll_poke_listen(atoll_poke_listener listener) {
    struct sigaction now;
    if (sigaction(SIGURG, NULL, &now) < 0) {
        return false;
    }
    bool ours = (now.sa_flags & SA_SIGINFO) != 0 && now.sa_sigaction == on_poke;
    if (!ours) {
        struct sigaction action = {.sa_sigaction = on_poke, .sa_flags = SA_SIGINFO | SA_ONSTACK};
        if ((now.sa_flags & SA_SIGINFO) != 0 || now.sa_handler != SIG_DFL ||
            sigaction(SIGURG, &action, NULL) < 0) {
            return false;
        }
    }
    for (int i = 0; i < LISTENERS; i++) {
        atoll_poke_listener there = NULL;
        if (atomic_compare_exchange_strong(&listeners[i], &there, listener) || there == listener) {
            return true;
        }
    }
    return false;
}

bool atoll_poke(int thread) { return syscall(SYS_tgkill, getpid(), thread, SIGURG) == 0; }

void atoll_poke_allow(void) {
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGURG);
    (void)pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}
