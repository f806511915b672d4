/* Running one task in a worker's interpreter.
 *
 * The worker's thread state is attached throughout and no lock is held.  The call is decoded from the task, which
 * nobody else touches while it is running; what comes out is written to two messages of the worker's, which it hands
 * over when it has claimed the task's end.  An exception crosses twice: as an object, where it can be sent, and as text.
 */
#include "py/pool/pool.h"

#include "core/trace/trace.h"
#include "port/port.h"
#include "py/interp/interp.h"

#include <stdlib.h>

#define LARGE_CHUNK 256
#define CHUNK_SECONDS 0.010 /* so long a worker works at a chunk that may be divided */

/* What was called is over: does not return in a child that was forked in it, where there is no pool. */
static void check_forked(const atoll_task *task) {
    if (atoll_pool_is_foreign(task->pool)) {
        atoll_child_ends(PyErr_Occurred() != NULL);
    }
}

/* Encodes an exception; of a chunk, in a pair with the results so far. */
static int encode_raised(atoll_state *state, PyObject *exc, PyObject *so_far, atoll_message *result) {
    atoll_message_reset(result, SIZE_MAX);
    if (so_far == NULL) {
        return atoll_encode_raised(state->codec, result, exc, exc);
    }
    PyObject *pair = PyTuple_Pack(2, so_far, exc);
    int rc = pair != NULL ? atoll_encode_raised(state->codec, result, pair, exc) : -1;
    Py_XDECREF(pair);
    return rc;
}

/* The current exception, described in `error` and cleared; before that, as itself in `result`, where it can be sent.  An
 * interrupt that comes meanwhile is the outcome instead, now or at the end of the run. */
static atoll_outcome capture(atoll_state *state, PyObject *so_far, atoll_message *result,
                             atoll_message *error) {
    const atoll_run *run = atoll_run_innermost(); /* none when it is over */
    PyObject *exc = PyErr_GetRaisedException();
    uint32_t raised = run != NULL ? run->raised : 0;
    int rc = encode_raised(state, exc, so_far, result);
    if (run != NULL && run->raised != raised) {
        PyErr_Clear();
        atoll_run_raise_again(run);
        PyObject *interrupt = PyErr_GetRaisedException();
        PyException_SetContext(interrupt, exc);
        exc = interrupt;
        rc = encode_raised(state, exc, so_far, result);
    }
    if (rc < 0) {
        PyErr_Clear();
        if (so_far == NULL || encode_raised(state, Py_None, so_far, result) < 0) {
            PyErr_Clear();
            atoll_message_reset(result, SIZE_MAX); /* empty: nothing came before */
        }
    }
    PyErr_SetRaisedException(Py_NewRef(exc));
    PyObject *described = atoll_excinfo_capture(state, error, NULL, NULL, 0);
    if (described != exc && encode_raised(state, described, so_far, result) < 0) {
        PyErr_Clear();
        atoll_message_reset(result, SIZE_MAX);
    }
    Py_DECREF(described);
    Py_DECREF(exc);
    return ATOLL_OUT_RAISED;
}

/* The current exception was raised by encoding a result: text for a NotShareableError, else as any other. */
static atoll_outcome capture_refusal(atoll_state *state, PyObject *so_far, atoll_message *result,
                                     atoll_message *error) {
    if (!PyErr_ExceptionMatches(state->not_shareable)) {
        return capture(state, so_far, result, error);
    }
    atoll_run_refusal(state, error);
    atoll_message_reset(result, SIZE_MAX);
    if (so_far != NULL && atoll_encode_whole(state->codec, result, so_far, "result") < 0) {
        PyErr_Clear();
    }
    return ATOLL_OUT_REFUSED;
}

/* A task for some items of a list; NULL with an exception. */
static atoll_task *new_part(atoll_state *state, const atoll_task *whole, PyObject *callable, PyObject *items,
                            Py_ssize_t from, Py_ssize_t to) {
    atoll_task *part = atoll_task_new(whole->pool);
    if (part == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    PyObject *some = PyList_GetSlice(items, from, to);
    int rc = -1;
    if (some != NULL) {
        part->kind = whole->kind;
        part->divisible = true;
        part->items = (uint32_t)(to - from);
        part->function = whole->function;
        if (part->function != NULL) {
            atoll_pool_function_retain(part->function);
        }
        rc = atoll_encode_call(state->codec, &part->call, part->function != NULL ? NULL : callable, &some, 1,
                               NULL);
        Py_DECREF(some);
    }
    if (rc < 0) {
        atoll_task_release(part);
        return NULL;
    }
    return part;
}

/* Hands back the items of a task from `from` on, in parts, two for each worker that the pool may have.  False: they stay
 * here, possibly with an exception. */
static bool divide(atoll_state *state, atoll_task *task, PyObject *callable, PyObject *items,
                   Py_ssize_t from) {
    Py_ssize_t left = PyList_GET_SIZE(items) - from;
    Py_ssize_t most = 2 * (Py_ssize_t)task->pool->max_workers;
    uint32_t nparts = (uint32_t)(left < most ? left : most);
    atoll_task **parts = calloc(nparts, sizeof *parts);
    uint32_t made = 0;
    for (; parts != NULL && made < nparts; made++) {
        Py_ssize_t begin = from + left * made / nparts;
        parts[made] = new_part(state, task, callable, items, begin, from + left * (made + 1) / nparts);
        if (parts[made] == NULL) {
            break;
        }
    }
    if (parts != NULL && made == nparts && atoll_pool_divide(task, parts, nparts)) {
        task->items = (uint32_t)from;
        return true;
    }
    while (made > 0) {
        atoll_task_release(parts[--made]);
    }
    free(parts);
    if (PyErr_ExceptionMatches(PyExc_Exception)) {
        PyErr_Clear(); /* cannot be sent from here: so be it */
    }
    return false;
}

/* Calls callable with each item of a list.  The results; shorter than `items` when one raised, with the exception set, or
 * when what is left was handed back.  NULL: out of memory. */
static PyObject *call_each(atoll_state *state, atoll_task *task, PyObject *callable, PyObject *items) {
    bool star = task->kind == ATOLL_CALL_EACH_STAR;
    PyObject *results = PyList_New(0);
    /* Of a large chunk, whose items are thought to be cheap, the clock is looked at after every fourth. */
    Py_ssize_t step = PyList_GET_SIZE(items) >= LARGE_CHUNK ? 4 : 1;
    Py_ssize_t look = PY_SSIZE_T_MAX;
    double until = 0;
    if (task->divisible && task->pool->max_workers > 1) {
        look = 0;
        until = atoll_clock_coarse() + CHUNK_SECONDS;
    }
    for (Py_ssize_t i = 0; results != NULL && i < PyList_GET_SIZE(items); i++) {
        PyObject *item = PyList_GET_ITEM(items, i);
        PyObject *value;
        if (star && !PyTuple_CheckExact(item)) {
            value = PyObject_CallObject(callable, item);
        } else {
            PyObject *stack[2] = {NULL, item};
            atoll_call_args args = {
                .callable = callable,
                .stack = star ? ((PyTupleObject *)item)->ob_item : stack + 1,
                .nargs = star ? PyTuple_GET_SIZE(item) : 1,
            };
            value = atoll_run_args(state, &args, star ? 0 : PY_VECTORCALL_ARGUMENTS_OFFSET);
        }
        if (value == NULL || PyList_Append(results, value) < 0) {
            Py_XDECREF(value);
            break;
        }
        Py_DECREF(value);
        if (i >= look && i + 1 < PyList_GET_SIZE(items)) {
            look = i + step;
            if (atoll_clock_coarse() <= until) {
                continue;
            }
            if (divide(state, task, callable, items, i + 1) || PyErr_Occurred()) {
                break;
            }
            look = PY_SSIZE_T_MAX;
        }
    }
    return results;
}

/* How many of the first results can be sent: the list is cut to them. The exception is set. */
static void keep_sendable(atoll_state *state, PyObject *results, atoll_message *scratch) {
    PyObject *exc = PyErr_GetRaisedException();
    Py_ssize_t n = 0;
    while (n < PyList_GET_SIZE(results)) {
        atoll_message_reset(scratch, SIZE_MAX);
        if (atoll_encode_whole(state->codec, scratch, PyList_GET_ITEM(results, n), "result") < 0) {
            Py_XSETREF(exc,
                       PyErr_GetRaisedException()); /* names the result itself, not its place in the chunk */
            break;
        }
        n++;
    }
    if (PyList_SetSlice(results, n, PyList_GET_SIZE(results), NULL) < 0) {
        PyErr_Clear();
    }
    PyErr_SetRaisedException(exc);
}

static atoll_outcome run_chunk(atoll_state *state, atoll_task *task, PyObject *callable, PyObject *items,
                               atoll_message *result, atoll_message *error) {
    if (!PyList_CheckExact(items)) {
        PyErr_SetString(PyExc_SystemError, "a chunk is a list");
        return capture(state, NULL, result, error);
    }
    PyObject *results = call_each(state, task, callable, items);
    check_forked(task);
    atoll_outcome outcome = ATOLL_OUT_RESULT;
    if (PyErr_Occurred()) {
        outcome = capture(state, results, result, error);
    } else if (atoll_encode_whole(state->codec, result, results, "result") < 0) {
        keep_sendable(state, results, result);
        outcome = capture_refusal(state, results, result, error);
    }
    atoll_run_set_deaf(atoll_run_innermost(), true); /* destructors could not pass it on */
    Py_XDECREF(results);
    return outcome;
}

/* called: what it was, NULL: it did not get so far; a new reference. */
static atoll_outcome run(atoll_state *state, atoll_task *task, atoll_message *result, atoll_message *error,
                         atoll_task_remains *remains, PyObject **called) {
    atoll_call_args *args = &remains->args;
    PyObject *callable = NULL;
    if (task->function != NULL &&
        (callable = atoll_run_function(state, task->function->number, &task->function->full)) == NULL) {
        return capture(state, NULL, result, error);
    }
    if (atoll_decode_call(state->codec, &task->call, args) < 0) {
        Py_XDECREF(callable);
        return capture(state, NULL, result, error);
    }
    if (callable == NULL) {
        callable = Py_XNewRef(args->callable);
    } else {
        args->callable = Py_NewRef(callable);
    }
    atoll_outcome outcome = ATOLL_OUT_RESULT;
    if (task->kind != ATOLL_CALL_ONE) {
        outcome =
            run_chunk(state, task, callable, args->nargs == 1 ? args->stack[0] : Py_None, result, error);
    } else {
        PyObject *value = atoll_run_args(state, args, PY_VECTORCALL_ARGUMENTS_OFFSET);
        check_forked(task);
        remains->value = value;
        if (value == NULL) {
            outcome = capture(state, NULL, result, error);
        } else if (atoll_encode_whole(state->codec, result, value, "result") < 0) {
            outcome = capture_refusal(state, NULL, result, error);
            atoll_run_close_coroutine(value);
        }
    }
    *called = callable;
    return outcome;
}

atoll_outcome atoll_work_run(atoll_state *state, atoll_task *task, atoll_message *result,
                             atoll_message *error, atoll_task_remains *remains) {
    uint64_t began = atoll_trace_begin();
    PyObject *called = NULL;
    *remains = (atoll_task_remains){0};
    atoll_outcome outcome = run(state, task, result, error, remains, &called);
    atoll_traced_call(began, ATOLL_TRACE_TASK, called, state->interp_id, (int64_t)task->arrow);
    Py_XDECREF(called);
    if (atoll_pool_is_foreign(task->pool)) { /* forked somewhere else than in the call itself */
        atoll_child_ends(false);
    }
    return outcome;
}

atoll_outcome atoll_work_interrupted(atoll_state *state, atoll_message *result, atoll_message *error) {
    atoll_message_reset(error, SIZE_MAX);
    return capture(state, NULL, result, error);
}

void atoll_work_clear(atoll_task_remains *remains) {
    atoll_codec_args_clear(&remains->args);
    Py_CLEAR(remains->value);
}
