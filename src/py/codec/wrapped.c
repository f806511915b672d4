/* Encoding what is put around a function: static and class methods, properties, bound methods, cells.
 *
 * Any of it may run Python code; the encoder is pinned.
 */
#include "py/codec/internal.h"

/* The attributes of a static or class method: the names of its function, which may not have come yet, and what has been put there.  What
 * they may become is watched. */
static int encode_wrapper_dict(atoll_encoder *enc, PyObject *obj) {
    PyObject *dict = PyObject_GenericGetDict(obj, NULL);
    if (dict == NULL) {
        return -1;
    }
    if (!enc->outline && !atoll_watch_part(enc->codec, dict)) {
        enc->impure = true;
        atoll_reach_always(enc);
    }
    int rc = PyDict_GET_SIZE(dict) == 0 ? atoll_write_tag(enc, T_NONE)
             : enc->later != NULL       ? atoll_later_dict(enc, dict)
                                        : atoll_encode_state(enc, dict);
    rc = rc == 0 ? atoll_witness_part(enc, dict) : -1;
    Py_DECREF(dict);
    return rc;
}

int atoll_encode_wrapper(atoll_encoder *enc, PyObject *obj, uint8_t kind) {
    static const char *const property_parts[] = {"fget", "fset", "fdel", "__doc__"};
    static const char *const wrapper_parts[] = {"__func__"};
    const char *const *parts = kind == W_PROPERTY ? property_parts : wrapper_parts;
    int n = kind == W_PROPERTY ? 4 : 1;
    if (atoll_write_tag(enc, T_WRAPPER | ATOLL_MEMO) < 0) {
        return -1;
    }
    size_t kind_at = enc->msg->body.len;
    int rc = atoll_write_tag(enc, kind);
    enc->late++;
    for (int i = 0; i < n && rc == 0; i++) {
        PyObject *part = PyObject_GetAttrString(obj, parts[i]);
        rc = part != NULL ? atoll_encode_part(enc, obj, parts[i], part) : -1;
        Py_XDECREF(part);
    }
    if (rc == 0 && kind != W_PROPERTY) {
        rc = encode_wrapper_dict(enc, obj);
    }
    enc->late--;
    return rc < 0 || atoll_memo_add_late(enc, obj, kind_at, kind | W_DUP) < 0 ? -1 : 0;
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
    /* Of an outline the function itself: it may be another in its class over there when that has changed, and what was bound is the old one. */
    if (there && !enc->outline && !atoll_class_is_of_script(enc, PyMethod_GET_SELF(obj))) {
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
