/* The end of a forked child whose code has nowhere to return to.
 *
 * A process can be forked while its thread is inside of calls from one interpreter to another.  In the child only the
 * innermost interpreter is left (fork.c), so when the call in which the process was forked is over, there is nobody to
 * give its result to.  This is as when a thread forks: the child ends with the function that it is in.  It ends as a
 * script does: threads are joined, exit functions run, the interpreters that the child made are closed, the exit status
 * is what SystemExit says, or 1 with the traceback of any other exception, else 0.  CPython is not finalized: frames of
 * interpreters that are gone lie below.
 */
#include "py/interp/child.h"

#include "port/port.h"
#include "py/interp/lifecycle.h"
#include "py/interp/wind_down.h"

#define STATUS_INTERRUPTED 130 /* as shells have it */

/* The exit status of the exception that is set, which is printed where a script's would be. */
static int status_of_exception(void) {
    if (!PyErr_ExceptionMatches(PyExc_SystemExit)) {
        int status = PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) ? STATUS_INTERRUPTED : 1;
        PyErr_Print();
        return status;
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *code = PyObject_GetAttrString(exc, "code");
    int status = 1;
    if (code == NULL) {
        PyErr_Clear();
    } else if (code == Py_None) {
        status = 0;
    } else if (PyLong_Check(code)) {
        status = (int)PyLong_AsLong(code);
        PyErr_Clear();
    } else {
        PyObject *stream = PySys_GetObject("stderr"); /* borrowed */
        if (stream == NULL || stream == Py_None || PyFile_WriteObject(code, stream, Py_PRINT_RAW) < 0) {
            PyErr_Clear();
        } else {
            PySys_WriteStderr("\n");
        }
    }
    Py_XDECREF(code);
    Py_DECREF(exc);
    return status;
}

_Noreturn void atoll_child_ends(bool raised) {
    int status = raised ? status_of_exception() : 0;
    atoll_join_threads();
    atoll_run_exit_functions();
    atoll_state *state = atoll_state_of(PyInterpreterState_Get());
    if (state != NULL) {
        (void)atoll_interp_exit(state); /* unless an exit function has done it */
    }
    atoll_flush_streams();
    atoll_exit_process(status);
}
