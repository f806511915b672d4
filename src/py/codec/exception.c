/* Exceptions as they are sent.
 *
 * pickle makes an exception again by calling its class with its `args`, which are what the builtin class was given, not what the
 * class's own __init__ takes.  Here it is made by the builtin class alone (R_PLAIN); what the class's own code has made of it at home
 * is in its `args`, its attributes and its slots.  Only a class that says itself how it is made (__reduce__, __getstate__, __setstate__) is asked.
 */
#include "py/codec/internal.h"

/* The state of an exception, with the slots that its classes have: new reference, NULL with an exception. */
static PyObject *state_with_slots(atoll_codec *codec, PyObject *obj, PyObject *state) {
    PyObject *names =
        PyObject_CallMethodOneArg(codec->copyreg, codec->names[N_SLOTNAMES], (PyObject *)Py_TYPE(obj));
    PyObject *slots = names != NULL ? PyDict_New() : NULL;
    int rc = slots != NULL ? 0 : -1;
    for (Py_ssize_t i = 0; rc == 0 && PyList_Check(names) && i < PyList_GET_SIZE(names); i++) {
        PyObject *slot = PyObject_GetAttr(obj, PyList_GET_ITEM(names, i));
        if (slot != NULL) {
            rc = PyDict_SetItem(slots, PyList_GET_ITEM(names, i), slot);
            Py_DECREF(slot);
        } else if (PyErr_ExceptionMatches(PyExc_AttributeError)) {
            PyErr_Clear(); /* empty */
        } else {
            rc = -1;
        }
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
        return 0;
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

/* Of a NameError, whose reduction says nothing of its `name`: its state with that.  New reference, or NULL, maybe with an exception. */
static PyObject *state_with_name(PyObject *obj, PyObject *value) {
    PyObject *had = PyTuple_GET_SIZE(value) > 2 ? PyTuple_GET_ITEM(value, 2) : Py_None;
    PyObject *name = had == Py_None || PyDict_CheckExact(had) ? PyObject_GetAttrString(obj, "name") : NULL;
    PyObject *state = name == NULL || name == Py_None ? NULL
                      : had == Py_None                ? PyDict_New()
                                                      : PyDict_Copy(had);
    if (state != NULL && PyDict_SetItemString(state, "name", name) < 0) {
        Py_CLEAR(state);
    }
    Py_XDECREF(name);
    return state;
}

PyObject *atoll_exception_reduction(atoll_codec *codec, PyObject *obj, PyObject *value, bool *plain) {
    PyObject *args = NULL;
    PyObject *state = NULL;
    *plain = PyTuple_Check(value) && PyTuple_GET_SIZE(value) >= 2 &&
             PyTuple_GET_ITEM(value, 0) == (PyObject *)Py_TYPE(obj) &&
             atoll_is_plain_exception(codec, Py_TYPE(obj));
    if (*plain) {
        if (plain_args(obj, value, &args, &state) == 0) {
            PyObject *whole = state_with_slots(codec, obj, state);
            Py_SETREF(state, whole);
        }
    } else if (PyTuple_Check(value) && (PyTuple_GET_SIZE(value) == 2 || PyTuple_GET_SIZE(value) == 3) &&
               (PyObject *)Py_TYPE(obj) == PyExc_NameError) {
        state = state_with_name(obj, value);
        args = state != NULL ? Py_NewRef(PyTuple_GET_ITEM(value, 1)) : NULL;
    } else if (PyTuple_Check(value) && PyTuple_GET_SIZE(value) == 2) {
        state = notes_of(obj); /* its own __reduce__ has forgotten them */
        args = state != NULL ? Py_NewRef(PyTuple_GET_ITEM(value, 1)) : NULL;
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
