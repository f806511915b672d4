/* Interpreters, for C: atoll.h says what these promise, capi.c how.
 *
 * A thread that is attached enters from there, one that has a thread state which is not attached from that one, and one that has none from
 * nothing (py/interp/visit.c).
 */
#include "module/capi.h"

#include "module/capi_parts.h"
#include "module/control.h"

#include <stdlib.h>

/* ---- references ---- */

void atoll_capi_retain(atoll_interp *interp) { atoll_entry_add_user(interp); }

void atoll_capi_release(atoll_interp *interp) {
    if (interp != NULL && atoll_entry_remove_user(interp)) {
        atoll_interp_sweep_later();
    }
}

int64_t atoll_capi_id(const atoll_interp *interp) { return interp->id; }

int64_t atoll_capi_current_id(void) {
    PyThreadState *tstate = atoll_thread_state_attached();
    return tstate != NULL ? PyInterpreterState_GetID(PyThreadState_GetInterpreter(tstate)) : -1;
}

/* Attached: the interpreter that an object is for, with a user more; NULL with an exception. */
static atoll_entry *entry_of(atoll_state *state, PyObject *object) {
    if (!Py_IS_TYPE(object, state->interpreter_type)) {
        PyErr_Format(PyExc_TypeError, "an Interpreter is needed, not %.200s", Py_TYPE(object)->tp_name);
        return NULL;
    }
    atoll_entry *entry = atoll_pycontrol_called(state, object, "enter");
    if (entry != NULL) {
        atoll_entry_add_user(entry);
    }
    return entry;
}

/* Attached: the object for an interpreter: a new reference, or NULL with an exception.  An id alone may be another one's, of a Python that
 * has begun since. */
static PyObject *object_of(atoll_state *state, const atoll_entry *entry) {
    bool is_there = atoll_entry_is_being_closed(entry);
    return is_there ? atoll_interpreter_get(state, entry->id) : atoll_raise_not_found(state, entry->id);
}

PyObject *atoll_capi_object(atoll_interp *interp) {
    atoll_state *state;
    if (atoll_capi_attached(&state) != ATOLL_OK) {
        return NULL;
    }
    PyObject *object = object_of(state, interp);
    if (object == NULL) {
        (void)atoll_capi_fail_raised();
    }
    return object;
}

int atoll_capi_from_object(PyObject *object, atoll_interp **interp) {
    *interp = NULL;
    atoll_state *state;
    int code = atoll_capi_attached(&state);
    if (code != ATOLL_OK) {
        return code;
    }
    *interp = entry_of(state, object);
    return *interp != NULL ? ATOLL_OK : atoll_capi_fail_raised();
}

/* ---- making and finding ---- */

/* 0, or -1 with an exception; value is taken over, and may be NULL with one. */
static int set_option(PyObject *options, const char *name, PyObject *value) {
    int rc = value != NULL ? PyDict_SetItemString(options, name, value) : -1;
    Py_XDECREF(value);
    return rc;
}

/* The keyword arguments of create(): a new dict, or NULL with an exception. */
static PyObject *keywords_of(const atoll_options *o) {
    PyObject *dict = PyDict_New();
    int rc = dict != NULL ? 0 : -1;
    if (rc == 0 && o->name != NULL) {
        rc = set_option(dict, "name", PyUnicode_FromString(o->name));
    }
    if (rc == 0 && o->extensions != NULL) {
        rc = set_option(dict, "extensions", PyUnicode_FromString(o->extensions));
    }
    if (rc == 0 && o->memory_limit != 0) {
        rc = set_option(dict, "memory_limit", PyLong_FromUnsignedLongLong(o->memory_limit));
    }
    if (rc == 0 && o->cpu_limit != 0) {
        rc = set_option(dict, "cpu_limit", PyFloat_FromDouble(o->cpu_limit));
    }
    const struct {
        const char *name;
        unsigned flag;
        bool value; /* when it is set */
    } flags[] = {{"site", ATOLL_NO_SITE, false},
                 {"daemon_threads", ATOLL_NO_DAEMON_THREADS, false},
                 {"fork", ATOLL_MAY_FORK, true}};
    for (size_t i = 0; rc == 0 && i < Py_ARRAY_LENGTH(flags); i++) {
        bool is_set = (o->flags & flags[i].flag) != 0;
        rc = set_option(dict, flags[i].name, PyBool_FromLong(is_set == flags[i].value));
    }
    if (rc < 0) {
        Py_CLEAR(dict);
    }
    return dict;
}

/* Attached: the new entry with a user, or NULL with an exception. */
static atoll_entry *create(atoll_state *state, const atoll_options *options) {
    PyObject *keywords = keywords_of(options);
    PyObject *none = keywords != NULL ? PyTuple_New(0) : NULL;
    PyObject *function = none != NULL ? PyObject_GetAttrString(state->module, "create") : NULL;
    PyObject *object = function != NULL ? PyObject_Call(function, none, keywords) : NULL;
    Py_XDECREF(function);
    Py_XDECREF(none);
    Py_XDECREF(keywords);
    atoll_entry *entry = object != NULL ? entry_of(state, object) : NULL;
    Py_XDECREF(object);
    return entry;
}

/* Of the options, in version 1.0. */
enum { FIRST_SIZE = offsetof(atoll_options, cpu_limit) + sizeof(double) };

int atoll_capi_create(const atoll_options *options, atoll_interp **interp) {
    const unsigned known = ATOLL_NO_SITE | ATOLL_NO_DAEMON_THREADS | ATOLL_MAY_FORK;
    atoll_options all = {0};
    *interp = NULL;
    if (options != NULL) {
        if (options->size < FIRST_SIZE || options->size > sizeof all) {
            return atoll_capi_fail(
                ATOLL_INVALID, "options.size is %zu: it has to be sizeof(atoll_options), which is %zu here",
                options->size, sizeof all);
        }
        memcpy(&all, options, options->size);
    }
    if ((all.flags & ~known) != 0) {
        return atoll_capi_fail(ATOLL_INVALID, "options.flags has 0x%x, which means nothing",
                               all.flags & ~known);
    }
    atoll_capi_footing footing;
    int code = atoll_capi_stand(&footing);
    if (code != ATOLL_OK) {
        return code;
    }
    *interp = create(footing.state, &all);
    code = *interp != NULL ? ATOLL_OK : atoll_capi_fail_raised();
    atoll_capi_step_back(&footing);
    return code;
}

int atoll_capi_find(int64_t id, atoll_interp **interp) {
    *interp = NULL;
    atoll_capi_footing footing;
    int code = atoll_capi_stand(&footing);
    if (code != ATOLL_OK) {
        return code;
    }
    PyObject *object = atoll_interpreter_get(footing.state, id);
    *interp = object != NULL ? entry_of(footing.state, object) : NULL;
    Py_XDECREF(object);
    code = *interp != NULL ? ATOLL_OK : atoll_capi_fail_raised();
    atoll_capi_step_back(&footing);
    return code;
}

int atoll_capi_adopt(atoll_interp **interp) {
    *interp = NULL;
    atoll_state *state;
    int code = atoll_capi_attached(&state);
    if (code != ATOLL_OK) {
        return code;
    }
    atoll_interp_adopt(state->entry);
    atoll_entry_add_user(state->entry);
    *interp = state->entry;
    return ATOLL_OK;
}

/* ---- entering and leaving ---- */

static int fail_to_begin(const atoll_entry *entry, atoll_visit_result result) {
    atoll_label label;
    const char *id = atoll_entry_label(entry, &label);
    switch (result) {
    case ATOLL_VISIT_BEGUN:
    case ATOLL_VISIT_RAISED:
        break;
    case ATOLL_VISIT_SHUT:
        return atoll_entry_is_being_closed(entry)
                   ? atoll_capi_fail(ATOLL_ERROR, "cannot enter interpreter %s: it is being closed", id)
                   : atoll_capi_fail(ATOLL_NOT_FOUND, "interpreter %s is closed", id);
    case ATOLL_VISIT_NO_MEMORY:
        return atoll_capi_fail(ATOLL_NO_MEMORY, "out of memory");
    case ATOLL_VISIT_SPENT:
        return atoll_capi_fail(ATOLL_INTERRUPTED,
                               "interpreter %s has taken all the processor time that it may", id);
    case ATOLL_VISIT_NO_STATE:
        return atoll_capi_fail(ATOLL_ERROR, "Atoll cannot be loaded in interpreter %s", id);
    }
    return atoll_capi_fail_raised();
}

/* On a thread that is attached to nothing, and has no thread state. */
static int enter_from_nothing(atoll_entry *entry, atoll_visit **visit) {
    if (atoll_interp_exiting() || atoll_is_finalizing()) {
        return atoll_capi_fail(ATOLL_NO_PYTHON, "Python is about to end");
    }
    atoll_visit_result result = atoll_visit_begin(NULL, entry, visit);
    return result == ATOLL_VISIT_BEGUN ? ATOLL_OK : fail_to_begin(entry, result);
}

int atoll_capi_enter(atoll_interp *interp, atoll_visit **visit) {
    *visit = NULL;
    if (!Py_IsInitialized()) {
        return atoll_capi_fail(ATOLL_NO_PYTHON, "Python has not begun, or has ended");
    }
    if (atoll_thread_state_attached() == NULL && PyGILState_GetThisThreadState() == NULL) {
        return enter_from_nothing(interp, visit);
    }
    atoll_capi_footing footing;
    int code = atoll_capi_stand(&footing);
    if (code != ATOLL_OK) {
        return code;
    }
    atoll_visit_result result = atoll_visit_begin(footing.state, interp, visit);
    if (result != ATOLL_VISIT_BEGUN) {
        code = fail_to_begin(interp, result);
        atoll_capi_step_back(&footing);
        return code;
    }
    (*visit)->ensured = footing.ensured;
    (*visit)->before = footing.before;
    return ATOLL_OK;
}

int atoll_capi_leave(atoll_visit *visit) {
    if (!Py_IsInitialized()) {
        return atoll_capi_fail(ATOLL_NO_PYTHON, "Python has ended");
    }
    if (atoll_visit_is_cut(visit)) {
        return atoll_capi_fail(ATOLL_NO_PYTHON,
                               "the process was forked inside of this visit: there is nowhere to go back to");
    }
    if (!atoll_visit_is_last(visit)) {
        return atoll_capi_fail(
            ATOLL_INVALID,
            "this visit is not the last that the thread has begun, or the thread is not attached as "
            "it was when it began");
    }
    atoll_capi_footing footing = {.ensured = visit->ensured, .before = visit->before};
    bool cut_off;
    char *why;
    int code = ATOLL_OK;
    if (atoll_visit_end(visit, &cut_off, &why) < 0) {
        code = why == NULL && atoll_thread_state_attached() != NULL
                   ? atoll_capi_fail_raised()
                   : atoll_capi_fail(ATOLL_ERROR, "%s", why != NULL ? why : "out of memory");
        code = cut_off ? ATOLL_INTERRUPTED : code;
    }
    free(why);
    atoll_capi_step_back(&footing);
    return code;
}

/* ---- closing ---- */

/* Attached: 0, or -1 with an exception. */
static int close_as(atoll_state *state, atoll_entry *entry, double timeout, bool force) {
    PyObject *object = object_of(state, entry);
    PyObject *method = object != NULL ? PyObject_GetAttrString(object, "close") : NULL;
    PyObject *none = method != NULL ? PyTuple_New(0) : NULL;
    PyObject *seconds = timeout < 0 ? Py_NewRef(Py_None) : PyFloat_FromDouble(timeout);
    PyObject *keywords =
        seconds != NULL && none != NULL
            ? Py_BuildValue("{sOsO}", "force", force ? Py_True : Py_False, "timeout", seconds)
            : NULL;
    PyObject *done = keywords != NULL ? PyObject_Call(method, none, keywords) : NULL;
    Py_XDECREF(keywords);
    Py_XDECREF(seconds);
    Py_XDECREF(none);
    Py_XDECREF(method);
    Py_XDECREF(object);
    Py_XDECREF(done);
    return done != NULL ? 0 : -1;
}

int atoll_capi_close(atoll_interp *interp, double timeout, int force) {
    atoll_capi_footing footing;
    int code = atoll_capi_stand(&footing);
    if (code != ATOLL_OK) {
        return code;
    }
    if (close_as(footing.state, interp, timeout, force != 0) < 0) {
        code = atoll_capi_fail_raised();
    }
    atoll_capi_step_back(&footing);
    return code;
}
