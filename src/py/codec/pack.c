/* Packed runs: a list or tuple of nothing but floats, or of nothing but ints below 64 bits, is written as an
 * array of the narrowest width that fits, without a tag for each item.
 *
 * Each attempt writes past the end of the message and commits only when every item was of its kind: one that
 * fails leaves nothing behind.
 */
#include "py/codec/internal.h"

static int pack_floats(atoll_encoder *enc, uint8_t tag, PyObject **items, size_t n) {
    uint8_t *at = atoll_reserve(enc, 2 + ATOLL_VARINT_MAX + n * 8);
    if (at == NULL) {
        return -1;
    }
    at[0] = tag;
    at[1] = P_FLOAT;
    at = atoll_write_varint(at + 2, n);
    for (size_t i = 0; i < n; i++) {
        if (!PyFloat_CheckExact(items[i])) {
            return 0; /* nothing was committed */
        }
        at = atoll_double_store(at, PyFloat_AS_DOUBLE(items[i]));
    }
    atoll_commit(enc, at);
    return 1;
}

static int pack_wide_ints(atoll_encoder *enc, uint8_t tag, PyObject **items, size_t n) {
    uint8_t *at = atoll_reserve(enc, 2 + ATOLL_VARINT_MAX + n * 8);
    if (at == NULL) {
        return -1;
    }
    at[0] = tag;
    at[1] = P_INT64;
    at = atoll_write_varint(at + 2, n);
    for (size_t i = 0; i < n; i++) {
        int overflow = 1;
        int64_t v = PyLong_CheckExact(items[i]) ? PyLong_AsLongLongAndOverflow(items[i], &overflow) : 0;
        if (overflow != 0) {
            return 0;
        }
        atoll_store_u64(at, (uint64_t)v);
        at += 8;
    }
    atoll_commit(enc, at);
    return 1;
}

/* Written at four bytes each while the width that is needed becomes known; then, where less will do, narrowed in
 * place.  What a compact int holds fits in four bytes. */
static int pack_ints(atoll_encoder *enc, uint8_t tag, PyObject **items, size_t n) {
    uint8_t *head = atoll_reserve(enc, 2 + ATOLL_VARINT_MAX + n * 4);
    if (head == NULL) {
        return -1;
    }
    head[0] = tag;
    uint8_t *at = atoll_write_varint(head + 2, n);
    uint32_t magnitude = 0;
    for (size_t i = 0; i < n; i++) {
        PyObject *item = items[i];
        if (!PyLong_CheckExact(item)) {
            return 0;
        }
        if (!PyUnstable_Long_IsCompact((PyLongObject *)item)) {
            return pack_wide_ints(enc, tag, items, n);
        }
        int32_t v = (int32_t)PyUnstable_Long_CompactValue((PyLongObject *)item);
        magnitude |= (uint32_t)(v ^ (v >> 31));
        atoll_store_u32(at + 4 * i, (uint32_t)v);
    }
    if (magnitude < 0x80) {
        head[1] = P_INT8;
        for (size_t i = 0; i < n; i++) {
            at[i] = at[4 * i];
        }
        atoll_commit(enc, at + n);
    } else if (magnitude < 0x8000) {
        head[1] = P_INT16;
        for (size_t i = 0; i < n; i++) {
            at[2 * i] = at[4 * i];
            at[2 * i + 1] = at[4 * i + 1];
        }
        atoll_commit(enc, at + 2 * n);
    } else {
        head[1] = P_INT32;
        atoll_commit(enc, at + 4 * n);
    }
    return 1;
}

int atoll_try_pack(atoll_encoder *enc, uint8_t tag, PyObject **items, size_t n) {
    PyTypeObject *type = Py_TYPE(items[0]);
    if (type != Py_TYPE(items[n - 1]) || (type != &PyLong_Type && type != &PyFloat_Type)) {
        return 0;
    }
    if (atomic_load_explicit(&atoll_frozen.size, memory_order_relaxed) != 0 &&
        atoll_encode_any_frozen(items, n)) {
        return 0; /* they stay what they are */
    }
    if (type == &PyLong_Type) {
        return pack_ints(enc, tag, items, n);
    }
    return pack_floats(enc, tag, items, n);
}
