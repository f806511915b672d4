/* Frozen objects, field by field.
 *
 * Their parts are frozen already, and each value is there once: so parts are compared by address, and so are tuples, sets and dicts by
 * their parts.  An object is written before anybody else can have it.
 *
 * Tables of dicts and sets are made here, not copied, at least twice as large as what is in them, so that keys are found quickly, and filled
 * in the order of their keys by the rules that CPython looks keys up by.  The keys are different, as they were in the sender's; else it has changed meanwhile.  The entries of a dict end with the
 * last one: who copies the table as it is (dict.copy()) reads on as far as there would be room, so something readable follows.
 */
#include "py/frozen/build.h"

#include "py/frozen/shared.h"

#include <math.h>
#include <string.h>

PyObject *atoll_build_object(const atoll_builder *to, PyTypeObject *type, size_t size, size_t slack) {
    size_t head = PyType_IS_GC(type) ? ATOLL_GC_HEAD : 0;
    char *at = atoll_area_take(to->area, head + size, slack);
    if (at == NULL) {
        return NULL;
    }
    PyObject *obj = (PyObject *)(at + head);
    atoll_immortal_init(obj);
    obj->ob_type = type;
    return obj;
}

PyObject *atoll_build_enter(const atoll_builder *to, uint64_t hash, PyObject *obj) {
    return atoll_table_add(to->table, hash, obj) == 0 ? obj : PyErr_NoMemory();
}

/* ---- bytes and numbers: equal when what follows the head is ---- */

typedef struct {
    PyTypeObject *type;
    const void *data;
    size_t size;
    size_t offset;     /* of that data in an object */
    Py_ssize_t length; /* of bytes; an int's tag */
} content;

static bool is_content(PyObject *obj, const void *like) {
    const content *c = like;
    return Py_IS_TYPE(obj, c->type) && (c->type != &PyBytes_Type || PyBytes_GET_SIZE(obj) == c->length) &&
           (c->type != &PyLong_Type || atoll_int_tag(obj) == (uintptr_t)c->length) &&
           memcmp((const char *)obj + c->offset, c->data, c->size) == 0;
}

static uint64_t hash_content(const content *c) {
    uint64_t hash = atoll_table_mix((uint64_t)(uintptr_t)c->type, (uint64_t)c->length);
    const char *at = c->data;
    size_t left = c->size;
    for (; left >= 8; left -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        hash = atoll_table_mix(hash, word);
    }
    uint64_t last = 0;
    memcpy(&last, at, left);
    return atoll_table_mix(hash, last);
}

/* The equal object, or a new one, entered, with that data. */
static PyObject *build_content(const atoll_builder *to, const content *c, size_t size, bool *is_new) {
    uint64_t hash = hash_content(c);
    PyObject *obj = atoll_table_find(to->table, hash, is_content, c);
    *is_new = obj == NULL;
    if (obj == NULL && (obj = atoll_build_object(to, c->type, size, 0)) != NULL) {
        memcpy((char *)obj + c->offset, c->data, c->size);
        obj = atoll_build_enter(to, hash, obj);
    }
    return obj;
}

PyObject *atoll_build_bytes(const atoll_builder *to, const char *data, Py_ssize_t size) {
    if (size <= 1) { /* these are static */
        return PyBytes_FromStringAndSize(data, size);
    }
    const content c = {&PyBytes_Type, data, (size_t)size, offsetof(PyBytesObject, ob_sval), size};
    bool is_new;
    PyObject *obj = build_content(to, &c, c.offset + (size_t)size + 1, &is_new);
    if (obj != NULL && is_new) {
        ((PyVarObject *)obj)->ob_size = size;
        memset((char *)obj + offsetof(PyBytesObject, ob_sval) - sizeof(Py_hash_t), 0xFF, sizeof(Py_hash_t));
        if (PyObject_Hash(obj) == -1) { /* notes it */
            return NULL;
        }
    }
    return obj;
}

PyObject *atoll_build_int(const atoll_builder *to, PyObject *number) {
    size_t digits = atoll_int_digits(number);
    uintptr_t tag = atoll_int_tag(number) & ~ATOLL_INT_SMALL;
    const size_t offset = offsetof(PyLongObject, long_value.ob_digit);
    const content c = {&PyLong_Type, (const char *)number + offset, ATOLL_INT_SIZE(digits) - offset, offset,
                       (Py_ssize_t)tag};
    bool is_new;
    PyObject *obj = build_content(to, &c, ATOLL_INT_SIZE(digits), &is_new);
    if (obj != NULL && is_new) {
        atoll_int_tag(obj) = tag;
    }
    return obj;
}

static PyObject *build_floats(const atoll_builder *to, PyObject *number, size_t offset, size_t size,
                              bool nan) {
    PyTypeObject *type = Py_TYPE(number);
    const content c = {type, (const char *)number + offset, size, offset, 0};
    if (nan) {
        PyObject *obj = atoll_build_object(to, type, offset + size, 0);
        if (obj != NULL) {
            memcpy((char *)obj + offset, c.data, size);
        }
        return obj;
    }
    bool is_new;
    return build_content(to, &c, offset + size, &is_new);
}

PyObject *atoll_build_float(const atoll_builder *to, PyObject *number) {
    return build_floats(to, number, offsetof(PyFloatObject, ob_fval), sizeof(double),
                        isnan(PyFloat_AS_DOUBLE(number)));
}

PyObject *atoll_build_complex(const atoll_builder *to, PyObject *number) {
    return build_floats(to, number, offsetof(PyComplexObject, cval), sizeof(Py_complex),
                        isnan(PyComplex_RealAsDouble(number)) || isnan(PyComplex_ImagAsDouble(number)));
}

/* ---- tuples and ranges ---- */

typedef struct {
    PyObject *const *items;
    size_t n;
} row;

static uint64_t hash_row(uint64_t hash, PyObject *const *items, size_t n) {
    hash = atoll_table_mix(hash, n);
    for (size_t i = 0; i < n; i++) {
        hash = atoll_table_mix(hash, (uint64_t)(uintptr_t)items[i]);
    }
    return hash;
}

static bool is_tuple_of(PyObject *obj, const void *like) {
    const row *r = like;
    return Py_IS_TYPE(obj, &PyTuple_Type) && (size_t)PyTuple_GET_SIZE(obj) == r->n &&
           memcmp(((PyTupleObject *)obj)->ob_item, r->items, r->n * sizeof(PyObject *)) == 0;
}

#if ATOLL_TUPLES_KEEP_HASHES
/* Whether hash() is sure to fail for it: asking would cost an exception at each level. */
static bool has_no_hash(PyObject *obj) {
    return Py_IS_TYPE(obj, &PyDictProxy_Type) ||
           (Py_IS_TYPE(obj, &PyTuple_Type) && ((PyTupleObject *)obj)->ob_hash == -1 &&
            PyTuple_GET_SIZE(obj) != 0);
}

static void note_hash(PyObject *tuple) {
    PyTupleObject *op = (PyTupleObject *)tuple;
    op->ob_hash = -1;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); i++) {
        if (has_no_hash(op->ob_item[i])) {
            return;
        }
    }
    if (PyObject_Hash(tuple) == -1) {
        PyErr_Clear();
    }
}
#else
static void note_hash(PyObject *tuple) { (void)tuple; }
#endif

PyObject *atoll_build_tuple(const atoll_builder *to, PyObject *const *items, size_t n) {
    if (n == 0) {
        return PyTuple_New(0);
    }
    const row r = {items, n};
    uint64_t hash = hash_row(2, items, n);
    PyObject *obj = atoll_table_find(to->table, hash, is_tuple_of, &r);
    if (obj != NULL) {
        return obj;
    }
    obj = atoll_build_object(to, &PyTuple_Type, offsetof(PyTupleObject, ob_item) + n * sizeof(PyObject *), 0);
    if (obj == NULL) {
        return NULL;
    }
    ((PyVarObject *)obj)->ob_size = (Py_ssize_t)n;
    memcpy(((PyTupleObject *)obj)->ob_item, items, n * sizeof(PyObject *));
    note_hash(obj);
    return atoll_build_enter(to, hash, obj);
}

static bool is_range_of(PyObject *obj, const void *like) {
    return Py_IS_TYPE(obj, &PyRange_Type) &&
           memcmp(((atoll_range *)obj)->parts, like, sizeof((atoll_range *)obj)->parts) == 0;
}

PyObject *atoll_build_range(const atoll_builder *to, PyObject *const parts[4]) {
    uint64_t hash = hash_row(3, parts, 4);
    PyObject *obj = atoll_table_find(to->table, hash, is_range_of, parts);
    if (obj == NULL && (obj = atoll_build_object(to, &PyRange_Type, sizeof(atoll_range), 0)) != NULL) {
        memcpy(((atoll_range *)obj)->parts, parts, sizeof((atoll_range *)obj)->parts);
        obj = atoll_build_enter(to, hash, obj);
    }
    return obj;
}

/* What was a set or the keys of a dict has something twice. */
static void *twice(void) {
    PyErr_SetString(PyExc_RuntimeError, "a set or dict has changed while it was frozen");
    return NULL;
}

/* ---- sets ---- */

/* Where a key of this hash is, or the free place for it. */
static setentry *set_place(setentry *table, size_t mask, const PyObject *key, Py_hash_t hash) {
    size_t perturb = (size_t)hash;
    size_t i = (size_t)hash & mask;
    for (;;) {
        size_t last = i + ATOLL_SET_PROBES <= mask ? i + ATOLL_SET_PROBES : i;
        for (size_t at = i; at <= last && at <= mask; at++) {
            if (table[at].key == NULL || table[at].key == key) {
                return &table[at];
            }
        }
        perturb >>= ATOLL_PERTURB_SHIFT;
        i = (i * 5 + 1 + perturb) & mask;
    }
}

static bool is_set_of(PyObject *obj, const void *like) {
    const row *r = like;
    if (!Py_IS_TYPE(obj, &PyFrozenSet_Type) || (size_t)PySet_GET_SIZE(obj) != r->n) {
        return false;
    }
    PySetObject *set = (PySetObject *)obj;
    for (size_t i = 0; i < r->n; i++) {
        if (set_place(set->table, (size_t)set->mask, r->items[i], PyObject_Hash(r->items[i]))->key == NULL) {
            return false;
        }
    }
    return true;
}

PyObject *atoll_build_frozenset(const atoll_builder *to, PyObject *const *parts, size_t n) {
    const row r = {parts, n};
    uint64_t hash = atoll_table_mix(4, n);
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += atoll_table_mix(5, (uint64_t)(uintptr_t)parts[i]);
    }
    hash = atoll_table_mix(hash, sum);
    PyObject *obj = atoll_table_find(to->table, hash, is_set_of, &r);
    if (obj != NULL) {
        return obj;
    }
    size_t slots = PySet_MINSIZE;
    while (slots < 2 * n) {
        slots *= 2;
    }
    obj = atoll_build_object(to, &PyFrozenSet_Type, sizeof(PySetObject), 0);
    if (obj == NULL) {
        return NULL;
    }
    PySetObject *set = (PySetObject *)obj;
    set->table = set->smalltable;
    if (slots > PySet_MINSIZE &&
        (set->table = atoll_area_take(to->area, slots * sizeof(setentry), 0)) == NULL) {
        return NULL;
    }
    set->mask = (Py_ssize_t)slots - 1;
    set->fill = set->used = (Py_ssize_t)n;
    for (size_t i = 0; i < n; i++) {
        Py_hash_t part_hash = PyObject_Hash(parts[i]);
        setentry *place = set_place(set->table, slots - 1, parts[i], part_hash);
        if (place->key != NULL) {
            return twice();
        }
        *place = (setentry){parts[i], part_hash};
    }
    set->hash = -1;
    if (PyObject_Hash(obj) == -1) { /* notes it */
        return NULL;
    }
    return atoll_build_enter(to, hash, obj);
}

/* ---- dicts ---- */

static unsigned index_bytes_log2(unsigned log2) { return log2 < 8 ? 0 : log2 < 16 ? 1 : log2 < 32 ? 2 : 3; }

static Py_ssize_t index_at(const atoll_dict_keys *keys, size_t i) {
    switch (keys->dk_log2_index_bytes - keys->dk_log2_size) {
    case 0:
        return ((const int8_t *)keys->dk_indices)[i];
    case 1:
        return ((const int16_t *)keys->dk_indices)[i];
    case 2:
        return ((const int32_t *)keys->dk_indices)[i];
    default:
        return ((const int64_t *)keys->dk_indices)[i];
    }
}

static void set_index(atoll_dict_keys *keys, size_t i, size_t entry) {
    switch (keys->dk_log2_index_bytes - keys->dk_log2_size) {
    case 0:
        ((int8_t *)keys->dk_indices)[i] = (int8_t)entry;
        break;
    case 1:
        ((int16_t *)keys->dk_indices)[i] = (int16_t)entry;
        break;
    case 2:
        ((int32_t *)keys->dk_indices)[i] = (int32_t)entry;
        break;
    default:
        ((int64_t *)keys->dk_indices)[i] = (int64_t)entry;
    }
}

static const PyObject *key_at(const atoll_dict_keys *keys, Py_ssize_t at) {
    const char *entries = keys->dk_indices + ((size_t)1 << keys->dk_log2_index_bytes);
    return keys->dk_kind == ATOLL_KEYS_UNICODE ? ((const atoll_dict_unicode_entry *)entries)[at].key
                                               : ((const atoll_dict_entry *)entries)[at].key;
}

/* A place for the index of a key; *twice: that key is there. */
static size_t free_index(const atoll_dict_keys *keys, const PyObject *key, Py_hash_t hash, bool *twice) {
    size_t mask = ((size_t)1 << keys->dk_log2_size) - 1;
    size_t perturb = (size_t)hash;
    size_t i = perturb & mask;
    Py_ssize_t at;
    while ((at = index_at(keys, i)) >= 0) {
        *twice |= key_at(keys, at) == key;
        perturb >>= ATOLL_PERTURB_SHIFT;
        i = (i * 5 + perturb + 1) & mask;
    }
    return i;
}

static atoll_dict_keys *build_keys(const atoll_builder *to, PyObject *const *parts, size_t n) {
    bool text = true;
    for (size_t i = 0; i < n && text; i++) {
        text = PyUnicode_CheckExact(parts[2 * i]);
    }
    unsigned log2 = ATOLL_DICT_LEAST_LOG2;
    while (ATOLL_DICT_USABLE(log2) < n || (size_t)1 << log2 < 2 * n) {
        log2++;
    }
    unsigned index_log2 = log2 + index_bytes_log2(log2);
    size_t entry = text ? sizeof(atoll_dict_unicode_entry) : sizeof(atoll_dict_entry);
    size_t head = sizeof(atoll_dict_keys) + ((size_t)1 << index_log2);
    atoll_dict_keys *keys =
        atoll_area_take(to->area, head + n * entry, (ATOLL_DICT_USABLE(log2) - n) * entry);
    if (keys == NULL) {
        return NULL;
    }
    keys->dk_refcnt = 1;
    keys->dk_log2_size = (uint8_t)log2;
    keys->dk_log2_index_bytes = (uint8_t)index_log2;
    keys->dk_kind = text ? ATOLL_KEYS_UNICODE : ATOLL_KEYS_GENERAL;
    keys->dk_nentries = (Py_ssize_t)n; /* and dk_usable is 0: it is full */
    memset(keys->dk_indices, 0xFF, (size_t)1 << index_log2);
    char *at = (char *)keys + head;
    bool is_twice = false;
    for (size_t i = 0; i < n; i++, at += entry) {
        PyObject *key = parts[2 * i];
        Py_hash_t hash = PyObject_Hash(key);
        set_index(keys, free_index(keys, key, hash, &is_twice), i);
        if (text) {
            *(atoll_dict_unicode_entry *)at = (atoll_dict_unicode_entry){key, parts[2 * i + 1]};
        } else {
            *(atoll_dict_entry *)at = (atoll_dict_entry){hash, key, parts[2 * i + 1]};
        }
    }
    return is_twice ? twice() : keys;
}

static bool is_mapping_of(PyObject *obj, const void *like) {
    const row *r = like;
    if (!Py_IS_TYPE(obj, atoll_frozen_dict_type)) {
        return false;
    }
#if !ATOLL_HAS_FROZENDICT
    obj = ((atoll_mapping_proxy *)obj)->mapping;
#endif
    size_t i = 0;
    Py_ssize_t at = 0;
    PyObject *key;
    PyObject *value;
    while (PyDict_Next(obj, &at, &key, &value)) {
        if (i == r->n || r->items[2 * i] != key || r->items[2 * i + 1] != value) {
            return false;
        }
        i++;
    }
    return i == r->n;
}

static int fill_dict(const atoll_builder *to, PyObject *dict, PyObject *const *parts, size_t n) {
    PyDictObject *op = (PyDictObject *)dict;
    op->ma_used = (Py_ssize_t)n;
    op->ma_keys = (PyDictKeysObject *)build_keys(to, parts, n);
    return op->ma_keys != NULL ? 0 : -1;
}

PyObject *atoll_build_mapping(const atoll_builder *to, PyObject *const *parts, size_t n) {
    const row r = {parts, n};
    uint64_t hash = hash_row(6, parts, 2 * n);
    PyObject *obj = atoll_table_find(to->table, hash, is_mapping_of, &r);
    if (obj != NULL) {
        return obj;
    }
#if ATOLL_HAS_FROZENDICT
    obj = atoll_build_object(to, &PyFrozenDict_Type, sizeof(atoll_frozen_dict), 0);
    if (obj == NULL || fill_dict(to, obj, parts, n) < 0) {
        return NULL;
    }
    ((atoll_frozen_dict *)obj)->hash = -1;
    if (PyObject_Hash(obj) == -1) { /* notes it */
        return NULL;
    }
#else
    PyObject *dict = atoll_build_object(to, &PyDict_Type, sizeof(PyDictObject), 0);
    obj = dict != NULL ? atoll_build_object(to, &PyDictProxy_Type, sizeof(atoll_mapping_proxy), 0) : NULL;
    if (obj == NULL || fill_dict(to, dict, parts, n) < 0) {
        return NULL;
    }
    atoll_area_note_proxy(to->area);
    ((atoll_mapping_proxy *)obj)->mapping = dict;
#endif
    return atoll_build_enter(to, hash, obj);
}
