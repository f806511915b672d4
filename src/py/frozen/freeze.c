/* The walk through what is frozen, and what it refuses.
 *
 * No recursion: what is being frozen is a stack of frames, however deep the data is, and the frozen parts lie on another until what holds them is
 * made.  No code of anybody runs, as all types are exact ones of CPython's own and so are the keys, so nothing changes meanwhile and what is
 * walked can be borrowed.
 *
 * Only what others refer to as well can occur twice, or contain itself: that is remembered by address.  Everything is found again by its content
 * (table.c), but for NaN, which equals nothing: a dict may have two of them as keys.
 *
 * What is frozen already is taken as it is if it lies in this area or in one that stays.  Else it is copied, as the other area may be given
 * back before this one.
 *
 * What fails takes back all that it has made.
 */
#include "py/frozen/build.h"

#include "py/frozen/guard.h"
#include "py/frozen/proof.h"
#include "py/frozen/shared.h"

#include <math.h>
#include <stdlib.h>

enum { KEY_SHOWN = 40, STEPS_SHOWN = 50 };

/* A container that is being frozen. */
typedef struct {
    PyObject *obj;     /* what it is in the sender's data */
    PyObject *content; /* where its parts are: itself, or the dict behind a proxy */
    PyObject *iter;    /* owned: over a set's members, or NULL */
    PyObject *key;     /* of the part of a dict that is being frozen: borrowed; NULL: it is the key itself */
    Py_ssize_t next;   /* of the parts, or the place in a dict */
    Py_ssize_t done;
    size_t base; /* where its frozen parts begin */
    bool remembered;
} frame;

typedef struct {
    atoll_builder to;
    PyObject *refuse;
    atoll_frozen_memo memo;
    frame *frames;
    size_t depth, frame_room;
    PyObject **values;
    size_t count, value_room;
} walk;

/* ---- refusals ---- */

static PyObject *key_text(PyObject *key) {
    PyObject *text = PyObject_Repr(key);
    if (text != NULL && PyUnicode_GET_LENGTH(text) > KEY_SHOWN) {
        PyObject *head = PyUnicode_Substring(text, 0, KEY_SHOWN - 3);
        Py_SETREF(text, head != NULL ? PyUnicode_FromFormat("%U...", head) : NULL);
        Py_XDECREF(head);
    }
    return text;
}

static PyObject *step_text(const frame *fr) {
    PyObject *content = fr->content;
    if (PyTuple_Check(content) || PyList_Check(content)) {
        return PyUnicode_FromFormat("[%zd]", fr->done);
    }
    if (Py_IS_TYPE(content, &PyRange_Type)) {
        static const char *const parts[] = {"start", "stop", "step", "length"};
        return PyUnicode_FromFormat(".%s", parts[fr->done]);
    }
    if (fr->key == NULL) {
        return PyUnicode_FromString("{…}");
    }
    PyObject *key = key_text(fr->key);
    PyObject *text = key != NULL ? PyUnicode_FromFormat("[%U]", key) : NULL;
    Py_XDECREF(key);
    return text;
}

/* Where the walk is: the outer steps and, where there are many, the inner ones. */
static PyObject *path_text(const walk *w) {
    PyObject *text = PyUnicode_FromString("obj");
    for (size_t i = 0; text != NULL && i < w->depth; i++) {
        PyObject *step;
        if (w->depth > 2 * STEPS_SHOWN && i == STEPS_SHOWN) {
            i = w->depth - STEPS_SHOWN;
            step = PyUnicode_FromString("[…]");
        } else {
            step = step_text(&w->frames[i]);
        }
        Py_SETREF(text, step != NULL ? PyUnicode_FromFormat("%U%U", text, step) : NULL);
        Py_XDECREF(step);
    }
    return text;
}

static int refuse(const walk *w, PyObject *why) {
    PyObject *path = why != NULL ? path_text(w) : NULL;
    if (path != NULL) {
        PyErr_Format(w->refuse, "%U: %U", path, why);
    }
    Py_XDECREF(path);
    Py_XDECREF(why);
    return -1;
}

static bool is_called(const PyTypeObject *type, const char *name) { return strcmp(type->tp_name, name) == 0; }

static int refuse_type(const walk *w, PyObject *obj) {
    static const struct {
        PyTypeObject *type;
        const char *as;
    } bases[] = {
        {&PyUnicode_Type, "str"},         {&PyBytes_Type, "bytes"},     {&PyLong_Type, "int"},
        {&PyFloat_Type, "float"},         {&PyComplex_Type, "complex"}, {&PyTuple_Type, "tuple"},
        {&PyList_Type, "tuple"},          {&PyDict_Type, "dict"},       {&PySet_Type, "frozenset"},
        {&PyFrozenSet_Type, "frozenset"}, {&PyByteArray_Type, "bytes"},
    };
    PyTypeObject *type = Py_TYPE(obj);
    if (is_called(type, "numpy.ndarray")) {
        return refuse(w, PyUnicode_FromString(
                             "a numpy.ndarray cannot be frozen: send atoll.share(it) beside what is frozen, "
                             "or freeze its tolist() or tobytes()"));
    }
    if (is_called(type, "atoll.SharedArray") || is_called(type, "atoll.SharedBuffer")) {
        return refuse(w, PyUnicode_FromFormat(
                             "a %s cannot be frozen: it is shared as it is, so send it beside what is frozen",
                             type->tp_name + strlen("atoll.")));
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(bases); i++) {
        if (PyType_IsSubtype(type, bases[i].type)) {
            return refuse(
                w, PyUnicode_FromFormat(
                       "a %.100s, a subclass of %s, cannot be frozen, as classes belong to one interpreter: "
                       "freeze %s(it)",
                       type->tp_name, bases[i].type->tp_name, bases[i].as));
        }
    }
    if (is_called(type, "memoryview")) {
        return refuse(w, PyUnicode_FromString("a memoryview cannot be frozen: freeze bytes(it)"));
    }
    return refuse(w, PyUnicode_FromFormat(
                         "a %.100s cannot be frozen: only str, bytes, int, float, complex, bool, None, "
                         "tuple, list, dict, set, frozenset, bytearray and range can",
                         type->tp_name));
}

/* ---- the stacks ---- */

static int put_value(walk *w, PyObject *value) {
    if (w->count == w->value_room) {
        size_t room = w->value_room != 0 ? w->value_room * 2 : 256;
        PyObject **grown = realloc(w->values, room * sizeof *grown);
        if (grown == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        w->values = grown;
        w->value_room = room;
    }
    w->values[w->count++] = value;
    return 0;
}

static int push(walk *w, PyObject *obj, PyObject *content, bool remembered) {
    if (w->depth == w->frame_room) {
        size_t room = w->frame_room != 0 ? w->frame_room * 2 : 32;
        frame *grown = realloc(w->frames, room * sizeof *grown);
        if (grown == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        w->frames = grown;
        w->frame_room = room;
    }
    frame *fr = &w->frames[w->depth];
    *fr = (frame){.obj = obj, .content = content, .base = w->count, .remembered = remembered};
    if (PyAnySet_CheckExact(content) && (fr->iter = PyObject_GetIter(content)) == NULL) {
        return -1;
    }
    w->depth++;
    return 0;
}

/* ---- the walk ---- */

/* A float or complex that is a NaN is the same object each time it occurs. */
static PyObject *freeze_number(walk *w, PyObject *obj) {
    bool found;
    PyObject **place = atoll_frozen_memo_at(&w->memo, obj, &found);
    if (place == NULL) {
        return PyErr_NoMemory();
    }
    if (!found) {
        *place = PyFloat_CheckExact(obj) ? atoll_build_float(&w->to, obj) : atoll_build_complex(&w->to, obj);
    }
    return *place;
}

static bool is_nan(PyObject *obj) {
    return PyFloat_CheckExact(obj) ? isnan(PyFloat_AS_DOUBLE(obj))
                                   : isnan(PyComplex_RealAsDouble(obj)) || isnan(PyComplex_ImagAsDouble(obj));
}

/* What has no parts: 1 and its frozen form, 0 for anything else, -1 with an exception. */
static int freeze_leaf(walk *w, PyObject *obj, PyObject **frozen) {
    PyTypeObject *type = Py_TYPE(obj);
    if (atoll_frozen_has(obj)) {
        atoll_area *area = atoll_area_of(obj);
        if (area == w->to.area || atoll_area_stays(area)) {
            if (atoll_area_has_proxies(area)) { /* which may be what obj leads to */
                atoll_area_note_proxy(w->to.area);
            }
            *frozen = obj;
            return 1;
        }
    }
    if (type == &PyUnicode_Type) {
        *frozen = atoll_build_str(&w->to, obj);
    } else if (obj == Py_None || type == &PyBool_Type || obj == Py_Ellipsis || obj == Py_NotImplemented) {
        *frozen = obj;
    } else if (type == &PyLong_Type) {
        *frozen = atoll_frozen_shared(obj) ? obj : atoll_build_int(&w->to, obj);
    } else if (type == &PyFloat_Type || type == &PyComplex_Type) {
        *frozen = is_nan(obj)             ? freeze_number(w, obj)
                  : type == &PyFloat_Type ? atoll_build_float(&w->to, obj)
                                          : atoll_build_complex(&w->to, obj);
    } else if (type == &PyBytes_Type) {
        *frozen = atoll_build_bytes(&w->to, PyBytes_AS_STRING(obj), PyBytes_GET_SIZE(obj));
    } else if (type == &PyByteArray_Type) {
        *frozen = atoll_build_bytes(&w->to, PyByteArray_AS_STRING(obj), PyByteArray_GET_SIZE(obj));
    } else {
        return 0;
    }
    return *frozen != NULL ? 1 : -1;
}

/* Where the parts of a container are, or NULL for what is none. */
static PyObject *content_of(PyObject *obj) {
    PyTypeObject *type = Py_TYPE(obj);
    if (type == &PyDictProxy_Type) {
        PyObject *mapping = ((atoll_mapping_proxy *)obj)->mapping;
        return PyDict_CheckExact(mapping) || Py_IS_TYPE(mapping, atoll_frozen_dict_type) ? content_of(mapping)
                                                                                         : NULL;
    }
    bool known = type == &PyTuple_Type || type == &PyList_Type || type == &PyDict_Type ||
                 type == &PySet_Type || type == &PyFrozenSet_Type || type == &PyRange_Type ||
                 type == atoll_frozen_dict_type;
    return known ? obj : NULL;
}

/* Puts the frozen form on the stack of values, or the container on that of frames. */
static int visit(walk *w, PyObject *obj) {
    PyObject *frozen;
    int rc = freeze_leaf(w, obj, &frozen);
    if (rc != 0) {
        return rc < 0 ? -1 : put_value(w, frozen);
    }
    PyObject *content = content_of(obj);
    if (content == NULL) {
        (void)refuse_type(w, obj);
        return -1;
    }
    bool remembered = Py_REFCNT(content) != 1 || content != obj || w->depth == 0;
    if (remembered) {
        bool found;
        PyObject **place = atoll_frozen_memo_at(&w->memo, content, &found);
        if (place == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        if (found) {
            return *place != NULL
                       ? put_value(w, *place)
                       : refuse(w, PyUnicode_FromFormat("a %s that contains itself cannot be frozen",
                                                        Py_TYPE(content)->tp_name));
        }
    }
    return push(w, obj, content, remembered);
}

/* The next part of a container: borrowed, or NULL when there is none, maybe with an exception. */
static PyObject *next_part(frame *fr) {
    PyObject *content = fr->content;
    PyTypeObject *type = Py_TYPE(content);
    if (type == &PyTuple_Type) {
        return fr->next < PyTuple_GET_SIZE(content) ? PyTuple_GET_ITEM(content, fr->next++) : NULL;
    }
    if (type == &PyList_Type) {
        return fr->next < PyList_GET_SIZE(content) ? PyList_GET_ITEM(content, fr->next++) : NULL;
    }
    if (type == &PyRange_Type) {
        return fr->next < 4 ? ((atoll_range *)content)->parts[fr->next++] : NULL;
    }
    if (fr->iter != NULL) {
        PyObject *item = PyIter_Next(fr->iter);
        Py_XDECREF(item); /* the set has it */
        return item;
    }
    PyObject *key;
    PyObject *value;
    Py_ssize_t at = fr->next;
    if (!PyDict_Next(content, &at, &key, &value)) {
        return NULL;
    }
    if (fr->done % 2 == 0) {
        fr->key = NULL;
        return key;
    }
    fr->key = key;
    fr->next = at;
    return value;
}

/* All parts of it are there. */
static PyObject *build(walk *w, const frame *fr) {
    PyObject **parts = &w->values[fr->base];
    size_t n = w->count - fr->base;
    PyTypeObject *type = Py_TYPE(fr->content);
    return type == &PyTuple_Type || type == &PyList_Type      ? atoll_build_tuple(&w->to, parts, n)
           : type == &PyRange_Type                            ? atoll_build_range(&w->to, parts)
           : type == &PySet_Type || type == &PyFrozenSet_Type ? atoll_build_frozenset(&w->to, parts, n)
                                                              : atoll_build_mapping(&w->to, parts, n / 2);
}

static int finish(walk *w, frame *fr) {
    PyObject *frozen = build(w, fr);
    if (frozen == NULL) {
        return -1;
    }
    if (fr->remembered) {
        bool found;
        PyObject **place = atoll_frozen_memo_at(&w->memo, fr->content, &found);
        if (place == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        *place = frozen;
    }
    Py_XDECREF(fr->iter);
    w->count = fr->base;
    w->depth--;
    return put_value(w, frozen);
}

static int run(walk *w, PyObject *obj) {
    int rc = visit(w, obj);
    while (rc == 0 && w->depth != 0) {
        frame *fr = &w->frames[w->depth - 1];
        fr->done = (Py_ssize_t)(w->count - fr->base);
        PyObject *part = next_part(fr);
        rc = part != NULL ? visit(w, part) : PyErr_Occurred() ? -1 : finish(w, fr);
    }
    return rc;
}

PyObject *atoll_frozen_make(atoll_area *area, atoll_frozen_table *table, PyObject *obj,
                            PyObject *refuse_with) {
    if (atoll_frozen_is(obj)) {
        return Py_NewRef(obj);
    }
    if (atoll_frozen_guard() < 0 || atoll_frozen_prove() < 0) {
        return NULL;
    }
    atoll_frozen_table *own = table == NULL ? atoll_frozen_table_new() : NULL;
    walk w = {.to = {area, own != NULL ? own : table}, .refuse = refuse_with};
    if (w.to.table == NULL) {
        return PyErr_NoMemory();
    }
    atoll_area_mark mark = atoll_area_now(area);
    int rc = run(&w, obj);
    PyObject *frozen = rc == 0 ? w.values[0] : NULL;
    if (rc == 0) {
        atoll_area_seal(area, &mark);
    } else {
        atoll_area_rewind(area, &mark);
        atoll_table_empty(w.to.table);
    }
    while (w.depth > 0) {
        Py_XDECREF(w.frames[--w.depth].iter);
    }
    free(w.frames);
    free(w.values);
    atoll_frozen_memo_free(&w.memo);
    atoll_frozen_table_free(own);
    return frozen;
}
