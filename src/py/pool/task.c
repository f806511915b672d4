/* Running one task in a worker's interpreter.
 *
 * The worker's thread state is attached throughout and no lock is held.  The call is decoded from the task, which
 * nobody else touches while it is running; what comes out is written to two messages of the worker's, which it hands
 * over when it has claimed the task's end.  An exception crosses twice: as an object, where it can be sent, and as text.
 *
 * The items of a chunk are a list, or what costs less than one: a range as it is, and numbers as they lie in the message, each of which is
 * made when it is its turn.  Results that are numbers likewise are written as they come (py/codec/codec.h has both).
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

/* ---- the items of a chunk ---- */

typedef struct {
    PyObject *all;      /* a list or a range, borrowed; NULL: a row */
    PyObject *iterator; /* over a range; a reference, or NULL */
    atoll_row row;
} chunk_items;

static Py_ssize_t count_items(const chunk_items *items) {
    return items->all == NULL              ? items->row.n
           : PyList_CheckExact(items->all) ? PyList_GET_SIZE(items->all)
                                           : PyObject_Size(items->all);
}

/* The next one, which is the i-th: a new reference, or NULL with an exception. */
static inline PyObject *take_item(chunk_items *items, Py_ssize_t i) {
    if (items->all == NULL) {
        return atoll_row_item(&items->row, i);
    }
    if (items->iterator != NULL) {
        return Py_TYPE(items->iterator)->tp_iternext(items->iterator);
    }
    PyObject *item = PyList_GetItem(items->all, i); /* calls before this one may have found and changed it */
    return Py_XNewRef(item);
}

/* A list or a range of some of them. */
static PyObject *some_items(const chunk_items *items, Py_ssize_t from, Py_ssize_t to) {
    return items->all == NULL ? atoll_row_list(&items->row, from, to)
                              : PySequence_GetSlice(items->all, from, to);
}

/* A task for some items; NULL with an exception. */
static atoll_task *new_part(atoll_state *state, const atoll_task *whole, PyObject *callable,
                            const chunk_items *items, Py_ssize_t from, Py_ssize_t to) {
    atoll_task *part = atoll_task_new(whole->pool);
    if (part == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    PyObject *some = some_items(items, from, to);
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
static bool divide(atoll_state *state, atoll_task *task, PyObject *callable, const chunk_items *items,
                   Py_ssize_t from) {
    Py_ssize_t left = count_items(items) - from;
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

/* callable with one item: its result, or NULL with an exception. */
static PyObject *call_with(atoll_state *state, bool star, PyObject *callable, PyObject *item) {
    if (star && !PyTuple_CheckExact(item)) {
        return PyObject_CallObject(callable, item);
    }
    PyObject *stack[2] = {NULL, item};
    atoll_call_args args = {
        .callable = callable,
        .stack = star ? ((PyTupleObject *)item)->ob_item : stack + 1,
        .nargs = star ? PyTuple_GET_SIZE(item) : 1,
    };
    return atoll_run_args(state, &args, star ? 0 : PY_VECTORCALL_ARGUMENTS_OFFSET);
}

/* Calls callable with each item.  The results; fewer than items when one raised, with the exception set, or when
 * what is left was handed back. */
static void call_each(atoll_state *state, atoll_task *task, PyObject *callable, chunk_items *items,
                      atoll_gather *results) {
    bool star = task->kind == ATOLL_CALL_EACH_STAR;
    Py_ssize_t n = count_items(items);
    /* Of a large chunk, whose items are thought to be cheap, the clock is looked at after every fourth. */
    Py_ssize_t step = n >= LARGE_CHUNK ? 4 : 1;
    Py_ssize_t look = PY_SSIZE_T_MAX;
    double until = 0;
    if (task->divisible && task->pool->max_workers > 1) {
        look = 0;
        until = atoll_clock_coarse() + CHUNK_SECONDS;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = take_item(items, i);
        PyObject *value = item != NULL ? call_with(state, star, callable, item) : NULL;
        Py_XDECREF(item);
        int rc = value != NULL ? atoll_gather_add(results, value) : -1;
        Py_XDECREF(value);
        if (rc < 0) {
            return;
        }
        if (i >= look && i + 1 < n) {
            look = i + step;
            if (atoll_clock_coarse() <= until) {
                continue;
            }
            if (divide(state, task, callable, items, i + 1) || PyErr_Occurred()) {
                return;
            }
            look = PY_SSIZE_T_MAX;
        }
    }
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

/* The exception that is set, of a chunk, with the results before it. */
static atoll_outcome capture_chunk(atoll_state *state, atoll_gather *results, atoll_message *result,
                                   atoll_message *error) {
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *so_far = atoll_gather_list(results);
    PyErr_SetRaisedException(exc); /* whatever else there was */
    return capture(state, so_far, result, error);
}

static atoll_outcome run_items(atoll_state *state, atoll_task *task, PyObject *callable, chunk_items *items,
                               atoll_message *result, atoll_message *error) {
    atoll_gather results;
    atoll_gather_begin(&results, result);
    call_each(state, task, callable, items, &results);
    check_forked(task);
    atoll_outcome outcome = ATOLL_OUT_RESULT;
    if (PyErr_Occurred()) {
        outcome = capture_chunk(state, &results, result, error);
    } else if (atoll_gather_end(&results, state->codec, "result") < 0) {
        if (results.list == NULL) { /* no memory */
            return capture(state, NULL, result, error);
        }
        keep_sendable(state, results.list, result);
        outcome = capture_refusal(state, results.list, result, error);
    }
    atoll_run_set_deaf(atoll_run_innermost(), true); /* destructors could not pass it on */
    atoll_gather_clear(&results);
    return outcome;
}

/* arg: what was decoded, or NULL for what is a row. */
static atoll_outcome run_chunk(atoll_state *state, atoll_task *task, PyObject *callable, PyObject *arg,
                               atoll_message *result, atoll_message *error) {
    chunk_items items = {.all = arg};
    if (arg == NULL) {
        (void)atoll_row_of_call(&task->call, &items.row);
    } else if (PyRange_Check(arg)) {
        items.iterator = PyObject_GetIter(arg);
    } else if (!PyList_CheckExact(arg)) {
        PyErr_SetString(PyExc_SystemError, "a chunk is a list or a range");
    }
    if (PyErr_Occurred()) {
        return capture(state, NULL, result, error);
    }
    atoll_outcome outcome = run_items(state, task, callable, &items, result, error);
    Py_XDECREF(items.iterator);
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
    atoll_row row;
    bool is_row = task->kind == ATOLL_CALL_EACH && callable != NULL && atoll_row_of_call(&task->call, &row);
    if (!is_row && atoll_decode_call(state->codec, &task->call, args) < 0) {
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
        PyObject *arg = is_row ? NULL : args->nargs == 1 ? args->stack[0] : Py_None;
        outcome = run_chunk(state, task, callable, arg, result, error);
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
