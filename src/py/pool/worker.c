/* A pool's worker: an OS thread and, for its life, an interpreter.
 *
 * The thread is native and has no thread state at first.  It takes a spare interpreter or makes one (neither needs the
 * submitting interpreter's GIL), runs the initializer, and then takes tasks until the pool is shut and empty.
 * It keeps its GIL from task to task and gives it back while it waits.  The interpreter's gate is pinned as long as
 * it works, so that nobody closes it; at the end the thread unpins it and ends it itself, without a thread state
 * of any other interpreter.  After max_tasks tasks it does so as well and goes on with a new one; likewise after a task that would have
 * taken more than the worker may (py/interp/limits.h).
 *
 * A guest works in an interpreter that is somebody else's (Interpreter.submit): it pins and attaches for each task, so that
 * its owner may close it in between.  Guests of one interpreter take turns (core/pool/line.h).  The last one shuts an interpreter that
 * nobody else has, and ends it when it is gone itself: the pool may be that interpreter's own, whose end waits for all that work in it.
 *
 * Interrupts.  Whoever wants a task to stop notes its turn in `wanted`, and interrupts the run that was begun for it
 * (py/interp/interrupt.h).  Who begins the run looks at `wanted` as well, and so does who ends it, after the task was claimed: until then
 * the task may be interrupted, and then it fails.
 *
 * Failure: an interpreter that cannot be made, or an initializer that raises, breaks the pool.  An abandoned worker
 * finds out when it claims its task's end.
 *
 * Locks: the pool's lock for `place`, which says where to interrupt, and nothing else.
 */
#include "py/pool/pool.h"

#include "core/trace/trace.h"
#include "py/gil.h"
#include "py/interp/interp.h"

#include <stdlib.h>

#define KEEP_BYTES (1024 * 1024) /* storage kept from one task for the next one's result */

typedef struct {
    atoll_entry *entry;
    bool introduced; /* threading knows the thread there */
    bool exceeded;   /* a task would have taken more than it may: another interpreter is to take its place */
    atoll_tasks_meter meter;
    atoll_inner inner; /* where libraries' threads are limited */
    size_t modules;    /* extension modules there, when libraries were looked for */
} place;

void atoll_settings_free(atoll_pool_settings *settings) {
    if (settings != NULL) {
        atoll_blueprint_clear(&settings->print);
        atoll_message_clear(&settings->init);
        atoll_message_clear(&settings->refused);
        if (settings->guest != NULL) {
            if (atoll_entry_remove_user(settings->guest)) {
                atoll_interp_sweep_later();
            }
        }
        if (settings->of != NULL) {
            atoll_entry_release(settings->of);
        }
        free(settings->name);
        free(settings);
    }
}

/* ---- interrupts ---- */

bool atoll_staff_is_guest_of(const atoll_entry *entry) {
    return atoll_worker_current() != NULL &&
           ((const atoll_pool_settings *)atoll_worker_current()->pool->settings)->of == entry;
}

static bool is_in_wanted_turn(const atoll_run *run, void *worker) {
    return run->about == worker && atoll_worker_take_wanted(worker, run->turn);
}

static void interrupt(atoll_worker *worker) {
    atoll_lock_take(&worker->pool->lock);
    place *where = worker->place;
    atoll_entry *entry = where != NULL ? where->entry : NULL;
    if (entry != NULL) {
        atoll_entry_retain(entry);
    }
    atoll_lock_give(&worker->pool->lock);
    if (entry != NULL) {
        (void)atoll_interrupt(entry, &atoll_keyboard_interrupt, is_in_wanted_turn, worker);
        atoll_entry_release(entry);
    }
}

/* Attached. */
static void begin_run(atoll_run *run, atoll_worker *worker, atoll_entry *entry) {
    atoll_run_begin(run, entry, worker, atomic_load(&worker->turn));
    atoll_budget_keep(run);
    if (atomic_load(&worker->wanted) == run->turn) {
        (void)atoll_interrupt(entry, &atoll_keyboard_interrupt, is_in_wanted_turn, worker);
    }
}

/* Attached, in another turn: whether it is to fail, with the exception set. */
static bool end_run(atoll_run *run, atoll_worker *worker) {
    bool interrupted = atoll_run_end(run);
    if (atoll_worker_take_wanted(worker, run->turn) && !interrupted) {
        PyErr_SetNone(PyExc_KeyboardInterrupt);
        interrupted = true;
        run->repeated = run->last == &atoll_keyboard_interrupt;
    }
    return interrupted;
}

/* ---- threading ---- */

/* Attached. */
static void introduce(const atoll_worker *worker, place *where) {
    if (where->introduced) {
        return;
    }
    const atoll_pool_settings *settings = worker->pool->settings;
    int rc = atoll_threading_adopt(settings->name, worker->number);
    where->introduced = rc > 0;
    PyErr_Clear();
}

static void introduce_here(void) {
    atoll_worker *worker = atoll_worker_current();
    place *where = worker != NULL ? worker->place : NULL;
    if (where != NULL && where->entry->interp == PyInterpreterState_Get()) {
        introduce(worker, where);
    }
}

/* ---- tasks ---- */

/* Attached: what became of a task. */
static void count(atoll_stats_pool *pool, place *where, const atoll_task *task) {
    atoll_stats_interp *stats = where->entry->stats;
    atoll_meter_task(&where->meter, (uint64_t)((double)task->seconds * 1e9));
    if (task->outcome == ATOLL_OUT_RESULT) {
        return;
    }
    atoll_stat_add(stats, ATOLL_STAT_RAISED, 1);
    atoll_stats_add_shared(task->outcome == ATOLL_OUT_TIMEOUT ? &pool->late : &pool->failed, 1);
}

/* What became of a task that has raised when its interpreter was refused memory, or that was interrupted for its processor time. */
static atoll_outcome look_at_limits(const atoll_worker *worker, place *where, const atoll_run *run,
                                    uint64_t refusals, atoll_outcome outcome) {
    const atoll_pool_settings *settings = worker->pool->settings;
    if (settings->print.wishes.limits.memory != 0 && outcome == ATOLL_OUT_RAISED && run->no_memory &&
        atoll_limits_refusals(where->entry) != refusals) {
        outcome = ATOLL_OUT_MEMORY;
    } else if (run->lateness == ATOLL_SPENT) {
        outcome = ATOLL_OUT_CPU;
    }
    where->exceeded = outcome == ATOLL_OUT_MEMORY || outcome == ATOLL_OUT_CPU;
    return outcome;
}

/* Attached: runs a task and tells; a guest tells later, when it has left.  False: this worker was abandoned. */
static bool serve(atoll_worker *worker, place *where, atoll_task *task, atoll_message *spare, bool is_guest) {
    atoll_message result = *spare;
    atoll_message error = {0};
    *spare = (atoll_message){0};
    atoll_task_remains remains = {0};
    atoll_outcome outcome = ATOLL_OUT_LOST;
    atoll_state *state = where->entry->state != NULL ? where->entry->state : atoll_state_ensure();
    uint64_t refusals = atoll_limits_begin_task(where->entry, is_guest);
    atoll_run run;
    begin_run(&run, worker, where->entry);
    if (state != NULL) {
        outcome = atoll_work_run(state, task, &result, &error, &remains);
    }
    PyErr_Clear();
    if (worker->pool->max_tasks != 0) { /* of a divided chunk its first part counts */
        worker->room -= task->items < worker->room ? task->items : worker->room;
    }
    bool mine = atoll_worker_claim(worker, task);
    if (end_run(&run, worker)) {
        if (mine && state != NULL && !(run.repeated && outcome == ATOLL_OUT_RAISED)) {
            outcome = atoll_work_interrupted(state, &result, &error);
        }
        PyErr_Clear();
    }
    outcome = look_at_limits(worker, where, &run, refusals, outcome);
    if (!mine) {
        atoll_message_clear(&result);
        atoll_message_clear(&error);
        atoll_task_release(task);
        atoll_work_clear(&remains);
        return false;
    }
    *spare = task->call;
    atoll_message_reset(spare, KEEP_BYTES);
    task->call = (atoll_message){0};
    task->result = result;
    task->error = error;
    if (atomic_load_explicit(&worker->pool->killed, memory_order_relaxed)) {
        outcome = ATOLL_OUT_BROKEN;
    } else if (task->late) {
        outcome = ATOLL_OUT_TIMEOUT;
    }
    task->outcome = (uint8_t)outcome;
    count(worker->pool->stats, where, task);
    if (!is_guest) {
        atoll_worker_end_task(worker, task);
    }
    atoll_work_clear(&remains);
    return true;
}

/* Attached, after what may have loaded extension modules, and libraries with them. */
static void look_for_libraries(place *where, const atoll_pool_settings *settings) {
    const atoll_loader *loader = where->entry->loader;
    size_t modules = settings->inner_threads != 0 && loader != NULL ? atoll_loader_modules(loader) : 0;
    if (modules != where->modules) {
        where->modules = modules;
        atoll_inner_look(&where->inner);
    }
}

/* Attached: work until there is a reason to leave this interpreter.  True: the worker goes on in another one. */
static bool work(atoll_worker *worker, place *where) {
    atoll_pool *pool = worker->pool;
    atoll_message spare = {0};
    bool go_on = false;
    for (;;) {
        atoll_task *task = atoll_worker_try_take(worker);
        if (task == NULL) {
            uint64_t began = atoll_trace_begin();
            PyThreadState *tstate = PyEval_SaveThread();
            task = atoll_worker_take(worker);
            uint64_t waits = atoll_gil_look(where->entry);
            PyEval_RestoreThread(tstate);
            atoll_gil_had(where->entry, waits);
            if (began != 0) {
                atoll_blocking_trace(began, ATOLL_WAITS_TASK, where->entry->id, 0);
            }
            if (task == NULL) {
                go_on = worker->is_full;
                break;
            }
        }
        introduce(worker, where);
        if (!serve(worker, where, task, &spare, false) || atoll_interp_exiting()) {
            break;
        }
        look_for_libraries(where, pool->settings);
        if (atomic_load_explicit(&where->entry->jobs, memory_order_relaxed) != NULL) {
            atoll_session_housekeeping(where->entry);
        }
        if (where->exceeded || worker->room == 0) {
            go_on = true;
            break;
        }
    }
    if (go_on) {
        atoll_stats_add_shared(&pool->stats->restarts, 1);
    }
    atoll_message_clear(&spare);
    return go_on;
}

/* ---- interpreters ---- */

static void break_with(atoll_pool *pool, const void *text, size_t len) {
    atoll_message why = {0};
    atoll_put_bytes(&why.body, text, len);
    atoll_pool_break(pool, &why, true);
}

static void break_with_text(atoll_pool *pool, const char *text) { break_with(pool, text, strlen(text)); }

/* Attached: 0, or -1 and the pool is broken. */
static int initialize(atoll_worker *worker, place *where, atoll_state *state) {
    uint64_t began = atoll_trace_begin();
    atoll_pool *pool = worker->pool;
    const atoll_pool_settings *settings = pool->settings;
    atoll_call_args args;
    atoll_worker_next_turn(worker);
    PyObject *result = NULL;
    atoll_run run;
    begin_run(&run, worker, where->entry);
    if (atoll_decode_call(state->codec, &settings->init, &args) == 0) {
        result = atoll_run_args(state, &args, PY_VECTORCALL_ARGUMENTS_OFFSET);
        atoll_codec_args_clear(&args);
    }
    bool failed = result == NULL;
    atoll_run_set_deaf(&run, true);
    Py_XDECREF(result);
    atoll_worker_next_turn(worker);
    failed |= end_run(&run, worker);
    atoll_trace_end(began, ATOLL_TRACE_INIT, where->entry->id, 0);
    if (!failed) {
        return 0;
    }
    atoll_message why = {0};
    Py_DECREF(atoll_excinfo_capture(state, &why, NULL, NULL, 0));
    atoll_pool_break(pool, &why, false);
    return -1;
}

/* The pool's name with the worker's number, of which the first is cut where there is not enough room. */
static void name_of(const atoll_worker *worker, char *to, size_t size) {
    const atoll_pool_settings *settings = worker->pool->settings;
    char number[16];
    int digits = snprintf(number, sizeof number, "_%u", worker->number);
    atoll_stats_cut(to, size - (size_t)digits, settings->name);
    memcpy(to + strlen(to), number, (size_t)digits + 1);
}

/* An interpreter for this worker, pinned, not attached; NULL and the pool is broken. */
static atoll_entry *find_place(atoll_worker *worker, atoll_stale *stale) {
    const atoll_pool_settings *settings = worker->pool->settings;
    char name[ATOLL_STATS_NAME];
    name_of(worker, name, sizeof name);
    atoll_blueprint print = settings->print; /* borrowed, but for the name */
    print.wishes.name = name;
    *stale = (atoll_stale){0};
    atoll_entry *entry = settings->spares ? atoll_spares_take(&print, stale) : NULL;
    if (entry == NULL) {
        char *why = NULL;
        entry = atoll_interp_create_detached(&print, &why);
        if (entry == NULL) {
            break_with_text(worker->pool, why != NULL ? why : "out of memory");
            free(why);
            return NULL;
        }
        atoll_entry_open(entry); /* this thread will attach to no other */
    }
    atomic_store(&entry->pooled, true);
    atoll_stats_set(&entry->stats->kind, ATOLL_STATS_OWNED | ATOLL_STATS_POOLED);
    if (!atoll_entry_pin(entry)) { /* closed by somebody at once */
        break_with_text(worker->pool, "the worker's interpreter was closed");
        (void)atoll_entry_remove_user(entry);
        atoll_entry_release(entry);
        return NULL;
    }
    return entry;
}

/* One interpreter's life as a worker.  True: the worker goes on with another one. */
static bool live_in_one(atoll_worker *worker) {
    const atoll_pool_settings *settings = worker->pool->settings;
    atoll_stale stale;
    bool go_on = false;
    atoll_entry *entry = find_place(worker, &stale);
    if (entry == NULL) {
        return false;
    }
    PyThreadState *tstate = atoll_tstate_of(entry);
    if (tstate == NULL) {
        break_with_text(worker->pool, "out of memory");
    } else {
        place where = {.entry = entry};
        PyEval_RestoreThread(tstate);
        atoll_meter_adopt(&where.meter, entry->stats);
        atoll_state *state = entry->state;
        bool ready =
            !atoll_tstate_is_stale(&stale) || atoll_interp_prepare(state, &settings->print, &stale) == 0;
        if (!ready) {
            char *why = atoll_interp_exception_text();
            break_with_text(worker->pool, why != NULL ? why : "out of memory");
            free(why);
        }
        atoll_worker_set_place(worker, &where);
        introduce(worker, &where);
        if (settings->inner_threads != 0) {
            atoll_inner_begin(&where.inner, settings->inner_threads);
        }
        worker->room = worker->pool->max_tasks != 0 ? worker->pool->max_tasks : UINT32_MAX;
        if (ready && (!settings->has_init || initialize(worker, &where, state) == 0)) {
            look_for_libraries(&where, settings);
            go_on = work(worker, &where);
        }
        if (settings->inner_threads != 0) {
            atoll_inner_end(&where.inner);
        }
        if (where.introduced) {
            atoll_threading_let_go(false);
        }
        atoll_worker_set_place(worker, NULL); /* attached: a pending call looks at it */
        atoll_meter_let_go(&where.meter);
        (void)PyEval_SaveThread();
        atoll_entry_unpin(entry);
        go_on = atoll_interp_end_detached(entry) && go_on;
        return go_on;
    }
    atoll_entry_unpin(entry);
    (void)atoll_interp_end_detached(entry);
    return false;
}

/* No more work is coming.  What nobody else has is shut: the interpreter, which is to be ended (atoll_interp_end_shut()); else NULL. */
static atoll_entry *let_go_of_guest(atoll_pool_settings *settings) {
    atoll_entry *entry = settings->guest;
    settings->guest = NULL;
    atoll_entry_retain(entry);
    if (atomic_load(&entry->users) == 1 && atoll_entry_is_open(entry) &&
        atoll_entry_begin_close(entry) == ATOLL_CLOSE_BEGUN) {
        return entry;
    }
    if (atoll_entry_remove_user(entry)) {
        atoll_interp_sweep_later();
    }
    atoll_entry_release(entry);
    return NULL;
}

/* A guest goes: threading there forgets its thread, unless the interpreter has been closed. */
static void take_leave(atoll_entry *entry) {
    if (atoll_interp_exiting() || !atoll_entry_pin(entry)) {
        return;
    }
    PyThreadState *tstate = atoll_tstate_of(entry);
    if (tstate != NULL) {
        PyEval_RestoreThread(tstate);
        atoll_threading_let_go(true);
        (void)PyEval_SaveThread();
    }
    atoll_entry_unpin(entry);
}

/* A guest: the interpreter is somebody else's.  Returns what let_go_of_guest() does, or NULL. */
static atoll_entry *work_as_guest(atoll_worker *worker, atoll_entry *entry) {
    atoll_message spare = {0};
    atoll_task *task;
    place where = {.entry = entry};
    while ((task = atoll_worker_take(worker)) != NULL) {
        bool go_on = true;
        PyThreadState *tstate = NULL;
        bool pinned = atoll_entry_pin(entry);
        if (pinned && (tstate = atoll_tstate_of(entry)) != NULL) {
            PyEval_RestoreThread(tstate);
            atoll_meter_adopt(&where.meter, entry->stats);
            if (atomic_load(&entry->jobs) != NULL) {
                atoll_session_housekeeping(entry);
            }
            atoll_worker_set_place(worker, &where);
            introduce(worker, &where);
            go_on = serve(worker, &where, task, &spare, true);
            atoll_worker_set_place(worker, NULL);
            atoll_meter_let_go(&where.meter);
            (void)PyEval_SaveThread();
        } else if (atoll_worker_claim(worker, task)) {
            task->outcome = ATOLL_OUT_LOST;
        }
        if (pinned) {
            atoll_entry_unpin(entry);
        }
        if (!go_on) {
            break;
        }
        atoll_worker_end_task(worker, task); /* who hears of it may close the interpreter at once */
    }
    atoll_message_clear(&spare);
    if (where.introduced) {
        take_leave(entry);
    }
    bool is_last = atomic_load(&worker->pool->shut) && atomic_load(&worker->pool->open) == 0;
    return is_last ? let_go_of_guest(worker->pool->settings) : NULL;
}

static void run_thread(void *raw) {
    atoll_worker *worker = raw;
    atoll_pool_settings *settings = worker->pool->settings;
    atoll_worker_be(worker);
    atoll_signal_mask_set(&settings->signals);
    char whole[32];
    name_of(worker, whole, sizeof whole);
    char name[16]; /* as many bytes as the system keeps: the first ones, as the standard library has it */
    atoll_stats_cut(name, sizeof name, whole);
    atoll_thread_name(name);
    (void)atoll_pool_watch(worker->pool); /* it may have ended since this thread was asked for */
    atoll_entry *unused = NULL;
    if (settings->refused.body.len != 0) {
        break_with(worker->pool, settings->refused.body.data, settings->refused.body.len);
    } else if (settings->guest != NULL) {
        unused = work_as_guest(worker, settings->guest);
    } else {
        while (live_in_one(worker) && !atoll_interp_exiting()) {
        }
    }
    atoll_worker_be(NULL);
    atoll_pool *pool = worker->pool;
    atoll_pool_retain(pool);
    if (unused != NULL) {
        atoll_interp_count_unattended(1);
    }
    atoll_worker_gone(worker);
    if (!atoll_interp_exiting()) {
        atoll_pool_restaff(pool); /* it may have left work to do */
    }
    if (unused != NULL) {
        (void)atoll_interp_end_shut(unused, true);
        atoll_interp_count_unattended(-1);
    }
    atoll_pool_release(pool);
}

static int start(atoll_worker *worker) {
    const atoll_pool_settings *settings = worker->pool->settings;
    return atoll_thread_start(run_thread, worker, settings->stack);
}

const atoll_pool_ops atoll_staff_ops = {start, interrupt};

static const atoll_pools_face face = {
    .introduce = introduce_here,
    .take_spare = atoll_spares_take,
    .end_spares = atoll_spares_end,
    .forget_spares = atoll_spares_forget,
    .fork_spares = atoll_spares_fork,
};

void atoll_staff_install(void) { atoll_the_pools = &face; }
