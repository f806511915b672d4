/* Keys of a SharedDict as bytes: equal keys have the same bytes, others have not.
 *
 * What may be a key is what every interpreter compares in the same way: None, numbers, str, bytes, and tuples and frozensets of these;
 * of subclasses those that compare and hash as their base does (named tuples, members of IntEnum and StrEnum).
 *
 *   bytes                                 of
 *   N                                     None
 *   i, eight bytes                        an int, a bool, a float or complex without a fraction, that fits
 *   I, bytes                              the same when it does not: as few as can be, little-endian, signed
 *   f, eight bytes                        other floats.  All that are not a number are one key, which they are not in a dict, where
 *                                         each is only itself
 *   c, twice eight bytes                  other complex numbers
 *   s, bytes                              a str, in UTF-8 (with lone surrogates)
 *   b, bytes                              bytes
 *   t, items each with their length       a tuple
 *   z, likewise, in the order of bytes    a frozenset
 *
 * A key that comes back is the int for a float that is equal to it, the tuple for a named tuple, and so on.
 */
#include "module/shareddict.h"

#include <math.h>

/* Where the part of a key is: the error's path. */
typedef struct place {
    const struct place *in;
    Py_ssize_t index; /* -1: of a set */
} place;

static void put_double(atoll_buffer *out, double value) {
    uint64_t bits;
    value = isnan(value) ? (double)NAN : value + 0.0; /* one NaN, and no negative zero */
    memcpy(&bits, &value, sizeof bits);
    atoll_put_u64(out, bits);
}

/* Takes over the bytes, which may be NULL with an exception. */
static int put_bytes(atoll_buffer *out, char kind, PyObject *bytes) {
    if (bytes == NULL) {
        return -1;
    }
    atoll_put_u8(out, (uint8_t)kind);
    atoll_put_bytes(out, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
    Py_DECREF(bytes);
    return 0;
}

static int put_int(atoll_buffer *out, PyObject *value) {
    int overflow;
    long long n = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (n == -1 && overflow == 0 && PyErr_Occurred()) {
        return -1;
    }
    if (overflow == 0) {
        atoll_put_u8(out, 'i');
        atoll_put_u64(out, (uint64_t)n);
        return 0;
    }
    return put_bytes(out, 'I', atoll_codec_int_bytes(value));
}

static int put_float(atoll_buffer *out, double value) {
    if (isfinite(value) && floor(value) == value) {
        PyObject *number = PyLong_FromDouble(value);
        int rc = number != NULL ? put_int(out, number) : -1;
        Py_XDECREF(number);
        return rc;
    }
    atoll_put_u8(out, 'f');
    put_double(out, value);
    return 0;
}

static int put_complex(atoll_buffer *out, PyObject *value) {
    double real = PyComplex_RealAsDouble(value);
    double imag = PyComplex_ImagAsDouble(value);
    if (imag == 0) {
        return put_float(out, real);
    }
    atoll_put_u8(out, 'c');
    put_double(out, real);
    put_double(out, imag);
    return 0;
}

/* Whether it is of the type, or of a subclass that compares and hashes as that does. */
static bool is_like(PyObject *obj, PyTypeObject *type) {
    const PyTypeObject *own = Py_TYPE(obj);
    return own == type || (PyType_IsSubtype(Py_TYPE(obj), type) && own->tp_hash == type->tp_hash &&
                           own->tp_richcompare == type->tp_richcompare);
}

/* Takes over the part, which may be NULL with an exception.  0 or -1. */
static int add_part(PyObject *parts, PyObject *part) {
    int rc = part != NULL ? PyList_Append(parts, part) : -1;
    Py_XDECREF(part);
    return rc;
}

/* Not by calling itself: the stack may nearly be used up. */
static PyObject *path_of(const place *at) {
    PyObject *parts = PyList_New(0);
    int rc = parts != NULL ? 0 : -1;
    for (; rc == 0 && at != NULL; at = at->in) {
        rc = add_part(parts, at->index >= 0 ? PyUnicode_FromFormat("[%zd]", at->index)
                                            : PyUnicode_FromString("{...}"));
    }
    rc = rc == 0 ? add_part(parts, PyUnicode_FromString("key")) : rc;
    PyObject *nothing = rc == 0 && PyList_Reverse(parts) == 0 ? PyUnicode_FromString("") : NULL;
    PyObject *path = nothing != NULL ? PyUnicode_Join(nothing, parts) : NULL;
    Py_XDECREF(nothing);
    Py_XDECREF(parts);
    return path;
}

static int refuse(atoll_state *state, PyObject *obj, const place *at) {
    PyObject *path = path_of(at);
    if (path != NULL) {
        PyErr_Format(
            state->not_shareable,
            "%U: %.200s cannot be a key of a SharedDict: keys are None, numbers, str, bytes, and tuples and "
            "frozensets of these",
            path, Py_TYPE(obj)->tp_name);
        Py_DECREF(path);
    }
    return -1;
}

static int put_key(atoll_state *state, atoll_buffer *out, PyObject *obj, const place *at);

/* A part with its length in front. */
static int put_part(atoll_state *state, atoll_buffer *out, PyObject *obj, const place *at) {
    size_t start = out->len;
    atoll_put_u32(out, 0);
    if (put_key(state, out, obj, at) < 0 || out->failed) {
        return -1;
    }
    size_t len = out->len - start - 4;
    if (len > UINT32_MAX) {
        PyErr_SetString(PyExc_OverflowError, "a part of a key must be smaller than 4 GiB");
        return -1;
    }
    atoll_store_u32(out->data + start, (uint32_t)len);
    return 0;
}

static int put_tuple(atoll_state *state, atoll_buffer *out, PyObject *obj, const place *at) {
    atoll_put_u8(out, 't');
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(obj); i++) {
        const place here = {at, i};
        if (put_part(state, out, PyTuple_GET_ITEM(obj, i), &here) < 0) {
            return -1;
        }
    }
    return 0;
}

static int put_set(atoll_state *state, atoll_buffer *out, PyObject *obj, const place *at) {
    PyObject *parts = PyList_New(0);
    /* Its own, whatever a subclass shows: it is compared by what is in it. */
    PyObject *iterator = parts != NULL ? PyFrozenSet_Type.tp_iter(obj) : NULL;
    const place here = {at, -1};
    PyObject *item;
    while (iterator != NULL && (item = PyIter_Next(iterator)) != NULL) {
        atoll_buffer part = {0};
        int rc = put_part(state, &part, item, &here);
        Py_DECREF(item);
        PyObject *bytes = rc == 0 && !part.failed
                              ? PyBytes_FromStringAndSize((const char *)part.data, (Py_ssize_t)part.len)
                              : NULL;
        out->failed |= part.failed;
        atoll_buffer_free(&part);
        if (bytes == NULL || PyList_Append(parts, bytes) < 0) {
            Py_XDECREF(bytes);
            Py_CLEAR(iterator);
            break;
        }
        Py_DECREF(bytes);
    }
    int rc = iterator != NULL && !PyErr_Occurred() && PyList_Sort(parts) == 0 ? 0 : -1;
    Py_XDECREF(iterator);
    atoll_put_u8(out, 'z');
    for (Py_ssize_t i = 0; rc == 0 && i < PyList_GET_SIZE(parts); i++) {
        PyObject *bytes = PyList_GET_ITEM(parts, i);
        atoll_put_bytes(out, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
    }
    Py_XDECREF(parts);
    return rc;
}

static int put_key(atoll_state *state, atoll_buffer *out, PyObject *obj, const place *at) {
    if (is_like(obj, &PyUnicode_Type)) {
        return put_bytes(out, 's', PyUnicode_AsEncodedString(obj, "utf-8", "surrogatepass"));
    }
    if (is_like(obj, &PyLong_Type)) {
        return put_int(out, obj);
    }
    if (obj == Py_None) {
        atoll_put_u8(out, 'N');
        return 0;
    }
    if (is_like(obj, &PyFloat_Type)) {
        return put_float(out, PyFloat_AS_DOUBLE(obj));
    }
    if (is_like(obj, &PyBytes_Type)) {
        return put_bytes(out, 'b', Py_NewRef(obj));
    }
    if (is_like(obj, &PyComplex_Type)) {
        return put_complex(out, obj);
    }
    bool is_tuple = is_like(obj, &PyTuple_Type);
    if (!is_tuple && !is_like(obj, &PyFrozenSet_Type)) {
        return refuse(state, obj, at);
    }
    if (Py_EnterRecursiveCall(" while a key of a SharedDict is read")) {
        return -1;
    }
    int rc = is_tuple ? put_tuple(state, out, obj, at) : put_set(state, out, obj, at);
    Py_LeaveRecursiveCall();
    return rc;
}

int atoll_shareddict_key_init(atoll_state *state, atoll_shareddict_key *key, PyObject *obj) {
    key->bytes = (atoll_buffer){0};
    if (PyUnicode_CheckExact(obj) && PyUnicode_IS_COMPACT_ASCII(obj) &&
        (size_t)PyUnicode_GET_LENGTH(obj) < sizeof key->few) {
        size_t len = (size_t)PyUnicode_GET_LENGTH(obj);
        key->few[0] = 's';
        memcpy(key->few + 1, PyUnicode_1BYTE_DATA(obj), len);
        key->key = atoll_hashmap_key_of(key->few, len + 1);
        return 0;
    }
    int rc = put_key(state, &key->bytes, obj, NULL);
    if (key->bytes.failed) {
        if (!PyErr_Occurred()) {
            PyErr_NoMemory();
        }
        rc = -1;
    }
    if (rc < 0) {
        atoll_buffer_free(&key->bytes);
        return -1;
    }
    key->key = atoll_hashmap_key_of(key->bytes.data, key->bytes.len);
    return 0;
}

void atoll_shareddict_key_clear(atoll_shareddict_key *key) {
    if (key->bytes.data != NULL) {
        atoll_buffer_free(&key->bytes);
    }
}

/* ---- back ---- */

static double get_double(const uint8_t *bytes) {
    uint64_t bits = atoll_load_u64(bytes);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static PyObject *container(const uint8_t *bytes, size_t len, bool is_tuple) {
    /* Who has stored it may have had a larger stack. */
    if (Py_EnterRecursiveCall(" while a key of a SharedDict is made")) {
        return NULL;
    }
    PyObject *items = PyList_New(0);
    for (size_t at = 0; items != NULL && at < len;) {
        size_t size = atoll_load_u32(bytes + at);
        PyObject *item = atoll_shareddict_key_object(bytes + at + 4, size);
        if (item == NULL || PyList_Append(items, item) < 0) {
            Py_CLEAR(items);
        }
        Py_XDECREF(item);
        at += 4 + size;
    }
    PyObject *result = items == NULL ? NULL : is_tuple ? PyList_AsTuple(items) : PyFrozenSet_New(items);
    Py_XDECREF(items);
    Py_LeaveRecursiveCall();
    return result;
}

PyObject *atoll_shareddict_key_object(const uint8_t *bytes, size_t len) {
    uint8_t kind = bytes[0];
    bytes++;
    len--;
    switch (kind) {
    case 's':
        return PyUnicode_DecodeUTF8((const char *)bytes, (Py_ssize_t)len, "surrogatepass");
    case 'i':
        return PyLong_FromLongLong((long long)atoll_load_u64(bytes));
    case 'I':
        return atoll_codec_int_of(bytes, len);
    case 'b':
        return PyBytes_FromStringAndSize((const char *)bytes, (Py_ssize_t)len);
    case 'f':
        return PyFloat_FromDouble(get_double(bytes));
    case 'c':
        return PyComplex_FromDoubles(get_double(bytes), get_double(bytes + 8));
    case 't':
    case 'z':
        return container(bytes, len, kind == 't');
    default:
        return Py_NewRef(Py_None);
    }
}
