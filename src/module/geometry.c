/* Layouts of arrays: made, shown through the buffer protocol, written and read.  A reader trusts nothing: what was received is checked
 * against the memory that it is to lie in. */
#include "module/geometry.h"

int atoll_geometry_init(atoll_geometry *g, int ndim, const char *format, size_t format_len) {
    g->ndim = ndim;
    g->shape = g->near;
    if (ndim > ATOLL_GEOMETRY_NEAR) {
        g->shape = PyMem_Calloc((size_t)ndim * 2, sizeof *g->shape);
    }
    g->strides = g->shape != NULL ? g->shape + ndim : NULL;
    g->format = format_len < ATOLL_FORMAT_NEAR ? g->text : PyMem_Malloc(format_len + 1);
    if (g->shape == NULL || g->format == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(g->format, format, format_len);
    g->format[format_len] = '\0';
    return 0;
}

void atoll_geometry_clear(atoll_geometry *g) {
    if (g->shape != g->near) {
        PyMem_Free(g->shape);
    }
    if (g->format != g->text) {
        PyMem_Free(g->format);
    }
    g->shape = g->strides = NULL;
    g->format = NULL;
}

int atoll_geometry_pack(atoll_geometry *g) {
    Py_ssize_t step = g->itemsize;
    bool empty = false;
    for (int i = g->ndim - 1; i >= 0; i--) {
        g->strides[i] = step;
        empty |= g->shape[i] == 0;
        /* As if there was one element in an empty dimension, so that the result does not depend on the order. */
        if (__builtin_mul_overflow(step, g->shape[i] > 0 ? g->shape[i] : 1, &step)) {
            return -1;
        }
    }
    g->len = empty ? 0 : step;
    return 0;
}

Py_buffer atoll_geometry_buffer(const atoll_geometry *g) {
    return (Py_buffer){
        .buf = g->data,
        .len = g->len,
        .itemsize = g->itemsize,
        .readonly = g->readonly,
        .ndim = g->ndim,
        .format = g->format,
        .shape = g->shape,
        .strides = g->strides,
    };
}

/* False when flags ask for that order and the memory does not have it. */
static bool has_order(const Py_buffer *b, int flags, int asked, char order) {
    return (flags & asked) != asked || PyBuffer_IsContiguous(b, order);
}

int atoll_geometry_getbuffer(const atoll_geometry *g, PyObject *owner, Py_buffer *b, int flags) {
    if ((flags & PyBUF_WRITABLE) != 0 && g->readonly) {
        PyErr_SetString(PyExc_BufferError, "the shared memory is read-only");
        b->obj = NULL;
        return -1;
    }
    *b = atoll_geometry_buffer(g);
    if ((flags & PyBUF_FORMAT) == 0) {
        b->format = NULL;
    }
    bool strided = (flags & PyBUF_STRIDES) == PyBUF_STRIDES;
    if ((!strided && !PyBuffer_IsContiguous(b, 'C')) || !has_order(b, flags, PyBUF_C_CONTIGUOUS, 'C') ||
        !has_order(b, flags, PyBUF_F_CONTIGUOUS, 'F') || !has_order(b, flags, PyBUF_ANY_CONTIGUOUS, 'A')) {
        PyErr_SetString(PyExc_BufferError,
                        "the shared memory is not contiguous in the way that is asked for");
        return -1;
    }
    if (!strided) {
        b->strides = NULL;
    }
    if ((flags & PyBUF_ND) != PyBUF_ND) { /* plain bytes */
        b->shape = NULL;
        b->ndim = 1;
    }
    b->obj = Py_NewRef(owner);
    return 0;
}

void atoll_geometry_put(atoll_buffer *body, const Py_buffer *b, int64_t offset) {
    const char *format = b->format != NULL ? b->format : "B";
    size_t format_len = strlen(format);
    atoll_put_u64(body, (uint64_t)offset);
    atoll_put_u64(body, (uint64_t)b->len);
    atoll_put_u64(body, (uint64_t)b->itemsize);
    atoll_put_u8(body, (uint8_t)(b->readonly != 0));
    atoll_put_u8(body, (uint8_t)b->ndim);
    atoll_put_u32(body, (uint32_t)format_len);
    atoll_put_bytes(body, format, format_len);
    for (int i = 0; i < b->ndim; i++) {
        atoll_put_u64(body, (uint64_t)b->shape[i]);
        atoll_put_u64(body, (uint64_t)b->strides[i]);
    }
}

int atoll_geometry_get(atoll_reader *rd, atoll_geometry *g, int64_t *offset) {
    *offset = (int64_t)atoll_get_u64(rd);
    g->len = (Py_ssize_t)atoll_get_u64(rd);
    g->itemsize = (Py_ssize_t)atoll_get_u64(rd);
    g->readonly = atoll_get_u8(rd) != 0;
    int ndim = atoll_get_u8(rd);
    uint32_t format_len = atoll_get_u32(rd);
    const uint8_t *format = atoll_get_bytes(rd, format_len);
    if (rd->failed || ndim > PyBUF_MAX_NDIM || atoll_reader_left(rd) < (size_t)ndim * 16) {
        PyErr_SetString(PyExc_ValueError, "malformed message: shared memory");
        return -1;
    }
    if (atoll_geometry_init(g, ndim, (const char *)format, format_len) < 0) {
        return -1;
    }
    for (int i = 0; i < ndim; i++) {
        g->shape[i] = (Py_ssize_t)atoll_get_u64(rd);
        g->strides[i] = (Py_ssize_t)atoll_get_u64(rd);
    }
    return 0;
}

bool atoll_geometry_peek(atoll_reader *rd, int64_t *offset, size_t *size, bool *readonly) {
    *offset = (int64_t)atoll_get_u64(rd);
    *size = (size_t)atoll_get_u64(rd);
    int64_t span = (int64_t)atoll_get_u64(rd); /* of an element; then of all that have the later indices */
    *readonly = atoll_get_u8(rd) != 0;
    int ndim = atoll_get_u8(rd);
    (void)atoll_get_bytes(rd, atoll_get_u32(rd));
    const uint8_t *sizes = ndim <= PyBUF_MAX_NDIM ? atoll_get_bytes(rd, (size_t)ndim * 16) : NULL;
    if (sizes == NULL) {
        return false;
    }
    bool packed = true;
    for (int i = ndim - 1; i >= 0; i--) {
        int64_t n = (int64_t)atoll_load_u64(sizes + (size_t)i * 16);
        int64_t stride = (int64_t)atoll_load_u64(sizes + (size_t)i * 16 + 8);
        packed = packed && (stride == span || n <= 1);
        if (__builtin_mul_overflow(span, n, &span)) {
            return false;
        }
    }
    return (packed || *size == 0) && (uint64_t)span == *size;
}

bool atoll_geometry_fits(const atoll_geometry *g, int64_t offset, int64_t low, int64_t high) {
    int64_t first = offset;
    int64_t last = offset;
    uint64_t count = 1;
    for (int i = 0; i < g->ndim; i++) {
        int64_t n = g->shape[i];
        int64_t reach;
        if (n < 0 || __builtin_mul_overflow(count, (uint64_t)n, &count) ||
            __builtin_mul_overflow(n > 0 ? n - 1 : 0, (int64_t)g->strides[i], &reach) ||
            __builtin_add_overflow(reach < 0 ? first : last, reach, reach < 0 ? &first : &last)) {
            return false;
        }
    }
    uint64_t bytes;
    if (g->itemsize < 0 || __builtin_mul_overflow(count, (uint64_t)g->itemsize, &bytes) ||
        bytes != (uint64_t)g->len) {
        return false;
    }
    return count == 0 || (first >= low && last <= high - g->itemsize);
}

void atoll_geometry_extent(const Py_buffer *b, int64_t *low, int64_t *high) {
    *low = 0;
    *high = b->strides != NULL && b->ndim > 0 ? b->itemsize : b->len;
    for (int i = 0; b->strides != NULL && i < b->ndim; i++) {
        int64_t reach = b->shape[i] > 0 ? (b->shape[i] - 1) * b->strides[i] : 0;
        *(reach < 0 ? low : high) += reach;
    }
}

bool atoll_geometry_has_pointers(const char *format) {
    bool in_name = false;
    for (; format != NULL && *format != '\0'; format++) {
        in_name ^= *format == ':';
        if (*format == 'O' && !in_name) {
            return true;
        }
    }
    return false;
}

enum { COPY_DETACHED = 1024 * 1024 }; /* from so many bytes on others may run meanwhile */

int atoll_geometry_copy(char *to, const Py_buffer *from) {
    if (PyBuffer_IsContiguous(from, 'C')) {
        if (from->len >= COPY_DETACHED) {
            Py_BEGIN_ALLOW_THREADS memcpy(to, from->buf, (size_t)from->len);
            Py_END_ALLOW_THREADS
        } else if (from->len != 0) {
            memcpy(to, from->buf, (size_t)from->len);
        }
        return 0;
    }
    return PyBuffer_ToContiguous(to, from, from->len, 'C');
}
