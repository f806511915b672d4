/* Times of sessions and tasks.  See meter.h. */
#include "py/interp/meter.h"

#include "py/compat.h"

void atoll_meter_look(atoll_meter *meter, uint64_t now) {
    if (meter->number == 0) {
        meter->number = (uint64_t)atoll_thread_number();
    }
    meter->looked = now;
    meter->cpu = atoll_thread_cpu_ns();
}

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

static uint64_t without(uint64_t all, uint64_t part) { return all > part ? all - part : 0; }

void atoll_meter_modules(atoll_stats_interp *stats) {
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed */
    if (modules != NULL && PyDict_Check(modules)) {
        atoll_stat_set(stats, ATOLL_STAT_MODULES, (uint64_t)PyDict_GET_SIZE(modules));
    }
}

void atoll_meter_count(atoll_meter *meter, atoll_stretch *stretch, atoll_stretch *outer, uint64_t now,
                       atoll_stats_interp *stats) {
    atoll_meter_look(meter, now);
    uint64_t ns = now - stretch->began;
    uint64_t cpu = least(meter->cpu - stretch->cpu, ns);
    atoll_stat_add(stats, ATOLL_STAT_RUN_NS, without(ns, stretch->inner));
    atoll_stat_add(stats, ATOLL_STAT_CPU_NS, without(cpu, stretch->inner_cpu));
    if (outer != NULL) {
        outer->inner += ns;
        outer->inner_cpu += cpu;
    }
    atoll_meter_modules(stats);
}

/* What the thread has done since is counted, and shown to go on from there. */
static void add_cpu(atoll_meter *meter, atoll_stats_interp *stats, uint64_t now) {
    uint64_t before = meter->cpu;
    atoll_meter_look(meter, now);
    atoll_stat_add(stats, ATOLL_STAT_CPU_NS, meter->cpu - before);
    atoll_stat_set(stats, ATOLL_STAT_NOW_CPU_NS, meter->cpu);
}

void atoll_meter_adopt(atoll_meter *meter, atoll_stats_interp *stats) {
    atoll_meter_look(meter, atoll_clock_coarse_ns());
    atoll_stat_set(stats, ATOLL_STAT_NOW_NS, 0); /* its tasks are timed */
    atoll_stat_set(stats, ATOLL_STAT_NOW_CPU_NS, meter->cpu);
    atoll_stat_set(stats, ATOLL_STAT_NOW_THREAD, meter->number);
}

void atoll_meter_task(atoll_meter *meter, atoll_stats_interp *stats, uint64_t ns) {
    atoll_stat_add(stats, ATOLL_STAT_TASKS, 1);
    atoll_stat_add(stats, ATOLL_STAT_TASK_NS, ns);
    uint64_t now = atoll_clock_coarse_ns();
    if (now != meter->looked) {
        add_cpu(meter, stats, now);
        atoll_meter_modules(stats);
    }
}

void atoll_meter_let_go(atoll_meter *meter, atoll_stats_interp *stats) {
    add_cpu(meter, stats, atoll_clock_coarse_ns());
    atoll_stat_set(stats, ATOLL_STAT_NOW_THREAD, 0);
}
