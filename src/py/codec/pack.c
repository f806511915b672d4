/* Packed runs: a list or tuple of nothing but floats, or of nothing but ints below 64 bits, is written as an
 * array of the narrowest width that fits, without a tag for each item.
 *
 * Each attempt writes past the end of the message and commits only when every item was of its kind: one that
 * fails leaves nothing behind.
 *
 * Who makes the items of a list one after the other, to send it, gathers them: while they are numbers of one kind each is written at once,
 * and not kept.  The first that is anything else makes a list of all; from then on it is one.  What is written counts at the end only.
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

/* Of n numbers at `at`, of four bytes each, as few bytes as will do; says so in *kind.  Where they end. */
static uint8_t *narrow(uint8_t *kind, uint8_t *at, size_t n, uint32_t magnitude) {
    if (magnitude < 0x80) {
        *kind = P_INT8;
        for (size_t i = 0; i < n; i++) {
            at[i] = at[4 * i];
        }
        return at + n;
    }
    if (magnitude < 0x8000) {
        *kind = P_INT16;
        for (size_t i = 0; i < n; i++) {
            at[2 * i] = at[4 * i];
            at[2 * i + 1] = at[4 * i + 1];
        }
        return at + 2 * n;
    }
    *kind = P_INT32;
    return at + 4 * n;
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
    atoll_commit(enc, narrow(head + 1, at, n, magnitude));
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

/* ---- lists that are written while their items come ---- */

enum { GATHER_COUNT = 5, GATHER_HEAD = 2 + GATHER_COUNT };

void atoll_gather_begin(atoll_gather *gather, atoll_message *msg) {
    *gather = (atoll_gather){.msg = msg, .kind = P_COUNT};
}

/* Where the numbers are, with room for one more of this width; NULL with MemoryError, and all is as it was. */
static inline uint8_t *numbers(atoll_gather *gather, size_t width) {
    atoll_buffer *buf = &gather->msg->body;
    size_t size = GATHER_HEAD + ((size_t)gather->n + 1) * width;
    if (buf->cap - buf->len < size && atoll_buffer_grow(buf, size) < 0) {
        buf->failed = false;
        PyErr_NoMemory();
        return NULL;
    }
    return buf->data + buf->len + GATHER_HEAD;
}

PyObject *atoll_gather_list(atoll_gather *gather) {
    if (gather->list == NULL) {
        const atoll_buffer *buf = &gather->msg->body;
        atoll_row row = {.at = buf->data + buf->len + GATHER_HEAD, .n = gather->n, .kind = gather->kind};
        gather->list = gather->n != 0 ? atoll_row_list(&row, 0, row.n) : PyList_New(0);
    }
    return gather->list;
}

/* Those of four bytes get eight. */
static int widen(atoll_gather *gather) {
    uint8_t *at = numbers(gather, 8);
    if (at == NULL) {
        return -1;
    }
    for (Py_ssize_t i = gather->n - 1; i >= 0; i--) {
        atoll_store_u64(at + 8 * i, (uint64_t)(int64_t)(int32_t)atoll_load_u32(at + 4 * i));
    }
    gather->kind = P_INT64;
    return 0;
}

/* 1: written, 0: it has to be a list, -1 with MemoryError. */
static inline int add_int(atoll_gather *gather, PyObject *item) {
    if (gather->kind == P_INT32 && PyUnstable_Long_IsCompact((PyLongObject *)item)) {
        int32_t v = (int32_t)PyUnstable_Long_CompactValue((PyLongObject *)item);
        uint8_t *at = numbers(gather, 4);
        if (at != NULL) {
            atoll_store_u32(at + 4 * gather->n++, (uint32_t)v);
            gather->magnitude |= (uint32_t)(v ^ (v >> 31));
        }
        return at != NULL ? 1 : -1;
    }
    int overflow;
    int64_t v = PyLong_AsLongLongAndOverflow(item, &overflow);
    if (overflow != 0) {
        return 0;
    }
    if (gather->kind == P_INT32 && widen(gather) < 0) {
        return -1;
    }
    uint8_t *at = numbers(gather, 8);
    if (at != NULL) {
        atoll_store_u64(at + 8 * gather->n++, (uint64_t)v);
    }
    return at != NULL ? 1 : -1;
}

static int add_float(atoll_gather *gather, PyObject *item) {
    uint8_t *at = numbers(gather, 8);
    if (at != NULL) {
        (void)atoll_double_store(at + 8 * gather->n++, PyFloat_AS_DOUBLE(item));
    }
    return at != NULL ? 1 : -1;
}

int atoll_gather_add_first(atoll_gather *gather, PyObject *item) {
    if (!atoll_frozen_has(item)) { /* what is frozen stays what it is */
        int rc = 0;
        if (PyLong_CheckExact(item) && gather->kind != P_FLOAT) {
            gather->kind = gather->kind == P_COUNT ? P_INT32 : gather->kind;
            rc = add_int(gather, item);
        } else if (PyFloat_CheckExact(item) && (gather->kind == P_FLOAT || gather->kind == P_COUNT)) {
            gather->kind = P_FLOAT;
            rc = add_float(gather, item);
        }
        if (rc != 0) {
            return rc < 0 ? -1 : 0;
        }
    }
    PyObject *list = atoll_gather_list(gather);
    return list != NULL ? PyList_Append(list, item) : -1;
}

int atoll_gather_end(atoll_gather *gather, atoll_codec *codec, const char *root) {
    if (gather->list != NULL || gather->n == 0) {
        PyObject *list = atoll_gather_list(gather);
        return list != NULL ? atoll_encode_whole(codec, gather->msg, list, root) : -1;
    }
    atoll_buffer *buf = &gather->msg->body;
    uint8_t *head = buf->data + buf->len;
    head[0] = T_PACKED_LIST;
    head[1] = gather->kind;
    for (int i = 0; i < GATHER_COUNT; i++) { /* always as long, as it is known last */
        uint8_t more = i + 1 < GATHER_COUNT ? 0x80 : 0;
        head[2 + i] = (uint8_t)((gather->n >> 7 * i) & 0x7f) | more;
    }
    uint8_t *at = head + GATHER_HEAD;
    size_t n = (size_t)gather->n;
    uint8_t *end = gather->kind == P_INT32 ? narrow(head + 1, at, n, gather->magnitude) : at + 8 * n;
    buf->len = (size_t)(end - buf->data);
    return 0;
}

void atoll_gather_clear(atoll_gather *gather) { Py_CLEAR(gather->list); }
