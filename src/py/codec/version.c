/* Versions: telling whether a value is still what it was when it was sent.
 *
 * A global, or an attribute of a class, goes with its version, a hash of what it encodes to; the receiver notes which version it has
 * taken, and takes a value only when that is another.  So what the receiver's own code has bound since then
 * stays until the sender's value changes again.
 *
 * What is hashed is an outline: definitions stand in it by what they are (a function by its identity and what is in its closure, a
 * class by its number), whatever is shared by its place in the process, large data by a hash of it.  It does not depend on how often
 * something is referred to.  In the version of a name's value it says of objects in it that have names which they are (codec/nested.c).
 * Nothing of an outline is ever decoded.  Two values of one version are equal but for a collision of 64 bits, and those that may change are one object (but for an
 * address that has come to be another's).
 *
 * A reach is a list of the places, among all that a function reaches, whose values may change without anybody being told: a global
 * that holds a list, an attribute of a class that holds one, a function with a closure.  (What is bound anew is seen
 * otherwise: codec/watch.c.)  Where there are classes in it, it has the number of registrations with abstract classes, too.  It is made while the function is encoded, and compared before each call of it: that costs
 * what encoding these values costs, and for large buffers what reading them does.  A reach does not keep alive what it
 * leads to: a dict of globals that goes away moves the epoch, functions and classes are referred to weakly.
 * Telling a version may run code, and so other threads: the version of a place is told before what is there is encoded, so that
 * what changes in between is seen the next time; and a dict is looked into only where the table of namespaces has it still.
 */
#include "py/codec/internal.h"

/* ---- hashing ---- */

static uint64_t rotated(uint64_t v, int by) { return v << by | v >> (64 - by); }

static uint64_t folded(uint64_t a, uint64_t b) {
    unsigned __int128 product = (unsigned __int128)(a ^ UINT64_C(0x9FB21C651E98DF25)) * (b | 1);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t load(const uint8_t *at, size_t n) {
    uint64_t word = 0;
    memcpy(&word, at, n);
    return word;
}

uint64_t atoll_hash(const void *data, size_t size) {
    static const uint64_t odd[4] = {UINT64_C(0x9E3779B97F4A7C15), UINT64_C(0xC2B2AE3D27D4EB4F),
                                    UINT64_C(0x165667B19E3779F9), UINT64_C(0xD6E8FEB86659FD93)};
    const uint8_t *at = data;
    size_t left = size;
    uint64_t lane[4] = {odd[3], odd[2], odd[1], odd[0]};
    for (; left >= 32; left -= 32, at += 32) { /* four chains, that do not wait for each other */
        for (int i = 0; i < 4; i++) {
            lane[i] = rotated((lane[i] ^ load(at + 8 * i, 8)) * odd[i], 29);
        }
    }
    for (int i = 0; left != 0; i++) {
        size_t n = left < 8 ? left : 8;
        lane[i] = rotated((lane[i] ^ load(at, n)) * odd[i], 29);
        at += n;
        left -= n;
    }
    uint64_t hash = folded(folded(lane[0], lane[1]), folded(lane[2], lane[3]));
    return folded(hash ^ size, odd[0]);
}

static uint64_t mixed(uint64_t hash, uint64_t word) {
    return folded(rotated(hash, 17) ^ word, 0xC2B2AE3D27D4EB4F);
}

/* ---- versions ---- */

static int version_by_outline(atoll_codec *codec, PyObject *value, uint64_t *version, bool identities) {
    atoll_message outline = {0};
    int rc = atoll_encode_outline(codec, &outline, value, identities);
    *version = rc == 0 ? atoll_hash(outline.body.data, outline.body.len) : 0;
    atoll_message_clear(&outline);
    return rc;
}

int atoll_version_of_state(atoll_codec *codec, PyObject *value, uint64_t *state) {
    return version_by_outline(codec, value, state, false);
}

int atoll_version_of(atoll_codec *codec, PyObject *value, uint64_t *version) {
    PyTypeObject *type = Py_TYPE(value);
    if (type == &PyLong_Type && PyUnstable_Long_IsCompact((PyLongObject *)value)) {
        *version = mixed(T_INT64, (uint64_t)PyUnstable_Long_CompactValue((PyLongObject *)value));
    } else if (type == &PyUnicode_Type) {
        size_t size = (size_t)PyUnicode_GET_LENGTH(value) * PyUnicode_KIND(value);
        *version = mixed(T_STR_1 + PyUnicode_KIND(value), atoll_hash(PyUnicode_DATA(value), size));
    } else if (type == &PyBytes_Type) {
        *version = mixed(T_BYTES, atoll_hash(PyBytes_AS_STRING(value), (size_t)PyBytes_GET_SIZE(value)));
    } else if (value == Py_None || type == &PyBool_Type) {
        *version = mixed(T_NONE, value == Py_None ? 0 : value == Py_True ? 1 : 2);
    } else {
        return version_by_outline(codec, value, version, true);
    }
    return 0;
}

/* ---- what cannot change without notice ---- */

/* Whether its items may be assigned: a record of numpy is hashed by value all the same. */
static bool has_assignable_items(const PyTypeObject *type) {
    return (type->tp_as_mapping != NULL && type->tp_as_mapping->mp_ass_subscript != NULL) ||
           (type->tp_as_sequence != NULL && type->tp_as_sequence->sq_ass_item != NULL);
}

/* Whether it has attributes that may be assigned: a dtype of numpy is hashed by value all the same.  What all objects have does not count. */
static bool has_assignable_attributes(const PyTypeObject *type) {
    bool found = false;
    for (; !found && type != NULL && type != &PyBaseObject_Type; type = type->tp_base) {
        for (const PyGetSetDef *at = type->tp_getset; !found && at != NULL && at->name != NULL; at++) {
            found = at->set != NULL;
        }
        for (const PyMemberDef *at = type->tp_members; !found && at != NULL && at->name != NULL; at++) {
            found = (at->flags & Py_READONLY) == 0;
        }
    }
    return found;
}

/* An instance of a type that C code made once for all, which compares and hashes by value: a pattern, a date, a Decimal. */
static bool is_value_of_c(PyObject *value) {
    PyTypeObject *type = Py_TYPE(value);
    bool fixed_type =
        (type->tp_flags & Py_TPFLAGS_HEAPTYPE) == 0 || (type->tp_flags & Py_TPFLAGS_IMMUTABLETYPE) != 0;
    if (!fixed_type || type->tp_dictoffset != 0 || type->tp_hash == NULL ||
        type->tp_hash == PyBaseObject_Type.tp_hash || type->tp_hash == PyObject_HashNotImplemented ||
        has_assignable_items(type) || has_assignable_attributes(type)) {
        return false;
    }
    /* These hash, and have something in them that may change. */
    bool container = (type->tp_flags & (Py_TPFLAGS_SEQUENCE | Py_TPFLAGS_MAPPING)) != 0;
    return (!container || type == &PyRange_Type) && type != &PyMethod_Type && type != &PySlice_Type &&
           type != &PyContextVar_Type && type != &PyFrozenSet_Type && !PyWeakref_Check(value) &&
           strcmp(type->tp_name, "method-wrapper") != 0;
}

bool atoll_is_type_form(PyObject *value) {
    PyTypeObject *type = Py_TYPE(value);
    if (type == &Py_GenericAliasType || strcmp(type->tp_name, "types.UnionType") == 0 ||
        strcmp(type->tp_name, "lazy_import") == 0 || strncmp(type->tp_name, "typing.", 7) == 0) {
        return true;
    }
    bool python = (type->tp_flags & Py_TPFLAGS_HEAPTYPE) != 0;
    PyObject *dict = python ? PyType_GetDict(type) : NULL;
    PyObject *module = dict != NULL ? PyDict_GetItemString(dict, "__module__") : NULL;
    bool found =
        module != NULL && PyUnicode_Check(module) && PyUnicode_CompareWithASCIIString(module, "typing") == 0;
    Py_XDECREF(dict);
    return found;
}

static bool is_fixed_to(PyObject *value, int depth);

/* The attribute in which a value of C refers to other objects, or NULL: list[X], X | Y, a date with a zone. */
static const char *made_of(PyObject *value) {
    static const char *const types[][2] = {{"types.GenericAlias", "__args__"},
                                           {"types.UnionType", "__args__"},
                                           {"typing.Union", "__args__"},
                                           {"datetime.datetime", "tzinfo"},
                                           {"datetime.time", "tzinfo"}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(Py_TYPE(value)->tp_name, types[i][0]) == 0) {
            return types[i][1];
        }
    }
    return NULL;
}

static bool is_part_fixed(PyObject *value, const char *name, int depth) {
    PyObject *part = PyObject_GetAttrString(value, name);
    bool fixed = part != NULL && is_fixed_to(part, depth);
    PyErr_Clear();
    Py_XDECREF(part);
    return fixed;
}

/* What is made once and stays as it is, although it is compared by identity.  The name that a lazy import is bound to gets another
 * value when it is first used. */
static bool is_made_once(PyObject *value) {
    static const char *const names[] = {"collections._tuplegetter", "typing.TypeVar", "typing.ParamSpec",
                                        "typing.TypeVarTuple", "lazy_import"};
    PyTypeObject *type = Py_TYPE(value);
    bool found = false;
    for (size_t i = 0; !found && i < sizeof names / sizeof names[0]; i++) {
        found = strcmp(type->tp_name, names[i]) == 0;
    }
    return found &&
           ((type->tp_flags & Py_TPFLAGS_HEAPTYPE) == 0 || (type->tp_flags & Py_TPFLAGS_IMMUTABLETYPE) != 0);
}

/* What is put around functions, which tell on their own what may change in them. */
static bool are_functions_fixed(PyObject *value, int depth) {
    if (PyObject_TypeCheck(value, &PyProperty_Type)) {
        return Py_IS_TYPE(value, &PyProperty_Type) && is_part_fixed(value, "fget", depth) &&
               is_part_fixed(value, "fset", depth) && is_part_fixed(value, "fdel", depth);
    }
    return (Py_IS_TYPE(value, &PyStaticMethod_Type) || Py_IS_TYPE(value, &PyClassMethod_Type)) &&
           is_part_fixed(value, "__func__", depth);
}

bool atoll_is_code_wrapper(PyObject *value) { return are_functions_fixed(value, 2); }

/* And whether what it has for attributes cannot change; that it gets another one is watched (codec/wrapped.c).  Its annotations are the
 * function's. */
static bool is_fixed_wrapper(PyObject *value, int depth) {
    if (!are_functions_fixed(value, depth)) {
        return false;
    }
    PyObject *dict = Py_IS_TYPE(value, &PyProperty_Type) ? NULL : PyObject_GenericGetDict(value, NULL);
    Py_ssize_t pos = 0;
    PyObject *name;
    PyObject *part;
    bool fixed = true;
    while (fixed && dict != NULL && PyDict_Next(dict, &pos, &name, &part)) {
        fixed = is_fixed_to(part, depth) ||
                (PyUnicode_Check(name) && PyUnicode_CompareWithASCIIString(name, "__annotations__") == 0);
    }
    PyErr_Clear();
    Py_XDECREF(dict);
    return fixed;
}

static bool is_fixed_to(PyObject *value, int depth) {
    if (atoll_is_plain_value(value) || PyFunction_Check(value) || PyType_Check(value) ||
        PyModule_Check(value)) {
        return true; /* functions and classes tell on their own what may change in them */
    }
    if (PyCFunction_Check(value)) {
        PyObject *self = PyCFunction_GET_SELF(value);
        return self == NULL || PyModule_Check(self) || PyType_Check(self);
    }
    if (PyTuple_CheckExact(value) && depth > 0 && PyTuple_GET_SIZE(value) <= 16) {
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(value); i++) {
            if (!is_fixed_to(PyTuple_GET_ITEM(value, i), depth - 1)) {
                return false;
            }
        }
        return true;
    }
    if (is_made_once(value) || (depth > 0 && is_fixed_wrapper(value, depth - 1))) {
        return true;
    }
    if (!is_value_of_c(value)) {
        return false;
    }
    const char *part = made_of(value);
    return part == NULL || (depth > 0 && is_part_fixed(value, part, depth - 1));
}

bool atoll_is_fixed(PyObject *value) { return is_fixed_to(value, 3); }

/* ---- reaches ---- */

typedef struct {
    PyObject *dict;   /* borrowed: globals, in which it is, or NULL */
    PyObject *ref;    /* else a weak reference to a function, or to the class whose attribute it is */
    PyObject *name;   /* NULL for a function */
    uint64_t version; /* when it was encoded */
} place;

struct atoll_reach {
    unsigned refs; /* under the GIL */
    place *places;
    size_t n;
    size_t cap;
    bool always;            /* something in it changes in silence: nothing can be told from the places */
    bool classes;           /* there are some */
    uint64_t registrations; /* with abstract classes, before the first of them was encoded */
};

atoll_reach *atoll_reach_new(void) {
    atoll_reach *reach = PyMem_RawCalloc(1, sizeof *reach);
    if (reach != NULL) {
        reach->refs = 1;
    }
    return reach;
}

void atoll_reach_retain(atoll_reach *reach) { reach->refs++; }

void atoll_reach_release(atoll_reach *reach) {
    if (reach == NULL || --reach->refs != 0) {
        return;
    }
    for (size_t i = 0; i < reach->n; i++) {
        Py_XDECREF(reach->places[i].ref);
        Py_XDECREF(reach->places[i].name);
    }
    PyMem_RawFree(reach->places);
    PyMem_RawFree(reach);
}

bool atoll_reach_is_empty(const atoll_reach *reach) {
    return reach->n == 0 && !reach->always && !reach->classes;
}

static int add_place(atoll_reach *reach, PyObject *dict, PyObject *of, PyObject *name, uint64_t version) {
    if (reach->n == reach->cap) {
        size_t cap = reach->cap != 0 ? reach->cap * 2 : 8;
        place *places = PyMem_RawRealloc(reach->places, cap * sizeof *places);
        if (places == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        reach->places = places;
        reach->cap = cap;
    }
    PyObject *ref = of != NULL ? PyWeakref_NewRef(of, NULL) : NULL;
    if (of != NULL && ref == NULL) {
        return -1;
    }
    reach->places[reach->n++] = (place){dict, ref, Py_XNewRef(name), version};
    return 0;
}

/* In the reach of the function, and in that of the class, that are being written. */
static int add(atoll_encoder *enc, PyObject *dict, PyObject *of, PyObject *name, uint64_t version) {
    if (enc->reach != NULL && add_place(enc->reach, dict, of, name, version) < 0) {
        return -1;
    }
    return enc->own != NULL ? add_place(enc->own, dict, of, name, version) : 0;
}

int atoll_reach_global(atoll_encoder *enc, PyObject *globals, PyObject *name, uint64_t version) {
    return add(enc, globals, NULL, name, version);
}

int atoll_reach_attribute(atoll_encoder *enc, PyObject *cls, PyObject *name, uint64_t version) {
    return add(enc, NULL, cls, name, version);
}

static bool values_are_fixed(PyObject *dict) {
    Py_ssize_t pos = 0;
    PyObject *value;
    while (dict != NULL && PyDict_Next(dict, &pos, NULL, &value)) {
        if (!atoll_is_fixed(value)) {
            return false;
        }
    }
    return true;
}

static bool items_are_fixed(PyObject *items) {
    for (Py_ssize_t i = 0; items != NULL && i < PyTuple_GET_SIZE(items); i++) {
        PyObject *item = PyTuple_GET_ITEM(items, i);
        item = PyCell_Check(item) ? PyCell_GET(item) : item;
        if (item != NULL && !atoll_is_fixed(item)) {
            return false;
        }
    }
    return true;
}

/* Whether codec/kept.c sees all that may change in it. */
static bool is_seen_elsewhere(atoll_codec *codec, const PyFunctionObject *func) {
    return (items_are_fixed(func->func_closure) || atoll_is_foreign(codec, func)) &&
           items_are_fixed(func->func_defaults) && values_are_fixed(func->func_kwdefaults) &&
           values_are_fixed(func->func_dict);
}

int atoll_reach_function(atoll_encoder *enc, PyFunctionObject *func) {
    if (atoll_function_may_be_numbered(func) || atoll_is_annotate(func)) {
        return 0;
    }
    bool of_class = enc->own != NULL && !is_seen_elsewhere(enc->codec, func);
    uint64_t version = 0;
    if ((enc->reach == NULL && !of_class) ||
        atoll_version_to_send(enc, (PyObject *)func, &version, true) < 0) {
        return PyErr_Occurred() ? -1 : 0;
    }
    if (enc->reach != NULL && add_place(enc->reach, NULL, (PyObject *)func, NULL, version) < 0) {
        return -1;
    }
    return of_class ? add_place(enc->own, NULL, (PyObject *)func, NULL, version) : 0;
}

int atoll_reach_add_all(atoll_reach *reach, const atoll_reach *more) {
    for (size_t i = 0; reach != NULL && more != NULL && i < more->n; i++) {
        const place *at = &more->places[i];
        if (add_place(reach, at->dict, NULL, at->name, at->version) < 0) {
            return -1;
        }
        reach->places[reach->n - 1].ref = Py_XNewRef(at->ref);
    }
    return 0;
}

void atoll_reach_always(atoll_encoder *enc) {
    if (enc->reach != NULL) {
        enc->reach->always = true;
    }
}

void atoll_reach_class(atoll_encoder *enc, uint64_t registrations) {
    if (enc->reach != NULL && !enc->reach->classes) {
        enc->reach->classes = true;
        enc->reach->registrations = registrations;
    }
}

/* What is at a place: 1 with a new reference, 0 when there is nothing, -1 with an exception. */
static int look_at(const atoll_codec *codec, const place *at, PyObject **value) {
    *value = NULL;
    if (at->dict != NULL) {
        if (!atoll_space_is_of(codec, at->dict)) {
            return 0; /* code that ran for another place has done away with it */
        }
        PyObject *dict = Py_NewRef(at->dict); /* comparing keys may run code, too */
        *value = Py_XNewRef(PyDict_GetItemWithError(dict, at->name));
        Py_DECREF(dict);
        return *value != NULL ? 1 : PyErr_Occurred() ? -1 : 0;
    }
    PyObject *of;
    int rc = atoll_weakref_target(at->ref, &of);
    if (rc <= 0 || at->name == NULL) {
        *value = rc > 0 ? of : NULL;
        return rc;
    }
    PyObject *dict = PyType_GetDict((PyTypeObject *)of);
    *value = dict != NULL ? Py_XNewRef(PyDict_GetItemWithError(dict, at->name)) : NULL;
    Py_XDECREF(dict);
    Py_DECREF(of);
    return *value != NULL ? 1 : PyErr_Occurred() ? -1 : 0;
}

uint64_t atoll_version_of_identity(uint64_t version, uint64_t identity) { return mixed(version, identity); }

/* Of a value that may change: another object is another version, though it is equal. */
static int version_of_object(atoll_codec *codec, PyObject *value, uint64_t *version) {
    if (atoll_version_of(codec, value, version) < 0) {
        return -1;
    }
    *version = mixed(*version, atoll_identity_of(codec, value));
    return 0;
}

int atoll_reach_is_same(atoll_codec *codec, const atoll_reach *reach) {
    uint64_t registrations = 0;
    int same = !reach->always;
    if (same > 0 && reach->classes) {
        same = atoll_registrations(codec, &registrations) < 0 ? -1 : registrations == reach->registrations;
    }
    for (size_t i = 0; same > 0 && i < reach->n; i++) {
        const place *at = &reach->places[i];
        PyObject *value;
        uint64_t version = 0;
        same = look_at(codec, at, &value);
        if (same > 0) {
            int rc = at->name == NULL ? atoll_version_of(codec, value, &version)
                                      : version_of_object(codec, value, &version);
            same = rc < 0 ? -1 : version == at->version;
            Py_DECREF(value);
        }
    }
    return same;
}

/* ---- named values with their versions ---- */

int atoll_version_to_send(atoll_encoder *enc, PyObject *value, uint64_t *version, bool fixed) {
    int rc =
        fixed ? atoll_version_of(enc->codec, value, version) : version_of_object(enc->codec, value, version);
    if (rc < 0) {
        if (atoll_error_comes_again()) {
            return -1;
        }
        PyErr_Clear(); /* encoding it says why, or does it */
        *version = atoll_next_number();
    }
    return 0;
}

int atoll_encode_named(atoll_encoder *enc, PyObject *name, PyObject *value, uint64_t version, bool fixed) {
    if (atoll_encode_shared(enc, name) < 0 || atoll_write_u64(enc, version) < 0 ||
        atoll_write_u64(enc, fixed ? 0 : atoll_identity_of(enc->codec, value)) < 0) {
        return -1;
    }
    if (enc->empty != NULL) {
        return atoll_write_empty(enc, value);
    }
    PyObject *outer = enc->named;
    enc->named = value;
    enc->defining++;
    int rc = atoll_encode_shared(enc, value);
    enc->defining--;
    enc->named = outer;
    return rc;
}

int atoll_decode_named(atoll_decoder *dec, atoll_named *out) {
    out->name = atoll_decode_value(dec);
    out->value = NULL;
    if (out->name != NULL && !PyUnicode_CheckExact(out->name)) {
        atoll_malformed("a name that is not a str");
    } else if (out->name != NULL) {
        out->version = atoll_get_u64(&dec->rd);
        out->identity = atoll_get_u64(&dec->rd);
        out->value = atoll_decode_value(dec);
    }
    if (out->value == NULL) {
        Py_CLEAR(out->name);
        return -1;
    }
    return 0;
}

int atoll_taken(PyObject *seen, PyObject *name, uint64_t version) {
    PyObject *had = PyDict_GetItemWithError(seen, name);
    if (had == NULL) {
        return PyErr_Occurred() ? -1 : ATOLL_NEVER;
    }
    uint64_t number = PyLong_AsUnsignedLongLong(had);
    return number == version ? ATOLL_SAME : PyErr_Occurred() ? -1 : ATOLL_OTHER;
}

int atoll_take(PyObject *seen, PyObject *name, uint64_t version) {
    PyObject *number = PyLong_FromUnsignedLongLong(version);
    int rc = number != NULL ? PyDict_SetItem(seen, name, number) : -1;
    Py_XDECREF(number);
    return rc;
}

void atoll_take_again(PyObject *seen) {
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *none_yet = PyLong_FromLong(ATOLL_NONE_YET);
    Py_ssize_t pos = 0;
    PyObject *name;
    while (PyDict_Next(seen, &pos, &name, NULL)) {
        (void)PyDict_SetItem(seen, name, none_yet); /* it is there: no memory is needed */
    }
    Py_DECREF(none_yet);
    PyErr_SetRaisedException(exc);
}
