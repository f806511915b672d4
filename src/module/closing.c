/* Interpreter.close(): what was submitted ends before the interpreter does.
 *
 *   its line is shut          nobody submits any more, from whatever interpreter (core/pool/line.h)
 *   own calls                 the pool through which this interpreter submits is shut, and joined; after Ctrl-C it is interrupted
 *   calls of others           are waited for; after Ctrl-C they are not: who is inside makes the close fail
 *   the interpreter           is closed (py/interp/ending.c); when that is refused its line is open again
 *
 * A call that was submitted and closes the interpreter that it runs in, by way of another one, would wait for itself: that is refused
 * before.
 */
#include "module/pool.h"
#include "py/interp/interp.h"
#include "py/pool/pool.h"

#include <math.h>

static int end_own_calls(atoll_state *state, PyObject *interp, bool interrupted) {
    PyObject *end =
        state->pool_names[ATOLL_P_END_GUEST]; /* nobody submits before atoll._pool.executor is there */
    PyObject *done = end != NULL
                         ? PyObject_CallFunctionObjArgs(end, interp, interrupted ? Py_True : Py_False, NULL)
                         : Py_NewRef(Py_None);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

static int await_line(atoll_state *state, atoll_line *line) {
    atoll_blocking b;
    atoll_wait_result why;
    atoll_blocking_begin(&b, state, INFINITY, ATOLL_WAITS_CLOSE, 0);
    while (!atoll_line_await_end(line, &b.waiter, b.deadline, &why)) {
        if (atoll_blocking_look(&b, why) && atoll_blocking_interrupted(&b) < 0) {
            return -1;
        }
    }
    atoll_blocking_end(&b);
    return 0;
}

int atoll_interpreter_close(atoll_state *state, PyObject *interp, atoll_entry *entry, bool interrupted) {
    if (entry->interp == state->interp || atoll_staff_is_guest_of(entry)) {
        return atoll_interp_close(state, entry); /* says why it cannot be */
    }
    atoll_line_shut(&entry->line);
    int rc = end_own_calls(state, interp, interrupted);
    if (rc == 0 && !interrupted) {
        rc = await_line(state, &entry->line);
    }
    if (rc == 0) {
        rc = atoll_interp_close(state, entry);
    }
    if (rc < 0) {
        atoll_line_open(&entry->line);
    }
    return rc;
}
