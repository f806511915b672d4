/* Loaders of extension modules when the process is forked.
 *
 * What all of them share is behind leaves.  Of the loaders themselves one matters, that of the interpreter that stays in the
 * child if it is not main: create(fork=True).  Its `loading` may be held for long, by a thread that wants the GIL which the
 * forking thread has, so it is taken only if it is free; if it is not, the list of its clones may be half changed, and
 * the child loads no more of them.
 */
#include "py/extension/loader_internal.h"

#include "core/clone/clone.h"
#include "core/registry/registry.h"

/* Of the process that is being forked; the thread that forks has the locks. */
static atoll_loader *mine;
static bool loading_taken;

void atoll_loader_init_lock(atoll_loader *loader) {
    pthread_mutexattr_t recursive;
    pthread_mutexattr_init(&recursive);
    pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&loader->loading, &recursive);
    pthread_mutexattr_destroy(&recursive);
}

/* The attached interpreter's loader, if that interpreter may fork. */
static atoll_loader *loader_that_stays(void) {
    PyThreadState *tstate = atoll_thread_state_attached();
    atoll_entry *entry =
        tstate != NULL ? atoll_registry_find(PyInterpreterState_GetID(PyThreadState_GetInterpreter(tstate)))
                       : NULL;
    atoll_loader *loader = entry != NULL && entry->may_fork ? entry->loader : NULL;
    if (entry != NULL) {
        atoll_entry_release(entry);
    }
    return loader;
}

void atoll_loaders_fork(atoll_fork_moment when) {
    atoll_verdicts_fork(when);
    atoll_clones_fork(when);
    if (when == ATOLL_FORK_BEFORE) {
        mine = loader_that_stays(); /* one thread forks at a time: fork.c holds other locks */
        loading_taken = mine != NULL && pthread_mutex_trylock(&mine->loading) == 0;
    }
    atoll_natives_fork(mine != NULL ? mine->foreign.natives : NULL, when);
    if (mine == NULL) {
        return;
    }
    atoll_mutex_fork(&mine->clones.lock, when);
    atoll_foreign_fork(&mine->foreign, when);
    if (when == ATOLL_FORK_PARENT && loading_taken) {
        pthread_mutex_unlock(&mine->loading);
    }
    if (when == ATOLL_FORK_CHILD) {
        atoll_loader_init_lock(mine);
        mine->halfway |= !loading_taken;
    }
}

void atoll_loaders_keep_only(const PyInterpreterState *interp) {
    bool stays = mine != NULL && mine->foreign.interp == interp;
    atoll_clones_keep_only(stays ? &mine->clones : NULL);
    atoll_foreign_count(stays && mine->foreign.has_clones);
}

void atoll_loaders_forget(void) { atoll_clones_keep_only(NULL); }
