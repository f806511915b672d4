/* What a SharedDict does.  See shareddict.c. */
#include "module/shareddict.h"

#include <math.h>

/* A tuple as value of an exception would be its arguments, and None no argument. */
static void raise_key_error(PyObject *name) {
    PyObject *exc = PyObject_CallOneArg(PyExc_KeyError, name);
    if (exc != NULL) {
        PyErr_SetObject(PyExc_KeyError, exc);
        Py_DECREF(exc);
    }
}

/* ---- looking up ---- */

/* 1 with a new reference, 0, or -1 with an exception. */
static int look_up(PyObject *self, PyObject *name, PyObject **found) {
    atoll_state *state = atoll_shareddict_state(self);
    atoll_shareddict_key key;
    atoll_hashmap_value value;
    if (state == NULL || atoll_shareddict_key_init(state, &key, name) < 0) {
        return -1;
    }
    atoll_hashmap_result result = atoll_hashmap_get(atoll_shareddict_map(self), &key.key, &value);
    atoll_shareddict_key_clear(&key);
    if (result != ATOLL_HASHMAP_DONE) {
        return 0;
    }
    *found = atoll_shareddict_object_of(state, &value);
    return *found != NULL ? 1 : -1;
}

PyObject *atoll_shareddict_subscript(PyObject *self, PyObject *name) {
    PyObject *value = NULL;
    if (look_up(self, name, &value) == 0) {
        raise_key_error(name);
    }
    return value;
}

PyDoc_STRVAR(get_doc, "get($self, key, default=None, /)\n--\n\nReturn the value of key, or default.");

static PyObject *dict_get(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
    if (nargs < 1 || nargs > 2) {
        PyErr_Format(PyExc_TypeError, "get() takes 1 or 2 arguments (%zd given)", nargs);
        return NULL;
    }
    PyObject *value = NULL;
    return look_up(self, args[0], &value) == 0 ? Py_NewRef(nargs == 2 ? args[1] : Py_None) : value;
}

int atoll_shareddict_contains(PyObject *self, PyObject *name) {
    atoll_state *state = atoll_shareddict_state(self);
    atoll_shareddict_key key;
    if (state == NULL || atoll_shareddict_key_init(state, &key, name) < 0) {
        return -1;
    }
    bool has = atoll_hashmap_has(atoll_shareddict_map(self), &key.key);
    atoll_shareddict_key_clear(&key);
    return has;
}

Py_ssize_t atoll_shareddict_length(PyObject *self) {
    return atoll_shareddict_state(self) != NULL ? (Py_ssize_t)atoll_hashmap_count(atoll_shareddict_map(self))
                                                : -1;
}

/* ---- storing ---- */

/* A value to be stored, and its key.  0, or -1 with an exception and nothing. */
static int prepare(atoll_state *state, PyObject *name, PyObject *obj, atoll_shareddict_key *key,
                   atoll_hashmap_value *value) {
    if (state == NULL || atoll_shareddict_value_of(state, obj, value) < 0) {
        return -1;
    }
    if (atoll_shareddict_key_init(state, key, name) < 0) {
        atoll_hashmap_value_release(value);
        return -1;
    }
    return 0;
}

/* 0, or -1 with an exception. */
static int store(PyObject *self, PyObject *name, PyObject *obj, double expires) {
    atoll_shareddict_key key;
    atoll_hashmap_value value;
    if (prepare(atoll_shareddict_state(self), name, obj, &key, &value) < 0) {
        return -1;
    }
    atoll_hashmap_result result =
        atoll_hashmap_put(atoll_shareddict_map(self), &key.key, &value, expires, ATOLL_HASHMAP_ALWAYS, NULL);
    atoll_shareddict_key_clear(&key);
    return result == ATOLL_HASHMAP_DONE ? 0 : atoll_shareddict_raise(self, result);
}

/* Removes the value of a key when it has been decoded, so that Ctrl-C or want of memory lose nothing.  1 with a new reference, or NULL with an
 * exception: it is removed, unless that is urgent; 0: there is none. */
static int decode_and_remove(atoll_state *state, atoll_hashmap *map, const atoll_hashmap_key *key,
                             PyObject **found) {
    for (;;) {
        atoll_hashmap_value value;
        if (atoll_hashmap_look(map, key, &value) != ATOLL_HASHMAP_DONE) {
            return 0;
        }
        atoll_hashmap_value_retain(&value);
        *found = atoll_shareddict_object_of(state, &value);
        bool stays = *found == NULL && atoll_error_is_urgent();
        atoll_hashmap_result result = stays ? ATOLL_HASHMAP_DONE : atoll_hashmap_remove(map, key, &value);
        atoll_hashmap_value_release(&value);
        if (result == ATOLL_HASHMAP_DONE) {
            return 1;
        }
        Py_CLEAR(*found); /* another one was faster */
        PyErr_Clear();
    }
}

/* found: a new reference to what was there, or NULL with an exception; or NULL: it is not asked for.  1, 0, or -1 with an exception. */
static int take_out(PyObject *self, PyObject *name, PyObject **found) {
    atoll_state *state = atoll_shareddict_state(self);
    atoll_shareddict_key key;
    if (state == NULL || atoll_shareddict_key_init(state, &key, name) < 0) {
        return -1;
    }
    atoll_hashmap *map = atoll_shareddict_map(self);
    int had;
    if (found != NULL) {
        atoll_hashmap_retain(map); /* decoding may run anything */
        had = decode_and_remove(state, map, &key.key, found);
        atoll_hashmap_release(map);
    } else {
        had = atoll_hashmap_remove(map, &key.key, NULL) == ATOLL_HASHMAP_DONE;
    }
    atoll_shareddict_key_clear(&key);
    return had;
}

int atoll_shareddict_assign(PyObject *self, PyObject *name, PyObject *obj) {
    if (obj != NULL) {
        return atoll_shareddict_state(self) != NULL
                   ? store(self, name, obj, atoll_shareddict_expiry(atoll_shareddict_map(self), INFINITY))
                   : -1;
    }
    int had = take_out(self, name, NULL);
    if (had == 0) {
        raise_key_error(name);
    }
    return had > 0 ? 0 : -1;
}

PyDoc_STRVAR(
    set_doc,
    "set($self, key, value, *, ttl=...)\n--\n\n"
    "Store a value. ttl is how many seconds it stays, None for ever, Ellipsis (the default) as long as\n"
    "the dict's own ttl says.\n\n"
    "Raises NotShareableError for a key or value that cannot be stored, ValueError for one that is\n"
    "larger than max_bytes.");

static PyObject *dict_set(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    static const char *const keywords[] = {"key", "value", "ttl"};
    PyObject *values[3] = {0};
    if (atoll_shareddict_state(self) == NULL ||
        atoll_parse("set", keywords, 3, 2, 2, args, nargs, kwnames, values) < 0) {
        return NULL;
    }
    double expires = atoll_shareddict_expiry(atoll_shareddict_map(self), INFINITY);
    if (values[2] != NULL && values[2] != Py_Ellipsis) {
        double ttl;
        if (atoll_shareddict_ttl_of(values[2], &ttl) < 0) {
            return NULL;
        }
        expires = atoll_clock() + ttl;
    }
    return store(self, values[0], values[1], expires) < 0 ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(setdefault_doc, "setdefault($self, key, default=None, /)\n--\n\n"
                             "Return the value of key; where there is none, store default and return it.");

static PyObject *dict_setdefault(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
    if (nargs < 1 || nargs > 2) {
        PyErr_Format(PyExc_TypeError, "setdefault() takes 1 or 2 arguments (%zd given)", nargs);
        return NULL;
    }
    PyObject *found = NULL;
    int rc = look_up(self, args[0], &found);
    if (rc != 0) {
        return found;
    }
    PyObject *obj = nargs == 2 ? args[1] : Py_None;
    atoll_state *state = atoll_shareddict_state(self);
    atoll_shareddict_key key;
    atoll_hashmap_value value;
    atoll_hashmap_value old = {0};
    if (prepare(state, args[0], obj, &key, &value) < 0) {
        return NULL;
    }
    atoll_hashmap *map = atoll_shareddict_map(self);
    atoll_hashmap_result result = atoll_hashmap_put(
        map, &key.key, &value, atoll_shareddict_expiry(map, INFINITY), ATOLL_HASHMAP_IF_ABSENT, &old);
    atoll_shareddict_key_clear(&key);
    if (result == ATOLL_HASHMAP_PRESENT) {
        return atoll_shareddict_object_of(state, &old);
    }
    if (result != ATOLL_HASHMAP_DONE) {
        (void)atoll_shareddict_raise(self, result);
        return NULL;
    }
    return Py_NewRef(obj);
}

PyDoc_STRVAR(pop_doc,
             "pop($self, key, default=..., /)\n--\n\n"
             "Remove key and return its value; where there is none, return default, or raise KeyError.\n\n"
             "When Ctrl-C, or want of memory, comes while the value is rebuilt, it is still there.");

static PyObject *dict_pop(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
    if (nargs < 1 || nargs > 2) {
        PyErr_Format(PyExc_TypeError, "pop() takes 1 or 2 arguments (%zd given)", nargs);
        return NULL;
    }
    PyObject *value = NULL;
    if (take_out(self, args[0], &value) == 0) {
        if (nargs == 2) {
            return Py_NewRef(args[1]);
        }
        raise_key_error(args[0]);
    }
    return value;
}

PyDoc_STRVAR(compare_and_set_doc,
             "compare_and_set($self, key, old, new, /)\n--\n\n"
             "Store new if the value of key is equal to old, at once; return whether it was.\n\n"
             "Where there is no such key nothing is stored, and False returned.");

static PyObject *dict_compare_and_set(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
    atoll_state *state = atoll_shareddict_state(self);
    atoll_shareddict_key key;
    atoll_hashmap_value fresh;
    if (nargs != 3) {
        PyErr_Format(PyExc_TypeError, "compare_and_set() takes 3 arguments (%zd given)", nargs);
        return NULL;
    }
    if (prepare(state, args[0], args[2], &key, &fresh) < 0) {
        return NULL;
    }
    atoll_hashmap *map = atoll_shareddict_map(self);
    atoll_hashmap_retain(map); /* the comparison may run anything */
    atoll_hashmap_result result;
    int same = 1;
    do {
        atoll_hashmap_value old;
        result = atoll_hashmap_get(map, &key.key, &old);
        if (result != ATOLL_HASHMAP_DONE) {
            break;
        }
        atoll_hashmap_value_retain(&old);
        PyObject *current = atoll_shareddict_object_of(state, &old);
        same = current != NULL ? PyObject_RichCompareBool(current, args[1], Py_EQ) : -1;
        Py_XDECREF(current);
        if (same > 0) {
            atoll_hashmap_value_retain(&fresh);
            result = atoll_hashmap_put(map, &key.key, &fresh, atoll_shareddict_expiry(map, NAN),
                                       ATOLL_HASHMAP_IF_SAME, &old);
        }
        atoll_hashmap_value_release(&old);
    } while (same > 0 && result == ATOLL_HASHMAP_OTHER);
    atoll_hashmap_release(map);
    atoll_hashmap_value_release(&fresh);
    atoll_shareddict_key_clear(&key);
    if (same < 0 ||
        (same > 0 && result >= ATOLL_HASHMAP_TOO_LARGE && atoll_shareddict_raise(self, result) < 0)) {
        return NULL;
    }
    return PyBool_FromLong(same > 0 && result == ATOLL_HASHMAP_DONE);
}

PyDoc_STRVAR(add_doc,
             "add($self, key, n=1, /)\n--\n\n"
             "Add n to the value of key, an int, at once; return the sum. No value is as good as 0.\n\n"
             "Raises TypeError when the value is no int, OverflowError when one does not fit into 64 bits, "
             "ValueError\n"
             "when the key is larger than max_bytes; it is unchanged then.");

static PyObject *dict_add(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
    if (nargs < 1 || nargs > 2) {
        PyErr_Format(PyExc_TypeError, "add() takes 1 or 2 arguments (%zd given)", nargs);
        return NULL;
    }
    atoll_state *state = atoll_shareddict_state(self);
    int overflow = 0;
    long long n = nargs == 2 ? PyLong_AsLongLongAndOverflow(args[1], &overflow) : 1;
    atoll_shareddict_key key;
    if (n == -1 && overflow == 0 && PyErr_Occurred()) {
        atoll_argument_not_int(args[1], "n");
        return NULL;
    }
    if (state == NULL || atoll_shareddict_key_init(state, &key, args[0]) < 0) {
        return NULL;
    }
    int64_t sum = 0;
    atoll_hashmap *map = atoll_shareddict_map(self);
    atoll_hashmap_result result =
        overflow != 0 ? ATOLL_HASHMAP_OVERFLOW
                      : atoll_hashmap_add(map, &key.key, n, atoll_shareddict_expiry(map, INFINITY), &sum);
    atoll_shareddict_key_clear(&key);
    if (result == ATOLL_HASHMAP_DONE) {
        return PyLong_FromLongLong(sum);
    }
    if (result == ATOLL_HASHMAP_OTHER) {
        PyErr_Format(PyExc_TypeError, "add() needs an int of 64 bits, and the value of %R is none", args[0]);
    } else if (result == ATOLL_HASHMAP_OVERFLOW) {
        PyErr_Format(PyExc_OverflowError, "the value of %R would not fit into 64 bits; it is unchanged",
                     args[0]);
    } else {
        (void)atoll_shareddict_raise(self, result);
    }
    return NULL;
}

static PyObject *dict_clear(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    if (atoll_shareddict_state(self) == NULL) {
        return NULL;
    }
    atoll_hashmap_clear(atoll_shareddict_map(self));
    Py_RETURN_NONE;
}

/* ---- all of it ---- */

/* A list of what make() makes of each item. */
static PyObject *listed(PyObject *self,
                        PyObject *(*make)(atoll_state *state, const atoll_hashmap_item *item)) {
    atoll_state *state = atoll_shareddict_state(self);
    if (state == NULL) {
        return NULL;
    }
    size_t count;
    atoll_hashmap_item *items = atoll_hashmap_items(atoll_shareddict_map(self), &count);
    if (items == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *list = PyList_New(0); /* making an item may run code, which would find holes in it */
    for (size_t i = 0; list != NULL && i < count; i++) {
        PyObject *made = make(state, &items[i]);
        if (made == NULL || PyList_Append(list, made) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(made);
    }
    atoll_hashmap_items_free(items, count);
    return list;
}

static PyObject *key_from(atoll_state *Py_UNUSED(state), const atoll_hashmap_item *item) {
    size_t len;
    const uint8_t *bytes = atoll_hashmap_entry_key(item->entry, &len);
    return atoll_shareddict_key_object(bytes, len);
}

static PyObject *value_from(atoll_state *state, const atoll_hashmap_item *item) {
    atoll_hashmap_value_retain(&item->value);
    return atoll_shareddict_object_of(state, &item->value);
}

static PyObject *pair_from(atoll_state *state, const atoll_hashmap_item *item) {
    PyObject *key = key_from(state, item);
    PyObject *value = key != NULL ? value_from(state, item) : NULL;
    PyObject *pair = value != NULL ? PyTuple_Pack(2, key, value) : NULL;
    Py_XDECREF(key);
    Py_XDECREF(value);
    return pair;
}

static PyObject *dict_keys(PyObject *self, PyObject *Py_UNUSED(ignored)) { return listed(self, key_from); }
static PyObject *dict_values(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    return listed(self, value_from);
}
static PyObject *dict_items(PyObject *self, PyObject *Py_UNUSED(ignored)) { return listed(self, pair_from); }

static PyObject *dict_copy(PyObject *self, PyObject *ignored) {
    PyObject *pairs = dict_items(self, ignored);
    PyObject *copy = pairs != NULL ? PyDict_New() : NULL;
    if (copy != NULL && PyDict_MergeFromSeq2(copy, pairs, 1) < 0) {
        Py_CLEAR(copy);
    }
    Py_XDECREF(pairs);
    return copy;
}

PyDoc_STRVAR(update_doc, "update($self, other=(), /, **kwargs)\n--\n\n"
                         "Store what a mapping or an iterable of pairs has, one after the other.");

/* What is to be stored, in its order, each key once: a new dict. */
static PyObject *what_to_store(PyObject *self, PyObject *args, PyObject *kwargs) {
    if (PyTuple_GET_SIZE(args) == 1 && Py_IS_TYPE(PyTuple_GET_ITEM(args, 0), Py_TYPE(self))) {
        /* Going by its keys would end with the first that somebody removes meanwhile. */
        PyObject *items = dict_copy(PyTuple_GET_ITEM(args, 0), NULL);
        if (items != NULL && kwargs != NULL && PyDict_Update(items, kwargs) < 0) {
            Py_CLEAR(items);
        }
        return items;
    }
    return PyObject_Call((PyObject *)&PyDict_Type, args, kwargs);
}

static PyObject *dict_update(PyObject *self, PyObject *args, PyObject *kwargs) {
    if (atoll_shareddict_state(self) == NULL) {
        return NULL;
    }
    PyObject *items = what_to_store(self, args, kwargs);
    Py_ssize_t at = 0;
    PyObject *name;
    PyObject *obj;
    while (items != NULL && PyDict_Next(items, &at, &name, &obj)) {
        Py_INCREF(name); /* storing may run code, which finds the dict */
        Py_INCREF(obj);
        if (atoll_shareddict_assign(self, name, obj) < 0) {
            Py_CLEAR(items);
        }
        Py_DECREF(obj);
        Py_DECREF(name);
    }
    Py_XDECREF(items);
    return items != NULL ? Py_NewRef(Py_None) : NULL;
}

PyObject *atoll_shareddict_iter(PyObject *self) {
    PyObject *keys = listed(self, key_from);
    PyObject *iterator = keys != NULL ? PyObject_GetIter(keys) : NULL;
    Py_XDECREF(keys);
    return iterator;
}

PyDoc_STRVAR(stats_doc,
             "stats($self, /)\n--\n\n"
             "Return a dict of numbers: items, bytes (keys, values and what they take besides), hits and\n"
             "misses of looking up, evictions (for max_bytes) and expirations (of a ttl) until now.");

static PyObject *dict_stats(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    if (atoll_shareddict_state(self) == NULL) {
        return NULL;
    }
    atoll_hashmap_stats s;
    atoll_hashmap_get_stats(atoll_shareddict_map(self), &s);
    return Py_BuildValue("{sKsKsKsKsKsK}", "items", (unsigned long long)s.count, "bytes",
                         (unsigned long long)s.bytes, "hits", (unsigned long long)s.hits, "misses",
                         (unsigned long long)s.misses, "evictions", (unsigned long long)s.evictions,
                         "expirations", (unsigned long long)s.expirations);
}

#define FAST(function) ((PyCFunction)(void (*)(void))(function))

PyMethodDef atoll_shareddict_methods[] = {
    {"get", FAST(dict_get), METH_FASTCALL, get_doc},
    {"set", FAST(dict_set), METH_FASTCALL | METH_KEYWORDS, set_doc},
    {"setdefault", FAST(dict_setdefault), METH_FASTCALL, setdefault_doc},
    {"pop", FAST(dict_pop), METH_FASTCALL, pop_doc},
    {"update", FAST(dict_update), METH_VARARGS | METH_KEYWORDS, update_doc},
    {"compare_and_set", FAST(dict_compare_and_set), METH_FASTCALL, compare_and_set_doc},
    {"add", FAST(dict_add), METH_FASTCALL, add_doc},
    {"clear", dict_clear, METH_NOARGS, "clear($self, /)\n--\n\nRemove all keys."},
    {"keys", dict_keys, METH_NOARGS,
     "keys($self, /)\n--\n\nReturn a list of the keys, in the order of their coming."},
    {"values", dict_values, METH_NOARGS, "values($self, /)\n--\n\nReturn a list of the values; as keys()."},
    {"items", dict_items, METH_NOARGS, "items($self, /)\n--\n\nReturn a list of (key, value); as keys()."},
    {"copy", dict_copy, METH_NOARGS, "copy($self, /)\n--\n\nReturn a dict of what is there now."},
    {"stats", dict_stats, METH_NOARGS, stats_doc},
    {NULL, NULL, 0, NULL},
};
