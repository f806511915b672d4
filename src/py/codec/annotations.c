/* What a function is annotated with, as it crosses.
 *
 * Since 3.14 a function computes its annotations when they are asked for.  That one is sent, if nobody has asked yet (what was
 * computed may have been changed), and if it finds its names over there: those that it looks up in the namespace of a class are
 * found when it comes with that class.  Else what it computes is sent; as text where it names what is not there.
 *
 * Annotations that are text (forward references, `from __future__ import annotations`) name globals as well, which
 * typing.get_type_hints() looks up.
 */
#include "py/codec/internal.h"

/* Whether it looks names up in the namespace of the class whose methods it belongs to, and that is no class being written. */
static int needs_class(const atoll_encoder *enc, PyFunctionObject *annotate) {
    PyObject *names = PyCode_GetFreevars((PyCodeObject *)annotate->func_code);
    int found = names != NULL ? 0 : -1;
    for (Py_ssize_t i = 0; found == 0 && i < PyTuple_GET_SIZE(names); i++) {
        if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, i), "__classdict__") == 0) {
            PyObject *cell = PyTuple_GET_ITEM(annotate->func_closure, i);
            found = PyCell_GET(cell) == NULL || atoll_class_of_namespace(enc, PyCell_GET(cell)) == NULL;
        }
    }
    Py_XDECREF(names);
    return found;
}

/* Annotations that are there, or are computed now; as text where they name what is not there. */
static PyObject *computed_annotations(atoll_codec *codec, PyFunctionObject *func) {
    PyObject *dict = PyObject_GetAttr((PyObject *)func, codec->names[N_ANNOTATIONS]);
    if (dict == NULL && !atoll_passes_through(codec)) {
        PyErr_Clear();
        PyObject *byvalue = atoll_codec_byvalue(codec);
        dict = byvalue != NULL ? PyObject_CallMethod(byvalue, "annotations_as_text", "(O)", func) : NULL;
    }
    if (dict != NULL && PyDict_Check(dict) && PyDict_GET_SIZE(dict) == 0) {
        Py_SETREF(dict, Py_NewRef(Py_None));
    }
    return dict;
}

PyObject *atoll_annotations_of(atoll_encoder *enc, PyFunctionObject *func, bool *lazy) {
    atoll_codec *codec = enc->codec;
    PyObject *annotate = PyObject_GetAttr((PyObject *)func, codec->names[N_ANNOTATE]);
    *lazy = false;
    if (annotate == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return NULL;
        }
        PyErr_Clear();
    } else if (PyFunction_Check(annotate) &&
               func->func_annotations == NULL) { /* what was computed may have been changed */
        int bound = needs_class(enc, (PyFunctionObject *)annotate);
        if (bound != 0) {
            Py_DECREF(annotate);
            return bound < 0 ? NULL : computed_annotations(codec, func);
        }
        atoll_crossing way = atoll_function_crossing(codec, (PyFunctionObject *)annotate);
        if (way == CROSS_ERROR) {
            Py_DECREF(annotate);
            return NULL;
        }
        *lazy = true;
        if (way == CROSS_NOT || way == CROSS_PATH) {
            Py_SETREF(annotate, Py_NewRef(Py_None));
        }
        return annotate;
    }
    Py_XDECREF(annotate);
    return computed_annotations(codec, func);
}

/* ---- what text names ---- */

static bool begins_name(Py_UCS4 c) { return c == '_' || Py_UNICODE_ISALPHA(c); }

/* Adds the identifiers in text to a set. */
static int add_identifiers(PyObject *text, PyObject *names) {
    Py_ssize_t length = PyUnicode_GET_LENGTH(text);
    for (Py_ssize_t i = 0; i < length; i++) {
        Py_ssize_t from = i;
        if (!begins_name(PyUnicode_READ_CHAR(text, i))) {
            continue;
        }
        while (i < length && (begins_name(PyUnicode_READ_CHAR(text, i)) ||
                              Py_UNICODE_ISDECIMAL(PyUnicode_READ_CHAR(text, i)))) {
            i++;
        }
        PyObject *name = PyUnicode_Substring(text, from, i);
        int rc = name != NULL ? PySet_Add(names, name) : -1;
        Py_XDECREF(name);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

static int add_of_tuple(PyObject *parts, PyObject *names) {
    int rc = 0;
    for (Py_ssize_t i = 0; rc == 0 && i < PyTuple_GET_SIZE(parts); i++) {
        PyObject *part = PyTuple_GET_ITEM(parts, i);
        rc = PyUnicode_CheckExact(part) ? add_identifiers(part, names) : 0;
    }
    return rc;
}

int atoll_add_annotated_names(atoll_codec *codec, PyFunctionObject *func, PyObject *names) {
    PyObject *annotations = func->func_annotations; /* a dict, or names and values in a tuple */
    if (annotations == NULL) {
        PyObject *annotate = PyObject_GetAttr((PyObject *)func, codec->names[N_ANNOTATE]);
        int rc = 0;
        if (annotate == NULL) {
            rc = PyErr_ExceptionMatches(PyExc_AttributeError) ? 0 : -1;
            if (rc == 0) {
                PyErr_Clear();
            }
        } else if (PyFunction_Check(annotate)) {
            rc = add_of_tuple(((PyCodeObject *)PyFunction_GET_CODE(annotate))->co_consts, names);
        }
        Py_XDECREF(annotate);
        return rc;
    }
    if (PyTuple_CheckExact(annotations)) {
        return add_of_tuple(annotations, names);
    }
    PyObject *values = PyDict_CheckExact(annotations) ? PyDict_Values(annotations) : PyList_New(0);
    PyObject *parts = values != NULL ? PyList_AsTuple(values) : NULL;
    int rc = parts != NULL ? add_of_tuple(parts, names) : -1;
    Py_XDECREF(parts);
    Py_XDECREF(values);
    return rc;
}
