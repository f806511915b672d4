/* What there is once for all interpreters of the process: the lifecycle lock, whether the process ends, what pools are asked for.  See
 * lifecycle_internal.h. */
#include "py/interp/lifecycle_internal.h"
#include "py/interp/pools.h"

#include <stdatomic.h>

const atoll_pools_face *atoll_the_pools;

/* The lifecycle lock is shared by those who have CPython make or free an interpreter, and had alone by those who look at its list of
 * them, or need that nobody makes one.  Both kinds may be had again by who has it, and alone by who shares it (a finalizer that
 * lists interpreters): then those who share it and want it alone themselves count as waiting, and take turns.  Who comes to share it waits
 * behind who wants it alone, but not for ever: when that one gives it back, all who wait to share it pass. */
static struct {
    atoll_mutex lock;
    atoll_cond released;
    bool cond_ready;
    bool held; /* alone, by owner, depth times */
    unsigned depth;
    pthread_t owner;
    unsigned sharing;   /* threads */
    unsigned upgrading; /* of these, who want it alone */
    unsigned waiting;   /* who want it alone */
    unsigned queued;    /* who come to share it */
    unsigned passing;   /* of these, who go first */
} lifecycle = {.lock = ATOLL_MUTEX_INIT};
static _Thread_local unsigned shared; /* how often this thread shares it */

static _Atomic(int) work; /* less than none: in a child that was forked by who does it */
static _Atomic(bool) install_in_new;
static _Atomic(bool) exiting;

void atoll_interp_set_installed(bool value) { atomic_store(&install_in_new, value); }

bool atoll_interp_installed(void) { return atomic_load(&install_in_new); }

bool atoll_interp_exiting(void) { return atomic_load(&exiting); }

bool atoll_interp_set_exiting(bool value) { return atomic_exchange(&exiting, value); }

/* seq_cst, as `exiting` is: who begins looks at that, who exits at this, and they must not both miss each other. */
void atoll_interp_work_begin(void) { (void)atomic_fetch_add(&work, 1); }

void atoll_interp_work_end(void) { (void)atomic_fetch_sub(&work, 1); }

bool atoll_interp_is_work(void) { return atomic_load(&work) > 0; }

void atoll_interp_work_forked(void) { atomic_store(&work, 0); }

static bool is_mine(void) { return lifecycle.held && pthread_equal(lifecycle.owner, pthread_self()); }

static void await_release(void) {
    if (!lifecycle.cond_ready) {
        atoll_cond_init(&lifecycle.released);
        lifecycle.cond_ready = true;
    }
    atoll_cond_wait(&lifecycle.released, &lifecycle.lock);
}

static void wake_waiting(void) {
    if (lifecycle.cond_ready) {
        atoll_cond_broadcast(&lifecycle.released);
    }
}

void atoll_lifecycle_lock_detached(void) {
    atoll_mutex_lock(&lifecycle.lock);
    if (!is_mine()) {
        unsigned mine = shared != 0;
        lifecycle.waiting++;
        lifecycle.upgrading += mine;
        if (mine != 0) {
            wake_waiting(); /* another one may have waited for this */
        }
        while (lifecycle.held || (lifecycle.passing != 0 && mine == 0) ||
               lifecycle.sharing - (mine != 0 ? lifecycle.upgrading : 0) != 0) {
            await_release();
        }
        lifecycle.waiting--;
        lifecycle.upgrading -= mine;
        lifecycle.held = true;
        lifecycle.owner = pthread_self();
    }
    lifecycle.depth++;
    atoll_mutex_unlock(&lifecycle.lock);
}

void atoll_lifecycle_lock(void) {
    PyThreadState *tstate = PyEval_SaveThread();
    atoll_lifecycle_lock_detached();
    PyEval_RestoreThread(tstate);
}

void atoll_lifecycle_unlock(void) {
    atoll_mutex_lock(&lifecycle.lock);
    if (--lifecycle.depth == 0) {
        lifecycle.held = false;
        lifecycle.passing = lifecycle.queued;
        wake_waiting();
    }
    atoll_mutex_unlock(&lifecycle.lock);
}

void atoll_lifecycle_share_detached(void) {
    atoll_mutex_lock(&lifecycle.lock);
    if (is_mine()) {
        lifecycle.depth++;
    } else {
        lifecycle.queued++;
        while (shared == 0 && (lifecycle.held || (lifecycle.waiting != 0 && lifecycle.passing == 0))) {
            await_release();
        }
        lifecycle.queued--;
        if (lifecycle.passing != 0) {
            lifecycle.passing--;
            wake_waiting();
        }
        lifecycle.sharing += shared++ == 0;
    }
    atoll_mutex_unlock(&lifecycle.lock);
}

void atoll_lifecycle_share(void) {
    PyThreadState *tstate = PyEval_SaveThread();
    atoll_lifecycle_share_detached();
    PyEval_RestoreThread(tstate);
}

void atoll_lifecycle_unshare(void) {
    atoll_mutex_lock(&lifecycle.lock);
    if (is_mine()) {
        lifecycle.depth--;
    } else if (--shared == 0) {
        lifecycle.sharing--;
        wake_waiting();
    }
    atoll_mutex_unlock(&lifecycle.lock);
}

/* Awaited for long, so a fork takes only what guards it. */
void atoll_lifecycle_fork(atoll_fork_moment when) {
    atoll_mutex_fork(&lifecycle.lock, when);
    if (when == ATOLL_FORK_CHILD) {
        lifecycle.cond_ready = false;
        lifecycle.sharing = shared != 0;
        lifecycle.upgrading = 0;
        lifecycle.waiting = 0;
        lifecycle.queued = 0;
        lifecycle.passing = 0;
        if (!is_mine()) {
            lifecycle.held = false;
            lifecycle.depth = 0;
        }
    }
}
