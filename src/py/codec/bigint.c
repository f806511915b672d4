/* Ints that take more than 64 bits. */
#include "py/codec/internal.h"

PyObject *atoll_codec_int_bytes(PyObject *number) {
    PyObject *bits = PyObject_CallMethod((PyObject *)&PyLong_Type, "bit_length", "O", number);
    Py_ssize_t n = bits != NULL ? PyLong_AsSsize_t(bits) : -1;
    Py_XDECREF(bits);
    if (n < 0) {
        return NULL;
    }
    PyObject *to_bytes = PyObject_GetAttrString((PyObject *)&PyLong_Type, "to_bytes");
    PyObject *args = to_bytes != NULL ? Py_BuildValue("(Ons)", number, n / 8 + 1, "little") : NULL;
    PyObject *kwargs = args != NULL ? Py_BuildValue("{sO}", "signed", Py_True) : NULL;
    PyObject *bytes = kwargs != NULL ? PyObject_Call(to_bytes, args, kwargs) : NULL;
    Py_XDECREF(to_bytes);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    return bytes;
}

int atoll_encode_big_int(atoll_encoder *enc, PyObject *obj) {
    PyObject *bytes = atoll_codec_int_bytes(obj);
    if (bytes == NULL) {
        return -1;
    }
    size_t size = (size_t)PyBytes_GET_SIZE(bytes);
    uint8_t *at = atoll_reserve(enc, size + 1 + ATOLL_VARINT_MAX);
    if (at != NULL) {
        *at = T_INT_BIG;
        at = atoll_write_varint(at + 1, size);
        memcpy(at, PyBytes_AS_STRING(bytes), size);
        atoll_commit(enc, at + size);
    }
    Py_DECREF(bytes);
    return at != NULL ? 0 : -1;
}

PyObject *atoll_codec_int_of(const uint8_t *bytes, size_t len) {
    PyObject *from_bytes = PyObject_GetAttrString((PyObject *)&PyLong_Type, "from_bytes");
    PyObject *args =
        from_bytes != NULL ? Py_BuildValue("(y#s)", (const char *)bytes, (Py_ssize_t)len, "little") : NULL;
    PyObject *kwargs = args != NULL ? Py_BuildValue("{sO}", "signed", Py_True) : NULL;
    PyObject *obj = kwargs != NULL ? PyObject_Call(from_bytes, args, kwargs) : NULL;
    Py_XDECREF(from_bytes);
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    return obj;
}

PyObject *atoll_decode_big_int(atoll_decoder *dec) {
    Py_ssize_t len = atoll_read_count(dec, 1);
    const uint8_t *data = len >= 0 ? atoll_get_bytes(&dec->rd, (size_t)len) : NULL;
    return data != NULL ? atoll_codec_int_of(data, (size_t)len)
                        : atoll_malformed("a number goes past the end");
}
