/* Definitions inside of data: functions and classes that are in the lists, dicts and instances behind names.
 *
 *   u8 1, value   for each
 *   u8 0
 *
 * Code that runs when an instance is made again may use any of them, and the data they are in comes after it: so they come with the code of the
 * function or class that has the names (codec/later.c), each once, and what they lead to.  Over there nothing is done with them; the
 * data refers to them.  The classes of instances are among them.
 *
 * What is looked at is limited: definitions behind that come with the data, as ever.
 */
#include "py/codec/internal.h"

enum { NODES = 1 << 14, LEVELS = 16 };

typedef struct {
    atoll_encoder *enc;
    atoll_memo *seen; /* lists and the like */
    int left;
} sweep;

static int visit(sweep *at, PyObject *value, int levels);

static int write_definition(sweep *at, PyObject *value) {
    if (atoll_memo_get(at->enc->memo, value) != ATOLL_NOT_FOUND) {
        return 0;
    }
    int waits = atoll_waits_for_class(at->enc, value);
    if (waits != 0) {
        return waits < 0 ? -1 : 0;
    }
    return atoll_write_tag(at->enc, 1) < 0 ? -1 : atoll_encode_shared(at->enc, value);
}

/* 1 when it is met for the first time, 0, or -1 with an exception. */
static int enter(sweep *at, PyObject *value, int levels) {
    if (levels == 0 || --at->left < 0) {
        return 0;
    }
    if (at->seen == NULL) {
        at->seen = atoll_memo_new();
    }
    int rc = at->seen != NULL ? atoll_memo_put(at->seen, value) : -1;
    if (rc < 0) {
        PyErr_NoMemory();
    }
    return rc;
}

/* Of a list, tuple or set; what is written may run code that changes it. */
static int visit_items(sweep *at, PyObject *value, int levels) {
    PyObject *items = PySequence_Tuple(value);
    int rc = items != NULL ? 0 : -1;
    atoll_frame fr;
    atoll_push(at->enc, &fr, value, PyAnySet_CheckExact(value) ? AT_ELEMENT : AT_INDEX);
    for (Py_ssize_t i = 0; rc == 0 && i < PyTuple_GET_SIZE(items); i++) {
        PyObject *item = PyTuple_GET_ITEM(items, i);
        fr.index = i;
        fr.key = item;
        rc = atoll_is_plain_value(item) ? 0 : visit(at, item, levels);
    }
    atoll_pop(at->enc, &fr);
    Py_XDECREF(items);
    return rc;
}

static int visit_dict(sweep *at, PyObject *dict, int levels, atoll_step step) {
    PyObject *pairs = PyDict_Items(dict);
    int rc = pairs != NULL ? 0 : -1;
    atoll_frame fr;
    atoll_push(at->enc, &fr, dict, step);
    for (Py_ssize_t i = 0; rc == 0 && i < PyList_GET_SIZE(pairs); i++) {
        PyObject *pair = Py_NewRef(PyList_GET_ITEM(pairs, i));
        PyObject *key = PyTuple_GET_ITEM(pair, 0);
        PyObject *value = PyTuple_GET_ITEM(pair, 1);
        fr.key = key;
        fr.step = AT_ELEMENT;
        rc = atoll_is_plain_value(key) ? 0 : visit(at, key, levels);
        fr.step = step;
        rc = rc == 0 && !atoll_is_plain_value(value) ? visit(at, value, levels) : rc;
        Py_DECREF(pair);
    }
    atoll_pop(at->enc, &fr);
    Py_XDECREF(pairs);
    return rc;
}

/* Of a class that code has made: that class, and the attributes, unless code says what is sent of them. */
static int visit_instance(sweep *at, PyObject *value, int levels) {
    PyTypeObject *type = Py_TYPE(value);
    const atoll_type_info *info = atoll_type_info_get(at->enc, type);
    if (info == NULL || info->kind == KIND_SPECIAL) {
        return info == NULL ? -1 : 0;
    }
    bool plain = info->kind == KIND_PLAIN;
    if (write_definition(at, (PyObject *)type) < 0) {
        return -1;
    }
    PyObject *dict = plain ? PyObject_GenericGetDict(value, NULL) : NULL;
    int rc = dict != NULL && PyDict_CheckExact(dict) ? visit_dict(at, dict, levels, AT_ATTR) : 0;
    Py_XDECREF(dict);
    return PyErr_Occurred() ? -1 : rc;
}

static int visit(sweep *at, PyObject *value, int levels) {
    if (PyFunction_Check(value) ||
        (PyType_Check(value) && atoll_is_made_by_code(at->enc->codec, (PyTypeObject *)value))) {
        return write_definition(at, value);
    }
    PyTypeObject *type = Py_TYPE(value);
    bool items = PyList_CheckExact(value) || PyTuple_CheckExact(value) || PyAnySet_CheckExact(value);
    bool instance = !PyType_Check(value) && atoll_is_made_by_code(at->enc->codec, type);
    if (!items && !PyDict_CheckExact(value) && type != &PyMethod_Type && !instance) {
        return 0;
    }
    int own = items || PyDict_CheckExact(value) ? 0 : atoll_is_own(at->enc->codec, value);
    if (own != 0) {
        return own < 0 ? -1 : 0; /* it crosses by its path */
    }
    int rc = enter(at, value, levels);
    if (rc <= 0) {
        return rc;
    }
    if (items) {
        return visit_items(at, value, levels - 1);
    }
    if (PyDict_CheckExact(value)) {
        return visit_dict(at, value, levels - 1, AT_KEY);
    }
    if (instance) {
        return visit_instance(at, value, levels - 1);
    }
    return visit(at, PyMethod_GET_FUNCTION(value), levels - 1) < 0
               ? -1
               : visit(at, PyMethod_GET_SELF(value), levels - 1);
}

int atoll_encode_held(atoll_encoder *enc, PyObject *of, atoll_step step, PyObject *const parts[ATOLL_RANKS]) {
    sweep at = {enc, NULL, NODES};
    atoll_frame fr;
    atoll_push(enc, &fr, of, step);
    int rc = 0;
    enc->exempt++; /* what may change is looked at by itself */
    for (int i = RANK_CODE + 1; i < ATOLL_RANKS; i++) {
        Py_ssize_t pos = 0;
        PyObject *name;
        PyObject *value;
        while (rc == 0 && parts[i] != NULL &&
               PyDict_Next(parts[i], &pos, &name, &value)) { /* nobody else has it */
            fr.key = name;
            rc = visit(&at, value, LEVELS);
        }
    }
    enc->exempt--;
    atoll_pop(enc, &fr);
    atoll_memo_free(at.seen);
    return rc == 0 ? atoll_write_tag(enc, 0) : -1;
}

int atoll_decode_held(atoll_decoder *dec) {
    while (atoll_get_u8(&dec->rd) == 1) {
        PyObject *held = atoll_decode_value(dec);
        if (held == NULL) {
            return -1;
        }
        Py_DECREF(held);
    }
    if (dec->rd.failed) {
        atoll_malformed("it ends too early");
        return -1;
    }
    return 0;
}
