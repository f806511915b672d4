/* The C API: errors, and where a function stands.  atoll.h says what its functions promise; capi_table.c has the table of them.
 *
 * The table is static, and a capsule in each interpreter's atoll._atoll leads to it.  So a module that was cloned for an interpreter has the same
 * one as all others, and a thread that knows no Python may go on using it whatever becomes of interpreters: this library is never unloaded.
 *
 * What is there for Python already is what C gets: create() and close() are those of atoll._atoll, called from C, so that there is one
 * place where options are read and closing is ordered.  Interpreters are entries (core/registry), a reference to which is a user; queues and
 * memory are core's own structs.
 *
 * Footing.  What needs a thread state, on a thread that has none attached, gets the one that the thread has, or a new one of main's, by
 * PyGILState_Ensure(): this library is no clone, for which that would mean another interpreter.  Before that it is looked whether Python is there at
 * all.  A thread may be parked in it for ever when Python ends at that very moment, as in PyGILState_Ensure() itself.
 *
 * Errors.  What is wrong is an exception where a thread state is attached, also while its interpreter ends, and text in a buffer of the thread's
 * in any case.  The code is that of the exception's class.
 *
 * Locks: none is held when anything is called.
 */
#include "module/capi.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- errors ---- */

/* A thread's text is allocated when it has the first: what is thread-local in this library is scarce. */
#define TEXT_SIZE 1024
static _Thread_local char *text;
static atoll_thread_key text_key;
static bool has_key;

static void forget_text(void *raw) {
    free(raw);
    text = NULL;
}

static void init_key(void) { has_key = atoll_thread_key_init(&text_key, forget_text) == 0; }

static char *text_get(void) {
    static atoll_once once = ATOLL_ONCE_INIT;
    atoll_once_run(&once, init_key);
    if (text == NULL && has_key && (text = calloc(1, TEXT_SIZE)) != NULL) {
        atoll_thread_at_exit(text_key, text);
    }
    return text;
}

const char *atoll_capi_message(void) { return text != NULL ? text : ""; }

/* Cut where it is too long. */
static void keep_text(const char *utf8) {
    char *message = text_get();
    if (message != NULL) {
        atoll_stats_cut(message, TEXT_SIZE, utf8);
    }
}

static PyObject *class_of(const atoll_state *state, int code) {
    switch (code) {
    case ATOLL_INVALID:
        return PyExc_ValueError;
    case ATOLL_NOT_FOUND:
        return state != NULL ? state->not_found : PyExc_RuntimeError;
    case ATOLL_NO_MEMORY:
        return PyExc_MemoryError;
    case ATOLL_TIMEOUT:
        return PyExc_TimeoutError;
    default:
        return state != NULL ? state->error : PyExc_RuntimeError;
    }
}

int atoll_capi_fail(int code, const char *format, ...) {
    char whole[TEXT_SIZE + 1]; /* one byte more than there is room for: it is seen that a character goes on */
    va_list args;
    va_start(args, format);
    (void)vsnprintf(whole, sizeof whole, format, args);
    va_end(args);
    keep_text(whole);
    if (atoll_thread_state_attached() != NULL && !PyErr_Occurred()) {
        const atoll_state *state = atoll_state_of(PyInterpreterState_Get());
        PyErr_SetString(class_of(state, code), atoll_capi_message());
    }
    return code;
}

static int code_of(const atoll_state *state) {
    const struct {
        PyObject *type;
        int code;
    } codes[] = {
        {state != NULL ? state->not_found : NULL, ATOLL_NOT_FOUND},
        {state != NULL ? state->queue_names[ATOLL_Q_NOT_FOUND] : NULL, ATOLL_NOT_FOUND},
        {state != NULL ? state->queue_names[ATOLL_Q_FULL] : NULL, ATOLL_TIMEOUT},
        {state != NULL ? state->queue_names[ATOLL_Q_EMPTY] : NULL, ATOLL_TIMEOUT},
        {state != NULL ? state->queue_names[ATOLL_Q_SHUT] : NULL, ATOLL_SHUT},
        {state != NULL ? state->stuck : NULL, ATOLL_STUCK},
        {state != NULL ? state->limit_exceeded : NULL, ATOLL_INTERRUPTED},
        {PyExc_KeyboardInterrupt, ATOLL_INTERRUPTED},
        {PyExc_MemoryError, ATOLL_NO_MEMORY},
        {PyExc_TimeoutError, ATOLL_TIMEOUT},
        {PyExc_ValueError, ATOLL_INVALID},
        {PyExc_TypeError, ATOLL_INVALID},
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(codes); i++) {
        if (codes[i].type != NULL && PyErr_ExceptionMatches(codes[i].type)) {
            return codes[i].code;
        }
    }
    return ATOLL_ERROR;
}

int atoll_capi_fail_raised(void) {
    int code = code_of(atoll_state_of(PyInterpreterState_Get()));
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *str = exc != NULL ? PyObject_Str(exc) : NULL;
    const char *utf8 = str != NULL ? PyUnicode_AsUTF8(str) : NULL;
    PyErr_Clear();
    keep_text(utf8 != NULL && *utf8 != '\0' ? utf8 : exc != NULL ? Py_TYPE(exc)->tp_name : "no reason");
    Py_XDECREF(str);
    PyErr_SetRaisedException(exc);
    return code;
}

/* ---- footing ---- */

/* 0, or a code: there is no Python that this thread could be attached to. */
static int check_python(void) {
    if (!Py_IsInitialized()) {
        return atoll_capi_fail(ATOLL_NO_PYTHON, "Python has not begun, or has ended");
    }
    if (atoll_thread_state_attached() == NULL && (atoll_interp_exiting() || atoll_is_finalizing())) {
        return atoll_capi_fail(ATOLL_NO_PYTHON, "Python is about to end");
    }
    return ATOLL_OK;
}

/* The state of the attached interpreter; NULL with an exception.  Where that ends none is made any more. */
static atoll_state *state_here(void) {
    atoll_state *state = Py_IsInitialized() ? atoll_state_ensure() : atoll_state_of(PyInterpreterState_Get());
    return state == NULL && PyErr_Occurred() ? NULL : atoll_state_live(state);
}

int atoll_capi_stand(atoll_capi_footing *footing) {
    int code = check_python();
    if (code != ATOLL_OK) {
        return code;
    }
    footing->ensured = atoll_thread_state_attached() == NULL;
    if (footing->ensured) {
        footing->before = PyGILState_Ensure();
    }
    footing->state = state_here();
    if (footing->state == NULL) {
        code = atoll_capi_fail_raised();
        atoll_capi_step_back(footing);
    }
    return code;
}

void atoll_capi_step_back(atoll_capi_footing *footing) {
    if (footing->ensured) {
        PyErr_Clear();
        PyGILState_Release(footing->before);
    }
}

int atoll_capi_attached(atoll_state **state) {
    *state = NULL;
    if (atoll_thread_state_attached() == NULL) {
        return atoll_capi_fail(ATOLL_INVALID, "no thread state is attached");
    }
    *state = state_here();
    return *state != NULL ? ATOLL_OK : atoll_capi_fail_raised();
}

atoll_state *atoll_capi_state(void) {
    bool is_there = Py_IsInitialized() && atoll_thread_state_attached() != NULL;
    atoll_state *state = is_there ? state_here() : NULL;
    if (is_there && state == NULL) {
        PyErr_Clear();
    }
    return state;
}
