/* How long interpreters run, and what processor time they take.
 *
 * A session may take a microsecond, and the processor's own clock costs a tenth of that.  So sessions are timed as kernels time
 * threads: by a coarse clock, which goes on in steps of some milliseconds and costs next to nothing.  A session that no step
 * falls into counts nothing, one that does counts the whole step; summed up, the error is a few steps.  Only when a step has passed since
 * this thread has looked, it looks at its processor time (a system call).
 *
 * A session's time is without those opened inside of it.  Its processor time is at most its time: what the thread has done in the
 * step before it began is not told from that.  A pool's worker, whose thread is in one interpreter for life, is timed task by
 * task with an exact clock, and its processor time is the thread's.
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

/* A stretch of time that is counted. */
typedef struct {
    uint64_t began;
    uint64_t cpu;
    uint64_t inner; /* of stretches inside of it */
    uint64_t inner_cpu;
} atoll_stretch;

void atoll_meter_look(atoll_meter *meter, uint64_t now);
/* The end of a stretch into which a step has fallen; outer: the one it was in, or NULL. */
void atoll_meter_count(atoll_meter *meter, atoll_stretch *stretch, atoll_stretch *outer, uint64_t now,
                       atoll_stats_interp *stats);

static inline void atoll_meter_begin(atoll_meter *meter, atoll_stretch *stretch, atoll_stats_interp *stats) {
    uint64_t now = atoll_clock_coarse_ns();
    if (now != meter->looked) {
        atoll_meter_look(meter, now);
    }
    stretch->began = now;
    stretch->cpu = meter->cpu;
    atoll_stat_set(stats, ATOLL_STAT_NOW_NS, now);
    atoll_stat_set(stats, ATOLL_STAT_NOW_CPU_NS, meter->cpu);
    atoll_stat_set(stats, ATOLL_STAT_NOW_THREAD, meter->number);
}

static inline void atoll_meter_end(atoll_meter *meter, atoll_stretch *stretch, atoll_stretch *outer,
                                   atoll_stats_interp *stats) {
    uint64_t now = atoll_clock_coarse_ns();
    if (now != stretch->began) {
        atoll_meter_count(meter, stretch, outer, now, stats);
    }
    atoll_stat_set(stats, ATOLL_STAT_NOW_THREAD, 0);
}

/* A worker's thread comes into an interpreter, has ended a task that took so long, and goes. */
void atoll_meter_adopt(atoll_meter *meter, atoll_stats_interp *stats);
void atoll_meter_task(atoll_meter *meter, atoll_stats_interp *stats, uint64_t ns);
void atoll_meter_let_go(atoll_meter *meter, atoll_stats_interp *stats);

/* How many modules the attached interpreter has; looks no more often than is worth it. */
void atoll_meter_modules(atoll_stats_interp *stats);

#endif
