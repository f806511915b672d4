/* Interpreter.close(): what was submitted ends before the interpreter does.
 *
 *                             without a time                                   within a time                 by force
 *   its line is shut          nobody submits any more, from whatever interpreter (core/pool/line.h)
 *   own calls                 the pool through which this interpreter submits  is shut                       is shut, what has not begun
 *                             is shut, and joined; after Ctrl-C interrupted                                  cancelled
 *   calls of others           are waited for; after Ctrl-C they are not: who   are waited for                are not waited for: what has
 *                             is inside makes the close fail                                                 not begun fails
 *   the interpreter           is closed (py/interp/ending.c)                   (py/interp/reap.c)            who is inside is interrupted
 *
 * When it is not closed its line is open again.  One that does not wait is like one within a time that has no end, but on another thread.
 *
 * A call that was submitted and closes the interpreter that it runs in, by way of another one, would wait for itself: that is refused
 * before; so is what a thread of that interpreter does, for which such a call may wait.
 */
#include "module/control.h"
#include "module/pool.h"
#include "py/interp/interp.h"
#include "py/pool/pool.h"

#include <math.h>

#define FORCE_SECONDS 10.0 /* without a timeout */

/* how: of atoll._pool.executor._end_guest. */
static int end_own_calls(atoll_state *state, PyObject *interp, const char *how) {
    PyObject *end =
        state->pool_names[ATOLL_P_END_GUEST]; /* nobody submits before atoll._pool.executor is there */
    PyObject *done = end != NULL ? PyObject_CallFunction(end, "Os", interp, how) : Py_NewRef(Py_None);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

/* 0: it is empty, or the time is over. */
static int await_line(atoll_state *state, atoll_line *line, double deadline) {
    atoll_blocking b;
    atoll_wait_result why;
    atoll_blocking_begin(&b, state, deadline, ATOLL_WAITS_CLOSE, 0);
    while (!atoll_line_await_end(line, &b.waiter, b.deadline, &why) && why != ATOLL_WAIT_TIMEOUT) {
        if (atoll_blocking_look(&b, why) && atoll_blocking_interrupted(&b) < 0) {
            return -1;
        }
    }
    atoll_blocking_end(&b);
    return 0;
}

static int close_now(atoll_state *state, PyObject *interp, atoll_entry *entry, bool interrupted) {
    if (entry->interp == state->interp || atoll_staff_is_guest_of(entry) || atoll_session_is_inside(entry)) {
        return atoll_interp_close(state, entry); /* says why it cannot be */
    }
    atoll_line_shut(&entry->line);
    int rc = end_own_calls(state, interp, interrupted ? "interrupt" : "join");
    if (rc == 0 && !interrupted) {
        rc = await_line(state, &entry->line, INFINITY);
    }
    if (rc == 0) {
        rc = atoll_interp_close(state, entry);
    }
    if (rc < 0) {
        atoll_line_open(&entry->line);
    }
    return rc;
}

/* wait: else it is only begun, which needs no time, and is not by force. */
static int close_within(atoll_state *state, PyObject *interp, atoll_entry *entry, double seconds, bool force,
                        bool wait) {
    if (atoll_staff_is_guest_of(entry)) {
        return atoll_interp_close(state, entry); /* says why it cannot be */
    }
    if (atoll_interp_check_close_within(state, entry) < 0) {
        return -1;
    }
    double deadline = atoll_deadline_after(seconds);
    atoll_line_shut(&entry->line);
    int rc = end_own_calls(state, interp, force ? "drop" : "shut");
    if (rc == 0 && wait && !force) {
        rc = await_line(state, &entry->line, deadline);
    }
    if (rc == 0) {
        rc = wait ? atoll_interp_close_within(state, entry, fmax(deadline - atoll_clock(), 0), force)
                  : atoll_interp_close_later(state, entry);
    }
    if (rc < 0) {
        atoll_line_open(&entry->line);
    }
    return rc;
}

/* ---- methods of Interpreter ---- */

const char atoll_pyclosing_close_doc[] = PyDoc_STR(
    "close($self, /, *, force=False, timeout=None, wait=True)\n--\n\n"
    "Finalize and destroy the interpreter (PEP 734).\n\n"
    "Finishes what was submitted to it, joins the threads that threading started in it and\n"
    "runs its exit handlers.\n\n"
    "timeout: seconds. Who is inside is waited for so long, and so are threads; nobody new gets in.\n"
    "With None who is inside makes it fail at once, and the rest takes as long as it takes.\n"
    "force: what runs is interrupted, KeyboardInterrupt in calls and SystemExit in threads, ten times a\n"
    "second until it ends; what was submitted and has not begun is dropped. timeout None: 10 seconds.\n"
    "wait: False comes back at once. Nothing more can be submitted; the interpreter is closed, on a\n"
    "thread of its own, when what was submitted, then who is inside, and its threads have ended.\n\n"
    "Raises InterpreterError when it is running (on this thread, too), current, main or not made by Atoll,\n"
    "or while a thread of an extension module is inside; InterpreterNotFoundError when it is\n"
    "closed already; by force InterpreterStuckError, which has the stacks, when something does not end: it\n"
    "can be closed again later. TypeError or ValueError for a timeout that is no number that is not\n"
    "negative, ValueError for one, or force, where wait is false.");

PyObject *atoll_pyclosing_close(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    static const char *const keywords[] = {"force", "timeout", "wait"};
    PyObject *values[3] = {NULL};
    double seconds;
    atoll_state *state = atoll_state_live(((atoll_interpreter *)self)->state);
    if (state == NULL || atoll_parse("close", keywords, 3, 0, 0, args, nargs, kwnames, values) < 0 ||
        atoll_timeout(values[1], &seconds) < 0) {
        return NULL;
    }
    if (!(seconds >= 0)) {
        PyErr_Format(PyExc_ValueError, "timeout must be non-negative, got %R", values[1]);
        return NULL;
    }
    int force = values[0] != NULL ? PyObject_IsTrue(values[0]) : 0;
    int wait = values[2] != NULL ? PyObject_IsTrue(values[2]) : 1;
    if (force < 0 || wait < 0) {
        return NULL;
    }
    bool within = values[1] != NULL && values[1] != Py_None;
    if (!wait && (force || within)) {
        PyErr_Format(PyExc_ValueError, "close(wait=False) takes no %s", force ? "force" : "timeout");
        return NULL;
    }
    atoll_entry *entry = atoll_pycontrol_entry(state, self, "close");
    if (entry == NULL) {
        return NULL;
    }
    int rc = force || within || !wait
                 ? close_within(state, self, entry, within ? seconds : FORCE_SECONDS, force, wait)
                 : close_now(state, self, entry, false);
    if (rc < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Moves the current exception into a note of another one's. */
static void note_refusal(PyObject *raised) {
    PyObject *refusal = PyErr_GetRaisedException();
    PyObject *noted = PyObject_CallMethod(raised, "add_note", "N", PyObject_Str(refusal));
    Py_XDECREF(noted);
    PyErr_Clear(); /* without a note, then */
    Py_DECREF(refusal);
}

PyObject *atoll_pyclosing_exit(PyObject *self, PyObject *args) {
    atoll_state *state = atoll_state_live(((atoll_interpreter *)self)->state);
    if (state == NULL) {
        return NULL;
    }
    PyObject *kind = PyTuple_GET_SIZE(args) > 0 ? PyTuple_GET_ITEM(args, 0) : Py_None;
    bool interrupted = PyErr_GivenExceptionMatches(kind, PyExc_KeyboardInterrupt) != 0;
    atoll_entry *entry = atoll_pycontrol_entry(state, self, "close");
    if (entry != NULL && close_now(state, self, entry, interrupted) == 0) {
        Py_RETURN_NONE;
    }
    if (PyErr_ExceptionMatches(state->not_found)) { /* closed inside the with block */
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    PyObject *raised = PyTuple_GET_SIZE(args) > 1 ? PyTuple_GET_ITEM(args, 1) : Py_None;
    if (raised != Py_None && PyErr_ExceptionMatches(state->error)) {
        /* Something in it does not end: what the block has raised is what is to be heard of. */
        note_refusal(raised);
        atoll_interp_sweep_later();
        Py_RETURN_NONE;
    }
    return NULL;
}
