/* Encoding: the basic types, and what holds them together.
 *
 * One pass, no lookahead: a container writes its count and then its items, and checks afterwards that the
 * count was right (Python code that runs in between may change it: RuntimeError).
 *
 * The memo is asked only about objects that can occur twice.  An object whose sole reference is its
 * container's cannot; the callers of atoll_encode_shared are those whose references
 * are not counted or not owned by a container.
 *
 * Up to encode_other nothing runs Python code or gives the GIL away; from there on, the encoder is pinned.
 */
#include "py/codec/internal.h"

/* 1: written as a reference, 0: entered under the next index, -1: exception. */
static inline int enter(atoll_encoder *enc, PyObject *obj) {
    atoll_memo *memo = enc->memo;
    atoll_memo_slot *slot = atoll_memo_find(memo, obj);
    if (slot->epoch == memo->epoch) {
        return atoll_write_ref(enc, slot->index);
    }
    if (memo->used * 2 >= memo->mask) {
        return atoll_memo_add_slow(enc, obj);
    }
    atoll_memo_enter(memo, slot, obj);
    if (enc->pinned) {
        Py_INCREF(obj);
    }
    return 0;
}

int atoll_memo_add_slow(atoll_encoder *enc, PyObject *obj) {
    if (atoll_memo_grow(enc->memo) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    return atoll_memo_add(enc, obj);
}

int atoll_memo_add_late(atoll_encoder *enc, PyObject *obj, size_t at, uint8_t duplicate) {
    uint32_t index = atoll_memo_get(enc->memo, obj);
    if (index == ATOLL_NOT_FOUND) {
        return atoll_memo_add(enc, obj);
    }
    enc->msg->body.data[at] = duplicate;
    return atoll_write_count(enc, index) < 0 ? -1 : 1;
}

int atoll_write_ref(atoll_encoder *enc, uint32_t index) {
    if (enc->unfilled != NULL && enc->reducing != 0) {
        int filled = atoll_fill_now(enc, index);
        if (filled != 0) {
            return filled;
        }
    }
    return atoll_write_tag_count(enc, T_REF, index) < 0 ? -1 : 1;
}

/* ---- leaves ---- */

enum { SHORT = 64 };      /* bytes that are copied without a call */
enum { OUTLINED = 4096 }; /* bytes from which on an outline has a hash of them */

/* Whether it is entered, for who refers to it once more.  An outline is the same however many refer to it at the moment. */
static inline bool is_entered(const atoll_encoder *enc, bool shared, Py_ssize_t length) {
    return enc->outline ? length >= OUTLINED : shared && length > 1;
}

static inline int encode_str(atoll_encoder *enc, PyObject *obj, bool shared) {
    size_t len = (size_t)PyUnicode_GET_LENGTH(obj);
    uint8_t memo = 0;
    if (is_entered(enc, shared, (Py_ssize_t)len)) {
        int rc = enter(enc, obj);
        if (rc != 0) {
            return rc < 0 ? -1 : 0;
        }
        memo = ATOLL_MEMO;
    }
    size_t size = len * PyUnicode_KIND(obj);
    uint8_t *at = atoll_reserve(enc, size + 1 + ATOLL_VARINT_MAX);
    if (at == NULL) {
        return -1;
    }
    if (PyUnicode_IS_ASCII(obj)) {
        if (len < 256) {
            at[0] = T_STR_SHORT | memo;
            at[1] = (uint8_t)len;
            at += 2;
        } else {
            *at = T_STR_ASCII | memo;
            at = atoll_write_varint(at + 1, len);
        }
    } else {
        unsigned kind = PyUnicode_KIND(obj);
        *at = (uint8_t)((kind == 1 ? T_STR_1 : kind == 2 ? T_STR_2 : T_STR_4) | memo);
        at = atoll_write_varint(at + 1, len);
    }
    if (size <= SHORT) {
        (void)atoll_copy_short(at, PyUnicode_DATA(obj), size);
    } else {
        memcpy(at, PyUnicode_DATA(obj), size);
    }
    atoll_commit(enc, at + size);
    return 0;
}

static inline int encode_int(atoll_encoder *enc, PyObject *obj) {
    int64_t v;
    if (PyUnstable_Long_IsCompact((PyLongObject *)obj)) {
        v = PyUnstable_Long_CompactValue((PyLongObject *)obj);
    } else {
        int overflow;
        v = PyLong_AsLongLongAndOverflow(obj, &overflow);
        if (overflow != 0) {
            return atoll_encode_big_int(enc, obj);
        }
    }
    uint8_t *at = atoll_reserve(enc, 9);
    if (at == NULL) {
        return -1;
    }
    if (v == (int8_t)v) {
        at[0] = T_INT8;
        at[1] = (uint8_t)v;
        at += 2;
    } else if (v == (int32_t)v) {
        at[0] = T_INT32;
        atoll_store_u32(at + 1, (uint32_t)v);
        at += 5;
    } else {
        at[0] = T_INT64;
        atoll_store_u64(at + 1, (uint64_t)v);
        at += 9;
    }
    atoll_commit(enc, at);
    return 0;
}

static inline int encode_float(atoll_encoder *enc, PyObject *obj) {
    uint8_t *at = atoll_reserve(enc, 9);
    if (at == NULL) {
        return -1;
    }
    *at = T_FLOAT;
    atoll_commit(enc, atoll_double_store(at + 1, PyFloat_AS_DOUBLE(obj)));
    return 0;
}

static int encode_complex(atoll_encoder *enc, PyObject *obj) {
    uint8_t *at = atoll_reserve(enc, 17);
    if (at == NULL) {
        return -1;
    }
    *at = T_COMPLEX;
    at = atoll_double_store(at + 1, PyComplex_RealAsDouble(obj));
    atoll_commit(enc, atoll_double_store(at, PyComplex_ImagAsDouble(obj)));
    return 0;
}

static int put_data(atoll_encoder *enc, uint8_t tag, const void *data, Py_ssize_t size) {
    if (enc->outline && size >= OUTLINED) {
        return atoll_write_tag_count(enc, tag, (uint64_t)size) < 0
                   ? -1
                   : atoll_write_u64(enc, atoll_hash(data, (size_t)size));
    }
    uint8_t *at = atoll_reserve(enc, (size_t)size + 1 + ATOLL_VARINT_MAX);
    if (at == NULL) {
        return -1;
    }
    *at = tag;
    at = atoll_write_varint(at + 1, (uint64_t)size);
    if (size != 0) {
        memcpy(at, data, (size_t)size);
    }
    atoll_commit(enc, at + size);
    return 0;
}

static int encode_bytes(atoll_encoder *enc, PyObject *obj, bool shared) {
    uint8_t tag = T_BYTES;
    if (is_entered(enc, shared, PyBytes_GET_SIZE(obj))) {
        int rc = enter(enc, obj);
        if (rc != 0) {
            return rc < 0 ? -1 : 0;
        }
        tag |= ATOLL_MEMO;
    }
    return put_data(enc, tag, PyBytes_AS_STRING(obj), PyBytes_GET_SIZE(obj));
}

/* ---- containers ---- */

enum { PACK_FROM = 3, MANY = 4 };

/* What begins with this one. */
static inline bool may_pack(PyObject *item) {
    return Py_IS_TYPE(item, &PyLong_Type) || Py_IS_TYPE(item, &PyFloat_Type);
}

static int changed(const char *what) {
    PyErr_Format(PyExc_RuntimeError, "%s changed size while it was sent", what);
    return -1;
}

static int encode_list(atoll_encoder *enc, PyObject *obj, bool shared) {
    uint8_t memo = 0;
    if (shared) {
        int rc = enter(enc, obj);
        if (rc != 0) {
            return rc < 0 ? -1 : 0;
        }
        memo = ATOLL_MEMO;
    }
    Py_ssize_t n = PyList_GET_SIZE(obj);
    if (n >= PACK_FROM && may_pack(PyList_GET_ITEM(obj, 0))) {
        int rc = atoll_try_pack(enc, T_PACKED_LIST | memo, ((PyListObject *)obj)->ob_item, (size_t)n);
        if (rc != 0) {
            return rc < 0 ? -1 : 0;
        }
    }
    if (atoll_write_tag_count(enc, T_LIST | memo, (uint64_t)n) < 0 ||
        atoll_enter(&enc->depth, " while sending a list") < 0) {
        return -1;
    }
    int rc = 0;
    atoll_frame fr;
    atoll_push(enc, &fr, obj, AT_INDEX);
    enc->many += n >= MANY;
    for (Py_ssize_t i = 0; i < n && rc == 0; i++) {
        if (PyList_GET_SIZE(obj) != n) {
            rc = changed("list");
            break;
        }
        fr.index = i;
        rc = atoll_encode_value(enc, PyList_GET_ITEM(obj, i));
    }
    enc->many -= n >= MANY;
    if (rc == 0 && PyList_GET_SIZE(obj) != n) {
        rc = changed("list");
    }
    atoll_pop(enc, &fr);
    atoll_leave(&enc->depth);
    return rc;
}

static int encode_tuple(atoll_encoder *enc, PyObject *obj, bool shared) {
    Py_ssize_t n = PyTuple_GET_SIZE(obj);
    uint8_t memo = 0;
    if (shared && n != 0) {
        int rc = atoll_try_ref(enc, obj);
        if (rc != 0) {
            return rc < 0 ? -1 : 0;
        }
        memo = ATOLL_MEMO;
    }
    if (n >= PACK_FROM && may_pack(PyTuple_GET_ITEM(obj, 0))) {
        int rc = atoll_try_pack(enc, T_PACKED_TUPLE | memo, ((PyTupleObject *)obj)->ob_item, (size_t)n);
        if (rc != 0) {
            return rc > 0 && memo != 0 ? atoll_memo_add(enc, obj) : rc < 0 ? -1 : 0;
        }
    }
    size_t tag_at = enc->msg->body.len;
    if (atoll_write_tag_count(enc, T_TUPLE | memo, (uint64_t)n) < 0 ||
        atoll_enter(&enc->depth, " while sending a tuple") < 0) {
        return -1;
    }
    int rc = 0;
    atoll_frame fr;
    atoll_push(enc, &fr, obj, AT_INDEX);
    enc->late += memo != 0;
    enc->many += n >= MANY;
    for (Py_ssize_t i = 0; i < n && rc == 0; i++) {
        fr.index = i;
        rc = atoll_encode_value(enc, PyTuple_GET_ITEM(obj, i));
    }
    enc->many -= n >= MANY;
    enc->late -= memo != 0;
    atoll_pop(enc, &fr);
    atoll_leave(&enc->depth);
    if (rc == 0 && memo != 0) {
        rc = atoll_memo_add_late(enc, obj, tag_at, T_TUPLE_DUP) < 0 ? -1 : 0;
    }
    return rc;
}

int atoll_encode_dict_body(atoll_encoder *enc, PyObject *dict, atoll_step step) {
    Py_ssize_t n = PyDict_GET_SIZE(dict);
    if (atoll_write_count(enc, (uint64_t)n) < 0) {
        return -1;
    }
    if (n == 0) {
        return 0;
    }
    if (atoll_enter(&enc->depth, " while sending a dict") < 0) {
        return -1;
    }
    int rc = 0;
    atoll_frame fr;
    atoll_push(enc, &fr, dict, step);
    Py_ssize_t pos = 0;
    Py_ssize_t done = 0;
    PyObject *key;
    PyObject *value;
    while (rc == 0 && PyDict_Next(dict, &pos, &key, &value)) {
        if (done++ == n) {
            break;
        }
        fr.key = key;
        if (PyUnicode_CheckExact(key) && !atoll_frozen_has(key)) {
            rc = encode_str(enc, key, Py_REFCNT(key) != 1);
            if (rc == 0) {
                rc = atoll_encode_value(enc, value);
            }
        } else {
            Py_INCREF(key);
            Py_INCREF(value);
            fr.step = AT_ELEMENT;
            rc = atoll_encode_shared(enc, key);
            fr.step = step;
            if (rc == 0) {
                rc = atoll_encode_shared(enc, value);
            }
            Py_DECREF(key);
            Py_DECREF(value);
        }
    }
    if (rc == 0 && (done != n || PyDict_GET_SIZE(dict) != n)) {
        rc = changed("dictionary");
    }
    atoll_pop(enc, &fr);
    atoll_leave(&enc->depth);
    return rc;
}

static int encode_dict(atoll_encoder *enc, PyObject *obj, bool shared) {
    uint8_t memo = 0;
    if (shared) {
        int rc = enter(enc, obj);
        if (rc != 0) {
            return rc < 0 ? -1 : 0;
        }
        memo = ATOLL_MEMO;
    }
    int shaped = enc->many != 0 ? atoll_encode_shaped(enc, obj, memo) : 0;
    if (shaped != 0) {
        return shaped < 0 ? -1 : 0;
    }
    if (atoll_write_tag(enc, T_DICT | memo) < 0) {
        return -1;
    }
    return atoll_encode_dict_body(enc, obj, AT_KEY);
}

static int encode_set(atoll_encoder *enc, PyObject *obj, bool shared) {
    bool frozen = PyFrozenSet_CheckExact(obj);
    Py_ssize_t n = PySet_GET_SIZE(obj);
    uint8_t memo = 0;
    if (shared) {
        int rc = frozen ? atoll_try_ref(enc, obj) : enter(enc, obj);
        if (rc != 0) {
            return rc < 0 ? -1 : 0;
        }
        memo = ATOLL_MEMO;
    }
    size_t tag_at = enc->msg->body.len;
    if (atoll_write_tag_count(enc, (uint8_t)((frozen ? T_FROZENSET : T_SET) | memo), (uint64_t)n) < 0) {
        return -1;
    }
    PyObject *it = PyObject_GetIter(obj);
    if (it == NULL) {
        return -1;
    }
    if (atoll_enter(&enc->depth, " while sending a set") < 0) {
        Py_DECREF(it);
        return -1;
    }
    int rc = 0;
    Py_ssize_t done = 0;
    atoll_frame fr;
    atoll_push(enc, &fr, obj, AT_ELEMENT);
    enc->late += frozen;
    PyObject *item;
    while (rc == 0 && (item = PyIter_Next(it)) != NULL) {
        done++;
        fr.key = item;
        /* One reference is the set's, one is ours. */
        rc = Py_REFCNT(item) == 2 && PyUnicode_CheckExact(item) ? encode_str(enc, item, false)
                                                                : atoll_encode_shared(enc, item);
        Py_DECREF(item);
    }
    if (rc == 0 && (PyErr_Occurred() || done != n)) {
        rc = PyErr_Occurred() ? -1 : changed("set");
    }
    enc->late -= frozen;
    atoll_pop(enc, &fr);
    atoll_leave(&enc->depth);
    Py_DECREF(it);
    if (rc == 0 && frozen && memo != 0) {
        rc = atoll_memo_add_late(enc, obj, tag_at, T_FROZENSET_DUP) < 0 ? -1 : 0;
    }
    return rc;
}

/* ---- the rest of the builtin data types ---- */

static int encode_bytearray(atoll_encoder *enc, PyObject *obj, bool shared) {
    uint8_t tag = T_BYTEARRAY;
    if (shared) {
        int rc = enter(enc, obj);
        if (rc != 0) {
            return rc < 0 ? -1 : 0;
        }
        tag |= ATOLL_MEMO;
    }
    return put_data(enc, tag, PyByteArray_AS_STRING(obj), PyByteArray_GET_SIZE(obj));
}

/* range and slice: three parts, entered late (a slice may hold anything). */
static int encode_triple(atoll_encoder *enc, PyObject *obj, uint8_t tag) {
    static const char *const parts[] = {"start", "stop", "step"};
    int rc = atoll_try_ref(enc, obj);
    if (rc != 0) {
        return rc < 0 ? -1 : 0;
    }
    size_t tag_at = enc->msg->body.len;
    if (atoll_write_tag(enc, tag | ATOLL_MEMO) < 0) {
        return -1;
    }
    enc->late++;
    for (int i = 0; i < 3 && rc == 0; i++) {
        PyObject *part = PyObject_GetAttrString(obj, parts[i]);
        rc = part != NULL ? atoll_encode_part(enc, obj, parts[i], part) : -1;
        Py_XDECREF(part);
    }
    enc->late--;
    /* No range is in a cycle. */
    return rc < 0 || atoll_memo_add_late(enc, obj, tag_at, T_SLICE_DUP) < 0 ? -1 : 0;
}

static int encode_code(atoll_encoder *enc, PyObject *obj) {
    int rc = enter(enc, obj);
    if (rc != 0) {
        return rc < 0 ? -1 : 0;
    }
    PyObject *bytes = atoll_code_bytes(obj);
    if (bytes == NULL) { /* a program has put together what no compiler makes */
        return PyErr_ExceptionMatches(PyExc_ValueError)
                   ? atoll_refuse_with_cause(enc,
                                             "code with constants that marshal cannot write is not shareable")
                   : -1;
    }
    Py_ssize_t size = PyBytes_GET_SIZE(bytes);
    rc = put_data(enc, T_CODE | ATOLL_MEMO, PyBytes_AS_STRING(bytes), size);
    if (rc == 0) {
        rc = atoll_write_u64(enc, atoll_code_seal((const uint8_t *)PyBytes_AS_STRING(bytes), (size_t)size));
    }
    Py_DECREF(bytes);
    return rc;
}

/* Where builtin data ends: Python code may run. */
static int encode_outer(atoll_encoder *enc, PyObject *obj) {
    PyTypeObject *type = Py_TYPE(obj);
    const atoll_codec_hook *hook = atoll_hook_of(enc->codec, type);
    return hook != NULL           ? atoll_encode_hooked(enc, obj, hook)
           : type == &PyCode_Type ? encode_code(enc, obj)
                                  : atoll_encode_object(enc, obj);
}

static int encode_other(atoll_encoder *enc, PyObject *obj, bool shared) {
    PyTypeObject *type = Py_TYPE(obj);
    if ((type->tp_flags & Py_TPFLAGS_HEAPTYPE) != 0) {
        goto object;
    }
    if (type == &PySet_Type || type == &PyFrozenSet_Type) {
        enc->impure |= enc->exempt == 0 && type == &PySet_Type;
        return encode_set(enc, obj, shared);
    }
    if (type == &PyComplex_Type) {
        return encode_complex(enc, obj);
    }
    if (type == &PyByteArray_Type) {
        atoll_mark_mutable(enc);
        return encode_bytearray(enc, obj, shared);
    }
    if (type == atoll_frozen_dict_type) {
        int is_own = atoll_frozen_is_all(obj);
        if (is_own != 0) {
            return is_own < 0 ? -1 : atoll_encode_own_mapping(enc, obj);
        }
    }
    if (obj == Py_Ellipsis) {
        return atoll_write_tag(enc, T_ELLIPSIS);
    }
    if (obj == Py_NotImplemented) {
        return atoll_write_tag(enc, T_NOT_IMPLEMENTED);
    }
object:
    if (atoll_enter(&enc->depth, " while sending an object") < 0) {
        return -1;
    }
    int rc;
    atoll_frame fr;
    atoll_push(enc, &fr, obj, AT_SELF);
    if (type == &PyRange_Type || type == &PySlice_Type) {
        rc = encode_triple(enc, obj, type == &PyRange_Type ? T_RANGE : T_SLICE);
    } else {
        rc = atoll_encoder_pin(enc);
        if (rc == 0) {
            atoll_type_info *info = atoll_type_info_known(enc->codec, type);
            rc = info != NULL ? atoll_encode_instance(enc, obj, info) : encode_outer(enc, obj);
        }
    }
    atoll_pop(enc, &fr);
    atoll_leave(&enc->depth);
    return rc;
}

static int encode_container(atoll_encoder *enc, PyObject *obj, bool shared) {
    if (obj == enc->bound) {
        int rc = atoll_try_ref(enc, obj);
        rc = rc == 0 ? atoll_try_own(enc, obj) : rc;
        if (rc != 0) {
            return rc < 0 ? -1 : 0;
        }
    }
    shared |= enc->late != 0;
    PyTypeObject *type = Py_TYPE(obj);
    if (type == &PyDict_Type) {
        atoll_mark_mutable(enc);
        return encode_dict(enc, obj, shared);
    }
    if (type == &PyList_Type) {
        atoll_mark_mutable(enc);
        return encode_list(enc, obj, shared);
    }
    if (type == &PyTuple_Type) {
        return encode_tuple(enc, obj, shared);
    }
    return encode_other(enc, obj, shared);
}

static inline int encode(atoll_encoder *enc, PyObject *obj, bool shared) {
    if (atoll_frozen_has(obj)) {
        return atoll_encode_frozen(enc, obj);
    }
    PyTypeObject *type = Py_TYPE(obj);
    if (type == &PyUnicode_Type) {
        return encode_str(enc, obj, shared);
    }
    if (type == &PyLong_Type) {
        return encode_int(enc, obj);
    }
    if (obj == Py_None) {
        return atoll_write_tag(enc, T_NONE);
    }
    if (type == &PyFloat_Type) {
        return encode_float(enc, obj);
    }
    if (type == &PyBool_Type) {
        return atoll_write_tag(enc, obj == Py_True ? T_TRUE : T_FALSE);
    }
    if (type == &PyBytes_Type && (PyBytes_GET_SIZE(obj) < ATOLL_LEND_LEAST || enc->whole)) {
        return encode_bytes(enc, obj, shared);
    }
    if (!enc->pinned) {
        return encode_container(enc, obj, shared);
    }
    /* Python code may drop what its container held, and the key that its frame would name in an error. */
    PyObject *key = enc->top != NULL ? Py_XNewRef(enc->top->key) : NULL;
    Py_INCREF(obj);
    int rc = encode_container(enc, obj, shared);
    Py_DECREF(obj);
    Py_XDECREF(key);
    return rc;
}

int atoll_encode_value(atoll_encoder *enc, PyObject *obj) { return encode(enc, obj, Py_REFCNT(obj) != 1); }

int atoll_encode_shared(atoll_encoder *enc, PyObject *obj) { return encode(enc, obj, true); }

int atoll_encode_part(atoll_encoder *enc, PyObject *of, const char *word, PyObject *obj) {
    atoll_frame fr;
    atoll_push(enc, &fr, of, AT_WORD);
    fr.word = word;
    int rc = atoll_encode_shared(enc, obj);
    atoll_pop(enc, &fr);
    return rc;
}
