/* Signal handlers that clones install (clones.h).
 *
 * The kernel keeps the address of a handler, and so does everybody who installs another one and calls the one before from it:
 * other clones, CPython's faulthandler, the program.  None of them must have an address in a clone, which will be gone.  So
 * what the kernel is given is a function of Atoll's, which stays: each handler of a clone has a place with a function of its own,
 * which calls the handler as long as its interpreter has it, and what was there before from then on.
 *
 *   a clone installs a handler       a place is taken; `before` is what the kernel had, whoever's that is
 *   the clone asks for its handler   it is told its own again, as it was
 *   others ask what is installed     they are told the place's function, which they can call, compare and put back
 *   the clone puts back another one  the place is empty, and free if nobody can know it
 *   the interpreter ends             if nobody else handles a signal that would end the process, the clones stay.  Else,
 *                                    where the kernel has the place's function it gets back what was before; elsewhere somebody
 *                                    has installed another one since, and may call it: it leads on to what was before
 *
 * A place is used again when no other place leads to it, and only if nobody else can have seen it: the kernel still had it when
 * it was emptied.  Else it is lost, so that nobody who calls it comes round to himself.  Places are taken in turn.  When
 * there is none, the kernel gets the handler itself, and the clones stay mapped.
 *
 * Whoever empties a place waits until no thread is inside its handler.  A thread counts itself, then looks for the handler.
 *
 *   operation x operation   installing   a signal                          the end
 *   installing              the lock     atomic handler                    the lock
 *   a signal                             independent                       `running`, then `handler`: seq_cst
 *
 * Locks: `lock`, a leaf.  These functions may be called from a handler, so all signals are blocked while it is held.
 */
#include "core/clone/clones.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#define PLACES 256
#define PATIENCE 1.0 /* seconds for handlers that run */

typedef void (*handler_function)(int number, siginfo_t *info, void *context);

typedef struct {
    _Atomic(handler_function)
        handler;                    /* the clone's; NULL: the place is empty, and what was before is called */
    _Atomic(handler_function) next; /* that is `before` */
    _Atomic(long) running;
    const atoll_clones *owner; /* of the handler, or of the last one, which may still run */
    struct sigaction action;   /* as the clone gave it */
    struct sigaction before;   /* what the kernel had */
    int number;
    unsigned above;     /* places whose `before` this function is */
    _Atomic(bool) once; /* SA_RESETHAND, which is done here */
    bool taken;         /* the function may be known to somebody */
    bool known;         /* and is, to somebody who is none of ours: for good */
} place;

static atoll_mutex lock = ATOLL_MUTEX_INIT;
static place places[PLACES];
static size_t last_taken;

void atoll_clone_signals_fork(atoll_fork_moment when) { atoll_mutex_fork(&lock, when); }

static void lock_and_block(sigset_t *blocked) {
    sigset_t all;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, blocked);
    atoll_mutex_lock(&lock);
}

static void unlock_and_unblock(const sigset_t *blocked) {
    atoll_mutex_unlock(&lock);
    (void)pthread_sigmask(SIG_SETMASK, blocked, NULL);
}

/* ---- what the kernel calls ---- */

/* Functions that expect the number only do not mind the rest, which the kernel passes them as well. */
static handler_function function_of(const struct sigaction *action) { return action->sa_sigaction; }

static handler_function function_from(void (*simple)(int)) {
    return (const struct sigaction){.sa_handler = simple}.sa_sigaction;
}

/* As the kernel does by default.  The signal is blocked in its handler, and ends the process when that returns. */
static void by_default(int number) {
    if (number == SIGCHLD || number == SIGURG || number == SIGWINCH || number == SIGCONT) {
        return; /* nothing */
    }
    struct sigaction none = {.sa_handler = SIG_DFL};
    (void)sigaction(number, &none, NULL);
    (void)raise(number);
}

/* What an action says.  The kernel has one bit for each signal: what the C library's mask has beyond is whatever was in memory before,
 * maybe a pointer that nobody holds, and is not kept (py/memory/leftovers.h reads it). */
static struct sigaction meant_by(const struct sigaction *action) {
    struct sigaction said = {.sa_flags = action->sa_flags};
    said.sa_sigaction = action->sa_sigaction;
    memcpy(&said.sa_mask, &action->sa_mask, (NSIG - 1 + 7) / 8);
    return said;
}

static void call_before(handler_function before, int number, siginfo_t *info, void *context) {
    if (before == function_from(SIG_DFL)) {
        by_default(number);
    } else if (before != function_from(SIG_IGN)) {
        before(number, info, context);
    }
}

static void reset(size_t which, int number);

static void on_signal(size_t which, int number, siginfo_t *info, void *context) {
    place *p = &places[which];
    atomic_fetch_add(&p->running, 1);
    handler_function handler = atomic_load(&p->handler);
    handler_function before = atomic_load(&p->next);
    if (handler != NULL && atomic_load(&p->once)) {
        reset(which, number);
    }
    if (handler != NULL) {
        handler(number, info, context); /* one that jumps out of it is counted for good */
    }
    atomic_fetch_sub(&p->running, 1);
    if (handler == NULL) {
        call_before(before, number, info, context);
    }
}

#define EACH_16(use, n)                                                                                      \
    use(n##0) use(n##1) use(n##2) use(n##3) use(n##4) use(n##5) use(n##6) use(n##7) use(n##8) use(n##9)      \
        use(n##a) use(n##b) use(n##c) use(n##d) use(n##e) use(n##f)
#define EACH(use)                                                                                            \
    EACH_16(use, 0)                                                                                          \
    EACH_16(use, 1)                                                                                          \
    EACH_16(use, 2)                                                                                          \
    EACH_16(use, 3)                                                                                          \
    EACH_16(use, 4)                                                                                          \
    EACH_16(use, 5)                                                                                          \
    EACH_16(use, 6)                                                                                          \
    EACH_16(use, 7)                                                                                          \
    EACH_16(use, 8)                                                                                          \
    EACH_16(use, 9)                                                                                          \
    EACH_16(use, a)                                                                                          \
    EACH_16(use, b)                                                                                          \
    EACH_16(use, c)                                                                                          \
    EACH_16(use, d)                                                                                          \
    EACH_16(use, e)                                                                                          \
    EACH_16(use, f)

#define DEFINE(n)                                                                                            \
    static void on_##n(int number, siginfo_t *info, void *context) {                                         \
        on_signal(0x##n, number, info, context);                                                             \
    }
#define NAME(n) on_##n,

EACH(DEFINE)
static const handler_function functions[PLACES] = {EACH(NAME)};

/* ---- places; the lock is held ---- */

/* The place whose function this is, or PLACES. */
static size_t place_of(const struct sigaction *action) {
    size_t which = 0;
    while (which < PLACES && functions[which] != function_of(action)) {
        which++;
    }
    return which;
}

static bool is_empty(const place *p) { return atomic_load(&p->handler) == NULL; }

/* What an action comes to: the function of an empty place stands for what was before. */
static const struct sigaction *resolve_locked(const struct sigaction *action) {
    for (size_t which; (which = place_of(action)) != PLACES && is_empty(&places[which]);) {
        action = &places[which].before;
    }
    return action;
}

/* What the place leads to; `before` may be NULL: nothing, as it is free. */
static void lead_to_locked(place *p, const struct sigaction *before) {
    size_t to = before != NULL ? place_of(before) : PLACES;
    size_t from = p->taken ? place_of(&p->before) : PLACES;
    if (to != PLACES) {
        places[to].above++;
    }
    if (from != PLACES) {
        places[from].above--;
    }
    p->taken = before != NULL;
    if (before != NULL) {
        p->before = meant_by(before);
        atomic_store(&p->next, function_of(before));
    }
}

/* An empty place that nothing leads to may be used again; then what it led to may have become such a one. */
static void give_back_locked(place *p) {
    while (p != NULL && p->taken && !p->known && is_empty(p) && p->above == 0) {
        size_t below = place_of(&p->before);
        lead_to_locked(p, NULL);
        p = below != PLACES ? &places[below] : NULL;
    }
}

/* Empty places lead past empty ones, which nobody else knows any more: whoever they were told to has ended. */
static void shorten_locked(void) {
    for (size_t i = 0; i < PLACES; i++) {
        place *p = &places[i];
        if (p->taken && is_empty(p)) {
            size_t below = place_of(&p->before);
            const struct sigaction real = *resolve_locked(&p->before);
            lead_to_locked(p, &real);
            give_back_locked(below != PLACES ? &places[below] : NULL);
        }
    }
}

static place *take_locked(const atoll_clones *owner, int number, const struct sigaction *before) {
    for (size_t i = 1; i <= PLACES; i++) {
        size_t which = (last_taken + i) % PLACES;
        place *p = &places[which];
        if (!p->taken && atomic_load(&p->running) == 0) {
            last_taken = which;
            p->owner = owner;
            p->number = number;
            lead_to_locked(p, before);
            return p;
        }
    }
    return NULL;
}

/* The clone's action in place of what the kernel has now; `mine` is the place whose function that is, or NULL. */
static int install_locked(atoll_clones *owner, int number, const struct sigaction *action,
                          const struct sigaction *now, place *mine) {
    place *p = mine != NULL ? mine : take_locked(owner, number, resolve_locked(now));
    if (p == NULL) {
        atomic_store(&owner->is_kept, true);
        return sigaction(number, action, NULL);
    }
    struct sigaction own = *action;
    own.sa_sigaction = functions[p - places];
    own.sa_flags = (own.sa_flags | SA_SIGINFO) & ~(int)SA_RESETHAND;
    const struct sigaction was = p->action;
    p->action = meant_by(action); /* before the kernel may call it */
    atomic_store(&p->once, ((unsigned)action->sa_flags & (unsigned)SA_RESETHAND) != 0);
    atomic_store(&p->handler, function_of(action));
    int rc = sigaction(number, &own, NULL);
    if (rc != 0) {
        int failed = errno;
        p->action = was;
        atomic_store(&p->handler, mine != NULL ? function_of(&was) : NULL);
        give_back_locked(p);
        errno = failed;
    }
    return rc;
}

/* The kernel forgets a handler that is called once, before it is called. */
static void reset(size_t which, int number) {
    struct sigaction now;
    sigset_t blocked;
    lock_and_block(&blocked);
    if (sigaction(number, NULL, &now) == 0 && place_of(&now) == which) {
        const struct sigaction none = {.sa_handler = SIG_DFL};
        (void)sigaction(number, &none, NULL);
        atomic_store(&places[which].handler, NULL);
        give_back_locked(&places[which]);
    }
    unlock_and_unblock(&blocked);
}

/* ---- */

/* Whether a function is the clone's.  A handler may ask that installs itself again, having interrupted anything: known ones are
 * found without the set's lock. */
static bool is_of_clone(atoll_clones *set, const struct sigaction *action) {
    sigset_t blocked;
    bool known = false;
    lock_and_block(&blocked);
    for (size_t i = 0; i < PLACES && !known; i++) {
        known = places[i].owner == set && function_of(&places[i].action) == function_of(action);
    }
    unlock_and_unblock(&blocked);
    return known || atoll_clones_at(set, (const void *)(uintptr_t)function_of(action)) != NULL;
}

int atoll_clone_signal_action(atoll_clones *set, int number, const struct sigaction *action,
                              struct sigaction *old) {
    struct sigaction now;
    struct sigaction wanted = {.sa_handler = SIG_DFL};
    sigset_t blocked;
    if (action != NULL) {
        wanted = *action; /* `old` may be the same struct */
    }
    bool own = action != NULL && is_of_clone(set, action);
    lock_and_block(&blocked);
    int rc = sigaction(number, NULL, &now);
    size_t which = rc == 0 ? place_of(&now) : PLACES;
    place *mine =
        which != PLACES && places[which].owner == set && !is_empty(&places[which]) ? &places[which] : NULL;
    const struct sigaction was = mine != NULL ? mine->action : *resolve_locked(&now);
    if (rc == 0 && own) {
        rc = install_locked(set, number, &wanted, &now, mine);
    } else if (rc == 0 && action != NULL) {
        rc = sigaction(number, resolve_locked(&wanted), NULL);
        if (rc == 0 && mine != NULL && place_of(&wanted) != which) {
            atomic_store(&mine->handler, NULL);
            give_back_locked(mine);
        }
    }
    int failed = errno;
    unlock_and_unblock(&blocked);
    if (rc == 0 && old != NULL) {
        *old = was;
    }
    errno = failed;
    return rc;
}

/* Whether the process ends when this signal comes to it, from outside or by a timer, and nobody handles it. */
static bool is_deadly(int number) {
    static const int harmless[] = {SIGCHLD, SIGURG, SIGWINCH, SIGCONT, SIGTSTP, SIGTTIN, SIGTTOU};
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++) {
        if (number == harmless[i] || number == faults[i]) {
            return false;
        }
    }
    return true;
}

bool atoll_clone_signals_matter(const atoll_clones *set) {
    sigset_t blocked;
    bool matter = atomic_load(&set->is_kept);
    lock_and_block(&blocked);
    for (size_t i = 0; i < PLACES && !matter; i++) {
        const place *p = &places[i];
        matter = p->owner == set && !is_empty(p) && is_deadly(p->number) &&
                 function_of(resolve_locked(&p->before)) == function_from(SIG_DFL);
    }
    unlock_and_unblock(&blocked);
    return matter;
}

/* Empties the places of an owner; first those that the kernel has. */
static void remove_all_locked(const atoll_clones *set) {
    for (int number = 1; number < ATOLL_SIGNALS; number++) {
        struct sigaction now;
        size_t which = sigaction(number, NULL, &now) == 0 ? place_of(&now) : PLACES;
        if (which != PLACES && places[which].owner == set && !is_empty(&places[which])) {
            atomic_store(&places[which].handler, NULL);
            (void)sigaction(number, resolve_locked(&now), NULL);
        }
    }
    for (size_t i = 0; i < PLACES; i++) {
        place *p = &places[i];
        if (p->owner == set) {
            /* Else somebody who is none of ours has put another one over it. */
            p->known |= !is_empty(p) && p->above == 0;
            atomic_store(&p->handler, NULL);
            give_back_locked(p);
        }
    }
    shorten_locked();
}

bool atoll_clone_signals_end(const atoll_clones *set) {
    sigset_t blocked;
    bool run = true;
    for (double deadline = atoll_clock() + PATIENCE; run && atoll_clock() <= deadline; atoll_yield()) {
        lock_and_block(&blocked);
        remove_all_locked(set);
        run = false;
        for (size_t i = 0; i < PLACES; i++) {
            run |= places[i].owner == set && atomic_load(&places[i].running) != 0;
        }
        for (size_t i = 0; !run && i < PLACES; i++) {
            places[i].owner = places[i].owner == set ? NULL : places[i].owner;
        }
        unlock_and_unblock(&blocked);
    }
    return !run;
}
