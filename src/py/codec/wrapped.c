/* Encoding what is put around a function: static and class methods, properties, bound methods, cells.
 *
 * Any of it may run Python code; the encoder is pinned.
 */
#include "py/codec/internal.h"

int atoll_encode_wrapper(atoll_encoder *enc, PyObject *obj, uint8_t tag) {
    if (atoll_write_tag(enc, tag | ATOLL_MEMO) < 0) {
        return -1;
    }
    static const char *const property_parts[] = {"fget", "fset", "fdel", "__doc__"};
    static const char *const wrapper_parts[] = {"__func__"};
    const char *const *parts = tag == T_PROPERTY ? property_parts : wrapper_parts;
    int n = tag == T_PROPERTY ? 4 : 1;
    for (int i = 0; i < n; i++) {
        PyObject *part = PyObject_GetAttrString(obj, parts[i]);
        int rc = part != NULL ? atoll_encode_part(enc, obj, parts[i], part) : -1;
        Py_XDECREF(part);
        if (rc < 0) {
            return -1;
        }
    }
    return atoll_memo_add(enc, obj);
}

/* Whether it is a class that crosses by value: what it is filled with may be made before its attributes are there. */
bool atoll_class_is_of_script(const atoll_encoder *enc, PyObject *owner) {
    if (!PyType_Check(owner) || (((PyTypeObject *)owner)->tp_flags & Py_TPFLAGS_HEAPTYPE) == 0) {
        return false;
    }
    PyObject *dict = PyType_GetDict((PyTypeObject *)owner);
    PyObject *name = dict != NULL ? PyDict_GetItemWithError(dict, enc->codec->names[N_MODULE]) : NULL;
    bool late = name != NULL && atoll_is_main_name(enc->codec, name);
    Py_XDECREF(dict);
    return late;
}

/* pickle says getattr(self, name), which leads elsewhere when the function's name is not the one it has in the class: a lambda,
 * a private method. */
int atoll_encode_method(atoll_encoder *enc, PyObject *obj) {
    PyObject *name = PyObject_GetAttr(PyMethod_GET_FUNCTION(obj), enc->codec->names[N_NAME]);
    PyObject *found = name != NULL ? PyObject_GetAttr(PyMethod_GET_SELF(obj), name) : NULL;
    bool there = found != NULL && Py_IS_TYPE(found, &PyMethod_Type) &&
                 PyMethod_GET_FUNCTION(found) == PyMethod_GET_FUNCTION(obj) &&
                 PyMethod_GET_SELF(found) == PyMethod_GET_SELF(obj);
    Py_XDECREF(found);
    Py_XDECREF(name);
    if (PyErr_Occurred()) {
        if (atoll_passes_through(enc->codec)) {
            return -1;
        }
        PyErr_Clear();
    }
    if (there && !atoll_class_is_of_script(enc, PyMethod_GET_SELF(obj))) {
        return atoll_encode_reduced(enc, obj);
    }
    PyObject *byvalue = atoll_codec_byvalue(enc->codec);
    PyObject *value = byvalue != NULL ? PyObject_CallMethod(byvalue, "reduce_method", "(O)", obj) : NULL;
    int rc = value != NULL ? atoll_encode_reduction(enc, obj, value) : -1;
    Py_XDECREF(value);
    return rc;
}

/* What is in a cell is part of what its function does.  That it is another one is seen (codec/kept.c); what may change in place
 * is not, but what a library's decorator keeps is its own affair.  0, or -1 with an exception. */
static int note_contents(atoll_encoder *enc, PyObject *contents) {
    if (contents == NULL || atoll_is_definition(contents)) {
        return 0;
    }
    if (atoll_is_plain_value(contents)) {
        return atoll_witness_value(enc, contents);
    }
    atoll_mark_mutable(enc);
    return 0;
}

/* The namespace of a class that is being written, which functions in it have for their annotations (3.14+): over there, the
 * namespace of the class. */
static int encode_namespace(atoll_encoder *enc, PyObject *dict, PyObject *cls) {
    int rc = atoll_try_ref(enc, dict);
    if (rc != 0) {
        return rc < 0 ? -1 : 0;
    }
    PyObject *byvalue = atoll_codec_byvalue(enc->codec);
    PyObject *value = byvalue != NULL ? PyObject_CallMethod(byvalue, "reduce_namespace", "(O)", cls) : NULL;
    rc = value != NULL ? atoll_encode_reduction(enc, dict, value) : -1;
    Py_XDECREF(value);
    return rc;
}

static int encode_cell_later(atoll_encoder *enc, PyObject *cell, PyObject *contents, atoll_rank rank) {
    return atoll_memo_add(enc, cell) < 0 || atoll_write_tag(enc, T_CELL_LATER | ATOLL_MEMO) < 0 ||
                   atoll_write_tag(enc, (uint8_t)rank) < 0
               ? -1
               : atoll_later_data(enc, rank, cell, contents);
}

int atoll_encode_cell(atoll_encoder *enc, PyObject *obj) {
    PyObject *contents = PyCell_GET(obj);
    PyObject *cls = contents != NULL ? atoll_class_of_namespace(enc, contents) : NULL;
    if (contents != NULL && cls == NULL && enc->later != NULL) {
        atoll_rank rank;
        if (atoll_rank_of(enc, contents, &rank) < 0) {
            return -1;
        }
        if (rank != RANK_CODE) {
            return note_contents(enc, contents) < 0 ? -1 : encode_cell_later(enc, obj, contents, rank);
        }
    }
    if ((cls == NULL && note_contents(enc, contents) < 0) || atoll_memo_add(enc, obj) < 0 ||
        atoll_write_tag(enc, T_CELL | ATOLL_MEMO) < 0) {
        return -1;
    }
    if (cls != NULL) {
        return encode_namespace(enc, contents, cls);
    }
    return contents != NULL ? atoll_encode_part(enc, obj, "cell_contents", contents)
                            : atoll_write_tag(enc, T_EMPTY);
}
