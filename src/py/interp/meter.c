/* Times of sessions and tasks.  See meter.h. */
#include "py/interp/meter.h"

#include "py/compat.h"

_Thread_local __attribute__((tls_model("initial-exec"))) atoll_tasks_meter *atoll_meter_of_tasks;

void atoll_meter_look(atoll_meter *meter, uint64_t now) {
    if (meter->number == 0) {
        meter->number = (uint64_t)atoll_thread_number();
    }
    meter->looked = now;
    meter->cpu = atoll_thread_cpu_ns();
}

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

void atoll_meter_modules(atoll_stats_interp *stats) {
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed */
    if (modules != NULL && PyDict_Check(modules)) {
        atoll_stat_set(stats, ATOLL_STAT_MODULES, (uint64_t)PyDict_GET_SIZE(modules));
    }
}

void atoll_meter_count(atoll_meter *meter, const atoll_stretch *stretch, uint64_t now,
                       atoll_stats_interp *stats) {
    atoll_meter_look(meter, now);
    uint64_t ns = now - stretch->began;
    atoll_stats_begin_turn(stats);
    atoll_stat_add(stats, ATOLL_STAT_RUN_NS, ns);
    atoll_stat_add(stats, ATOLL_STAT_CPU_NS, least(meter->cpu - stretch->cpu, ns));
    if (stretch->shown) {
        atoll_stat_set(stats, ATOLL_STAT_NOW_THREAD, 0);
    }
    atoll_stats_end_turn(stats);
    atoll_meter_modules(stats);
}

/* What the thread has done since is counted, and shown to go on from there: in this interpreter, or not. */
static void add_cpu(atoll_tasks_meter *tasks, uint64_t now, bool goes_on) {
    atoll_meter *meter = &tasks->meter;
    uint64_t before = meter->cpu;
    atoll_meter_look(meter, now);
    atoll_stats_begin_turn(tasks->stats);
    atoll_stat_add(tasks->stats, ATOLL_STAT_CPU_NS, meter->cpu - before);
    if (tasks->shown) {
        atoll_stat_set(tasks->stats, ATOLL_STAT_NOW_CPU_NS, meter->cpu);
    }
    if (tasks->shown && !goes_on) {
        atoll_stat_set(tasks->stats, ATOLL_STAT_NOW_THREAD, 0);
    }
    atoll_stats_end_turn(tasks->stats);
}

/* The thread is in it. */
static void show(atoll_tasks_meter *tasks) {
    tasks->shown = atoll_stat_get(tasks->stats, ATOLL_STAT_NOW_THREAD) == 0;
    if (tasks->shown) {
        atoll_stat_set(tasks->stats, ATOLL_STAT_NOW_NS, 0); /* its tasks are timed */
        atoll_stat_set(tasks->stats, ATOLL_STAT_NOW_CPU_NS, tasks->meter.cpu);
        atoll_stat_set(tasks->stats, ATOLL_STAT_NOW_THREAD, tasks->meter.number);
    }
}

void atoll_meter_adopt(atoll_tasks_meter *tasks, atoll_stats_interp *stats) {
    tasks->stats = stats;
    tasks->outside = 0;
    atoll_meter_look(&tasks->meter, atoll_clock_coarse_ns());
    show(tasks);
    atoll_meter_of_tasks = tasks;
}

void atoll_meter_task(atoll_tasks_meter *tasks, uint64_t ns) {
    uint64_t outside = least(tasks->outside, ns);
    tasks->outside -= outside; /* its clock goes in steps: the rest is another task's */
    atoll_stat_add(tasks->stats, ATOLL_STAT_TASKS, 1);
    atoll_stat_add(tasks->stats, ATOLL_STAT_TASK_NS, ns - outside);
    uint64_t now = atoll_clock_coarse_ns();
    if (now != tasks->meter.looked) {
        add_cpu(tasks, now, true);
        atoll_meter_modules(tasks->stats);
    }
}

void atoll_meter_pause_tasks(atoll_tasks_meter *tasks) {
    uint64_t now = atoll_clock_coarse_ns();
    tasks->left = now;
    if (now != tasks->meter.looked) {
        add_cpu(tasks, now, false);
    } else if (tasks->shown) {
        atoll_stat_set(tasks->stats, ATOLL_STAT_NOW_THREAD, 0);
    }
}

void atoll_meter_resume_tasks(atoll_tasks_meter *tasks) {
    uint64_t now = atoll_clock_coarse_ns();
    tasks->outside += now - tasks->left;
    if (now != tasks->meter.looked) {
        atoll_meter_look(&tasks->meter, now);
    }
    show(tasks);
}

void atoll_meter_let_go(atoll_tasks_meter *tasks) {
    add_cpu(tasks, atoll_clock_coarse_ns(), false);
    atoll_meter_of_tasks = NULL;
}
