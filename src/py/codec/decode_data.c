/* Decoding: the basic types.  Nothing read is trusted: every count is bounded by the bytes that are left before
 * anything is allocated, every index is checked, and there are no pointers.
 *
 * References.  The memo borrows while there is builtin data only: the values are held by the
 * containers under construction.  What would drop a value (a duplicate key, a duplicated tuple) pins first, and so does
 * whatever is not builtin data.  A list under construction has the size it has been filled to, so that code which
 * sees it through a cycle finds no holes.
 */
#include "py/codec/internal.h"

PyObject *atoll_malformed(const char *why) {
    if (!PyErr_Occurred()) {
        PyErr_Format(PyExc_ValueError, "malformed message: %s", why);
    }
    return NULL;
}

void atoll_decoder_pin(atoll_decoder *dec) {
    if (dec->reading == NULL) {
        atoll_reading_begin(dec);
    }
    /* After a failure values are already gone, and nothing will look at the memo again. */
    if (!dec->pinned && !PyErr_Occurred()) {
        dec->pinned = true;
        for (size_t i = 0; i < dec->nmemo; i++) {
            Py_INCREF(dec->memo[i]);
        }
    }
}

int atoll_decoder_remember_slow(atoll_decoder *dec, PyObject *obj) {
    if (dec->nmemo == dec->memo_cap) {
        size_t cap = dec->memo_cap != 0 ? dec->memo_cap * 2 : 64;
        PyObject **grown = PyMem_RawRealloc(dec->memo, cap * sizeof *grown);
        if (grown == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        dec->memo = grown;
        dec->memo_cap = cap;
    }
    dec->memo[dec->nmemo++] = dec->pinned ? Py_NewRef(obj) : obj;
    return 0;
}

/* Remembers a new value where its tag says so; drops it on failure. */
static inline PyObject *finish(atoll_decoder *dec, uint8_t tag, PyObject *obj) {
    if (obj != NULL && (tag & ATOLL_MEMO) != 0 && atoll_remember(dec, obj) < 0) {
        Py_DECREF(obj);
        return NULL;
    }
    return obj;
}

static PyObject *decode_ref(atoll_decoder *dec) {
    Py_ssize_t index = atoll_read_count(dec, 0);
    if (index < 0) {
        return NULL;
    }
    if ((size_t)index >= dec->nmemo) {
        return atoll_malformed("a reference to what was not sent");
    }
    if (__builtin_expect((size_t)index < dec->yielded_end, 0) && dec->defined == SIZE_MAX &&
        atoll_yielded_settle(dec, (size_t)index) < 0) {
        return NULL;
    }
    PyObject *obj = dec->memo[index];
    if ((size_t)index < dec->lowest && atoll_is_own_object(obj)) {
        dec->lowest = (size_t)index;
    }
    return Py_NewRef(obj);
}

static PyObject *decode_ascii(const atoll_decoder *dec, const uint8_t *data, size_t len) {
    if (len == 0) {
        return PyUnicode_FromStringAndSize(NULL, 0);
    }
    if (len == 1) {
        return *data < 128 ? PyUnicode_FromOrdinal(*data) : atoll_malformed("text that is not ASCII");
    }
    PyObject *obj =
        dec->fresh > 0 ? atoll_fresh_text(&dec->codec->fresh, len) : PyUnicode_New((Py_ssize_t)len, 127);
    if (obj == NULL) {
        return NULL;
    }
    uint64_t bits = atoll_copy_short(PyUnicode_1BYTE_DATA(obj), data, len);
    if ((bits & UINT64_C(0x8080808080808080)) != 0) {
        Py_DECREF(obj);
        return atoll_malformed("text that is not ASCII");
    }
    return obj;
}

static PyObject *decode_str(atoll_decoder *dec, uint8_t tag) {
    size_t width = tag == T_STR_2 ? 2 : tag == T_STR_4 ? 4 : 1;
    Py_ssize_t len = atoll_read_count(dec, width);
    if (len < 0) {
        return NULL;
    }
    const uint8_t *data = atoll_get_bytes(&dec->rd, (size_t)len * width);
    if (data == NULL) {
        return atoll_malformed("text goes past the end");
    }
    if (tag == T_STR_ASCII) {
        return decode_ascii(dec, data, (size_t)len);
    }
    if (width == 4) {
        /* CPython asserts on code points beyond Unicode. */
        for (Py_ssize_t i = 0; i < len; i++) {
            uint32_t c;
            memcpy(&c, data + 4 * i, 4);
            if (c > 0x10FFFF) {
                return atoll_malformed("a character beyond Unicode");
            }
        }
    }
    if (width > 1 && (uintptr_t)data % width != 0) {
        void *aligned = PyMem_Malloc((size_t)len * width);
        if (aligned == NULL) {
            return PyErr_NoMemory();
        }
        memcpy(aligned, data, (size_t)len * width);
        PyObject *obj = PyUnicode_FromKindAndData((int)width, aligned, len);
        PyMem_Free(aligned);
        return obj;
    }
    return PyUnicode_FromKindAndData((int)width, data, len);
}

/* In two steps: without memory for its content CPython drops, before 3.15, a bytearray that seems to have exported it, and prints so. */
static PyObject *decode_bytearray(const uint8_t *data, Py_ssize_t n) {
    PyObject *made = PyByteArray_FromStringAndSize(NULL, 0);
    if (made != NULL && PyByteArray_Resize(made, n) < 0) {
        Py_CLEAR(made);
    }
    if (made != NULL) {
        memcpy(PyByteArray_AS_STRING(made), data, (size_t)n);
    }
    return made;
}

static PyObject *decode_packed(atoll_decoder *dec, uint8_t tag) {
    uint8_t kind = atoll_get_u8(&dec->rd);
    if (dec->rd.failed || kind >= P_COUNT) {
        return atoll_malformed("an unknown kind of array");
    }
    Py_ssize_t n = atoll_read_count(dec, atoll_pack_widths[kind]);
    const uint8_t *at = n >= 0 ? atoll_get_bytes(&dec->rd, (size_t)n * atoll_pack_widths[kind]) : NULL;
    if (at == NULL) {
        return atoll_malformed("an array goes past the end");
    }
    bool list = (tag & ~ATOLL_MEMO) == T_PACKED_LIST;
    PyObject *obj = list ? PyList_New(n) : PyTuple_New(n);
    if (obj == NULL || n == 0) {
        return finish(dec, tag, obj);
    }
    PyObject **items = list ? ((PyListObject *)obj)->ob_item : ((PyTupleObject *)obj)->ob_item;
    if (atoll_unpack(atoll_decoder_fresh(dec), kind, at, items, n) < 0) {
        Py_DECREF(obj);
        return NULL;
    }
    return finish(dec, tag, obj);
}

static PyObject *decode_list(atoll_decoder *dec, uint8_t tag) {
    Py_ssize_t n = atoll_read_count(dec, 1);
    PyObject *obj = n >= 0 ? PyList_New(n) : NULL;
    if (obj == NULL) {
        return NULL;
    }
    if (n == 0) {
        return finish(dec, tag, obj);
    }
    Py_SET_SIZE(obj, 0);
    if ((tag & ATOLL_MEMO) != 0 && atoll_remember(dec, obj) < 0) {
        Py_DECREF(obj);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = atoll_decode_value(dec);
        if (item == NULL) {
            Py_DECREF(obj);
            return NULL;
        }
        if (!dec->pinned) {
            ((PyListObject *)obj)->ob_item[i] = item;
            Py_SET_SIZE(obj, i + 1);
        } else {
            int rc = PyList_Append(obj, item);
            Py_DECREF(item);
            if (rc < 0) {
                Py_DECREF(obj);
                return NULL;
            }
        }
    }
    return obj;
}

/* After an object that is remembered late: the copy that was made meanwhile. */
static PyObject *use_duplicate(atoll_decoder *dec, PyObject *obj) {
    atoll_decoder_pin(dec);
    PyObject *other = decode_ref(dec);
    Py_DECREF(obj);
    return other;
}

static PyObject *decode_tuple(atoll_decoder *dec, uint8_t tag) {
    Py_ssize_t n = atoll_read_count(dec, 1);
    PyObject *obj = n >= 0 ? atoll_tuple_begin(n) : NULL;
    if (obj == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = atoll_decode_value(dec);
        if (item == NULL) {
            Py_DECREF(obj);
            return NULL;
        }
        PyTuple_SET_ITEM(obj, i, item);
    }
    if (dec->has_arrays) {
        for (Py_ssize_t i = 0; i < n; i++) {
            atoll_decode_shared_str(&((PyTupleObject *)obj)->ob_item[i]);
        }
    }
    atoll_tuple_end(obj);
    if ((tag & ~ATOLL_MEMO) == T_TUPLE_DUP) {
        return use_duplicate(dec, obj);
    }
    return finish(dec, tag, obj);
}

int atoll_decode_dict_body(atoll_decoder *dec, PyObject *dict, bool intern) {
    Py_ssize_t n = atoll_read_count(dec, 2);
    if (n < 0) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *key = atoll_decode_value(dec);
        if (key == NULL) {
            return -1;
        }
        if (intern && PyUnicode_CheckExact(key)) {
            /* Interning may replace the key; the memo may still borrow the old one. */
            PyObject *old = Py_NewRef(key);
            PyUnicode_InternInPlace(&key);
            if (key != old && dec->nmemo != 0 && dec->memo[dec->nmemo - 1] == old) {
                dec->memo[dec->nmemo - 1] = dec->pinned ? Py_NewRef(key) : key;
                if (dec->pinned) {
                    Py_DECREF(old);
                }
            }
            Py_DECREF(old);
        }
        PyObject *value = atoll_decode_value(dec);
        if (value == NULL) {
            Py_DECREF(key);
            return -1;
        }
        Py_ssize_t before = PyDict_GET_SIZE(dict);
        /* A key that is there already would drop a value that the memo may borrow. */
        int rc = 0;
        if (dec->pinned) {
            rc = PyDict_SetItem(dict, key, value);
        } else {
            PyObject *there = PyDict_SetDefault(dict, key, value);
            if (there == NULL) {
                rc = -1;
            } else if (PyDict_GET_SIZE(dict) == before) {
                atoll_decoder_pin(dec);
                rc = PyDict_SetItem(dict, key, value);
            }
        }
        Py_DECREF(key);
        Py_DECREF(value);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

/* A dict with room for the count that comes next, where it is worth it. */
static PyObject *new_dict(atoll_decoder *dec) {
    atoll_reader ahead = dec->rd;
    Py_ssize_t n = atoll_read_count(dec, 2);
    if (n < 0) {
        return NULL;
    }
    dec->rd = ahead;
    return n > 5 ? atoll_dict_presized(n) : PyDict_New();
}

static PyObject *decode_dict(atoll_decoder *dec, uint8_t tag) {
    PyObject *obj = new_dict(dec);
    if (obj == NULL || ((tag & ATOLL_MEMO) != 0 && atoll_remember(dec, obj) < 0) ||
        atoll_decode_dict_body(dec, obj, false) < 0) {
        Py_XDECREF(obj);
        return NULL;
    }
    return obj;
}

static PyObject *decode_set(atoll_decoder *dec, uint8_t tag) {
    bool frozen = (tag & ~ATOLL_MEMO) != T_SET;
    Py_ssize_t n = atoll_read_count(dec, 1);
    PyObject *obj = n < 0 ? NULL : frozen ? PyFrozenSet_New(NULL) : PySet_New(NULL);
    if (obj == NULL) {
        return NULL;
    }
    if (!frozen && (tag & ATOLL_MEMO) != 0 && atoll_remember(dec, obj) < 0) {
        Py_DECREF(obj);
        return NULL;
    }
    PyObject *fill = obj;
    PyObject *members = NULL;
    if (frozen && n != 0) {
        /* frozenset() is a shared object, and PySet_Add wants a frozenset that nobody has seen. */
        members = PySet_New(NULL);
        if (members == NULL) {
            Py_DECREF(obj);
            return NULL;
        }
        fill = members;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = atoll_decode_value(dec);
        int rc = -1;
        if (item != NULL) {
            Py_ssize_t before = PySet_GET_SIZE(fill);
            rc = PySet_Add(fill, item);
            if (rc == 0 && !dec->pinned && PySet_GET_SIZE(fill) == before) {
                atoll_decoder_pin(dec); /* a duplicate: item is about to go */
            }
            Py_DECREF(item);
        }
        if (rc < 0) {
            Py_DECREF(obj);
            Py_XDECREF(members);
            return NULL;
        }
    }
    if (members != NULL) {
        Py_SETREF(obj, PyFrozenSet_New(members));
        Py_DECREF(members);
        if (obj == NULL) {
            return NULL;
        }
    }
    if ((tag & ~ATOLL_MEMO) == T_FROZENSET_DUP) {
        return use_duplicate(dec, obj);
    }
    return frozen ? finish(dec, tag, obj) : obj;
}

static PyObject *decode_triple(atoll_decoder *dec, uint8_t tag) {
    PyObject *part[3] = {NULL};
    PyObject *obj = NULL;
    for (int i = 0; i < 3; i++) {
        part[i] = atoll_decode_value(dec);
        if (part[i] == NULL) {
            goto done;
        }
    }
    if ((tag & ~ATOLL_MEMO) != T_RANGE) {
        obj = PySlice_New(part[0], part[1], part[2]);
    } else {
        for (int i = 0; i < 3; i++) {
            if (!PyLong_Check(part[i])) {
                atoll_malformed("a range of something else than numbers");
                goto done;
            }
        }
        obj = PyObject_CallFunctionObjArgs((PyObject *)&PyRange_Type, part[0], part[1], part[2], NULL);
    }
    if (obj != NULL && (tag & ~ATOLL_MEMO) == T_SLICE_DUP) {
        obj = use_duplicate(dec, obj);
    } else {
        obj = finish(dec, tag, obj);
    }
done:
    for (int i = 0; i < 3; i++) {
        if (part[i] != NULL) {
            atoll_decoder_pin(dec); /* a range does not hold the parts it was made of */
        }
        Py_XDECREF(part[i]);
    }
    return obj;
}

static PyObject *decode_container(atoll_decoder *dec, uint8_t tag) {
    if (atoll_enter(&dec->depth, " while receiving an object") < 0) {
        return NULL;
    }
    PyObject *obj;
    (void)atoll_decoder_fresh(dec);
    switch (tag & ~ATOLL_MEMO) {
    case T_LIST:
        obj = decode_list(dec, tag);
        break;
    case T_TUPLE:
    case T_TUPLE_DUP:
        obj = decode_tuple(dec, tag);
        break;
    case T_DICT:
        obj = decode_dict(dec, tag);
        break;
    case T_DICT_FIRST:
    case T_DICT_LIKE:
        obj = atoll_decode_shaped(dec, tag);
        break;
    case T_FROZEN_MAPPING:
        obj = finish(dec, tag, atoll_decode_own_mapping(dec));
        break;
    case T_SET:
    case T_FROZENSET:
    case T_FROZENSET_DUP:
        obj = decode_set(dec, tag);
        break;
    case T_RANGE:
    case T_SLICE:
    case T_SLICE_DUP:
        obj = decode_triple(dec, tag);
        break;
    default:
        atoll_decoder_pin(dec);
        obj = atoll_decode_object(dec, tag);
    }
    atoll_leave(&dec->depth);
    return obj;
}

static inline PyObject *make_int(const atoll_decoder *dec, int64_t v) {
    return dec->fresh > 0 && atoll_fresh_fits(v) ? atoll_fresh_int(&dec->codec->fresh, v)
                                                 : PyLong_FromLongLong(v);
}

PyObject *atoll_decode_value(atoll_decoder *dec) {
    atoll_reader *rd = &dec->rd;
    if (rd->at == rd->end) {
        return atoll_malformed("it ends too early");
    }
    uint8_t tag = *rd->at++;
    const uint8_t *at;
    Py_ssize_t n;
    switch (tag & ~ATOLL_MEMO) {
    case T_NONE:
        return Py_None;
    case T_FALSE:
        return Py_False;
    case T_TRUE:
        return Py_True;
    case T_ELLIPSIS:
        return Py_NewRef(Py_Ellipsis);
    case T_NOT_IMPLEMENTED:
        return Py_NewRef(Py_NotImplemented);
    case T_INT8:
        if ((at = atoll_get_bytes(rd, 1)) == NULL) {
            break;
        }
        return PyLong_FromLong((int8_t)*at);
    case T_INT32:
        if ((at = atoll_get_bytes(rd, 4)) == NULL) {
            break;
        }
        return make_int(dec, (int32_t)atoll_load_u32(at));
    case T_INT64:
        if ((at = atoll_get_bytes(rd, 8)) == NULL) {
            break;
        }
        return make_int(dec, (int64_t)atoll_load_u64(at));
    case T_INT_BIG:
        return atoll_decode_big_int(dec);
    case T_FLOAT:
        if ((at = atoll_get_bytes(rd, 8)) == NULL) {
            break;
        }
        return dec->fresh > 0 ? atoll_fresh_float(&dec->codec->fresh, atoll_double_load(at))
                              : PyFloat_FromDouble(atoll_double_load(at));
    case T_COMPLEX:
        if ((at = atoll_get_bytes(rd, 16)) == NULL) {
            break;
        }
        return PyComplex_FromDoubles(atoll_double_load(at), atoll_double_load(at + 8));
    case T_STR_SHORT: {
        if (rd->at == rd->end) {
            break;
        }
        size_t len = *rd->at++;
        if ((at = atoll_get_bytes(rd, len)) == NULL) {
            break;
        }
        return finish(dec, tag, decode_ascii(dec, at, len));
    }
    case T_STR_ASCII:
    case T_STR_1:
    case T_STR_2:
    case T_STR_4:
        return finish(dec, tag, decode_str(dec, tag & ~ATOLL_MEMO));
    case T_BYTES:
        n = atoll_read_count(dec, 1);
        if (n < 0 || (at = atoll_get_bytes(rd, (size_t)n)) == NULL) {
            break;
        }
        return finish(dec, tag, PyBytes_FromStringAndSize((const char *)at, n));
    case T_BYTEARRAY:
        n = atoll_read_count(dec, 1);
        if (n < 0 || (at = atoll_get_bytes(rd, (size_t)n)) == NULL) {
            break;
        }
        return finish(dec, tag, decode_bytearray(at, n));
    case T_REF:
        return decode_ref(dec);
    case T_PACKED_LIST:
    case T_PACKED_TUPLE:
        return decode_packed(dec, tag);
    case T_FROZEN:
        return atoll_decode_frozen(dec);
    default:
        return decode_container(dec, tag);
    }
    return atoll_malformed("it ends too early");
}
