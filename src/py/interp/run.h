/* Running code in another interpreter: call, exec, prepare_main. */
#ifndef ATOLL_PY_INTERP_RUN_H
#define ATOLL_PY_INTERP_RUN_H

#include "py/codec/codec.h"
#include "py/interp/runs.h"
#include "py/interp/session.h"

/* Calls callable there with the vectorcall arguments.  The result, or NULL with an exception: NotShareableError
 * for what cannot cross, ExecutionFailed for what the callable raised, InterpreterNotFoundError. */
PyObject *atoll_run_call(atoll_state *from, atoll_entry *entry, PyObject *callable, PyObject *const *args,
                         Py_ssize_t nargs, PyObject *kwnames);

/* Executes code in __main__ there: a str, a code object, or a function without arguments, closure or
 * return value.  0, or -1 with an exception: TimeoutError when it takes longer than so many seconds (INFINITY: no limit). */
int atoll_run_exec(atoll_state *from, atoll_entry *entry, PyObject *code, bool dedent, double seconds);

/* Binds the shareable values of the dict in __main__ there, all or none.  0, or -1 with an exception. */
int atoll_run_prepare_main(atoll_state *from, atoll_entry *entry, PyObject *values);

/* A visit (visit.c) as a run: begin() when its session was entered, from an interpreter or from nothing; end() before that is left: 0, or what raise()
 * makes an exception of where it came from.  An exception that is set is one of its outcomes. */
int atoll_run_check_visit(atoll_state *from,
                          atoll_entry *entry); /* 0, or -1 with an exception: its time is over */
void atoll_run_begin_visit(atoll_session *s);
int atoll_run_end_visit(atoll_session *s);
void atoll_run_raise_visit(atoll_state *from, atoll_session *s, int outcome);
bool atoll_run_is_cut_off(int outcome); /* it was interrupted, or a limit is reached */

/* script.c: what exec() runs, compiled and cached. */
typedef struct {
    PyObject *holder; /* keeps text alive; a reference */
    const char *text; /* the key: source as UTF-8, or marshalled code */
    Py_ssize_t len;
    Py_hash_t hash;
    int kind; /* ATOLL_SCRIPT_* */
} atoll_script_key;

enum { ATOLL_SCRIPT_SOURCE = 1, ATOLL_SCRIPT_DEDENT = 2, ATOLL_SCRIPT_CODE = 3 };

/* In the caller: what names this code.  0, or -1 with TypeError, ValueError, SyntaxError or UnicodeEncodeError. */
int atoll_script_key_of(PyObject *code, bool dedent, atoll_script_key *key);
/* In the caller: marshalled code for a key that the target does not have; a bytes object, or NULL with SyntaxError. */
PyObject *atoll_script_compile(const atoll_script_key *key);
/* In the target: a borrowed code object, or NULL (no exception). */
PyObject *atoll_script_find(atoll_state *state, const atoll_script_key *key);
/* In the target: loads and keeps it; borrowed, or NULL with an exception. */
PyObject *atoll_script_keep(atoll_state *state, const atoll_script_key *key, const char *code,
                            Py_ssize_t len);
void atoll_script_clear(atoll_state *state);

/* excinfo.c.  In the target, with an exception set: writes its description to msg and clears it.  source (UTF-8)
 * is the script that was running, or NULL.  When the run is interrupted meanwhile, that is described instead, and the run is over in any
 * case.  What was described: a new reference. */
PyObject *atoll_excinfo_capture(atoll_state *state, atoll_message *msg, PyObject *script, const char *source,
                                Py_ssize_t source_len);
/* In the caller: raises ExecutionFailed for the description. */
void atoll_excinfo_raise(atoll_state *state, const atoll_message *msg);

/* arrived.c.  The function of this number (0: it has none), as it was kept, or else what `full` says, kept from now on: a new reference, or
 * NULL with an exception; without one, too, when it is unknown and full is NULL. */
PyObject *atoll_run_function(atoll_state *state, uint64_t number, const atoll_message *full);
/* eval, exec, dir, globals, locals, vars, as if __main__ called them: 1 with *result (NULL: an exception), 0 when it is none of them. */
int atoll_run_frameless(atoll_state *state, const atoll_call_args *args, PyObject **result);
/* Calls a function with what was decoded, those as well.  flags: PY_VECTORCALL_ARGUMENTS_OFFSET where the slot before the arguments may be
 * written to, or 0. */
static inline PyObject *atoll_run_args(atoll_state *state, const atoll_call_args *args, size_t flags) {
    PyObject *result;
    if (ATOLL_BUILTINS_NEED_FRAME && atoll_run_frameless(state, args, &result)) {
        return result;
    }
    return PyObject_Vectorcall(args->callable, args->stack, (size_t)args->nargs | flags, args->kwnames);
}
/* A NotShareableError is set, for a result: moves its text to a message, which is empty when there is no memory for that. */
void atoll_run_refusal(atoll_state *state, atoll_message *text);
/* A result that cannot cross: a coroutine that nobody else has is closed, so that it does not warn that it was not awaited.  No
 * exception may be set. */
void atoll_run_close_coroutine(PyObject *value);

#endif
