/* The walk through what is frozen, and what it refuses.
 *
 * No recursion: what is being frozen is a stack of frames, however deep the data is, and the frozen parts lie on another until what holds them is
 * made.  All types are exact ones of CPython's own and so are the keys, so nothing runs by itself.  But every few thousand objects handlers of signals
 * do (and may raise, which ends it), and other threads while a large array is copied.  So what is walked is owned, and a dict, set or list that
 * is found to have changed is an error: else it might have a key twice.
 *
 * Only what others refer to as well can occur twice, or contain itself: that is remembered by address.  Everything is found again by its content
 * (table.c), but for NaN, which equals nothing: a dict may have two of them as keys.
 *
 * What is frozen already is taken as it is if it lies in this area or in one that stays.  Else it is copied, as the other area may be given
 * back before this one.
 *
 * An array becomes an object of this interpreter, and so does each container that has got such a part (own.c): those that are made are in a list until
 * the end.  A tuple or frozendict whose parts are all what they were is taken as it is.
 *
 * What fails takes back all that it has made.
 */
#include "py/frozen/build.h"

#include "py/frozen/guard.h"
#include "py/frozen/own.h"
#include "py/frozen/proof.h"
#include "py/frozen/shared.h"

#include <math.h>
#include <stdlib.h>

enum { KEY_SHOWN = 40, STEPS_SHOWN = 50, CHECK_EVERY = 4096 /* parts */ };

/* A container that is being frozen. */
typedef struct {
    PyObject *content; /* owned: where its parts are, itself or the dict behind a proxy */
    PyObject *iter;    /* owned: over a set's members, or NULL */
    PyObject *key;     /* owned: of the part of a dict that is being frozen, or NULL */
    bool has_key;      /* that part is the value: not the key itself */
    Py_ssize_t size;   /* when it was begun */
    Py_ssize_t next;   /* of the parts, or the place in a dict */
    Py_ssize_t done;
    size_t base; /* where its frozen parts begin */
    bool remembered;
    bool has_own; /* one of its parts belongs to this interpreter */
} frame;

typedef struct {
    atoll_builder to;
    const atoll_frozen_way *way;
    atoll_frozen_memo memo;
    PyObject *own; /* a list of all that was made and belongs to this interpreter, or NULL */
    unsigned visits;
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
    if (!fr->has_key) {
        return PyUnicode_FromString("{…}");
    }
    PyObject *key = key_text(fr->key);
    PyObject *text = key != NULL ? PyUnicode_FromFormat("[%U]", key) : NULL;
    Py_XDECREF(key);
    return text;
}

/* Where the walk is: the outer steps and, where there are many, the inner ones. */
static PyObject *path_text(const walk *w, size_t depth) {
    PyObject *text = PyUnicode_FromString("obj");
    for (size_t i = 0; text != NULL && i < depth; i++) {
        PyObject *step;
        if (depth > 2 * STEPS_SHOWN && i == STEPS_SHOWN) {
            i = depth - STEPS_SHOWN;
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
    PyObject *path = why != NULL ? path_text(w, w->depth) : NULL;
    if (path != NULL) {
        PyErr_Format(w->way->refuse, "%U: %U", path, why);
    }
    Py_XDECREF(path);
    Py_XDECREF(why);
    return -1;
}

static bool is_called(const PyTypeObject *type, const char *name) { return strcmp(type->tp_name, name) == 0; }

static bool is_under(const PyTypeObject *type, const char *name) {
    while (type != NULL && !is_called(type, name)) {
        type = type->tp_base;
    }
    return type != NULL;
}

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
    if (is_under(type, "numpy.ndarray") || is_under(type, "array.array")) {
        return refuse(w, PyUnicode_FromFormat(
                             "a %.100s, a subclass of %s, cannot be frozen: freeze %s(it)", type->tp_name,
                             is_under(type, "array.array") ? "array.array" : "numpy.ndarray",
                             is_under(type, "array.array") ? "memoryview" : "numpy.asarray"));
    }
    if (is_under(type, "numpy.generic")) {
        return refuse(w, PyUnicode_FromFormat("a %.100s cannot be frozen: freeze it.item()", type->tp_name));
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
                         "tuple, list, dict, set, frozenset, bytearray, range and arrays can",
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

static Py_ssize_t size_of(PyObject *content) {
    PyTypeObject *type = Py_TYPE(content);
    return type == &PyTuple_Type                              ? PyTuple_GET_SIZE(content)
           : type == &PyList_Type                             ? PyList_GET_SIZE(content)
           : type == &PySet_Type || type == &PyFrozenSet_Type ? PySet_GET_SIZE(content)
           : type == &PyRange_Type                            ? 4
                                                              : PyDict_GET_SIZE(content);
}

static int push(walk *w, PyObject *content, bool remembered) {
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
    *fr = (frame){.size = size_of(content), .base = w->count, .remembered = remembered};
    if (PyAnySet_CheckExact(content) && (fr->iter = PyObject_GetIter(content)) == NULL) {
        return -1;
    }
    fr->content = Py_NewRef(content);
    w->depth++;
    return 0;
}

static void pop(walk *w) {
    frame *fr = &w->frames[--w->depth];
    Py_XDECREF(fr->iter);
    Py_XDECREF(fr->key);
    Py_DECREF(fr->content);
}

/* A part that belongs to this interpreter, the reference to which it takes over; also if it fails. */
static int put_own(walk *w, PyObject *value) {
    int rc = value != NULL && (w->own != NULL || (w->own = PyList_New(0)) != NULL)
                 ? PyList_Append(w->own, value)
                 : -1;
    Py_XDECREF(value);
    if (rc == 0 && w->depth != 0) {
        w->frames[w->depth - 1].has_own = true;
    }
    return rc < 0 ? -1 : put_value(w, value);
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

/* Remembers what has become of it. */
static int remember(walk *w, PyObject *obj, PyObject *frozen) {
    bool found;
    PyObject **place = atoll_frozen_memo_at(&w->memo, obj, &found);
    if (place == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    *place = frozen;
    return 0;
}

/* Says why an array cannot be frozen, with its path. */
static int refuse_array(const walk *w) {
    if (!PyErr_ExceptionMatches(PyExc_TypeError) && !PyErr_ExceptionMatches(PyExc_ValueError) &&
        !PyErr_ExceptionMatches(PyExc_BufferError)) {
        return -1;
    }
    PyObject *reason = PyErr_GetRaisedException();
    PyObject *text = PyObject_Str(reason);
    Py_DECREF(reason);
    return refuse(w, text);
}

/* What was frozen before in this walk. */
static int put_again(walk *w, PyObject *frozen) {
    return atoll_frozen_is(frozen) ? put_value(w, frozen) : put_own(w, Py_NewRef(frozen));
}

/* What is no container. */
static int visit_array(walk *w, PyObject *obj) {
    bool found;
    PyObject **place = atoll_frozen_memo_at(&w->memo, obj, &found);
    if (place == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (found) {
        return put_again(w, *place);
    }
    PyObject *frozen;
    int rc = atoll_frozen_own_array(obj, &frozen);
    if (rc <= 0) {
        return rc < 0 ? refuse_array(w) : refuse_type(w, obj);
    }
    return put_own(w, frozen) < 0 ? -1 : remember(w, obj, frozen);
}

/* Puts the frozen form on the stack of values, or the container on that of frames. */
static int visit(walk *w, PyObject *obj) {
    PyObject *frozen;
    int rc = freeze_leaf(w, obj, &frozen);
    if (rc != 0) {
        return rc < 0 ? -1 : put_value(w, frozen);
    }
    if (atoll_frozen_is_own_part(obj)) {
        return put_own(w, Py_NewRef(obj));
    }
    PyObject *content = content_of(obj);
    if (content == NULL) {
        return visit_array(w, obj);
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
                       ? put_again(w, *place)
                       : refuse(w, PyUnicode_FromFormat("a %s that contains itself cannot be frozen",
                                                        Py_TYPE(content)->tp_name));
        }
    }
    return push(w, content, remembered);
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
    fr->has_key = fr->done % 2 != 0;
    if (!PyDict_Next(content, &at, &key, &value)) {
        return NULL;
    }
    if (!fr->has_key) {
        Py_XSETREF(fr->key, Py_NewRef(key));
        return key;
    }
    fr->next = at;
    return key == fr->key ? value : NULL; /* so it ends too early */
}

/* Whether it is not what it was when it was begun: code has run meanwhile. */
static bool has_changed(const walk *w, const frame *fr) {
    Py_ssize_t n = (Py_ssize_t)(w->count - fr->base);
    bool is_mapping = PyDict_Check(fr->content) || Py_IS_TYPE(fr->content, atoll_frozen_dict_type);
    return fr->size != size_of(fr->content) || n != (is_mapping ? 2 * fr->size : fr->size);
}

static int refuse_changed(const walk *w) {
    PyObject *path = path_text(w, w->depth - 1);
    if (path != NULL) {
        PyErr_Format(PyExc_RuntimeError, "%U: it has changed while it was frozen", path);
    }
    Py_XDECREF(path);
    return -1;
}

/* The same of what has parts that belong to this interpreter: a new reference. */
static PyObject *build_own(PyObject *const *parts, const frame *fr) {
    PyObject *content = fr->content;
    bool is_same = true;
    if (PyTuple_CheckExact(content) || PyList_CheckExact(content)) {
        for (Py_ssize_t i = 0; i < fr->size && is_same; i++) {
            is_same = PyTuple_CheckExact(content) && PyTuple_GET_ITEM(content, i) == parts[i];
        }
        PyObject *made = is_same ? Py_NewRef(content) : PyTuple_New(fr->size);
        for (Py_ssize_t i = 0; made != NULL && i < fr->size && !is_same; i++) {
            PyTuple_SET_ITEM(made, i, Py_NewRef(parts[i]));
        }
        return made;
    }
    Py_ssize_t at = 0;
    PyObject *key;
    PyObject *value;
    is_same = ATOLL_HAS_FROZENDICT && Py_IS_TYPE(content, atoll_frozen_dict_type);
    for (Py_ssize_t i = 0; is_same && PyDict_Next(content, &at, &key, &value); i += 2) {
        is_same = key == parts[i] && value == parts[i + 1];
    }
    if (is_same) {
        return Py_NewRef(content);
    }
    PyObject *dict = atoll_frozen_own_dict();
    for (Py_ssize_t i = 0; dict != NULL && i < fr->size; i++) {
        if (PyDict_SetItem(dict, parts[2 * i], parts[2 * i + 1]) < 0) {
            Py_CLEAR(dict);
        }
    }
    PyObject *made = dict != NULL ? atoll_frozen_own_mapping(dict) : NULL;
    Py_XDECREF(dict);
    return made;
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
    if (has_changed(w, fr)) {
        return refuse_changed(w);
    }
    PyObject *const *parts = &w->values[fr->base];
    bool has_own = fr->has_own;
    PyObject *frozen = has_own ? build_own(parts, fr) : build(w, fr);
    if (frozen == NULL || (fr->remembered && remember(w, fr->content, frozen) < 0)) {
        Py_XDECREF(frozen);
        return -1;
    }
    w->count = fr->base;
    pop(w);
    return has_own ? put_own(w, frozen) : put_value(w, frozen);
}

/* Now and then; 0, or -1 with an exception. */
static int check(walk *w) {
    return ++w->visits % CHECK_EVERY == 0 && w->way->check != NULL ? w->way->check() : 0;
}

static int run(walk *w, PyObject *obj) {
    int rc = visit(w, obj);
    while (rc == 0 && w->depth != 0) {
        frame *fr = &w->frames[w->depth - 1];
        fr->done = (Py_ssize_t)(w->count - fr->base);
        PyObject *part = next_part(fr);
        rc = part != NULL ? visit(w, part) : PyErr_Occurred() ? -1 : finish(w, fr);
        rc = rc == 0 ? check(w) : rc;
    }
    return rc;
}

PyObject *atoll_frozen_make(const atoll_frozen_way *way, PyObject *obj) {
    int all = atoll_frozen_is_all(obj);
    if (all != 0) {
        return all > 0 ? Py_NewRef(obj) : NULL;
    }
    if (atoll_frozen_guard() < 0 || atoll_frozen_prove() < 0) {
        return NULL;
    }
    atoll_frozen_table *table = way->table == NULL ? atoll_frozen_table_new() : way->table;
    walk w = {.to = {way->area, table}, .way = way};
    if (table == NULL) {
        return PyErr_NoMemory();
    }
    atoll_area_mark mark = atoll_area_now(way->area);
    int rc = run(&w, obj);
    PyObject *frozen = rc == 0 ? Py_NewRef(w.values[0]) : NULL;
    if (rc == 0) {
        atoll_area_seal(way->area, &mark);
    } else {
        atoll_area_rewind(way->area, &mark);
        atoll_table_empty(table);
    }
    if (table != way->table) {
        atoll_frozen_table_free(table);
    }
    while (w.depth > 0) {
        pop(&w);
    }
    free(w.frames);
    free(w.values);
    /* What goes now may run code of anybody, with an exception set. */
    PyObject *error = PyErr_GetRaisedException();
    atoll_frozen_memo_free(&w.memo);
    Py_XDECREF(w.own);
    PyErr_SetRaisedException(error);
    return frozen;
}
