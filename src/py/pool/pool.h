/* The threads of a pool: what runs its tasks.  worker.c says how. */
#ifndef ATOLL_PY_POOL_H
#define ATOLL_PY_POOL_H

#include "core/pool/pool.h"
#include "py/interp/interp.h"

/* What a pool's workers need; pool->settings. */
typedef struct {
    atoll_blueprint print; /* of their interpreters */
    char *name;            /* their names begin with it; UTF-8 */
    bool spares;           /* they may start from prewarmed ones */
    atoll_signal_mask
        signals;  /* blocked by the thread that made the pool, and so by the workers and what they start */
    size_t stack; /* bytes that threading.stack_size() asks for; 0: it does not */
    int inner_threads; /* of libraries, for each worker (core/pool/inner.c); 0: what they have */
    bool has_init;
    atoll_message init;    /* a call: the initializer with its arguments */
    atoll_message refused; /* UTF-8: why the initializer cannot be sent; empty when it can */
    atoll_entry *guest;    /* an interpreter to work in instead of own ones, or NULL; a user */
    atoll_entry *of;       /* the same, as long as the pool is there: a reference */
} atoll_pool_settings;

extern const atoll_pool_ops atoll_staff_ops;

/* Frees settings, or what there is of them. */
void atoll_settings_free(atoll_pool_settings *settings);

/* Gives the life of interpreters what it asks of pools (py/interp/pools.h). */
void atoll_staff_install(void);

/* On any thread: whether it is one that runs what was submitted to this interpreter. */
bool atoll_staff_is_guest_of(const atoll_entry *entry);

/* What a task leaves to be freed when its end has been told: freeing a large argument takes time. */
typedef struct {
    atoll_call_args args;
    PyObject *value;
} atoll_task_remains;

/* pool/task.c: runs a task in the attached interpreter, inside of a run.  Never leaves an exception. */
atoll_outcome atoll_work_run(atoll_state *state, atoll_task *task, atoll_message *result,
                             atoll_message *error, atoll_task_remains *remains);
/* An exception is set that is the outcome instead. */
atoll_outcome atoll_work_interrupted(atoll_state *state, atoll_message *result, atoll_message *error);
void atoll_work_clear(atoll_task_remains *remains);

/* spares.c: interpreters that are kept ready.  See there. */
void atoll_spares_fork(atoll_fork_moment when);
/* Python has ended, and they have; one that was just being made was left behind, with the thread that makes them. */
void atoll_spares_forget(void);
/* How many to keep, made as `like` says (taken over).  0, or -1 with an exception. */
int atoll_spares_keep(atoll_state *from, uint32_t count, atoll_blueprint *like);
/* How many are ready, of those that fit the last call. */
uint32_t atoll_spares_ready(void);
/* A spare that matches the blueprint: its entry, open, with a user and a reference, or NULL.  *stale: what has to be
 * prepared before it is used.  No thread state needed. */
atoll_entry *atoll_spares_take(const atoll_blueprint *like, atoll_stale *stale);
/* Attached to main, at the end of the process: ends them all.  False: one is just being made. */
bool atoll_spares_end(void);

#endif
