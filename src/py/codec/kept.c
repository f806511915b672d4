/* The bytes that were last written for a class by value, for the next one who has not got the class.
 *
 * They are worth something as long as nothing that they hold has changed.  What they were made of, their witnesses, are the
 * classes and functions by value in them; a stamp says what those were like, and is computed anew each time.  In it are
 *
 *   - the epoch of globals: definitions that functions name (codec/number.c);
 *   - how many registrations with abstract classes there have been, of any class: no class tells of one;
 *   - for each class and function, and the dicts that are parts of it (attributes of functions and methods, keyword defaults, annotations), how
 *     often something of its address was seen to change: all of these are watched;
 *   - for each function, what changes in silence: its names, its documentation, its type parameters, what computes its annotations, what is in
 *     its cells; for each class, its names, its metaclass and its bases (text, numbers, tuples of bases are among the witnesses, so that no others come to have their
 *     addresses).
 *
 * Values of mutable types are compared by themselves, those that were there when the bytes were written (a reach: codec/version.c).  What
 * cannot be had in this way (handles, what cannot be watched) makes bytes "impure": they are not kept.  Bytes of another interpreter's class need not be kept, nor those in which a class
 * outside is named by its number only.
 *
 * An entry goes with its class (codec/weak.c).
 */
#include "py/codec/internal.h"

/* E_REACH: a capsule, or None; E_INSIDE: which classes are in them (codec/written.c). */
enum { E_REF, E_STAMP, E_BYTES, E_WITNESSES, E_REACH, E_INSIDE };
enum { KEPT_CLASSES = 4096, KEPT_SIZE = 1 << 22, KEPT_IN_ALL = 1 << 26 };

/* The names of a function or class, and what a function says of itself: borrowed, or NULL.  How many there are. */
enum { NAMES = 4 };
static int names_of(PyObject *obj, PyObject *names[NAMES]) {
    if (PyFunction_Check(obj)) {
        const PyFunctionObject *func = (PyFunctionObject *)obj;
        PyObject *const all[NAMES] = {func->func_name, func->func_qualname, func->func_module,
                                      func->func_doc};
        memcpy(names, all, sizeof all);
        return NAMES;
    }
    names[0] = ((PyHeapTypeObject *)obj)->ht_name;
    names[1] = ((PyHeapTypeObject *)obj)->ht_qualname;
    return 2;
}

/* Each once, as many classes lead to the same: under its address, which a weak reference to an object has, too, as it is the same each time. */
static int add_witness(atoll_encoder *enc, Py_ssize_t key, PyObject *item) {
    PyObject *number = PyLong_FromSsize_t(key);
    int rc = number != NULL ? PyDict_SetItem(enc->witnesses, number, item) : -1;
    Py_XDECREF(number);
    return rc;
}

int atoll_witness_value(atoll_encoder *enc, PyObject *value) {
    return enc->witnesses == NULL ? 0 : add_witness(enc, (Py_ssize_t)(uintptr_t)value, value);
}

int atoll_witness(atoll_encoder *enc, PyObject *obj) {
    if (enc->witnesses == NULL) {
        return 0;
    }
    PyObject *ref = PyWeakref_NewRef(obj, NULL);
    int rc = ref != NULL ? atoll_witness_value(enc, ref) : -1;
    PyObject *names[NAMES];
    int n = names_of(obj, names);
    for (int i = 0; rc == 0 && i < n; i++) {
        rc = names[i] != NULL && atoll_is_plain_value(names[i]) ? atoll_witness_value(enc, names[i]) : 0;
    }
    if (rc == 0 && PyType_Check(obj)) {
        rc = atoll_witness_value(enc, ((PyTypeObject *)obj)->tp_bases);
    }
    Py_XDECREF(ref);
    return rc;
}

int atoll_witness_part(atoll_encoder *enc, PyObject *dict) {
    if (enc->witnesses == NULL) {
        return 0;
    }
    return add_witness(enc, -(Py_ssize_t)(uintptr_t)dict,
                       Py_None); /* the dict itself may lead to the class */
}

int atoll_witness_all(atoll_encoder *enc, PyObject *witnesses) {
    return enc->witnesses == NULL ? 0 : PyDict_Update(enc->witnesses, witnesses);
}

static uint64_t mix(uint64_t stamp, uint64_t value) {
    return ((stamp ^ value) * UINT64_C(0x9E3779B97F4A7C15)) ^ (stamp >> 29);
}

static uint64_t mix_address(uint64_t stamp, const void *ptr) { return mix(stamp, (uint64_t)(uintptr_t)ptr); }

/* A dict that is watched, or NULL, or no dict at all. */
static uint64_t mix_part(uint64_t stamp, PyObject *part) {
    return part != NULL ? mix(mix_address(stamp, part), atoll_changes_of(part)) : mix(stamp, 0);
}

static uint64_t mix_names(uint64_t stamp, PyObject *obj) {
    PyObject *names[NAMES];
    int n = names_of(obj, names);
    for (int i = 0; i < n; i++) {
        stamp = mix_address(stamp, names[i]);
    }
    return stamp;
}

/* What functions do not tell. */
static uint64_t mix_function(uint64_t stamp, PyFunctionObject *func) {
    stamp = mix_names(stamp, (PyObject *)func);
    stamp = mix_address(stamp, func->func_typeparams);
    stamp = mix_address(stamp, ATOLL_FUNCTION_ANNOTATE(func));
    stamp = mix_address(stamp, func->func_closure);
    for (Py_ssize_t i = 0; func->func_closure != NULL && i < PyTuple_GET_SIZE(func->func_closure); i++) {
        stamp = mix_address(stamp, PyCell_GET(PyTuple_GET_ITEM(func->func_closure, i)));
    }
    PyObject *const parts[] = {func->func_dict, func->func_kwdefaults, func->func_annotations};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        stamp = mix_part(stamp, parts[i]);
    }
    return stamp;
}

bool atoll_kept_watch_function(atoll_encoder *enc, PyFunctionObject *func) {
    return enc->witnesses == NULL || /* only in what belongs to a class can bytes be kept */
           (atoll_watch_part(enc->codec, func->func_dict) &&
            atoll_watch_part(enc->codec, func->func_kwdefaults) &&
            atoll_watch_part(enc->codec, func->func_annotations));
}

/* The dicts in a class's namespace that may be changed in place, without anybody telling. */
static const int class_dicts[] = {N_ANNOTATIONS, N_ANNOTATIONS_CACHE, N_DATACLASS_FIELDS};
enum { CLASS_DICTS = sizeof class_dicts / sizeof class_dicts[0] };

bool atoll_kept_watch_class(atoll_codec *codec, PyObject *cls) {
    PyObject *dict = PyType_GetDict((PyTypeObject *)cls);
    bool watched = dict != NULL && atoll_watch_class(codec, cls);
    for (size_t i = 0; watched && i < CLASS_DICTS; i++) {
        watched = atoll_watch_part(codec, PyDict_GetItemWithError(dict, codec->names[class_dicts[i]]));
    }
    PyErr_Clear();
    Py_XDECREF(dict);
    return watched;
}

static uint64_t mix_class(atoll_codec *codec, uint64_t stamp, PyObject *cls) {
    PyObject *dict = PyType_GetDict((PyTypeObject *)cls);
    stamp = mix_names(stamp, cls);
    stamp = mix_address(mix_address(stamp, Py_TYPE(cls)), ((PyTypeObject *)cls)->tp_bases);
    stamp = dict != NULL ? mix(stamp, atoll_changes_of(dict)) : stamp;
    for (size_t i = 0; dict != NULL && i < CLASS_DICTS; i++) {
        stamp = mix_part(stamp, PyDict_GetItemWithError(dict, codec->names[class_dicts[i]]));
    }
    PyErr_Clear();
    Py_XDECREF(dict);
    return stamp;
}

int atoll_registrations(atoll_codec *codec, uint64_t *count) {
    if (codec->cache_token == NULL) {
        PyObject *module = PyImport_ImportModule("abc");
        PyObject *found = module != NULL ? PyObject_GetAttrString(module, "get_cache_token") : NULL;
        Py_XDECREF(module);
        if (found == NULL) {
            return -1;
        }
        Py_XSETREF(codec->cache_token, found);
    }
    PyObject *token = PyObject_CallNoArgs(codec->cache_token);
    *count = token != NULL ? PyLong_AsUnsignedLongLong(token) : 0;
    Py_XDECREF(token);
    return PyErr_Occurred() ? -1 : 0;
}

/* 0 when one of them is gone; -1 with an exception. */
static int stamp_of(atoll_codec *codec, PyObject *witnesses, uint64_t *stamp) {
    uint64_t registrations;
    if (atoll_registrations(codec, &registrations) < 0) {
        return -1;
    }
    *stamp = mix(mix(0, atoll_globals_epoch(codec)), registrations);
    Py_ssize_t pos = 0;
    PyObject *key;
    PyObject *obj;
    while (PyDict_Next(witnesses, &pos, &key, &obj)) { /* which nobody changes any more */
        if (obj == Py_None) {
            *stamp = mix(*stamp, atoll_changes_of((void *)(uintptr_t)-PyLong_AsSsize_t(key)));
            continue;
        }
        if (!PyWeakref_Check(obj)) {
            continue;
        }
        int rc = atoll_weakref_target(obj, &obj);
        if (rc <= 0) {
            return rc;
        }
        *stamp = mix(*stamp, atoll_changes_of(obj));
        if (PyFunction_Check(obj)) {
            *stamp = mix_function(*stamp, (PyFunctionObject *)obj);
        } else {
            *stamp = mix_class(codec, *stamp, obj);
        }
        Py_DECREF(obj);
    }
    return 1;
}

static const char capsule_name[] = "atoll reach";

static void release_reach(PyObject *capsule) {
    atoll_reach_release(PyCapsule_GetPointer(capsule, capsule_name));
}

/* What a class reaches; None where there is nothing.  New reference, or NULL with an exception. */
static PyObject *reach_of(const atoll_encoder *part) {
    if (atoll_reach_is_empty(part->own)) {
        return Py_NewRef(Py_None);
    }
    PyObject *capsule = PyCapsule_New(part->own, capsule_name, release_reach);
    if (capsule != NULL) {
        atoll_reach_retain(part->own);
    }
    return capsule;
}

/* 1, 0, or -1 with an exception. */
static int is_reach_same(atoll_codec *codec, PyObject *capsule) {
    int rc = atoll_reach_is_same(codec, PyCapsule_GetPointer(capsule, capsule_name));
    if (rc < 0 && !atoll_error_is_urgent()) {
        PyErr_Clear();
        rc = 0;
    }
    return rc;
}

int atoll_kept_write(atoll_encoder *enc, PyObject *cls, uint64_t number) {
    PyObject *key = PyLong_FromUnsignedLongLong(number);
    PyObject *entry = key != NULL ? atoll_weak_entry(enc->codec->class_bytes, key, cls) : NULL;
    Py_XDECREF(key);
    if (entry == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    Py_INCREF(entry);
    uint64_t stamp;
    int rc = stamp_of(enc->codec, PyTuple_GET_ITEM(entry, E_WITNESSES), &stamp);
    uint64_t before = rc > 0 ? PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(entry, E_STAMP)) : 0;
    if (rc > 0 && stamp != before) {
        rc = 0;
    }
    if (rc > 0 && PyTuple_GET_ITEM(entry, E_REACH) != Py_None) {
        rc = is_reach_same(enc->codec, PyTuple_GET_ITEM(entry, E_REACH));
    }
    if (rc > 0 && PyTuple_GET_ITEM(entry, E_REACH) != Py_None &&
        atoll_reach_add_all(enc->own, PyCapsule_GetPointer(PyTuple_GET_ITEM(entry, E_REACH), capsule_name)) <
            0) {
        rc = -1;
    }
    if (rc > 0 && atoll_witness_all(enc, PyTuple_GET_ITEM(entry, E_WITNESSES)) < 0) {
        rc = -1;
    }
    if (rc > 0) {
        PyObject *bytes = PyTuple_GET_ITEM(entry, E_BYTES);
        size_t size = (size_t)PyBytes_GET_SIZE(bytes);
        size_t from = enc->msg->body.len;
        uint8_t *at = atoll_reserve(enc, size);
        if (at != NULL) {
            memcpy(at, PyBytes_AS_STRING(bytes), size);
            atoll_commit(enc, at + size);
        }
        rc = at != NULL && atoll_written_begin(enc, number, from) == 0 &&
                     atoll_written_again(enc, PyTuple_GET_ITEM(entry, E_INSIDE), from) == 0
                 ? 1
                 : -1;
    }
    Py_DECREF(entry);
    return rc;
}

/* Room for so many bytes more: every other entry goes where there is none, so that who sends in turns more than there is room for still finds
 * some.  0, or -1 with an exception. */
static int make_room(PyObject *kept, size_t size) {
    Py_ssize_t pos = 0;
    PyObject *entry;
    while (PyDict_Next(kept, &pos, NULL, &entry)) {
        size += (size_t)PyBytes_GET_SIZE(PyTuple_GET_ITEM(entry, E_BYTES));
    }
    if (size <= KEPT_IN_ALL && PyDict_GET_SIZE(kept) < KEPT_CLASSES) {
        return 0;
    }
    PyObject *keys = PyDict_Keys(kept);
    for (Py_ssize_t i = 0; keys != NULL && i < PyList_GET_SIZE(keys); i += 2) {
        atoll_weak_drop(kept, PyList_GET_ITEM(keys, i));
    }
    Py_XDECREF(keys);
    return keys != NULL ? 0 : -1;
}

int atoll_kept_store(const atoll_encoder *part, PyObject *cls, uint64_t number, size_t from) {
    atoll_codec *codec = part->codec;
    const atoll_buffer *body = &part->msg->body;
    size_t size = body->len - from;
    if (size > KEPT_SIZE) {
        return 0;
    }
    uint64_t stamp;
    PyObject *bytes = PyBytes_FromStringAndSize((const char *)body->data + from, (Py_ssize_t)size);
    PyObject *inside = bytes != NULL ? atoll_written_inside(part, from) : NULL;
    PyObject *reach = inside != NULL ? reach_of(part) : NULL;
    int rc = reach != NULL ? stamp_of(codec, part->witnesses, &stamp) : -1;
    rc = rc > 0 && make_room(codec->class_bytes, size) < 0 ? -1 : rc;
    if (rc > 0) {
        PyObject *key = PyLong_FromUnsignedLongLong(number);
        PyObject *more[] = {PyLong_FromUnsignedLongLong(stamp), bytes, part->witnesses, reach, inside};
        rc = key != NULL && more[0] != NULL ? atoll_weak_store(codec->class_bytes, key, cls, more, 5) : -1;
        Py_XDECREF(key);
        Py_XDECREF(more[0]);
    }
    Py_XDECREF(reach);
    Py_XDECREF(inside);
    Py_XDECREF(bytes);
    return rc < 0 ? -1 : 0;
}
