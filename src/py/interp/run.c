/* Calls.
 *
 * A call is two messages and one session: encode the arguments here, swap to the interpreter, decode, call,
 * encode the result there, swap back, decode it here.  Nothing of one interpreter is touched while
 * the other's thread state is attached, except the immutable UTF-8 or marshalled text of a script,
 * which its owner keeps alive for the duration.
 *
 * A function that both sides know goes by its number (8 bytes).  When the target does not have it the session
 * is left, the function is encoded in full, and the session entered again: once per
 * function and interpreter.
 *
 * What happened is kept in `outcome` until the caller's thread state is attached again, because
 * that is where exceptions are raised.
 *
 * Two things count as running: CPython's own mark (SetRunningMain), which the standard
 * library's modules and threading look at, and a word of its statistics, which counts Atoll's runs (runs.c).  exec() and
 * prepare_main() own __main__ and refuse to run beside anything else; calls run beside each
 * other, one at a time as that interpreter's GIL lets them.
 */
#include "py/interp/run.h"

#include "py/interp/budget.h"
#include "py/interp/child.h"
#include "py/interp/interrupt.h"
#include "py/interp/lifecycle.h"
#include "py/interp/traced.h"

#include <math.h>

typedef enum {
    OUT_OK,
    OUT_UNKNOWN,     /* the function's number means nothing there yet */
    OUT_BUSY,        /* something else runs in __main__ */
    OUT_RAISED,      /* back holds the description of an exception */
    OUT_INTERRUPTED, /* likewise, and it was KeyboardInterrupt */
    OUT_LATE,        /* its time was over; back holds the description of an exception, or nothing */
    OUT_SPENT,       /* likewise its interpreter's processor time */
    OUT_REFUSED,     /* back holds the text of a NotShareableError */
    OUT_NO_STATE,    /* atoll._atoll cannot be had there */
} outcome;

/* Exact with that interpreter's thread state attached. */
static bool is_busy(const atoll_entry *entry) {
    return atoll_entry_is_busy(entry) || atoll_interp_is_running(entry->interp);
}

/* The same without a thread state there: an early refusal that need not wait for that GIL. */
static bool busy_from_outside(atoll_entry *entry) {
    bool busy = false;
    if (atoll_entry_guard(entry)) {
        busy = is_busy(entry);
        atoll_entry_unguard(entry);
    }
    return busy;
}

static void raise_busy(atoll_state *from, const atoll_entry *entry) {
    PyErr_Format(from->error, "interpreter already running (id %lld)", (long long)entry->id);
}

/* What was run is over, with an exception set if it raised: does not return in a child that was forked in it. */
static void check_forked(const atoll_session *s, bool raised) {
    if (s == atoll_session_cut()) {
        atoll_child_ends(raised);
    }
}

/* The attached interpreter's state; NULL (no exception) when it cannot be had. */
static atoll_state *target_state(atoll_entry *entry) {
    atoll_state *state = entry->state;
    if (state == NULL) {
        state = atoll_state_ensure();
        if (state == NULL) {
            PyErr_Clear();
        }
    }
    return state;
}

/* What a signal handler has raised, out to where the outermost session was opened; to be compared only. */
static const void *what_waits(const atoll_session *s) {
    for (const atoll_session *outer = s; outer != NULL; outer = outer->prev) {
        if (outer->interrupt != NULL) {
            return outer->interrupt;
        }
    }
    return s->interrupted ? s : NULL;
}

/* Moves the current exception of the target into s->back.  Ctrl-C while it is described interrupts what raised it. */
static outcome capture(atoll_state *state, atoll_session *s, PyObject *script, const atoll_script_key *key) {
    bool source = key != NULL && key->kind != ATOLL_SCRIPT_CODE;
    const void *before = what_waits(s);
    atoll_message_reset(&s->back, SIZE_MAX);
    PyObject *exc =
        atoll_excinfo_capture(state, &s->back, script, source ? key->text : NULL, source ? key->len : 0);
    bool interrupted = PyErr_GivenExceptionMatches(exc, PyExc_KeyboardInterrupt) != 0;
    Py_DECREF(exc);
    const void *now = what_waits(s);
    interrupted |= now != NULL && now != before;
    return interrupted ? OUT_INTERRUPTED : OUT_RAISED;
}

/* Moves a NotShareableError of the target into s->back as text; anything else as an exception. */
static outcome capture_refusal(atoll_state *state, atoll_session *s) {
    if (!PyErr_ExceptionMatches(state->not_shareable)) {
        return capture(state, s, NULL, NULL);
    }
    atoll_run_refusal(state, &s->back);
    return OUT_REFUSED;
}

/* In the target, for a session that was just entered.  False: its time was over before that interpreter's GIL could be had. */
static bool begin_run(atoll_session *s) {
    atoll_run *run = &s->run;
    atoll_run_begin(run, s->entry, NULL, 0);
    bool late = atoll_time_limits != NULL && atoll_time_limit_keep(run);
    atoll_budget_keep(run);
    return !late;
}

/* In the target.  An interrupt that came too late to be raised by the code is what comes of it. */
static outcome end_run(atoll_state *state, atoll_session *s, outcome out) {
    atoll_run *run = &s->run;
    if (atoll_run_end(run)) {
        if (run->repeated && (out == OUT_RAISED || out == OUT_INTERRUPTED)) {
            PyErr_Clear(); /* it has failed with that */
        } else {
            out = capture(state, s, NULL, NULL);
        }
    }
    if (run->lateness != ATOLL_IN_TIME) {
        if (out != OUT_RAISED && out != OUT_INTERRUPTED) {
            atoll_message_reset(&s->back, SIZE_MAX);
        }
        out = run->lateness == ATOLL_SPENT ? OUT_SPENT : OUT_LATE;
    }
    return out;
}

/* TimeoutError. */
static void raise_late(const atoll_entry *entry) {
    const atoll_time_limit *limit = atoll_time_limit_find(entry);
    atoll_label label;
    PyErr_Format(PyExc_TimeoutError, "the call took longer than the time limit of %lld ms in interpreter %s",
                 limit != NULL ? (long long)(limit->seconds * 1000) : 0LL, atoll_entry_label(entry, &label));
}

/* ResourceLimitExceeded. */
static void raise_spent(atoll_state *from, const atoll_entry *entry) {
    char format[128];
    (void)snprintf(format, sizeof format,
                   "interpreter %lld has taken all the processor time that it may: cpu_limit is %%S seconds",
                   (long long)entry->id);
    PyObject *exc = atoll_limits_error(
        from, "cpu_limit", PyFloat_FromDouble((double)atomic_load(&entry->cpu_limit) / 1e9), format);
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
}

/* Whether the time for calls into that interpreter is over: then the exception is set. */
static bool is_late(atoll_state *from, atoll_entry *entry) {
    if (atoll_budget_is_limited(entry) && atoll_budget_is_spent(entry)) {
        raise_spent(from, entry);
        return true;
    }
    const atoll_time_limit *limit = atoll_time_limits != NULL ? atoll_time_limit_find(entry) : NULL;
    if (limit == NULL || limit->deadline > atoll_clock()) {
        return false;
    }
    raise_late(entry);
    return true;
}

/* The same, caused by what s->back describes. */
static void raise_late_where(atoll_state *from, const atoll_session *s, bool spent) {
    if (spent) {
        raise_spent(from, s->entry);
    } else {
        raise_late(s->entry);
    }
    if (s->back.body.len == 0) {
        return;
    }
    PyObject *exc = PyErr_GetRaisedException();
    atoll_excinfo_raise(from, &s->back);
    PyException_SetCause(exc, PyErr_GetRaisedException()); /* takes it */
    PyErr_SetRaisedException(exc);
}

/* Raises what an outcome other than OK and UNKNOWN says; the caller's thread state is attached. */
static void raise_outcome(atoll_state *from, atoll_session *s, outcome result) {
    if (atoll_run_check() < 0) { /* the code that has made the call is interrupted itself */
        return;
    }
    switch (result) {
    case OUT_OK:
    case OUT_UNKNOWN:
        break;
    case OUT_BUSY:
        raise_busy(from, s->entry);
        break;
    case OUT_INTERRUPTED:
        if (atoll_session_interrupted(s)) {
            break;
        }
        atoll_excinfo_raise(from, &s->back);
        break;
    case OUT_RAISED:
        atoll_excinfo_raise(from, &s->back);
        break;
    case OUT_LATE:
    case OUT_SPENT:
        raise_late_where(from, s, result == OUT_SPENT);
        break;
    case OUT_REFUSED: {
        PyObject *text = s->back.body.len != 0 ? atoll_decode(from->codec, &s->back) : NULL;
        if (text != NULL) {
            PyErr_SetObject(from->not_shareable, text);
            Py_DECREF(text);
        } else {
            PyErr_SetString(from->not_shareable, "the result is not shareable");
        }
        break;
    }
    case OUT_NO_STATE: {
        atoll_label label;
        PyErr_Format(from->error, "Atoll cannot be loaded in interpreter %s",
                     atoll_entry_label(s->entry, &label));
        break;
    }
    }
}

/* ---- visits ---- */

int atoll_run_check_visit(atoll_state *from, atoll_entry *entry) { return is_late(from, entry) ? -1 : 0; }

void atoll_run_begin_visit(atoll_session *s) {
    (void)begin_run(s); /* what is late is interrupted, or fails at its end */
    atoll_stat_add(s->entry->stats, ATOLL_STAT_CALLS, 1);
}

int atoll_run_end_visit(atoll_session *s) {
    PyObject *exc = PyErr_GetRaisedException();
    atoll_state *state = target_state(s->entry);
    PyErr_SetRaisedException(exc);
    outcome out = OUT_OK;
    if (exc != NULL) {
        out = capture(state, s, NULL, NULL);
        atoll_stat_add(s->entry->stats, ATOLL_STAT_RAISED, 1);
    }
    out = end_run(state, s, out);
    atoll_interp_park_if_exiting(s);
    return out;
}

bool atoll_run_is_cut_off(int out) { return out >= OUT_INTERRUPTED && out <= OUT_SPENT; }

void atoll_run_raise_visit(atoll_state *from, atoll_session *s, int out) {
    raise_outcome(from, s, (outcome)out);
}

/* ---- call ---- */

typedef struct {
    uint64_t number;     /* of the function, or 0 */
    atoll_message *full; /* the function in full, or NULL */
} call_target;

/* The target's half of a call. */
static outcome call_there(atoll_session *s, const call_target *target) {
    uint64_t began = atoll_trace_begin();
    atoll_entry *entry = s->entry;
    atoll_state *state = target_state(entry);
    if (state == NULL) {
        return OUT_NO_STATE;
    }
    if (!begin_run(s)) {
        return end_run(state, s, OUT_OK);
    }
    PyObject *callable = NULL;
    if (target->number != 0) {
        callable = atoll_run_function(state, target->number, target->full);
        if (callable == NULL) {
            outcome none = PyErr_Occurred() ? capture(state, s, NULL, NULL) : OUT_UNKNOWN;
            return end_run(state, s, none);
        }
    }
    atoll_call_args args;
    PyObject *result = NULL;
    outcome out = OUT_OK;
    atoll_stat_add(entry->stats, ATOLL_STAT_CALLS, 1);
    atoll_stat_add(entry->stats, ATOLL_STAT_RECEIVED_BYTES, s->out.body.len);
    if (atoll_decode_call(state->codec, &s->out, &args) == 0) {
        if (callable == NULL) {
            callable = Py_XNewRef(args.callable);
        } else {
            args.callable = Py_NewRef(callable);
        }
        result = atoll_run_args(state, &args, PY_VECTORCALL_ARGUMENTS_OFFSET);
        check_forked(s, result == NULL);
        atoll_run_set_deaf(&s->run, true); /* destructors could not pass it on */
        atoll_codec_args_clear(&args);
        atoll_run_set_deaf(&s->run, false);
    }
    if (result == NULL) {
        out = capture(state, s, NULL, NULL);
        atoll_stat_add(entry->stats, ATOLL_STAT_RAISED, 1);
    } else {
        if (atoll_encode(state->codec, &s->back, result, "result") < 0) {
            out = capture_refusal(state, s);
            atoll_run_close_coroutine(result);
        }
        atoll_run_set_deaf(&s->run, true);
        Py_DECREF(result);
    }
    atoll_traced_call(began, ATOLL_TRACE_CALL, callable, entry->id, s->from_entry->id);
    Py_XDECREF(callable);
    atoll_stat_add(entry->stats, ATOLL_STAT_SENT_BYTES, s->back.body.len);
    out = end_run(state, s, out);
    atoll_interp_park_if_exiting(s);
    return out;
}

static PyObject *call_with_session(atoll_state *from, atoll_session *s, PyObject *callable,
                                   call_target *target) {
    if (atoll_session_enter(s, from) < 0) {
        return NULL;
    }
    outcome out = call_there(s, target);
    atoll_session_leave(s);
    if (out == OUT_UNKNOWN) {
        atoll_message full = {0};
        target->full = &full;
        bool at_hand = atoll_function_take_full(from->codec, target->number, &full);
        int rc = at_hand ? 0 : atoll_encode(from->codec, &full, callable, "callable");
        if (rc == 0 && (rc = atoll_session_enter(s, from)) == 0) {
            out = call_there(s, target);
            atoll_session_leave(s);
        }
        target->full = NULL;
        atoll_message_clear(&full);
        if (rc < 0) {
            return NULL;
        }
    }
    if (out == OUT_OK) {
        return atoll_decode(from->codec, &s->back);
    }
    if (out == OUT_UNKNOWN) {
        PyErr_SetString(PyExc_SystemError, "a function sent in full is unknown to its receiver");
        return NULL;
    }
    raise_outcome(from, s, out);
    return NULL;
}

/* Lets an interpreter that nobody is in free what it had lent for a result: nobody else might come for a long time. */
static void collect_loans(atoll_state *from, atoll_entry *entry) {
    if (atomic_load(&entry->jobs) == NULL || atoll_entry_pins(entry) != 0) {
        return;
    }
    PyObject *exc = PyErr_GetRaisedException();
    atoll_session *s = atoll_session_open(entry);
    if (s != NULL && atoll_session_enter(s, from) == 0) { /* does what is to be done there */
        atoll_session_leave(s);
    } else {
        PyErr_Clear(); /* closed meanwhile, which does it too */
    }
    atoll_session_close(s);
    PyErr_SetRaisedException(exc);
}

PyObject *atoll_run_call(atoll_state *from, atoll_entry *entry, PyObject *callable, PyObject *const *args,
                         Py_ssize_t nargs, PyObject *kwnames) {
    uint64_t began = atoll_trace_begin();
    if (!PyCallable_Check(callable)) {
        PyErr_Format(PyExc_TypeError, "expected a callable, got %R", callable);
        return NULL;
    }
    if (is_late(from, entry)) {
        return NULL;
    }
    call_target target = {0};
    if (atoll_function_number(from->codec, callable, &target.number) < 0) {
        return NULL;
    }
    PyObject *result = NULL;
    atoll_session *s = atoll_session_open(entry);
    if (s == NULL) {
        return NULL;
    }
    if (atoll_encode_call(from->codec, &s->out, target.number != 0 ? NULL : callable, args, nargs, kwnames) ==
        0) {
        atoll_stats_interp *stats = from->entry->stats;
        atoll_stat_add(stats, ATOLL_STAT_CALLED, 1);
        atoll_stat_add(stats, ATOLL_STAT_SENT_BYTES, s->out.body.len);
        result = call_with_session(from, s, callable, &target);
        atoll_stat_add(stats, ATOLL_STAT_RECEIVED_BYTES, s->back.body.len);
        atoll_traced_call(began, ATOLL_TRACE_CALLING, callable, from->interp_id, entry->id);
    }
    bool borrowed = s->back.nhandles != 0;
    atoll_session_close(s);
    if (borrowed) {
        collect_loans(from, entry);
    }
    return result;
}

/* ---- exec ---- */

/* The target's half of exec().  code is marshalled code for a script it does not have, or NULL. */
static outcome exec_there(atoll_session *s, const atoll_script_key *key, PyObject *code) {
    uint64_t began = atoll_trace_begin();
    atoll_entry *entry = s->entry;
    atoll_state *state = target_state(entry);
    if (state == NULL) {
        return OUT_NO_STATE;
    }
    if (is_busy(entry)) {
        return OUT_BUSY;
    }
    PyObject *script = atoll_script_find(state, key);
    if (script == NULL && code == NULL) {
        return OUT_UNKNOWN;
    }
    if (!begin_run(s)) {
        return end_run(state, s, OUT_OK);
    }
    if (script == NULL) {
        /* The caller keeps the bytes object alive and unchanged: reading it needs no thread state of its own. */
        script = atoll_script_keep(state, key, PyBytes_AS_STRING(code), PyBytes_GET_SIZE(code));
        if (script == NULL) {
            return end_run(state, s, capture(state, s, NULL, NULL));
        }
    }
    Py_INCREF(script);
    atoll_stat_add(entry->stats, ATOLL_STAT_CALLS, 1);
    PyObject *main = atoll_state_main(state);
    PyObject *result = main != NULL ? PyEval_EvalCode(script, main, main) : NULL;
    check_forked(s, result == NULL);
    outcome out = result == NULL ? capture(state, s, script, key) : OUT_OK;
    atoll_stat_add(entry->stats, ATOLL_STAT_RAISED, result == NULL);
    Py_XDECREF(result);
    Py_DECREF(script);
    atoll_trace_end(began, ATOLL_TRACE_EXEC, entry->id, (uint64_t)s->from_entry->id);
    out = end_run(state, s, out);
    atoll_interp_park_if_exiting(s);
    return out;
}

static int exec_with_session(atoll_state *from, atoll_session *s, const atoll_script_key *key) {
    if (atoll_session_enter(s, from) < 0) {
        return -1;
    }
    outcome out = exec_there(s, key, NULL);
    atoll_session_leave(s);
    if (out == OUT_UNKNOWN) {
        PyObject *compiled = atoll_script_compile(key);
        int rc = compiled != NULL ? atoll_session_enter(s, from) : -1;
        if (rc == 0) {
            out = exec_there(s, key, compiled);
            atoll_session_leave(s);
        }
        Py_XDECREF(compiled);
        if (rc < 0) {
            return -1;
        }
    }
    if (out != OUT_OK) {
        raise_outcome(from, s, out);
        return -1;
    }
    return 0;
}

int atoll_run_exec(atoll_state *from, atoll_entry *entry, PyObject *code, bool dedent, double seconds) {
    uint64_t began = atoll_trace_begin();
    atoll_script_key key;
    if (atoll_script_key_of(code, dedent, &key) < 0) {
        return -1;
    }
    if (busy_from_outside(entry)) {
        raise_busy(from, entry);
        Py_DECREF(key.holder);
        return -1;
    }
    atoll_time_limit limit = {.entry = entry, .is_borrowed = true};
    if (!isinf(seconds) && atoll_time_limit_begin(&limit, seconds) < 0) {
        Py_DECREF(key.holder);
        return -1;
    }
    atoll_session *s = is_late(from, entry) ? NULL : atoll_session_open(entry);
    int rc = s != NULL ? exec_with_session(from, s, &key) : -1;
    atoll_session_close(s);
    if (!isinf(seconds)) {
        atoll_time_limit_end(&limit);
    }
    atoll_trace_end(began, ATOLL_TRACE_EXECUTING, from->interp_id, (uint64_t)entry->id);
    Py_DECREF(key.holder);
    return rc;
}

/* ---- prepare_main ---- */

static outcome bind_there(atoll_session *s) {
    atoll_entry *entry = s->entry;
    atoll_state *state = target_state(entry);
    if (state == NULL) {
        return OUT_NO_STATE;
    }
    if (is_busy(entry)) {
        return OUT_BUSY;
    }
    if (!begin_run(s)) {
        return end_run(state, s, OUT_OK);
    }
    PyObject *values = atoll_decode(state->codec, &s->out);
    PyObject *main = values != NULL ? atoll_state_main(state) : NULL;
    int rc = main != NULL ? PyDict_Update(main, values) : -1;
    Py_XDECREF(values);
    return end_run(state, s, rc < 0 ? capture(state, s, NULL, NULL) : OUT_OK);
}

/* Raises NotShareableError for a value that is not shareable, naming it by its path inside tuples. */
static void raise_not_shareable(atoll_state *from, PyObject *path, PyObject *value) {
    for (Py_ssize_t i = 0; PyTuple_CheckExact(value) && i < PyTuple_GET_SIZE(value); i++) {
        PyObject *item = PyTuple_GET_ITEM(value, i);
        if (atoll_is_shareable(from->codec, item) == 0) {
            PyObject *inner = PyUnicode_FromFormat("%U[%zd]", path, i);
            if (inner != NULL) {
                raise_not_shareable(from, inner, item);
                Py_DECREF(inner);
            }
            return;
        }
    }
    PyErr_Format(from->not_shareable, "%U: %s is not shareable by prepare_main(); call() takes more", path,
                 Py_TYPE(value)->tp_name);
}

static int check_bindings(atoll_state *from, PyObject *values) {
    Py_ssize_t pos = 0;
    PyObject *name;
    PyObject *value;
    if (PyDict_GET_SIZE(values) == 0) {
        PyErr_SetString(PyExc_ValueError, "prepare_main() needs at least one name to bind");
        return -1;
    }
    while (PyDict_Next(values, &pos, &name, &value)) {
        if (!PyUnicode_Check(name)) {
            PyErr_Format(PyExc_TypeError, "a name in __main__ must be a str, not %R", name);
            return -1;
        }
        if (PyUnicode_FindChar(name, 0, 0, PyUnicode_GET_LENGTH(name), 1) >= 0) {
            PyErr_Format(PyExc_ValueError, "embedded null character in the name %R", name);
            return -1;
        }
        int shareable = atoll_is_shareable(from->codec, value);
        if (shareable == 0) {
            raise_not_shareable(from, name, value);
        }
        if (shareable <= 0) {
            return -1;
        }
    }
    return 0;
}

int atoll_run_prepare_main(atoll_state *from, atoll_entry *entry, PyObject *values) {
    if (check_bindings(from, values) < 0 || is_late(from, entry)) {
        return -1;
    }
    if (busy_from_outside(entry)) {
        raise_busy(from, entry);
        return -1;
    }
    atoll_session *s = atoll_session_open(entry);
    if (s == NULL) {
        return -1;
    }
    int rc = atoll_encode(from->codec, &s->out, values, "values");
    if (rc == 0 && (rc = atoll_session_enter(s, from)) == 0) {
        outcome out = bind_there(s);
        atoll_session_leave(s);
        if (out != OUT_OK) {
            raise_outcome(from, s, out);
            rc = -1;
        }
    }
    atoll_session_close(s);
    return rc;
}
