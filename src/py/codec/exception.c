/* Exceptions as they are sent.
 *
 * pickle makes an exception again by calling its class with its `args`, which are what the builtin class was given, not what the
 * class's own __init__ takes.  Here it is made by the builtin class alone (R_PLAIN); what the class's own code has made of it at home
 * is in its `args`, its attributes and its slots.  Only a class that says itself how it is made (__reduce__, __getstate__, __setstate__) is asked.
 *
 * An exception brings its causes along, as far as they cross.
 *
 * What builtin classes make of the arguments (`errno`, `lineno`, `code`) may have been changed since: what is not as they would make it
 * now goes along as state.
 */
#include "py/codec/internal.h"

PyTypeObject *atoll_exception_base(PyTypeObject *type) {
    while ((type->tp_flags & Py_TPFLAGS_HEAPTYPE) != 0) {
        type = type->tp_base;
    }
    return type;
}

PyObject *atoll_exception_new(PyTypeObject *type, PyObject *args) {
    const PyTypeObject *builtin = atoll_exception_base(type);
    PyObject *obj = builtin->tp_new(type, args, NULL);
    if (obj != NULL && builtin->tp_init(obj, args, NULL) < 0) {
        Py_CLEAR(obj);
    }
    return obj;
}

int atoll_exception_set(PyObject *obj, PyObject *name, PyObject *value) {
    PyObject *field = atoll_find_in_type(atoll_exception_base(Py_TYPE(obj)), name);
    if (field != NULL && Py_TYPE(field)->tp_descr_set != NULL) {
        return Py_TYPE(field)->tp_descr_set(field, obj, value);
    }
    PyObject *dict = PyObject_GenericGetDict(obj, NULL);
    int rc = dict != NULL ? PyDict_SetItem(dict, name, value) : -1;
    Py_XDECREF(dict);
    return rc;
}

/* ---- what builtin classes keep ---- */

enum { FIELDS = 9 };

/* Not what leads to everything else: the `obj` of an AttributeError, tracebacks, contexts. */
static const struct {
    PyObject *const *cls;
    const char *const names[FIELDS];
} kept[] = {
    {&PyExc_SyntaxError,
     {"msg", "filename", "lineno", "offset", "text", "end_lineno", "end_offset", "print_file_and_line",
      "_metadata"}},
    {&PyExc_OSError, {"errno", "strerror", "filename", "filename2", "characters_written"}},
    {&PyExc_UnicodeError, {"encoding", "object", "start", "end", "reason"}},
    {&PyExc_ImportError, {"msg"}},
    {&PyExc_NameError, {"name"}},
    {&PyExc_StopIteration, {"value"}},
    {&PyExc_SystemExit, {"code"}},
};

/* A field of obj, if it is one of its class's too: new reference, or NULL, without an exception where there is nothing. */
static PyObject *field_of(PyObject *obj, PyObject *name, PyObject *field) {
    if (atoll_find_in_type(Py_TYPE(obj), name) != field) {
        return NULL; /* the class has something else under this name */
    }
    PyObject *value = Py_TYPE(field)->tp_descr_get(field, obj, (PyObject *)Py_TYPE(obj));
    if (value == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
    }
    return value;
}

static bool is_same(PyObject *a, PyObject *b) {
    bool same = a == b || (a != NULL && b != NULL && Py_IS_TYPE(a, Py_TYPE(b)) && atoll_is_plain_value(a) &&
                           PyObject_RichCompareBool(a, b, Py_EQ) > 0);
    PyErr_Clear();
    return same;
}

/* Adds a field of obj to its state where the one of another is not the same.  0, or -1 with an exception. */
static int add_field(PyObject *obj, PyObject *other, const char *text, PyObject **state) {
    PyObject *name = PyUnicode_InternFromString(text);
    PyObject *field = name != NULL ? atoll_find_in_type(Py_TYPE(other), name) : NULL;
    PyObject *mine = NULL;
    if (field != NULL && Py_TYPE(field)->tp_descr_get != NULL && Py_TYPE(field)->tp_descr_set != NULL) {
        mine = field_of(obj, name, field);
    }
    PyObject *made = mine != NULL ? field_of(other, name, field) : NULL;
    int rc = PyErr_Occurred() ? -1 : 0;
    if (rc == 0 && mine != NULL && !is_same(mine, made)) {
        Py_SETREF(*state, *state == Py_None ? PyDict_New() : PyDict_Copy(*state));
        rc = *state != NULL ? PyDict_SetItem(*state, name, mine) : -1;
    }
    Py_XDECREF(made);
    Py_XDECREF(mine);
    Py_XDECREF(name);
    return rc;
}

/* Adds to the state (a dict, or None) what is not as the builtin class would make it of the arguments.  0, or -1 with an exception. */
static int add_fields(PyObject *obj, PyObject *args, PyObject **state) {
    size_t i = 0;
    while (i < sizeof kept / sizeof *kept && !PyObject_TypeCheck(obj, (PyTypeObject *)*kept[i].cls)) {
        i++;
    }
    if (i == sizeof kept / sizeof *kept || (*state != Py_None && !PyDict_CheckExact(*state))) {
        return 0;
    }
    PyObject *other = atoll_exception_new(atoll_exception_base(Py_TYPE(obj)), args);
    if (other == NULL) { /* whoever makes it over there is told why */
        if (!atoll_error_is_urgent()) {
            PyErr_Clear();
        }
        return PyErr_Occurred() ? -1 : 0;
    }
    int rc = 0;
    for (int j = 0; rc == 0 && j < FIELDS && kept[i].names[j] != NULL; j++) {
        rc = add_field(obj, other, kept[i].names[j], state);
    }
    Py_DECREF(other);
    return rc;
}

/* How many causes in a row cross, each tried without its own, so that it is tried once: the cause of obj, its cause...  -1 with an exception.
 * Where there are many, they are tried together, too, as they take as much of the stack then: else only some come along. */
static Py_ssize_t count_causes(const atoll_encoder *enc, PyObject *obj) {
    enum { FEW = 100 };
    atoll_memo *met = atoll_memo_new(); /* causes may go around */
    PyObject *at = Py_NewRef(obj);
    Py_ssize_t n = 0;
    int crosses = met != NULL && atoll_memo_put(met, obj) >= 0 ? 1 : -1;
    int is_new = crosses;
    while (crosses > 0 && is_new > 0) {
        Py_SETREF(at, PyException_GetCause(at));
        is_new = at != NULL ? atoll_memo_put(met, at) : 0;
        crosses = is_new > 0 ? atoll_encode_trial(enc->codec, at, CAUSES_NONE) : is_new < 0 ? -1 : 1;
        n += at != NULL && crosses > 0;
    }
    if (n > FEW) {
        Py_XSETREF(at, PyException_GetCause(obj));
        crosses = crosses > 0 && at != NULL ? atoll_encode_trial(enc->codec, at, CAUSES_ALL) : crosses;
        n = crosses > 0 ? n : FEW;
    }
    if (crosses < 0 && !PyErr_Occurred()) {
        PyErr_NoMemory();
    }
    Py_XDECREF(at);
    atoll_memo_free(met);
    return crosses < 0 ? -1 : n;
}

/* Adds to the state (a dict, or None) what obj was raised from.  0, or -1 with an exception. */
static int add_cause(atoll_encoder *enc, PyObject *obj, PyObject **state) {
    if (obj == enc->raised || enc->causes == CAUSES_NONE ||
        (*state != Py_None && !PyDict_CheckExact(*state))) {
        return 0;
    }
    PyObject *cause = PyException_GetCause(obj);
    Py_ssize_t n = cause != NULL;
    if (cause != NULL && enc->causes == CAUSES_TRIED) {
        n = enc->chained == obj ? enc->nchained : count_causes(enc, obj);
        enc->chained = n > 0 ? cause : NULL;
        enc->nchained = n - 1;
    }
    if (n <= 0) {
        Py_CLEAR(cause);
    }
    bool suppressed = ((PyBaseExceptionObject *)obj)->suppress_context;
    int rc = n < 0 ? -1 : 0;
    if (rc == 0 && (cause != NULL || suppressed)) {
        Py_SETREF(*state, *state == Py_None ? PyDict_New() : PyDict_Copy(*state));
        rc = *state != NULL ? 0 : -1;
    }
    if (rc == 0 && cause != NULL) {
        rc = PyDict_SetItemString(*state, "__cause__", cause); /* which suppresses the context */
    }
    if (rc == 0 && suppressed != (cause != NULL)) {
        rc = PyDict_SetItemString(*state, "__suppress_context__", suppressed ? Py_True : Py_False);
    }
    Py_XDECREF(cause);
    return rc;
}

/* The state of an exception, with the slots that its classes have: new reference, NULL with an exception. */
static PyObject *state_with_slots(atoll_codec *codec, PyObject *obj, PyObject *state) {
    PyObject *names =
        PyObject_CallMethodOneArg(codec->copyreg, codec->names[N_SLOTNAMES], (PyObject *)Py_TYPE(obj));
    PyObject *slots = names != NULL ? PyDict_New() : NULL;
    int rc = slots != NULL ? 0 : -1;
    for (Py_ssize_t i = 0; rc == 0 && PyList_Check(names) && i < PyList_GET_SIZE(names); i++) {
        PyObject *name =
            Py_NewRef(PyList_GET_ITEM(names, i)); /* the list is the class's, for any code to change */
        PyObject *slot = PyObject_GetAttr(obj, name);
        if (slot != NULL) {
            rc = PyDict_SetItem(slots, name, slot);
            Py_DECREF(slot);
        } else if (PyErr_ExceptionMatches(PyExc_AttributeError)) {
            PyErr_Clear(); /* empty */
        } else {
            rc = -1;
        }
        Py_DECREF(name);
    }
    PyObject *both = NULL;
    if (rc == 0) {
        both = PyDict_GET_SIZE(slots) != 0 ? PyTuple_Pack(2, state, slots) : Py_NewRef(state);
    }
    Py_XDECREF(names);
    Py_XDECREF(slots);
    return both;
}

/* What the builtin class makes an exception of: of a group, its message and exceptions, whatever its class was called with; the `args`
 * are in its state then.  New references; 0, or -1 with an exception. */
static int plain_args(PyObject *obj, PyObject *reduced, PyObject **args, PyObject **state) {
    *args = Py_NewRef(PyTuple_GET_ITEM(reduced, 1));
    *state = Py_NewRef(PyTuple_GET_SIZE(reduced) > 2 ? PyTuple_GET_ITEM(reduced, 2) : Py_None);
    if (!PyObject_TypeCheck(obj, (PyTypeObject *)PyExc_BaseExceptionGroup)) {
        if (add_fields(obj, *args, state) < 0) {
            Py_CLEAR(*args);
            Py_CLEAR(*state);
        }
        return *state != NULL ? 0 : -1;
    }
    PyObject *message = PyObject_GetAttrString(obj, "message");
    PyObject *exceptions = message != NULL ? PyObject_GetAttrString(obj, "exceptions") : NULL;
    PyObject *list = exceptions != NULL ? PySequence_List(exceptions) : NULL;
    PyObject *both = list != NULL ? PyTuple_Pack(2, message, list) : NULL;
    PyObject *more = both != NULL ? PyDict_New() : NULL;
    int rc = more != NULL && (*state == Py_None || PyDict_Update(more, *state) == 0) &&
                     PyDict_SetItemString(more, "args", *args) == 0
                 ? 0
                 : -1;
    Py_XDECREF(message);
    Py_XDECREF(exceptions);
    Py_XDECREF(list);
    Py_SETREF(*args, both);
    Py_SETREF(*state, more);
    if (rc < 0) {
        Py_CLEAR(*args);
        Py_CLEAR(*state);
    }
    return rc;
}

/* The notes of an exception, as a state: new reference, or NULL, maybe with an exception. */
static PyObject *notes_of(PyObject *obj) {
    PyObject *dict = ((PyBaseExceptionObject *)obj)->dict;
    PyObject *notes = dict != NULL ? PyDict_GetItemString(dict, "__notes__") : NULL;
    return notes != NULL ? Py_BuildValue("{sO}", "__notes__", notes) : NULL;
}

/* Whether it is of a builtin class, and reduced as that does it. */
static bool is_builtin(PyObject *obj, PyObject *value) {
    return PyTuple_Check(value) && (PyTuple_GET_SIZE(value) == 2 || PyTuple_GET_SIZE(value) == 3) &&
           PyTuple_GET_ITEM(value, 0) == (PyObject *)Py_TYPE(obj) &&
           Py_TYPE(obj) == atoll_exception_base(Py_TYPE(obj)) && PyTuple_Check(PyTuple_GET_ITEM(value, 1));
}

PyObject *atoll_exception_reduction(atoll_encoder *enc, PyObject *obj, PyObject *value, bool *plain) {
    PyObject *args = NULL;
    PyObject *state = NULL;
    bool tuple = PyTuple_Check(value) && PyTuple_GET_SIZE(value) >= 2;
    *plain = tuple && PyTuple_GET_ITEM(value, 0) == (PyObject *)Py_TYPE(obj) &&
             atoll_is_plain_exception(enc->codec, Py_TYPE(obj));
    int rc = 0;
    if (*plain) {
        rc = plain_args(obj, value, &args, &state);
    } else if (is_builtin(obj, value)) {
        args = Py_NewRef(PyTuple_GET_ITEM(value, 1));
        state = Py_NewRef(PyTuple_GET_SIZE(value) > 2 ? PyTuple_GET_ITEM(value, 2) : Py_None);
        rc = add_fields(obj, args, &state);
    } else if (tuple && PyTuple_GET_SIZE(value) == 2) {
        args = Py_NewRef(PyTuple_GET_ITEM(value, 1));
        state = notes_of(obj); /* its own __reduce__ has forgotten them */
        state = state != NULL || PyErr_Occurred() ? state : Py_NewRef(Py_None);
        rc = state != NULL ? 0 : -1;
    }
    rc = rc == 0 && state != NULL ? add_cause(enc, obj, &state) : rc;
    if (rc == 0 && *plain) {
        Py_SETREF(state, state_with_slots(enc->codec, obj, state));
    } else if (rc < 0 || state == Py_None) {
        Py_CLEAR(state); /* as it is */
    }
    PyObject *all = NULL;
    if (state != NULL) {
        all = PyTuple_Pack(3, PyTuple_GET_ITEM(value, 0), args, state);
    } else if (!PyErr_Occurred()) {
        all = Py_NewRef(value);
    }
    Py_XDECREF(args);
    Py_XDECREF(state);
    return all;
}
