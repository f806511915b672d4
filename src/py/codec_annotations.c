/* What a function is annotated with, as it crosses.
 *
 * Since 3.14 a function computes its annotations when they are asked for.  That one is sent, if nobody has asked yet (what was
 * computed may have been changed), and if it finds its names over there: those that it looks up in the namespace of a class are
 * found when it comes with that class.  Else what it computes is sent; as text where it names what is not there.
 */
#include "py/codec_internal.h"

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
