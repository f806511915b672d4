/* The end of the process, from main's atexit.
 *
 * Pools are told to stop, and spares are ended.  What is idle is closed, newest first.  What still runs gets a SystemExit through a pending call and EXIT_GRACE
 * seconds.  A thread that comes back from a session after that begins is parked for ever if it would return to
 * main, as CPython does with daemon threads.  If something is still stuck (in a system call, say),
 * finalizing CPython would free memory that thread uses; instead the streams are flushed and
 * the process ends.  Exit handlers registered before Atoll was imported do not run then, and
 * the exit status is 1 after an uncaught exception, else 0: the one given to sys.exit() is not to be had.
 */
#include "py/builtin_datetime.h"
#include "py/lifecycle_internal.h"
#include "py/worker.h"

#define EXIT_GRACE 1.0
#define EXIT_POLL 0.005

static _Atomic(bool) exiting;
static pthread_t exiter; /* the thread that ends the process, before that is set */

bool atoll_interp_exiting(void) { return atomic_load_explicit(&exiting, memory_order_acquire); }

void atoll_interp_exit_forked(void) {
    if (!pthread_equal(exiter, pthread_self())) {
        atomic_store(&exiting, false);
    }
}

static int raise_system_exit(void *Py_UNUSED(arg)) {
    PyErr_SetNone(PyExc_SystemExit);
    return -1;
}

void atoll_interp_park_if_exiting(atoll_session *s) {
    if (!atoll_interp_exiting() || atoll_thread_is_main() || s->from_interp != PyInterpreterState_Main()) {
        return;
    }
    (void)PyThreadState_Swap(NULL);
    atoll_entry_unpin(s->entry);
    atoll_thread_park();
}

static bool is_open(const atoll_entry *entry) { return atoll_entry_is_open(entry); }

/* Pools end their own, and have been told to. */
static bool is_left_open(const atoll_entry *entry) {
    return atoll_entry_is_open(entry) && atomic_load(&entry->users) != 0 && !atomic_load(&entry->pooled);
}

static bool is_zombie(const atoll_entry *entry) { return atoll_entry_life(entry) == ATOLL_LIFE_ZOMBIE; }

/* Closes or ends every owned interpreter that want() selects and that has no session inside.  How many are left. */
static int end_all(atoll_state *state, bool (*want)(const atoll_entry *)) {
    int left = 0;
    atoll_entry *entry;
    for (int64_t below = INT64_MAX; (entry = atoll_registry_newest(below, want)) != NULL;) {
        below = entry->id;
        bool ended = atoll_entry_is_open(entry) ? atoll_interp_close_at_exit(state, entry) == 0
                                                : atoll_interp_end_zombie(entry);
        if (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) {
            PyErr_WriteUnraisable(NULL);
        }
        PyErr_Clear();
        left += !ended;
        atoll_entry_release(entry);
    }
    return left;
}

static void interrupt_all(void) {
    atoll_entry *entry;
    for (int64_t below = INT64_MAX; (entry = atoll_registry_newest(below, is_open)) != NULL;) {
        below = entry->id;
        if (atoll_entry_guard(entry)) {
            (void)atoll_add_pending_call(entry->interp, raise_system_exit, NULL);
            atoll_entry_interrupt_waits(entry);
            atoll_entry_unguard(entry);
        }
        atoll_entry_release(entry);
    }
}

/* Says which interpreters were left open. */
static void warn_of_open(void) {
    int count = 0;
    atoll_entry *entry;
    PyObject *ids = PyList_New(0);
    for (int64_t below = INT64_MAX; (entry = atoll_registry_newest(below, is_left_open)) != NULL; count++) {
        below = entry->id;
        PyObject *id = PyLong_FromLongLong(entry->id);
        if (ids != NULL && id != NULL) {
            (void)PyList_Insert(ids, 0, id);
        }
        Py_XDECREF(id);
        atoll_entry_release(entry);
    }
    if (count != 0 &&
        PyErr_WarnFormat(PyExc_RuntimeWarning, 1,
                         "remaining interpreters at exit: %R; close them with Interpreter.close()",
                         ids != NULL ? ids : Py_None) < 0) {
        PyErr_WriteUnraisable(NULL);
    }
    Py_XDECREF(ids);
}

void atoll_flush_streams(void) {
    for (int i = 0; i < 2; i++) {
        PyObject *stream = PySys_GetObject(i == 0 ? "stdout" : "stderr"); /* borrowed */
        PyObject *done =
            stream != NULL && stream != Py_None ? PyObject_CallMethod(stream, "flush", NULL) : NULL;
        Py_XDECREF(done);
        PyErr_Clear();
    }
    fflush(NULL);
}

_Noreturn static void end_process(void) {
    atoll_flush_streams();
    atoll_process_exit(PySys_GetObject("last_exc") != NULL || PySys_GetObject("last_value") != NULL);
}

/* Ends what can be ended now.  Threads of pools end their interpreters themselves. */
static bool all_ended(atoll_state *state) {
    bool spares_ended = atoll_spares_end();
    return end_all(state, is_open) == 0 && atoll_pools_threads() == 0 && spares_ended;
}

int atoll_interp_exit(atoll_state *main_state) {
    atoll_interp_sweep(main_state);
    if (!atoll_interp_exiting()) {
        exiter = pthread_self();
    }
    if (atomic_exchange(&exiting, true)) {
        return 0;
    }
    atoll_pools_stop();
    warn_of_open();
    double deadline = atoll_clock() + EXIT_GRACE;
    for (int round = 0; !all_ended(main_state); round++) {
        if (atoll_clock() > deadline) {
            PySys_WriteStderr("atoll: a thread is still inside an interpreter at exit; "
                              "the process ends without finalizing it\n");
            end_process();
        }
        if (round % 16 == 0) {
            interrupt_all();
        }
        PyThreadState *tstate = PyEval_SaveThread();
        atoll_sleep(EXIT_POLL);
        PyEval_RestoreThread(tstate);
    }
    if (end_all(main_state, is_zombie) != 0) {
        end_process();
    }
    atoll_datetime_let_go();
    atoll_compat_before_finalize();
    return 0;
}
