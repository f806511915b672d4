/* A pool's tasks, its work queue, and who works: pure C.  src/py/pool/worker.c runs tasks, src/module/pool.c gives
 * pools to Python.
 *
 * A task is an encoded call.  It is made by a thread of the submitting interpreter, run by a worker, and its outcome is
 * decoded where it was made.  Its life is one word:
 *
 *   PENDING --take--> RUNNING --claim--> ENDING --end--> DONE
 *      \--cancel--> CANCELLED
 *
 *   operation x operation   take              cancel            claim (worker)    claim (watch)
 *   take                    one of them       one of them       -                 -
 *   cancel                  one of them       one of them       refused           refused
 *   claim                   -                 refused           -                 one of them
 *
 * Whoever makes a transition has the right to the task's messages until the next one: the submitter before PENDING,
 * the worker while RUNNING (reading `call`), the claimer while ENDING (writing the outcome), everybody (reading) when DONE, and
 * the canceller what CANCELLED leaves.  Two flags beside it: AWAITED, threads sleep for this task; OBSERVED, somebody
 * in the submitting interpreter wants to be told, so that at its end the task goes on the list of what is to be
 * delivered.  A task that nobody observes is delivered to whoever asks for its outcome, and to nobody else: no thread
 * is woken and no GIL is taken for it.
 *
 * References: one for the submitter (its future), one for the queue, which becomes the worker's, then that of the
 * list of what is to be delivered.
 *
 * Workers.  A worker is started when there are more tasks that have not ended than workers, up to the maximum; a task is
 * counted as ended before anybody is told, so that whoever was told and submits the next finds its worker
 * idle.  A worker is an OS thread and an interpreter; here it is a record, in the pool's list under the lock, by which a task
 * that runs can be found and interrupted.  One that does not react is abandoned: its task is ended in its
 * place, it is counted no more, and a new one is started.
 *
 * A pool whose worker works in an interpreter of somebody else's (Interpreter.submit) takes its turns with the others that do: line.h.
 *
 * Lock: pool->lock, for a few dozen instructions; it guards the queue, the records and the lists of waiters.  A
 * leaf: ops are called without it.
 *
 * Waiting: workers for tasks, threads for a task's end, one thread for what is to be delivered, threads for the last
 * worker's end.  All as in wait.h: whoever waits counts itself, looks once more and sleeps; whoever has something to tell
 * publishes it first and then looks at the count.
 */
#ifndef ATOLL_CORE_POOL_H
#define ATOLL_CORE_POOL_H

#include "core/base/base.h"
#include "core/pool/line.h"
#include "core/stats/stats.h"

typedef enum {
    ATOLL_TASK_PENDING,
    ATOLL_TASK_RUNNING,
    ATOLL_TASK_ENDING,
    ATOLL_TASK_DONE,
    ATOLL_TASK_CANCELLED,
    ATOLL_TASK_STATE = 7,
    ATOLL_TASK_AWAITED = 8,
    ATOLL_TASK_OBSERVED = 16
} atoll_task_state;

typedef enum {
    ATOLL_OUT_RESULT,  /* `result` holds it */
    ATOLL_OUT_RAISED,  /* `error` describes the exception; `result` holds it where it can be sent */
    ATOLL_OUT_REFUSED, /* the result cannot be sent: `error` holds the text */
    ATOLL_OUT_TIMEOUT, /* the task took too long; `error` describes where it was, or is empty */
    ATOLL_OUT_MEMORY,  /* the worker would have had more memory than it may; `error` as when it has RAISED */
    ATOLL_OUT_CPU, /* it, or the interpreter of a guest, took more processor time than it may; `error` as when it took too long */
    ATOLL_OUT_BROKEN, /* no worker could be made ready */
    ATOLL_OUT_LOST    /* the worker's interpreter is gone, or memory is short */
} atoll_outcome;

/* A function in full, for workers that do not know its number. */
typedef struct {
    _Atomic(uint32_t) refs;
    uint64_t number;
    atoll_message full; /* read by many */
} atoll_function;

typedef enum { ATOLL_CALL_ONE, ATOLL_CALL_EACH, ATOLL_CALL_EACH_STAR } atoll_call_kind;

struct atoll_pool;
struct atoll_worker;

typedef struct atoll_task {
    struct atoll_task *next; /* in the queue, or in the list of what is to be delivered */
    _Atomic(uint32_t) state;
    _Atomic(uint32_t) refs;
    struct atoll_pool *pool;     /* a reference */
    struct atoll_worker *worker; /* that runs it, under the lock */
    atoll_function *function;    /* a reference, or NULL: the callable is in `call` */
    atoll_message call;
    atoll_message result;
    atoll_message error;
    void *owner;    /* of the submitting interpreter: only its threads touch it */
    float seconds;  /* how long it ran */
    uint64_t since; /* ticks: when it was submitted, of every eighth, else 0; then when it was begun */
    uint32_t
        items; /* how many calls: 1, or the length of the chunk; when it was divided, of its first part */
    uint32_t nparts;
    struct atoll_task *
        *parts;      /* of a chunk that was divided: what is left of it, in order, each with a reference */
    bool divisible;  /* a worker may divide it */
    size_t bytes;    /* of a chunk: what its call holds on to */
    uint8_t kind;    /* atoll_call_kind */
    uint8_t outcome; /* atoll_outcome, when DONE */
    uint64_t arrow;  /* to it, in a trace, from where it was submitted; 0: none */
    bool late;       /* it was interrupted because its time was over */
    atoll_waiters waiters;        /* under the pool's lock */
    struct atoll_task *line_prev; /* in the pool's line, under its lock */
    struct atoll_task *line_next;
    bool in_line;
} atoll_task;

typedef struct atoll_worker {
    struct atoll_worker *next; /* the pool's list, under the lock */
    struct atoll_worker *prev;
    _Atomic(uint32_t) refs;
    struct atoll_pool *pool; /* a reference */
    void *place;             /* of src/py: where it works; set and cleared under the lock */
    atoll_task *task;        /* under the lock */
    double deadline;         /* under the lock: INFINITY, or when it is to be interrupted */
    uint32_t interrupts;     /* under the lock: how often it was, for its task or for the end of its pool */
    bool abandoned;          /* under the lock */
    bool listed;
    uint32_t number;
    uint32_t
        room; /* of the thread: how many calls its interpreter may still make; a chunk is not divided between two */
    bool is_full;             /* of the thread: what came next was more */
    _Atomic(uint64_t) turn;   /* odd while user code runs, a task from take to claim; a new one for each */
    _Atomic(uint64_t) wanted; /* the turn that is to be interrupted, until somebody sees to it; 0: none */
    atoll_waiter waiter;      /* of the thread when it is idle */
} atoll_worker;

/* What a pool needs of src/py. */
typedef struct {
    int (*start)(atoll_worker *worker); /* starts its thread, which takes over the reference; 0 or -1 */
    void (*interrupt)(
        atoll_worker *worker); /* stops what it does in the turn that is wanted; any thread, no lock held */
} atoll_pool_ops;

/* NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): the lock and the spinning have cache lines of their own */
typedef struct atoll_pool {
    _Atomic(uint32_t) refs;
    uint32_t max_workers;
    uint32_t max_tasks; /* per interpreter; 0: no limit */
    double timeout;     /* seconds for a task, or INFINITY */
    const atoll_pool_ops *ops;
    bool (*watch)(struct atoll_pool *pool); /* atoll_pool_watch */
    unsigned era;   /* how many forks led to the process that made it, and ends of Python came before */
    void *settings; /* of src/py, which frees it */
    atoll_line *
        line; /* of the interpreter that it works in, or NULL: it has workers of its own; lives as long as settings */
    void (*free_settings)(void *settings);
    struct atoll_pool *prev; /* list of all pools */
    struct atoll_pool *next_pool;

    atoll_stats_pool *stats;

    atoll_lock lock __attribute__((aligned(64)));
    atoll_task *first;
    atoll_task *last;
    _Atomic(uint32_t) queued;
    _Atomic(uint32_t) open; /* tasks that have not ended: so many workers are needed */
    _Atomic(uint32_t)
        untold; /* and those of whose end not all are told yet: while there are any, the pool is not finished */
    _Atomic(uint32_t) workers; /* that take tasks */
    _Atomic(uint32_t) live;    /* threads that are not abandoned */
    _Atomic(bool) turn;        /* the first in the line is one of its tasks */
    uint32_t made;             /* workers so far */
    _Atomic(bool) shut;        /* no more tasks */
    _Atomic(bool) stopped;     /* what is queued is not run any more */
    _Atomic(bool) broken;
    _Atomic(bool) killed; /* its workers were ended by force */
    _Atomic(bool) watching;
    _Atomic(uint32_t) watch_word;
    atoll_message why; /* it is broken: a description, or UTF-8 text; written once, before `broken` */
    bool why_is_text;
    atoll_worker *list;

    atoll_spin work_spin __attribute__((aligned(64)));
    atoll_waiters idle;
    _Atomic(uint32_t) sleeping; /* of idle ones */

    atoll_spin done_spin;
    _Atomic(atoll_task *) delivery; /* newest first */
    _Atomic(uint32_t) attention;    /* who waits for delivery */
    atoll_waiters deliverers;
    atoll_waiters joiners;
} atoll_pool;

/* ---- pools ---- */

/* With one reference; NULL when out of memory. */
atoll_pool *atoll_pool_new(uint32_t max_workers, const atoll_pool_ops *ops);
void atoll_pool_retain(atoll_pool *pool);
void atoll_pool_release(atoll_pool *pool);
/* Makes fork leave pools alone: those of the parent are dead in the child (atoll_pool_is_foreign). */
void atoll_pools_init(void);
bool atoll_pool_is_foreign(const atoll_pool *pool);
/* Python has ended: the pools that are left are as in a forked child. */
void atoll_pools_forget(void);

typedef enum {
    ATOLL_POOL_OK,
    ATOLL_POOL_SHUT,
    ATOLL_POOL_CLOSING, /* its line is shut */
    ATOLL_POOL_BROKEN,
    ATOLL_POOL_NO_THREAD
} atoll_pool_result;
/* Queues a task; the queue takes a reference of its own.  NO_THREAD: it was taken back, there is no worker and none
 * could be started. */
atoll_pool_result atoll_pool_submit(atoll_pool *pool, atoll_task *task);
/* The same for what was promised before the pool was shut: it is done all the same, if nobody has ended it by force. */
atoll_pool_result atoll_pool_submit_late(atoll_pool *pool, atoll_task *task);
/* Of a worker: queues parts of the task that it runs before all others, and gives them to the task, references too.
 * False: it cannot be, and nothing was done. */
bool atoll_pool_divide(atoll_task *task, atoll_task **parts, uint32_t nparts);
/* No more tasks.  The workers end when the queue is empty. */
void atoll_pool_shut(atoll_pool *pool);
/* Takes everything off the queue and cancels it.  The tasks, linked by `next`, each with a reference. */
atoll_task *atoll_pool_drain(atoll_pool *pool);
/* Interrupts every task that is running. */
void atoll_pool_interrupt(atoll_pool *pool);
/* Gives up every worker whose task is running, as one that does not react: its task has ended, and is LOST. */
void atoll_pool_abandon(atoll_pool *pool);
/* Ends the pool by force: it takes no more, what is queued is cancelled (and returned as by drain), workers are
 * interrupted, and abandoned when they have not reacted; what they run ends as BROKEN, now or
 * when they have reacted. */
atoll_task *atoll_pool_kill(atoll_pool *pool, bool now);
/* At the end of the process: shuts and stops every pool; what has not begun is LOST. */
void atoll_pools_stop(void);
/* And later, when the process ends without what still runs: that is LOST, too, and nobody waits for its workers. */
void atoll_pools_give_up(void);
/* How many threads of pools are alive, abandoned ones included. */
uint32_t atoll_pools_threads(void);
/* Waits until no thread is left that is not abandoned: true when that is so, as it is in a forked child. */
bool atoll_pool_join(atoll_pool *pool, atoll_waiter *waiter, double deadline, atoll_wait_result *why);

/* ---- tasks ---- */

atoll_task *atoll_task_new(atoll_pool *pool);
void atoll_task_retain(atoll_task *task);
void atoll_task_release(atoll_task *task);
static inline uint32_t atoll_task_now(const atoll_task *task) {
    return atomic_load_explicit(&task->state, memory_order_acquire) & ATOLL_TASK_STATE;
}
static inline bool atoll_task_is_over(const atoll_task *task) {
    return atoll_task_now(task) >= ATOLL_TASK_DONE;
}
typedef enum { ATOLL_CANCEL_REFUSED, ATOLL_CANCEL_DONE, ATOLL_CANCEL_WAS_DONE } atoll_cancel_result;
atoll_cancel_result atoll_task_cancel(atoll_task *task);
/* True: it will be delivered.  False: it is over already. */
bool atoll_task_observe(atoll_task *task);
/* Interrupts it if it is running.  Whether it is. */
bool atoll_task_interrupt(atoll_task *task);
/* Waits for its end: true when it is over, or never will be (in a child that a signal's handler forked meanwhile). */
bool atoll_task_wait(atoll_task *task, atoll_waiter *waiter, double deadline, atoll_wait_result *why);
void atoll_pool_function_retain(atoll_function *function);
void atoll_pool_function_release(atoll_function *function);

/* What is to be delivered, oldest first, linked by `next`, each with a reference; NULL when nothing came: *over says
 * that nothing will. */
atoll_task *atoll_pool_deliver(atoll_pool *pool, atoll_waiter *waiter, bool *over, atoll_wait_result *why);

/* ---- workers ---- */

/* The next task, now RUNNING, with the queue's reference; NULL: there is none (try), or the worker is to end. */
atoll_task *atoll_worker_try_take(atoll_worker *worker);
atoll_task *atoll_worker_take(atoll_worker *worker);
/* Before the outcome is written: false when the task was ended by others (the worker is abandoned). */
bool atoll_worker_claim(atoll_worker *worker, atoll_task *task);
/* The outcome is written: tells whoever waits, and gives back the reference. */
void atoll_worker_end_task(atoll_worker *worker, atoll_task *task);
/* An initializer begins or has ended: it can be interrupted as a task can. */
void atoll_worker_next_turn(atoll_worker *worker);
/* Where it works; NULL before that is gone. */
void atoll_worker_set_place(atoll_worker *worker, void *place);
/* For one caller only: that turn is to be interrupted. */
static inline bool atoll_worker_take_wanted(atoll_worker *worker, uint64_t turn) {
    return atomic_compare_exchange_strong(&worker->wanted, &turn, 0);
}
/* No worker can be made ready: everything fails, `why` (taken over) says for what reason. */
void atoll_pool_break(atoll_pool *pool, atoll_message *why, bool is_text);
/* The thread ends: gives back its reference. */
void atoll_worker_gone(atoll_worker *worker);
void atoll_worker_be(atoll_worker *worker); /* this thread is its thread from now on, or nobody's: NULL */
atoll_worker *atoll_worker_current(void);   /* borrowed, or NULL */
void atoll_worker_retain(atoll_worker *worker);
void atoll_worker_release(atoll_worker *worker);

/* A worker that works, on its stack: inner.c. */
typedef struct atoll_inner {
    struct atoll_inner *next;
    int count; /* threads that libraries may have for it */
} atoll_inner;
/* All three on the worker's thread.  It begins, has loaded something, and has ended. */
void atoll_inner_begin(atoll_inner *inner, int count);
void atoll_inner_look(const atoll_inner *inner);
void atoll_inner_end(atoll_inner *inner);
void atoll_inner_fork(atoll_fork_moment when);

/* Starts the thread that watches over time limits, once, in a pool that has any.  False: it cannot be started. */
bool atoll_pool_watch(atoll_pool *pool);
/* Starts a worker if there is more to do than there are workers.  0, or -1 when it could not be started. */
int atoll_pool_staff(atoll_pool *pool);
/* The same where a worker has gone: when there is none left and none can be started, the pool is broken. */
void atoll_pool_restaff(atoll_pool *pool);

#endif
