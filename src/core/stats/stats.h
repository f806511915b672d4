/* What the process is doing, in numbers, for whoever looks: one page of shared memory, written by those who do it.
 *
 * The page is a file in memory (memfd) called atoll-stats, mapped here; another process of the same user finds it among
 * /proc/PID/fd and maps it, too.  So looking stops nobody, nothing is left behind, and it is gone with the process.  Where the
 * system gives no such file, the page is ordinary memory, which only this process sees.
 *
 *   header      what it is, which layout, how many there are of each kind; what ended interpreters had counted
 *   interps     a slot for each interpreter: who it is, then counters
 *   queues      a slot for each queue: how many items were put and got, who waits
 *   pools       a slot for each pool: tasks, and how long they waited and ran
 *
 * The layout is in this file and in atoll/_stats/page.py, which reads it; a change of it is a new ATOLL_STATS_VERSION.
 *
 * Ownership.  A slot belongs to its interpreter's entry, its queue, its pool, and goes with it.  When a kind's slots are all
 * taken, the next one is ordinary memory of its owner: it counts as well and is not seen.  What is there is never NULL, unless memory
 * is short.
 *
 * Writing.  Counters are words of 64 bits with one writer at a time, which loads, adds and stores, without a lock or an
 * atomic instruction: those of an interpreter belong to who has its GIL, those of a queue's sides and of a pool to who holds
 * that lock.  What several may add to at once says so (atoll_stat_add_shared), and is added to only where a thread has waited anyway.
 * Slots lie on cache lines of their own, those of a queue's two sides too.
 *
 * Reading.  A word is read whole.  Words that belong together, who a slot is and what is counted of it, are between two reads of its
 * `seq`: odd, somebody is writing who it is; another than before, read again; 0, the slot is free.  No two that have had a slot have had the
 * same.  Counters of one slot need not agree with each other, but for those of times, which belong to one `turn` of their writer's.  What
 * ended interpreters had counted goes from their slots to the header: who wants the sum of both reads `ended` before, `ending`
 * behind, and again if they differ.
 *
 * Locks: one, for taking and giving back slots and for names; a leaf.
 *
 * Fork: the child gets a page of its own at the same address, where its counters begin at 0 (atoll_stats_fork).  A file
 * descriptor that the program has closed, or has made another file of, is left alone: then other processes do not find the page.
 *
 * Failure: a slot that cannot be had is NULL, and its owner cannot be made.
 */
#ifndef ATOLL_CORE_STATS_H
#define ATOLL_CORE_STATS_H

#include "core/base/base.h"

enum {
    ATOLL_STATS_VERSION = 3,
    ATOLL_STATS_INTERPS = 1024,
    ATOLL_STATS_QUEUES = 2048,
    ATOLL_STATS_POOLS = 256,
    ATOLL_STATS_NAME = 64,   /* bytes of a name, with a 0 at the end */
    ATOLL_STATS_BUCKETS = 16 /* of times: up to 1 us, 4 us, 16 us and so on, and all above */
};

typedef _Atomic(uint64_t) atoll_counter;

/* Words of an interpreter's slot.  The order is that of atoll/_stats/page.py. */
typedef enum {
    ATOLL_STAT_RUNNERS,  /* calls and the like that are inside now */
    ATOLL_STAT_CALLS,    /* that have come in */
    ATOLL_STAT_RAISED,   /* of them, that ended with an exception */
    ATOLL_STAT_TASKS,    /* of pools and of submit() */
    ATOLL_STAT_CALLED,   /* calls from it into others */
    ATOLL_STAT_OUTSIDE,  /* of its threads, that are in such a call now */
    ATOLL_STAT_SENT,     /* items that it has put into queues */
    ATOLL_STAT_RECEIVED, /* items that it has got */
    ATOLL_STAT_SENT_BYTES,
    ATOLL_STAT_RECEIVED_BYTES,
    ATOLL_STAT_RUN_NS,    /* in sessions, without those inside of them: see py/interp/meter.h */
    ATOLL_STAT_TASK_NS,   /* in tasks of pools */
    ATOLL_STAT_CPU_NS,    /* processor time of both */
    ATOLL_STAT_GIL_WAITS, /* when its GIL was not to be had at once */
    ATOLL_STAT_GIL_TICKS,
    ATOLL_STAT_BLOCKED,    /* threads that wait for something of Atoll's now */
    ATOLL_STAT_BLOCKED_ON, /* what the last of them waits for, an atoll_waits_for */
    ATOLL_STAT_BLOCKED_ID, /* and its number */
    ATOLL_STAT_WAITS,      /* that have ended */
    ATOLL_STAT_WAIT_TICKS,
    ATOLL_STAT_NOW_THREAD, /* the system's number of a thread that is inside; 0: of none */
    ATOLL_STAT_NOW_NS,     /* since when; 0: its tasks are counted one by one */
    ATOLL_STAT_NOW_CPU_NS, /* of that thread, when it looked last */
    ATOLL_STAT_MODULES,    /* in sys.modules, when somebody looked last */
    ATOLL_STAT_CLONES,
    ATOLL_STAT_CLONE_BYTES,
    ATOLL_STAT_ARENA_BYTES,  /* of CPython's allocator for small objects */
    ATOLL_STAT_LARGE_BYTES,  /* in blocks too large for it, where somebody counts them */
    ATOLL_STAT_LIMIT_BYTES,  /* memory_limit; 0: none */
    ATOLL_STAT_CPU_LIMIT_NS, /* cpu_limit; 0: none */
    ATOLL_STAT_WORDS
} atoll_stat;

/* What a thread waits for. */
typedef enum {
    ATOLL_WAITS_NOT,
    ATOLL_WAITS_GET,       /* an item of a queue */
    ATOLL_WAITS_PUT,       /* room in a queue */
    ATOLL_WAITS_SELECT,    /* one of several queues */
    ATOLL_WAITS_LOCK,      /* Lock, RLock */
    ATOLL_WAITS_CONDITION, /* Condition */
    ATOLL_WAITS_EVENT,     /* Event */
    ATOLL_WAITS_BARRIER,
    ATOLL_WAITS_FUTURE,
    ATOLL_WAITS_POOL,      /* its workers' end, or what it delivers */
    ATOLL_WAITS_TASK,      /* a worker, for something to do */
    ATOLL_WAITS_CLOSE,     /* what was submitted to an interpreter that is closed */
    ATOLL_WAITS_FUNCTION,  /* another thread that receives the same function */
    ATOLL_WAITS_SEMAPHORE, /* Semaphore, BoundedSemaphore */
    ATOLL_WAITS_ATOMIC,    /* AtomicInt */
    ATOLL_WAITS_KINDS
} atoll_waits_for;

typedef struct {
    atoll_counter seq;
    atoll_counter id;   /* the interpreter's */
    atoll_counter born; /* ns on the monotonic clock */
    atoll_counter life; /* atoll_life */
    atoll_counter kind; /* 1: made by Atoll, 2: a pool's */
    atoll_counter name[ATOLL_STATS_NAME / 8];
    atoll_counter turn; /* odd: what is counted of times and what is shown are being changed together */
    atoll_counter unused[2];
    atoll_counter words[48]; /* by atoll_stat */
} atoll_stats_interp;

enum { ATOLL_STATS_OWNED = 1, ATOLL_STATS_POOLED = 2 };

typedef struct {
    atoll_counter seq;
    atoll_counter id;
    atoll_counter maxsize; /* 0: none */
    atoll_counter shut;
    atoll_counter waits[2]; /* of getters and putters, that have ended; shared */
    atoll_counter wait_ticks[2];
    atoll_counter puts;    /* producers' lock */
    atoll_counter putters; /* that wait now; shared */
    atoll_counter unused_puts[6];
    atoll_counter gets;    /* consumers' lock */
    atoll_counter getters; /* that wait now; shared */
    atoll_counter unused_gets[6];
} atoll_stats_queue;

/* All of it but seq, id and name is written with the pool's lock held, or shared. */
typedef struct {
    atoll_counter seq;
    atoll_counter id;
    atoll_counter name[ATOLL_STATS_NAME / 8];
    atoll_counter max_workers;
    atoll_counter workers;
    atoll_counter started;
    atoll_counter done;   /* that workers have ended, whatever came out */
    atoll_counter failed; /* of them, that raised or whose result could not be sent */
    atoll_counter late;   /* and that took too long */
    atoll_counter calls;  /* that they were made of: a chunk of map() has many */
    atoll_counter cancelled;
    atoll_counter lost;     /* their worker was given up, or none could be made ready */
    atoll_counter restarts; /* interpreters that took another one's place */
    atoll_counter wait_ns;  /* from submit to start, of every eighth task */
    atoll_counter run_ns;
    atoll_counter unused[2];
    atoll_counter submitted; /* by who submits: on a cache line that no worker writes to */
    atoll_counter unused_submitted[7];
    atoll_counter waited[ATOLL_STATS_BUCKETS]; /* how many tasks, by their time; of every eighth */
    atoll_counter ran[ATOLL_STATS_BUCKETS];
} atoll_stats_pool;

/* The beginning of the page; offsets and sizes in bytes. */
typedef struct {
    char magic[8]; /* "ATOLLST" */
    uint32_t version;
    uint32_t words; /* of an interpreter's slot that have a meaning */
    struct {
        uint32_t at;
        uint32_t size; /* of a slot */
        uint32_t most;
        _Atomic(uint32_t) used; /* slots from this one on have never been used */
    } interps, queues, pools;
    atoll_counter pid;
    atoll_counter ticks; /* of the processor, when the clock said: */
    atoll_counter ns;
    atoll_counter created; /* interpreters made by Atoll */
    atoll_counter closed;
    atoll_counter past[48]; /* sums of what interpreters had counted when they ended, by atoll_stat */
    atoll_counter ending;   /* interpreters of which this has begun to be added */
    atoll_counter ended;    /* and has been */
} atoll_stats_header;

/* ---- slots ---- */

/* A free slot for an interpreter, and its name (UTF-8) later; NULL when out of memory. */
atoll_stats_interp *atoll_stats_interp_new(int64_t id, bool owned);
void atoll_stats_interp_name(atoll_stats_interp *stats, const char *name);
/* As much of a name (UTF-8) as there is room for, with a 0 at the end: cut between two characters. */
void atoll_stats_cut(char *to, size_t size, const char *name);
/* The interpreter has ended: it is not seen any more, and what it has counted is added to what has passed. */
void atoll_stats_interp_end(atoll_stats_interp *stats);
/* Nobody writes to it any more. */
void atoll_stats_interp_free(atoll_stats_interp *stats);

/* It is not seen before it has its number. */
atoll_stats_queue *atoll_stats_queue_new(int64_t maxsize);
void atoll_stats_queue_name(atoll_stats_queue *stats, int64_t id);
void atoll_stats_queue_free(atoll_stats_queue *stats);

atoll_stats_pool *atoll_stats_pool_new(uint32_t max_workers);
void atoll_stats_pool_name(atoll_stats_pool *stats, const char *name);
void atoll_stats_pool_free(atoll_stats_pool *stats);

/* The page, made with the first slot, and its bytes; NULL before. */
const atoll_stats_header *atoll_stats_page(size_t *size);
/* The file descriptor; -1: there is none. */
int atoll_stats_file(void);

/* The first so many words of a slot, of this process's page or another one's, which are one thing's.  False: nobody has it, or who has it
 * has ended. */
bool atoll_stats_read(const atoll_counter *slot, size_t count, uint64_t *words);

void atoll_stats_fork(atoll_fork_moment when);

/* ---- words ---- */

static inline uint64_t atoll_stats_get(const atoll_counter *word) {
    return atomic_load_explicit(word, memory_order_relaxed);
}
static inline void atoll_stats_set(atoll_counter *word, uint64_t value) {
    atomic_store_explicit(word, value, memory_order_relaxed);
}
/* Of the only writer. */
static inline void atoll_stats_add(atoll_counter *word, uint64_t n) {
    atoll_stats_set(word, atoll_stats_get(word) + n);
}
/* Of one of several. */
static inline void atoll_stats_add_shared(atoll_counter *word, uint64_t n) {
    atomic_fetch_add_explicit(word, n, memory_order_relaxed);
}

/* With the interpreter's GIL. */
static inline void atoll_stat_add(atoll_stats_interp *stats, atoll_stat which, uint64_t n) {
    atoll_stats_add(&stats->words[which], n);
}
static inline void atoll_stat_set(atoll_stats_interp *stats, atoll_stat which, uint64_t value) {
    atoll_stats_set(&stats->words[which], value);
}
static inline uint64_t atoll_stat_get(const atoll_stats_interp *stats, atoll_stat which) {
    return atoll_stats_get(&stats->words[which]);
}
/* What is between is read together. */
static inline void atoll_stats_begin_turn(atoll_stats_interp *stats) {
    atoll_stats_add(&stats->turn, 1);
    atomic_thread_fence(memory_order_release);
}
static inline void atoll_stats_end_turn(atoll_stats_interp *stats) {
    atomic_store_explicit(&stats->turn, atoll_stats_get(&stats->turn) + 1, memory_order_release);
}
static inline void atoll_stat_add_shared(atoll_stats_interp *stats, atoll_stat which, uint64_t n) {
    atoll_stats_add_shared(&stats->words[which], n);
}

/* Which bucket a time is counted in. */
static inline unsigned atoll_stats_bucket(uint64_t ns) {
    unsigned bucket = 0;
    for (uint64_t most = 1000; bucket < ATOLL_STATS_BUCKETS - 1 && ns > most; most *= 4) {
        bucket++;
    }
    return bucket;
}

#endif
