/* Frozen str objects.
 *
 * Each has its hash, says that it is interned (frozen.h says why), and has its UTF-8 form, which for ASCII is the text itself and is
 * put behind the characters otherwise: who asks for it (PyUnicode_AsUTF8()) would store it.  Text with lone surrogates has none.
 */
#include "py/frozen/build.h"
#include "py/frozen/shared.h"

#include <string.h>

static bool is_equal(PyObject *obj, const void *like) {
    PyObject *str = (PyObject *)like;
    return Py_IS_TYPE(obj, &PyUnicode_Type) && PyUnicode_GET_LENGTH(obj) == PyUnicode_GET_LENGTH(str) &&
           PyUnicode_KIND(obj) == PyUnicode_KIND(str) &&
           memcmp(PyUnicode_DATA(obj), PyUnicode_DATA(str),
                  (size_t)PyUnicode_GET_LENGTH(str) * PyUnicode_KIND(str)) == 0;
}

static size_t utf8_width(Py_UCS4 c) { return c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4; }

/* How many bytes the UTF-8 form has; 0 when there is none. */
static size_t utf8_size(PyObject *str) {
    int kind = (int)PyUnicode_KIND(str);
    const void *data = PyUnicode_DATA(str);
    size_t size = 0;
    for (Py_ssize_t i = 0; i < PyUnicode_GET_LENGTH(str); i++) {
        Py_UCS4 c = PyUnicode_READ(kind, data, i);
        if (Py_UNICODE_IS_SURROGATE(c)) {
            return 0;
        }
        size += utf8_width(c);
    }
    return size;
}

static void utf8_write(PyObject *str, char *to) {
    static const unsigned char first[] = {0, 0, 0xC0, 0xE0, 0xF0};
    int kind = (int)PyUnicode_KIND(str);
    const void *data = PyUnicode_DATA(str);
    for (Py_ssize_t i = 0; i < PyUnicode_GET_LENGTH(str); i++) {
        Py_UCS4 c = PyUnicode_READ(kind, data, i);
        size_t width = utf8_width(c);
        for (size_t j = width - 1; j > 0; j--) {
            to[j] = (char)(0x80 | (c & 0x3F));
            c >>= 6;
        }
        to[0] = (char)(first[width] | c);
        to += width;
    }
}

PyObject *atoll_build_str(const atoll_builder *to, PyObject *str) {
    PyObject *obj = atoll_frozen_shared_str(str);
    if (obj != NULL) {
        return obj;
    }
    Py_hash_t text_hash = PyObject_Hash(str);
    uint64_t hash = atoll_table_mix(1, (uint64_t)text_hash);
    obj = atoll_table_find(to->table, hash, is_equal, str);
    if (obj != NULL) {
        return obj;
    }
    bool ascii = PyUnicode_IS_ASCII(str);
    size_t header = ascii ? sizeof(PyASCIIObject) : sizeof(PyCompactUnicodeObject);
    size_t size = header + ((size_t)PyUnicode_GET_LENGTH(str) + 1) * PyUnicode_KIND(str);
    size_t encoded = ascii ? 0 : utf8_size(str);
    obj = atoll_build_object(to, &PyUnicode_Type, encoded != 0 ? size + encoded + 1 : size, 0);
    if (obj == NULL) {
        return NULL;
    }
    PyASCIIObject *base = (PyASCIIObject *)obj;
    base->length = PyUnicode_GET_LENGTH(str);
    base->hash = text_hash;
    base->state.interned = ATOLL_INTERNED_FOR_GOOD;
    base->state.kind = ((PyASCIIObject *)str)->state.kind;
    base->state.compact = 1;
    base->state.ascii = ascii;
    memcpy((char *)obj + header, PyUnicode_DATA(str), size - header - PyUnicode_KIND(str));
    if (encoded != 0) {
        PyCompactUnicodeObject *compact = (PyCompactUnicodeObject *)obj;
        compact->utf8 = (char *)obj + size;
        compact->utf8_length = (Py_ssize_t)encoded;
        utf8_write(str, compact->utf8);
    }
    return atoll_build_enter(to, hash, obj);
}
