/* How long interpreters run, and what processor time they take.
 *
 * A session may take a microsecond, and the processor's own clock costs a tenth of that.  So sessions are timed as kernels time
 * threads: by a coarse clock, which goes on in steps of some milliseconds and costs next to nothing.  A session that no step
 * falls into counts nothing, one that does counts the whole step; summed up, the error is a few steps.  Only when a step has passed since
 * this thread has looked, it looks at its processor time (a system call).
 *
 * A session's time is without those opened inside of it: what a thread was in stands still while it is in another interpreter, and is
 * counted up to there, so that nothing is counted twice, nor taken back.  Its processor time is at most its time: what the thread
 * has done in the step before it began is not told from that.  A pool's worker, whose thread is in one interpreter for life, is timed
 * task by task with an exact clock, and its processor time is the thread's; what its tasks do in other interpreters is taken out likewise.
 *
 * Of those that are inside of an interpreter at once one is shown, with when it began, so that who looks can add what is not counted
 * yet: it stays that one until it ends.  What is counted and what is shown change in one turn (core/stats/stats.h).
 *
 * All of it is attached to the interpreter that is counted for.
 */
#ifndef ATOLL_PY_INTERP_METER_H
#define ATOLL_PY_INTERP_METER_H

#include "core/stats/stats.h"

/* What a thread knows of itself. */
typedef struct {
    uint64_t looked; /* ns on the coarse clock */
    uint64_t cpu;    /* its processor time then, ns */
    uint64_t number; /* by which the system knows it; 0: it has not looked yet */
} atoll_meter;

/* A stretch of time that is counted; begun and ended more than once. */
typedef struct {
    uint64_t began; /* 0: it stands still */
    uint64_t cpu;
    bool shown;
} atoll_stretch;

/* Of a worker's thread. */
typedef struct {
    atoll_meter meter;
    atoll_stats_interp *stats; /* of the interpreter that it is in */
    bool shown;
    uint64_t left;    /* for another one, when */
    uint64_t outside; /* ns that its task has been in others */
} atoll_tasks_meter;

/* This thread's, while it is a worker in an interpreter; else NULL. */
extern _Thread_local __attribute__((tls_model("initial-exec"))) atoll_tasks_meter *atoll_meter_of_tasks;

void atoll_meter_look(atoll_meter *meter, uint64_t now);
/* The end of a stretch into which a step has fallen. */
void atoll_meter_count(atoll_meter *meter, const atoll_stretch *stretch, uint64_t now,
                       atoll_stats_interp *stats);

static inline void atoll_meter_begin(atoll_meter *meter, atoll_stretch *stretch, atoll_stats_interp *stats) {
    uint64_t now = atoll_clock_coarse_ns();
    if (now != meter->looked) {
        atoll_meter_look(meter, now);
    }
    stretch->began = now;
    stretch->cpu = meter->cpu;
    stretch->shown = atoll_stat_get(stats, ATOLL_STAT_NOW_THREAD) == 0;
    if (stretch->shown) {
        atoll_stat_set(stats, ATOLL_STAT_NOW_NS, now);
        atoll_stat_set(stats, ATOLL_STAT_NOW_CPU_NS, meter->cpu);
        atoll_stat_set(stats, ATOLL_STAT_NOW_THREAD, meter->number);
    }
}

static inline void atoll_meter_end(atoll_meter *meter, atoll_stretch *stretch, atoll_stats_interp *stats) {
    uint64_t now = atoll_clock_coarse_ns();
    if (now != stretch->began) {
        atoll_meter_count(meter, stretch, now, stats);
    } else if (stretch->shown) {
        atoll_stat_set(stats, ATOLL_STAT_NOW_THREAD, 0);
    }
    stretch->began = 0;
}

/* A worker's thread comes into an interpreter, has ended a task that took so long, and goes. */
void atoll_meter_adopt(atoll_tasks_meter *tasks, atoll_stats_interp *stats);
void atoll_meter_task(atoll_tasks_meter *tasks, uint64_t ns);
void atoll_meter_let_go(atoll_tasks_meter *tasks);
/* Its task goes into another interpreter, and comes back. */
void atoll_meter_pause_tasks(atoll_tasks_meter *tasks);
void atoll_meter_resume_tasks(atoll_tasks_meter *tasks);

/* How many modules the attached interpreter has; looks no more often than is worth it. */
void atoll_meter_modules(atoll_stats_interp *stats);

#endif
