/* What a task left, as the submitting interpreter sees it: a value, an exception, of a chunk that failed both.
 *
 * The task is over and its messages are only read.  Attached; decoding may run Python code.  What was raised there
 * comes as itself, with the remote traceback as its cause, and as an ExecutionFailed where it cannot be sent.  Ctrl-C
 * here, or no memory, is no outcome: it can be had once more.
 */
#include "module/pool.h"
#include "py/interp/interp.h"
#include "py/pool/pool.h"

/* NULL with an exception that is urgent. */
static PyObject *described(atoll_state *state, const atoll_message *error) {
    atoll_excinfo_raise(state, error);
    return atoll_error_is_urgent() ? NULL : PyErr_GetRaisedException();
}

/* Gives exc a cause, which is taken over. */
static PyObject *with_cause(PyObject *exc, PyObject *cause) {
    if (exc != NULL && cause != NULL) {
        PyException_SetCause(exc, cause);
    } else {
        Py_XDECREF(cause);
    }
    return exc;
}

static PyObject *make_error(PyObject *type, const char *text) {
    PyObject *message = PyUnicode_FromString(text);
    PyObject *exc = message != NULL ? PyObject_CallOneArg(type, message) : NULL;
    Py_XDECREF(message);
    return exc;
}

/* What the task raised: the object itself, caused by its description, or the description alone.  Of a chunk, also what came before;
 * where that cannot be had, it is the error: NULL with that exception, or with one that is urgent. */
static PyObject *raised(atoll_state *state, const atoll_task *task, PyObject **value) {
    PyObject *failure = described(state, &task->error);
    if (failure == NULL || task->result.body.len == 0) {
        return failure;
    }
    PyObject *sent[2];
    int had = atoll_decode_pair(state->codec, &task->result, sent);
    *value = sent[0];
    if (had == 0 || atoll_error_is_urgent()) {
        Py_DECREF(failure);
        return NULL;
    }
    PyErr_Clear();
    if (sent[1] == NULL || !PyExceptionInstance_Check(sent[1])) {
        Py_XDECREF(sent[1]);
        return failure;
    }
    return with_cause(sent[1], failure);
}

static PyObject *refused(atoll_state *state, const atoll_task *task, PyObject **value) {
    if (task->kind != ATOLL_CALL_ONE && task->result.body.len != 0 &&
        (*value = atoll_decode(state->codec, &task->result)) == NULL) {
        return NULL;
    }
    PyObject *text = task->error.body.len != 0 ? atoll_decode(state->codec, &task->error) : NULL;
    if (atoll_error_is_urgent()) {
        return NULL;
    }
    PyErr_Clear();
    PyObject *exc = text != NULL ? PyObject_CallOneArg(state->not_shareable, text)
                                 : make_error(state->not_shareable, "the result is not shareable");
    Py_XDECREF(text);
    return exc;
}

/* Caused by where it was; what came before in a chunk is there as well. */
static PyObject *out_of_memory(atoll_state *state, const atoll_task *task, PyObject **value) {
    const atoll_pool_settings *settings = task->pool->settings;
    PyObject *failure = raised(state, task, value);
    if (failure == NULL) {
        return NULL;
    }
    PyObject *bytes = PyLong_FromUnsignedLongLong(settings->print.wishes.limits.memory);
    PyObject *exc = atoll_limits_error(
        state, "memory_limit", bytes,
        "the call needed more memory than its interpreter may have: memory_limit is %S bytes");
    return with_cause(exc, failure);
}

/* Caused by where it was, when it has heard of it. */
static PyObject *out_of_cpu(atoll_state *state, const atoll_task *task) {
    const atoll_pool_settings *settings = task->pool->settings;
    const atoll_entry *guest = settings->of;
    double seconds =
        guest != NULL ? (double)atomic_load(&guest->cpu_limit) / 1e9 : settings->print.wishes.limits.cpu;
    PyObject *exc = atoll_limits_error(
        state, "cpu_limit", PyFloat_FromDouble(seconds),
        guest != NULL
            ? "the interpreter has taken all the processor time that it may: cpu_limit is %S seconds"
            : "the call needed more processor time than it may take: cpu_limit is %S seconds");
    return task->error.body.len != 0 ? with_cause(exc, described(state, &task->error)) : exc;
}

static PyObject *timed_out(atoll_state *state, const atoll_task *task) {
    PyObject *text = PyUnicode_FromFormat("the task took longer than its time limit of %d ms",
                                          (int)(task->pool->timeout * 1000));
    PyObject *exc = text != NULL ? PyObject_CallOneArg(PyExc_TimeoutError, text) : NULL;
    Py_XDECREF(text);
    return task->error.body.len != 0 ? with_cause(exc, described(state, &task->error)) : exc;
}

/* The pool is broken: an exception for this task; the reason is logged once.  A task that was terminated says where it was. */
static PyObject *broken(atoll_pypool *pool, atoll_state *state, const atoll_task *task) {
    PyObject *make = atoll_pypool_name_get(state, ATOLL_P_BROKEN);
    PyObject *exc = make != NULL ? PyObject_CallOneArg(make, (PyObject *)pool) : NULL;
    return task->error.body.len != 0 ? with_cause(exc, described(state, &task->error)) : exc;
}

/* NULL with an exception. */
static PyObject *result_of(atoll_state *state, atoll_task *task) {
    PyObject *row = task->kind != ATOLL_CALL_ONE ? atoll_pyrow_new(state, task) : NULL;
    return row != NULL || PyErr_Occurred() ? row : atoll_decode(state->codec, &task->result);
}

int atoll_future_decode(atoll_pypool *pool, atoll_task *task, PyObject **value, PyObject **exc) {
    atoll_state *state = atoll_pypool_state(pool);
    *value = *exc = NULL;
    if (state != NULL) {
        switch ((atoll_outcome)task->outcome) {
        case ATOLL_OUT_RESULT:
            *value = result_of(state, task);
            break;
        case ATOLL_OUT_RAISED:
            *exc = raised(state, task, value);
            break;
        case ATOLL_OUT_REFUSED:
            *exc = refused(state, task, value);
            break;
        case ATOLL_OUT_TIMEOUT:
            *exc = timed_out(state, task);
            break;
        case ATOLL_OUT_MEMORY:
            *exc = out_of_memory(state, task, value);
            break;
        case ATOLL_OUT_CPU:
            *exc = out_of_cpu(state, task);
            break;
        case ATOLL_OUT_BROKEN:
            *exc = broken(pool, state, task);
            break;
        case ATOLL_OUT_LOST:
            *exc = make_error(state->error, "the interpreter of this task is closed");
            break;
        }
    }
    if (atoll_error_is_urgent()) {
        Py_CLEAR(*value);
        Py_CLEAR(*exc);
        return -1;
    }
    if (PyErr_Occurred()) {
        Py_XSETREF(*exc, PyErr_GetRaisedException());
    }
    return 0;
}
