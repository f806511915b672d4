/* Packed runs, as pack.c writes them, read: all at once, into a list or tuple, or one number at a time, as a row.
 *
 * A row is for who looks at each number of a message once, in order: a worker at the items of a chunk, map() at its results.  No list of
 * them is made, which would be larger than what a processor keeps at hand; each number is made when it is wanted, and what the one
 * before was made of is used again.  Numbers have no identity in a message, so nobody sees a difference.  A row borrows the bytes
 * of its message.
 *
 * What is no row, or is not as it should be, is left to who decodes messages.
 */
#include "py/codec/internal.h"

const uint8_t atoll_pack_widths[P_COUNT] = {1, 2, 4, 8, 8};

/* So many of a type CPython keeps when they are freed, and gives out first; ints not in each version. */
enum { FREE_LIST = 100 };

#define INT(v) PyLong_FromLongLong(v)
#define FRESH_INT(v) (atoll_fresh_fits(v) ? atoll_fresh_int(fresh, v) : PyLong_FromLongLong(v))

int atoll_unpack(const atoll_fresh *fresh, uint8_t kind, const uint8_t *at, PyObject **items, Py_ssize_t n) {
    Py_ssize_t most = kind == P_FLOAT || ATOLL_KEEPS_FREE_INTS ? FREE_LIST : 0;
    Py_ssize_t few = fresh == NULL || n < most ? n : most;
#define EACH(first, then)                                                                                    \
    for (Py_ssize_t i = 0; i < few; i++) {                                                                   \
        if ((items[i] = (first)) == NULL) {                                                                  \
            return -1;                                                                                       \
        }                                                                                                    \
    }                                                                                                        \
    for (Py_ssize_t i = few; i < n; i++) {                                                                   \
        if ((items[i] = (then)) == NULL) {                                                                   \
            return -1;                                                                                       \
        }                                                                                                    \
    }                                                                                                        \
    return 0
    switch (kind) {
    case P_INT8:
        EACH(PyLong_FromLong((int8_t)at[i]), PyLong_FromLong((int8_t)at[i]));
    case P_INT16:
        EACH(PyLong_FromLong((int16_t)(at[2 * i] | at[2 * i + 1] << 8)),
             FRESH_INT((int16_t)(at[2 * i] | at[2 * i + 1] << 8)));
    case P_INT32:
        EACH(INT((int32_t)atoll_load_u32(at + 4 * i)), FRESH_INT((int32_t)atoll_load_u32(at + 4 * i)));
    case P_INT64:
        EACH(INT((int64_t)atoll_load_u64(at + 8 * i)), FRESH_INT((int64_t)atoll_load_u64(at + 8 * i)));
    default:
        EACH(PyFloat_FromDouble(atoll_double_load(at + 8 * i)),
             atoll_fresh_float(fresh, atoll_double_load(at + 8 * i)));
    }
#undef EACH
#undef INT
#undef FRESH_INT
}

/* ---- rows ---- */

/* Whether what is left is a packed list, and nothing else. */
static bool read_row(atoll_reader *rd, atoll_row *row) {
    uint8_t tag = atoll_get_u8(rd);
    row->kind = atoll_get_u8(rd);
    uint64_t n = 0;
    uint8_t byte = 0x80;
    for (unsigned shift = 0; shift < 63 && byte >= 0x80; shift += 7) {
        byte = atoll_get_u8(rd);
        n |= (uint64_t)(byte & 0x7f) << shift;
    }
    if (rd->failed || (tag & ~ATOLL_MEMO) != T_PACKED_LIST || row->kind >= P_COUNT || byte >= 0x80) {
        return false;
    }
    row->at = rd->at;
    row->n = (Py_ssize_t)n;
    size_t width = atoll_pack_widths[row->kind];
    return n <= atoll_reader_left(rd) / width && n * width == atoll_reader_left(rd);
}

static atoll_reader reader_of(const atoll_message *msg) {
    return (atoll_reader){msg->body.data, msg->body.data + msg->body.len, false};
}

bool atoll_row_of(const atoll_message *msg, atoll_row *row) {
    atoll_reader rd = reader_of(msg);
    return read_row(&rd, row);
}

bool atoll_row_of_call(const atoll_message *msg, atoll_row *row) {
    atoll_reader rd = reader_of(msg);
    uint8_t positional = atoll_get_u8(&rd);
    uint8_t named = atoll_get_u8(&rd);
    return positional == 1 && named == 0 && atoll_get_u8(&rd) == T_EMPTY && read_row(&rd, row);
}

PyObject *atoll_row_item(const atoll_row *row, Py_ssize_t i) {
    const uint8_t *at = row->at + (size_t)i * atoll_pack_widths[row->kind];
    switch (row->kind) {
    case P_INT8:
        return PyLong_FromLong((int8_t)*at);
    case P_INT16:
        return PyLong_FromLong((int16_t)(at[0] | at[1] << 8));
    case P_INT32:
        return PyLong_FromLong((int32_t)atoll_load_u32(at));
    case P_INT64:
        return PyLong_FromLongLong((int64_t)atoll_load_u64(at));
    default:
        return PyFloat_FromDouble(atoll_double_load(at));
    }
}

PyObject *atoll_row_list(const atoll_row *row, Py_ssize_t from, Py_ssize_t to) {
    PyObject *list = PyList_New(to - from);
    const uint8_t *at = row->at + (size_t)from * atoll_pack_widths[row->kind];
    if (list != NULL && atoll_unpack(NULL, row->kind, at, ((PyListObject *)list)->ob_item, to - from) < 0) {
        Py_CLEAR(list);
    }
    return list;
}
