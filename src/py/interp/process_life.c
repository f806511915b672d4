/* What there is once for all interpreters of the process: the lifecycle lock, whether the process ends, what pools are asked for.  See
 * lifecycle_internal.h. */
#include "py/interp/lifecycle_internal.h"
#include "py/interp/pools.h"

#include <stdatomic.h>

const atoll_pools_face *atoll_the_pools;

static struct {
    atoll_mutex lock;
    atoll_cond released;
    bool cond_ready;
    bool held;
    unsigned depth;
    pthread_t owner;
} lifecycle = {.lock = ATOLL_MUTEX_INIT};

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

void atoll_lifecycle_lock_detached(void) {
    pthread_t self = pthread_self();
    atoll_mutex_lock(&lifecycle.lock);
    if (!lifecycle.cond_ready) {
        atoll_cond_init(&lifecycle.released);
        lifecycle.cond_ready = true;
    }
    while (lifecycle.held && !pthread_equal(lifecycle.owner, self)) {
        atoll_cond_wait(&lifecycle.released, &lifecycle.lock);
    }
    lifecycle.held = true;
    lifecycle.owner = self;
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
        atoll_cond_broadcast(&lifecycle.released);
    }
    atoll_mutex_unlock(&lifecycle.lock);
}

/* Awaited for long, so a fork takes only what guards it. */
void atoll_lifecycle_fork(atoll_fork_moment when) {
    atoll_mutex_fork(&lifecycle.lock, when);
    if (when == ATOLL_FORK_CHILD) {
        lifecycle.cond_ready = false;
        if (lifecycle.held && !pthread_equal(lifecycle.owner, pthread_self())) {
            lifecycle.held = false;
            lifecycle.depth = 0;
        }
    }
}
