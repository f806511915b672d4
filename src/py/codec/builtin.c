/* Numbers for callables that are no Python functions: builtins, methods of builtin types, classes, what extensions make.
 *
 * A number stands for what the receiver finds when the callable crosses in full, so it is for two sorts only:
 *
 *   what crosses by its import path      len, math.sqrt, int, a class or a compiled function of an importable module.  Its
 *                                        module's globals are watched, as those of functions are (codec/number.c): when their
 *                                        epoch has moved, the path is looked up again, and the same path keeps its number.
 *                                        Its name counts as reached: most of these objects are no definitions.
 *                                        Nothing is owned: an object that is gone has moved the epoch.
 *   builtin methods that never change    str.upper, dict.fromkeys, ", ".join, pattern.match: of an immutable type, bound to nothing
 *                                        or to something immutable.  Python makes an object anew each time it is asked for one,
 *                                        so that method and owner are compared; the object that came first is owned.
 *
 * The table is small and direct-mapped; what was pushed out of it gets another number.
 */
#include "py/codec/internal.h"

enum { OWNER_SIZE = 1 << 10 }; /* characters or bytes: a longer owner is not kept alive */

static bool is_builtin(PyObject *obj) {
    return PyCFunction_CheckExact(obj) || Py_IS_TYPE(obj, &PyCMethod_Type);
}

static atoll_builtin_entry *entry_of(atoll_codec *codec, PyObject *obj) {
    const void *key = obj;
    if (is_builtin(obj)) {
        key = (const char *)((PyCFunctionObject *)obj)->m_ml + (uintptr_t)PyCFunction_GET_SELF(obj);
    }
    return &codec->builtins[atoll_memo_hash(key) % ATOLL_BUILTIN_CACHE];
}

static bool is_same(PyObject *a, PyObject *b) {
    return a == b || (is_builtin(a) && is_builtin(b) &&
                      ((PyCFunctionObject *)a)->m_ml == ((PyCFunctionObject *)b)->m_ml &&
                      PyCFunction_GET_SELF(a) == PyCFunction_GET_SELF(b));
}

static bool is_immutable_type(PyObject *obj) {
    return PyType_Check(obj) && (((PyTypeObject *)obj)->tp_flags & Py_TPFLAGS_IMMUTABLETYPE) != 0;
}

/* Whether a builtin method may be kept that is bound to this. */
static bool is_constant_owner(PyObject *owner) {
    if (PyUnicode_CheckExact(owner) || PyBytes_CheckExact(owner)) {
        return PyObject_Size(owner) <= OWNER_SIZE;
    }
    return atoll_is_plain_value(owner) || is_immutable_type(owner) ||
           (is_immutable_type((PyObject *)Py_TYPE(owner)) &&
            strcmp(Py_TYPE(owner)->tp_name, "re.Pattern") == 0);
}

/* Whether it is one of the second sort. */
static bool is_constant(PyObject *obj) {
    if (Py_IS_TYPE(obj, &PyMethodDescr_Type) || Py_IS_TYPE(obj, &PyWrapperDescr_Type)) {
        return is_immutable_type((PyObject *)((PyDescrObject *)obj)->d_type);
    }
    PyObject *owner = is_builtin(obj) ? PyCFunction_GET_SELF(obj) : NULL;
    return owner != NULL && is_constant_owner(owner);
}

/* Whether it may be of the first.  Instances of classes made by code have what attributes they like. */
static bool may_have_path(const atoll_codec *codec, PyObject *obj) {
    PyTypeObject *type = Py_TYPE(obj);
    if (is_builtin(obj)) {
        PyObject *owner = PyCFunction_GET_SELF(obj);
        return owner != NULL && PyModule_Check(owner);
    }
    return PyType_Check(obj) || (type != &PyMethod_Type && strcmp(type->tp_name, "functools.partial") != 0 &&
                                 !atoll_is_made_by_code(codec, type));
}

/* A str attribute: new reference, or NULL, without an exception where there is none. */
static PyObject *text_of(atoll_codec *codec, PyObject *obj, int name) {
    PyObject *text = PyObject_GetAttr(obj, codec->names[name]);
    if (text == NULL && !atoll_error_is_urgent()) {
        PyErr_Clear();
    } else if (text != NULL && !PyUnicode_CheckExact(text)) {
        Py_CLEAR(text);
    }
    return text;
}

/* Whether obj crosses in full, with this tag if it is not 0: 1, 0, or -1 with an exception.  What refuses it is told when it is
 * sent. */
static int crosses(atoll_codec *codec, PyObject *obj, uint8_t tag) {
    atoll_message msg = {0};
    int rc = atoll_encode_examined(codec, &msg, obj, NULL); /* which traces do not show: nothing is sent */
    if (rc < 0 && !atoll_error_comes_again()) {
        PyErr_Clear();
        rc = 0;
    } else if (rc == 0) {
        rc = tag == 0 || (msg.body.data[0] & ~ATOLL_MEMO) == tag;
    }
    atoll_message_clear(&msg);
    return rc;
}

/* Whether name.qualname is obj, in a module whose globals are watched now. */
static int has_path(atoll_codec *codec, PyObject *obj, PyObject *name, PyObject *qualname) {
    PyObject *module = atoll_is_main_name(codec, name) ? NULL : atoll_origin_module(name);
    int rc = module == NULL && PyErr_Occurred() ? -1 : 0;
    if (module != NULL && PyModule_Check(module)) {
        PyObject *dict = PyModule_GetDict(module);
        bool watched = atoll_watch_globals(codec, dict);
        /* First: what it is bound to later moves the epoch. */
        atoll_note_path(codec, dict, qualname);
        if (watched && PyDict_GetItemWithError(dict, qualname) == obj) {
            rc = crosses(codec, obj, T_GLOBAL);
        }
        rc = PyErr_Occurred() ? -1 : rc;
    }
    Py_XDECREF(module);
    return rc;
}

static void set_entry(atoll_builtin_entry *entry, const atoll_builtin_entry *fresh) {
    const atoll_builtin_entry old = *entry;
    *entry = *fresh; /* what is dropped may run code */
    if (old.owned) {
        Py_XDECREF(old.obj);
    }
    Py_XDECREF(old.name);
    Py_XDECREF(old.qualname);
}

static uint64_t number_by_path(atoll_codec *codec, PyObject *obj, PyObject *name, PyObject *qualname,
                               uint64_t epoch) {
    atoll_builtin_entry *entry = entry_of(codec, obj);
    bool kept = entry->obj == obj && entry->name != NULL && PyUnicode_Compare(entry->name, name) == 0 &&
                PyUnicode_Compare(entry->qualname, qualname) == 0;
    atoll_builtin_entry fresh = {.obj = obj,
                                 .number = kept ? entry->number : atoll_next_number(),
                                 .epoch = epoch,
                                 .name = Py_NewRef(name),
                                 .qualname = Py_NewRef(qualname)};
    set_entry(entry, &fresh);
    return fresh.number;
}

/* One that is bound to a value gets its number when it comes for the second time: most never do. */
static uint64_t number_constant(atoll_codec *codec, PyObject *obj) {
    atoll_builtin_entry *entry = entry_of(codec, obj);
    if (entry->owned && is_same(entry->obj, obj)) {
        entry->number = entry->number != 0 ? entry->number : atoll_next_number();
        return entry->number;
    }
    bool bound = is_builtin(obj) && !PyType_Check(PyCFunction_GET_SELF(obj));
    atoll_builtin_entry fresh = {
        .obj = Py_NewRef(obj), .owned = true, .number = bound ? 0 : atoll_next_number()};
    set_entry(entry, &fresh);
    return fresh.number;
}

int atoll_builtins_number(atoll_codec *codec, PyObject *obj, uint64_t *number) {
    const atoll_builtin_entry *entry = entry_of(codec, obj);
    uint64_t epoch = atoll_globals_epoch(codec);
    if (entry->number != 0 &&
        (entry->owned ? is_same(entry->obj, obj) : entry->obj == obj && entry->epoch == epoch)) {
        *number = entry->number;
        return 0;
    }
    if (is_constant(obj)) {
        int rc = crosses(codec, obj, 0);
        *number = rc > 0 ? number_constant(codec, obj) : 0;
        return rc < 0 ? -1 : 0;
    }
    if (!may_have_path(codec, obj)) {
        return 0;
    }
    PyObject *qualname = text_of(codec, obj, N_QUALNAME);
    PyObject *name = qualname != NULL ? text_of(codec, obj, N_MODULE) : NULL;
    int rc = PyErr_Occurred() ? -1 : 0;
    if (name != NULL) {
        rc = has_path(codec, obj, name, qualname);
        *number = rc > 0 ? number_by_path(codec, obj, name, qualname, epoch) : 0;
    }
    Py_XDECREF(qualname);
    Py_XDECREF(name);
    return rc < 0 ? -1 : 0;
}

int atoll_builtins_traverse(atoll_codec *codec, visitproc visit, void *arg) {
    for (int i = 0; i < ATOLL_BUILTIN_CACHE; i++) {
        if (codec->builtins[i].owned) {
            Py_VISIT(codec->builtins[i].obj);
        }
    }
    return 0;
}

void atoll_builtins_clear(atoll_codec *codec) {
    const atoll_builtin_entry none = {0};
    for (int i = 0; i < ATOLL_BUILTIN_CACHE; i++) {
        set_entry(&codec->builtins[i], &none);
    }
}
