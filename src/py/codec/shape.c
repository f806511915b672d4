/* Dicts with the same keys.
 *
 * Records come in lists, and all of a list have the same keys: the very same str objects, in the same order, as they were made by one piece of
 * code or one parser.  What a dict is then is its shape, the keys, and its values.  So the first of a shape is written as its keys and
 * its values, and those that follow as the number of the shape and their values.  Who reads them keeps the keys, and from the second
 * dict on a model with these keys; each that comes is a copy of the model, whose values are then put in their places.
 *
 * Written so is what has nothing but str as keys and lies among others (`enc->many`), as for one dict alone it would be more work.  An outline
 * does without: it must not depend on which objects equal keys are.  Where many shapes come, and hardly any a second time, the search
 * ends.
 *
 * Shapes belong to the memo, and begin anew with it.  Who writes holds references to their keys, so that their addresses
 * say which they are.  A dict that can be seen before it is whole, because something in it leads to it, is filled key after
 * key, as any other is; so is each once Python code may run.
 *
 * Entries of tables are read and written where it was proven that they lie as py/layouts.h says (atoll_shapes_prove).
 */
#include "py/codec/internal.h"

#include <stdlib.h>

enum { SLOTS = 16, LEAST_KEYS = 2, MOST_KEYS = 64, TRIES = 32 };
enum { WAYS = 4 }; /* slots in a row that a shape may be in: two of one list must not take turns in one */

typedef struct shape {
    struct shape *next; /* of all */
    uint32_t index;
    uint32_t n;
    PyObject *keys[]; /* references */
} shape;

struct atoll_shapes {
    shape *all;
    shape *slots[SLOTS];
    uint32_t count;
    uint32_t hits;
};

/* ---- tables ---- */

static _Atomic(bool) is_known;

static const atoll_dict_keys *keys_of(PyObject *dict) {
    return (const atoll_dict_keys *)((const PyDictObject *)dict)->ma_keys;
}

static atoll_dict_unicode_entry *entries_of(const atoll_dict_keys *keys) {
    return (atoll_dict_unicode_entry *)(keys->dk_indices + ((size_t)1 << keys->dk_log2_index_bytes));
}

/* The table of a dict that has n keys, all of them str, and never had another; else NULL. */
static const atoll_dict_keys *plain_table(PyObject *dict, Py_ssize_t n) {
    const atoll_dict_keys *keys = keys_of(dict);
    bool plain = keys->dk_kind == ATOLL_KEYS_UNICODE && keys->dk_nentries == n &&
                 PyDict_GET_SIZE(dict) == n && ((const PyDictObject *)dict)->ma_values == NULL;
    return plain ? keys : NULL;
}

int atoll_shapes_prove(void) {
    if (atomic_load(&is_known)) {
        return 0;
    }
    PyObject *key[2] = {PyUnicode_FromString("one key"), PyUnicode_FromString("another")};
    PyObject *dict = PyDict_New();
    bool made = key[0] != NULL && key[1] != NULL && dict != NULL &&
                PyDict_SetItem(dict, key[0], Py_None) == 0 && PyDict_SetItem(dict, key[1], Py_True) == 0;
    if (made && PyDict_Type.tp_basicsize == sizeof(PyDictObject)) {
        const atoll_dict_keys *keys = keys_of(dict);
        if (keys->dk_log2_size == ATOLL_DICT_LEAST_LOG2 &&
            keys->dk_log2_index_bytes == ATOLL_DICT_LEAST_LOG2 && plain_table(dict, 2) != NULL) {
            const atoll_dict_unicode_entry *entries = entries_of(keys);
            atomic_store(&is_known, entries[0].key == key[0] && entries[0].value == Py_None &&
                                        entries[1].key == key[1] && entries[1].value == Py_True);
        }
    }
    Py_XDECREF(key[0]);
    Py_XDECREF(key[1]);
    Py_XDECREF(dict);
    return made ? 0 : -1;
}

/* ---- writing ---- */

void atoll_shapes_free(atoll_shapes *shapes) {
    if (shapes == NULL) {
        return;
    }
    for (shape *known = shapes->all; known != NULL;) {
        shape *next = known->next;
        for (uint32_t i = 0; i < known->n; i++) {
            Py_DECREF(known->keys[i]);
        }
        free(known);
        known = next;
    }
    free(shapes);
}

static bool fits(const shape *known, const atoll_dict_unicode_entry *entries, uint32_t n) {
    if (known == NULL || known->n != n) {
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (known->keys[i] != entries[i].key) {
            return false;
        }
    }
    return true;
}

/* Keys that others have as well, and that are written as they are. */
static bool may_be_shape(const atoll_dict_unicode_entry *entries, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        if (Py_REFCNT(entries[i].key) == 1 || atoll_frozen_has(entries[i].key)) {
            return false;
        }
    }
    return true;
}

/* NULL when there is no memory for it. */
static shape *add_shape(atoll_shapes *shapes, shape **slot, const atoll_dict_unicode_entry *entries,
                        uint32_t n) {
    shape *made = malloc(sizeof *made + n * sizeof(PyObject *));
    if (made != NULL) {
        made->index = shapes->count++;
        made->n = n;
        for (uint32_t i = 0; i < n; i++) {
            made->keys[i] = Py_NewRef(entries[i].key);
        }
        made->next = shapes->all;
        shapes->all = *slot = made;
    }
    return made;
}

/* The shape of a dict, or NULL; *is_new: it has just become one. */
static const shape *shape_of(atoll_encoder *enc, PyObject *dict, bool *is_new) {
    Py_ssize_t n = PyDict_GET_SIZE(dict);
    const atoll_dict_keys *keys = n >= LEAST_KEYS && n <= MOST_KEYS ? plain_table(dict, n) : NULL;
    if (keys == NULL) {
        return NULL;
    }
    atoll_shapes *shapes = enc->memo->shapes;
    if (shapes == NULL && (enc->memo->shapes = shapes = calloc(1, sizeof *shapes)) == NULL) {
        return NULL;
    }
    const atoll_dict_unicode_entry *entries = entries_of(keys);
    uint32_t first = atoll_memo_hash(entries[0].key) + (uint32_t)n;
    /* Where a new one goes: into the first slot that is free, else into this. */
    shape **slot = &shapes->slots[first % SLOTS];
    for (uint32_t i = 0; i < WAYS; i++) {
        shape **at = &shapes->slots[(first + i) % SLOTS];
        if (fits(*at, entries, (uint32_t)n)) {
            shapes->hits++;
            return *at;
        }
        if (*at == NULL) {
            slot = at;
            break;
        }
    }
    if (shapes->count >= TRIES + 4 * (uint64_t)shapes->hits || !may_be_shape(entries, (uint32_t)n)) {
        return NULL;
    }
    *is_new = true;
    return add_shape(shapes, slot, entries, (uint32_t)n);
}

static int encode_keys(atoll_encoder *enc, const shape *known) {
    int rc = atoll_write_count(enc, known->n);
    for (uint32_t i = 0; i < known->n && rc == 0; i++) {
        rc = atoll_encode_shared(enc, known->keys[i]);
    }
    return rc;
}

/* The i-th value: borrowed, or NULL with an exception when Python code has changed the dict. */
static PyObject *value_at(PyObject *dict, const shape *known, uint32_t i) {
    const atoll_dict_keys *keys = plain_table(dict, known->n);
    if (keys == NULL || entries_of(keys)[i].key != known->keys[i]) {
        PyErr_SetString(PyExc_RuntimeError, "dictionary changed size while it was sent");
        return NULL;
    }
    return entries_of(keys)[i].value;
}

int atoll_encode_shaped(atoll_encoder *enc, PyObject *dict, uint8_t memo) {
    bool is_new = false;
    if (enc->outline || !atomic_load_explicit(&is_known, memory_order_relaxed)) {
        return 0;
    }
    const shape *known = shape_of(enc, dict, &is_new);
    if (known == NULL) {
        return 0;
    }
    if (atoll_enter(&enc->depth, " while sending a dict") < 0) {
        return -1;
    }
    int rc = is_new ? atoll_write_tag(enc, T_DICT_FIRST | memo)
                    : atoll_write_tag_count(enc, T_DICT_LIKE | memo, known->index);
    if (rc == 0 && is_new) {
        rc = encode_keys(enc, known);
    }
    atoll_frame fr;
    atoll_push(enc, &fr, dict, AT_KEY);
    for (uint32_t i = 0; i < known->n && rc == 0; i++) {
        fr.key = known->keys[i];
        PyObject *value = value_at(dict, known, i);
        rc = value != NULL ? atoll_encode_value(enc, value) : -1;
    }
    atoll_pop(enc, &fr);
    atoll_leave(&enc->depth);
    return rc < 0 ? -1 : 1;
}

/* ---- reading ---- */

typedef struct {
    PyObject *keys;  /* a tuple of str */
    PyObject *model; /* from the second one on, or NULL */
} model;

struct atoll_models {
    size_t n;
    size_t room;
    model all[];
};

void atoll_models_free(atoll_models *models) {
    for (size_t i = 0; models != NULL && i < models->n; i++) {
        Py_DECREF(models->all[i].keys);
        Py_XDECREF(models->all[i].model);
    }
    free(models);
}

/* keys is taken over.  0, or -1 with MemoryError. */
static int add_model(atoll_decoder *dec, PyObject *keys) {
    atoll_models *models = dec->models;
    if (models == NULL || models->n == models->room) {
        size_t room = models != NULL ? 2 * models->room : 8;
        atoll_models *grown = realloc(models, sizeof *models + room * sizeof *models->all);
        if (grown == NULL) {
            Py_DECREF(keys);
            PyErr_NoMemory();
            return -1;
        }
        grown->n = models != NULL ? grown->n : 0;
        grown->room = room;
        dec->models = models = grown;
    }
    models->all[models->n++] = (model){.keys = keys};
    return 0;
}

static PyObject *decode_keys(atoll_decoder *dec) {
    Py_ssize_t n = atoll_read_count(dec, 2);
    PyObject *keys = n >= 0 ? atoll_tuple_begin(n) : NULL;
    for (Py_ssize_t i = 0; keys != NULL && i < n; i++) {
        PyObject *key = atoll_decode_value(dec);
        if (key != NULL && !PyUnicode_CheckExact(key)) {
            atoll_malformed("a key that is not a str");
            Py_CLEAR(key);
        }
        if (key == NULL) {
            Py_CLEAR(keys);
        } else {
            PyTuple_SET_ITEM(keys, i, key);
        }
    }
    atoll_tuple_end(keys);
    return keys;
}

/* A dict with these keys; NULL with an exception. */
static PyObject *make_model(PyObject *keys) {
    Py_ssize_t n = PyTuple_GET_SIZE(keys);
    PyObject *dict =
        PyDict_New(); /* one with room for so many from the beginning has not a table for str alone */
    for (Py_ssize_t i = 0; dict != NULL && i < n; i++) {
        if (PyDict_SetItem(dict, PyTuple_GET_ITEM(keys, i), Py_None) < 0) {
            Py_CLEAR(dict);
        }
    }
    if (dict != NULL && PyDict_GET_SIZE(dict) != n) {
        atoll_malformed("a key comes twice");
        Py_CLEAR(dict);
    }
    return dict;
}

/* Key after key: who can see it sees no value that is not there yet. */
static PyObject *fill(atoll_decoder *dec, PyObject *keys, PyObject *dict) {
    for (Py_ssize_t i = 0; dict != NULL && i < PyTuple_GET_SIZE(keys); i++) {
        PyObject *value = atoll_decode_value(dec);
        Py_ssize_t before = PyDict_GET_SIZE(dict);
        if (value == NULL || PyDict_SetItem(dict, PyTuple_GET_ITEM(keys, i), value) < 0) {
            Py_CLEAR(dict);
        } else if (!dec->pinned && PyDict_GET_SIZE(dict) == before) {
            atoll_malformed("a key comes twice");
            Py_CLEAR(dict);
        }
        Py_XDECREF(value);
    }
    return dict;
}

/* Into a copy of the model, which nobody else sees. */
static PyObject *fill_copy(atoll_decoder *dec, PyObject *keys, PyObject *dict) {
    Py_ssize_t n = PyTuple_GET_SIZE(keys);
    bool tracked = false;
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *value = atoll_decode_value(dec);
        /* Only the garbage collector leads to it, and code that asks that for everything may do anything. */
        if (value == NULL || (dec->pinned && plain_table(dict, n) == NULL)) {
            atoll_malformed("a dict was changed before it was whole");
            Py_XDECREF(value);
            Py_DECREF(dict);
            return NULL;
        }
        /* Such code may have given it another table. */
        atoll_dict_unicode_entry *entries = entries_of(keys_of(dict));
        tracked |= PyType_IS_GC(Py_TYPE(value));
        PyObject *none = entries[i].value;
        entries[i].value = value;
        Py_DECREF(none);
    }
    if (tracked && !PyObject_GC_IsTracked(dict)) {
        PyObject_GC_Track(dict);
    }
    return dict;
}

static PyObject *decode_like(atoll_decoder *dec, uint8_t tag) {
    Py_ssize_t index = atoll_read_count(dec, 0);
    if (index < 0 || dec->models == NULL || (size_t)index >= dec->models->n) {
        return atoll_malformed("a dict like one that was not sent");
    }
    PyObject *keys = dec->models->all[index].keys; /* the models may move, what they hold stays */
    PyObject *model = dec->models->all[index].model;
    if ((size_t)PyTuple_GET_SIZE(keys) > atoll_reader_left(&dec->rd)) {
        return atoll_malformed("more values than bytes");
    }
    if ((tag & ATOLL_MEMO) != 0 || !atomic_load_explicit(&is_known, memory_order_relaxed)) {
        PyObject *dict = PyDict_New();
        if (dict != NULL && (tag & ATOLL_MEMO) != 0 && atoll_remember(dec, dict) < 0) {
            Py_CLEAR(dict);
        }
        return fill(dec, keys, dict);
    }
    if (model == NULL && (model = dec->models->all[index].model = make_model(keys)) == NULL) {
        return NULL;
    }
    PyObject *dict = PyDict_Copy(model);
    if (dict != NULL && plain_table(dict, PyTuple_GET_SIZE(keys)) == NULL) {
        PyDict_Clear(dict);
        return fill(dec, keys, dict);
    }
    return dict != NULL ? fill_copy(dec, keys, dict) : NULL;
}

PyObject *atoll_decode_shaped(atoll_decoder *dec, uint8_t tag) {
    if ((tag & ~ATOLL_MEMO) == T_DICT_LIKE) {
        return decode_like(dec, tag);
    }
    PyObject *dict = PyDict_New();
    if (dict == NULL || ((tag & ATOLL_MEMO) != 0 && atoll_remember(dec, dict) < 0)) {
        Py_XDECREF(dict);
        return NULL;
    }
    PyObject *keys = decode_keys(dec);
    if (keys == NULL || add_model(dec, keys) < 0) {
        Py_DECREF(dict);
        return NULL;
    }
    return fill(dec, keys, dict);
}
