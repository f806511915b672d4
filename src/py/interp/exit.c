/* The end of the process, from main's atexit.
 *
 * Pools are told to stop, and spares are ended.  Exit functions that run later may wait for what pools had to do: that is lost, what has not
 * begun now, what still runs when it is left behind.  What is idle is closed, newest first.  What still runs is interrupted, with a SystemExit,
 * and looked for EXIT_ROUNDS times, which take a second, or longer where others have the processors; what close(wait=False) has begun to
 * close takes as long as it would if this thread did it.  A thread that comes back from a session after that begins is parked for ever if
 * it would return to main, as CPython does with daemon threads.
 *
 * What is left then is left behind: an interpreter in which a thread is stuck (in a system call, say), or whose memory main has
 * views of.  It cannot be ended, as that would free memory in use; but main can, if CPython does not know of it any more.  So
 *
 *   nobody enters it any more          (registry.h, "left")
 *   no thread in it goes on            a helper takes its GIL, and keeps it
 *   it is taken off CPython's list     (runtime_list.c), which CPython would insist on being empty, or end
 *
 * and Python ends as ever: the exit functions that were registered before Atoll was imported run, views are good to the last,
 * Py_FinalizeEx() returns to a host program, which may begin Python again (restart.c), and the exit status is the program's own.
 *
 * Where that cannot be done - the GIL is not to be had, because code in C keeps it; the list is not known; an interpreter that
 * others made is on it; a thread is about to unload what an interpreter had loaded, which must not meet the destructors of exit() - the
 * streams are flushed and the process ends at once.  The program's exit status is not to be had there, so it is 1: it has not ended
 * well.
 */
#include "core/pool/pool.h"
#include "py/extension/extension.h"
#include "py/interp/interrupt.h"
#include "py/interp/lifecycle_internal.h"
#include "py/interp/pools.h"
#include "py/interp/runtime_list.h"
#include "py/interp/traced.h"

#include <stdlib.h>

#define EXIT_POLL 0.005
enum { EXIT_ROUNDS = 200 };

static pthread_t exiter; /* the thread that ends the process, before that is set */

void atoll_interp_exit_forked(void) {
    if (!pthread_equal(exiter, pthread_self())) {
        atoll_interp_set_exiting(false);
    }
    atoll_interp_work_forked();
    atoll_interp_later_forked();
}

void atoll_interp_exit_forget(void) {
    atoll_interp_set_installed(false);
    atoll_interp_set_exiting(false);
}

void atoll_interp_park_if_exiting(atoll_session *s) {
    if (!atoll_interp_exiting() || pthread_equal(exiter, pthread_self()) ||
        s->from_interp != PyInterpreterState_Main()) {
        return;
    }
    (void)PyThreadState_Swap(NULL);
    atoll_entry_unpin(s->entry);
    atoll_thread_park();
}

static bool is_open(const atoll_entry *entry) { return atoll_entry_is_open(entry); }

/* Pools end their own, and have been told to; so has who is to be closed as soon as nobody is inside. */
static bool is_left_open(const atoll_entry *entry) {
    return atoll_entry_is_open(entry) && !atoll_entry_is_barred(entry) && atomic_load(&entry->users) != 0 &&
           !atomic_load(&entry->pooled);
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
        (void)atoll_interrupt_all(entry, &atoll_system_exit);
        atoll_entry_interrupt_waits(entry); /* also of threads that are in no run */
        atoll_entry_release(entry);
    }
}

/* Says which interpreters were left open. */
static void warn_of_open(void) {
    int count = 0;
    atoll_entry *entry;
    PyObject *open = NULL;
    for (int64_t below = INT64_MAX; (entry = atoll_registry_newest(below, is_left_open)) != NULL; count++) {
        below = entry->id;
        atoll_label label;
        const char *text = atoll_entry_label(entry, &label);
        PyObject *more =
            open != NULL ? PyUnicode_FromFormat("%s, %U", text, open) : PyUnicode_FromString(text);
        Py_XSETREF(open, more);
        atoll_entry_release(entry);
    }
    if (count != 0 &&
        PyErr_WarnFormat(PyExc_RuntimeWarning, 1,
                         "remaining interpreters at exit: [%V]; close them with Interpreter.close()", open,
                         "...") < 0) {
        bool ctrl_c = PyErr_ExceptionMatches(PyExc_KeyboardInterrupt);
        PyErr_WriteUnraisable(NULL);
        if (ctrl_c) {
            PyErr_SetInterrupt(); /* whoever waits for these interpreters' threads next hears of it: once is enough */
        }
    }
    Py_XDECREF(open);
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
    atoll_traced_at_exit();
    atoll_flush_streams();
    atoll_exit_process(1);
}

/* ---- what is left behind ---- */

static bool is_unfinished(const atoll_entry *entry) {
    atoll_life life = atoll_entry_life(entry);
    return life < ATOLL_LIFE_ENDED && life != ATOLL_LIFE_ZOMBIE;
}

static bool is_to_leave(const atoll_entry *entry) { return atoll_entry_life(entry) < ATOLL_LIFE_ENDED; }

typedef struct {
    PyInterpreterState *interp;
    _Atomic(bool) has_gil;
} keeper;

static void keep_gil(void *raw) {
    keeper *k = raw;
    PyThreadState *tstate = PyThreadState_New(k->interp);
    if (tstate != NULL) {
        PyEval_RestoreThread(tstate);
        atomic_store(&k->has_gil, true);
    }
    atoll_thread_park();
}

/* Attached to main: whether no thread of the interpreter goes on from here.  The helper's record stays allocated. */
static bool freeze(const atoll_entry *entry) {
    keeper *k = calloc(1, sizeof *k);
    if (k == NULL) {
        return false;
    }
    k->interp = entry->interp;
    if (atoll_thread_start(keep_gil, k, 0) < 0) {
        free(k);
        return false;
    }
    PyThreadState *tstate = PyEval_SaveThread();
    for (int round = 0; !atomic_load(&k->has_gil) && round < 5 * EXIT_ROUNDS; round++) {
        atoll_sleep(EXIT_POLL / 5);
    }
    PyEval_RestoreThread(tstate);
    return atomic_load(&k->has_gil);
}

/* Whether CPython has no interpreter but main and those that are left behind. */
static bool knows_no_other(void) {
    for (PyInterpreterState *interp = PyInterpreterState_Head(); interp != NULL;
         interp = PyInterpreterState_Next(interp)) {
        atoll_entry *entry = atoll_registry_find(PyInterpreterState_GetID(interp));
        bool known = interp == PyInterpreterState_Main() ||
                     (entry != NULL && entry->interp == interp && atoll_entry_life(entry) == ATOLL_LIFE_LEFT);
        if (entry != NULL) {
            atoll_entry_release(entry);
        }
        if (!known) {
            return false;
        }
    }
    return true;
}

static bool leave_behind(void) {
    bool all = true;
    atoll_entry *entry;
    for (int64_t below = INT64_MAX; all && (entry = atoll_registry_newest(below, is_to_leave)) != NULL;) {
        below = entry->id;
        atoll_entry_leave(entry);
        all = freeze(entry);
        atoll_entry_release(entry);
    }
    atoll_lifecycle_lock(); /* nobody makes or frees one */
    all = all && knows_no_other() && atoll_runtime_list_keep_only(PyInterpreterState_Main());
    atoll_lifecycle_unlock();
    return all;
}

/* Ends what can be ended now.  Threads of pools end their interpreters themselves, and others may be about to close one. */
static bool all_ended(atoll_state *state) {
    bool spares_ended = atoll_the_pools->end_spares();
    bool closed = end_all(state, is_open) == 0;
    atoll_entry *entry = atoll_registry_newest(INT64_MAX, is_unfinished);
    if (entry != NULL) {
        atoll_entry_release(entry);
    }
    return closed && entry == NULL && !atoll_interp_is_work() && atoll_pools_threads() == 0 && spares_ended;
}

/* Whether what was raised has left the script, which has no caller: what a console in it has shown has come from there, and it went on. */
static bool has_left_script(PyObject *exc, PyObject *script) {
    PyObject *trace = PyException_GetTraceback(exc);
    PyFrameObject *frame = trace != NULL ? ((PyTracebackObject *)trace)->tb_frame : NULL; /* borrowed */
    PyFrameObject *caller = frame != NULL ? PyFrame_GetBack(frame) : NULL;
    PyObject *globals = frame != NULL ? PyFrame_GetGlobals(frame) : NULL;
    bool left = caller == NULL && globals == PyModule_GetDict(script);
    Py_XDECREF(globals);
    Py_XDECREF(caller);
    Py_XDECREF(trace);
    return left;
}

/* Whether Ctrl-C that nobody has caught ends a script: what is run by its module's name, or typed in, CPython does not call so, nor
 * what is derived from KeyboardInterrupt. */
static bool is_ended_by_ctrl_c(void) {
    PyObject *last = PySys_GetObject("last_exc"); /* borrowed */
    if (last == NULL || !Py_IS_TYPE(last, (PyTypeObject *)PyExc_KeyboardInterrupt) ||
        PySys_GetObject("ps1") != NULL) {
        return false;
    }
    PyObject *script = PyImport_AddModule("__main__"); /* borrowed */
    PyObject *spec = script != NULL ? PyObject_GetAttrString(script, "__spec__") : NULL;
    bool ended = spec == Py_None && has_left_script(last, script);
    PyErr_Clear();
    Py_XDECREF(spec);
    return ended;
}

/* That such a process is to end by the signal, CPython has in a flag that exec() and eval() of a text put back, in whatever interpreter, and
 * named tuples use one.  So it is set once more, as CPython sets it. */
static void keep_status(void) {
    if (is_ended_by_ctrl_c()) {
        PyObject *globals = PyDict_New();
        Py_XDECREF(globals != NULL ? PyRun_String("raise KeyboardInterrupt", Py_file_input, globals, globals)
                                   : NULL);
        Py_XDECREF(globals);
        PyErr_Clear();
    }
}

int atoll_interp_exit(atoll_state *main_state) {
    atoll_interp_sweep(main_state);
    if (!atoll_interp_exiting()) {
        exiter = pthread_self();
    }
    if (atoll_interp_set_exiting(true)) {
        return 0;
    }
    atoll_pools_stop();
    warn_of_open();
    bool stuck = false;
    for (int round = 0; !stuck && !all_ended(main_state); round++) {
        stuck = round >= EXIT_ROUNDS && !atoll_interp_closes_later();
        if (round % 16 == 0) {
            interrupt_all();
        }
        PyThreadState *tstate = PyEval_SaveThread();
        atoll_sleep(EXIT_POLL);
        PyEval_RestoreThread(tstate);
    }
    if (stuck) {
        PySys_WriteStderr("atoll: a thread is still inside an interpreter at exit; "
                          "the process ends without finalizing it\n");
        atoll_pools_give_up();
    }
    if ((end_all(main_state, is_zombie) != 0 || stuck) && (atoll_interp_is_work() || !leave_behind())) {
        end_process();
    }
    atoll_interrupt_end();
    atoll_traced_at_exit();
    atoll_datetime_let_go();
    keep_status();
    atoll_compat_before_finalize();
    return 0;
}
