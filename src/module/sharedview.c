/* memoryview across interpreters: the same memory, no copy.
 *
 * Sending a memoryview makes an export (py/interp/export.h).  What crosses is a handle to it and the view's geometry.  The
 * receiver wraps both in a SharedView, an object whose only ability is the buffer protocol, and gives the user a
 * memoryview of that.  Sending it on sends the same export again.  Where the memory comes home, the SharedView has a
 * buffer of the object instead of a reference to the export: exports are what others see.
 *
 * Formats with 'O' are refused: they would hand raw object pointers to another interpreter.
 */
#include "core/base/base.h"
#include "module/module.h"
#include "py/interp/interp.h"

typedef struct {
    PyObject_HEAD
    atoll_export *export; /* NULL: the memory is this interpreter's own, and `own` is a buffer of it */
    Py_buffer own;
    char *data;
    Py_ssize_t len;
    Py_ssize_t itemsize;
    int readonly;
    int ndim;
    char *format;        /* PyMem */
    Py_ssize_t *extents; /* PyMem: ndim of shape, then ndim of strides */
} shared_view;

/* ---- sending ---- */

static bool has_object_pointers(const char *format) {
    bool in_name = false;
    for (; format != NULL && *format != '\0'; format++) {
        in_name ^= *format == ':';
        if (*format == 'O' && !in_name) {
            return true;
        }
    }
    return false;
}

/* The export behind a memoryview that is not released, with a new reference; NULL with an exception. */
static atoll_export *export_of(atoll_state *state, PyObject *view) {
    PyObject *base = PyMemoryView_GET_BASE(view);
    atoll_export *export =
        base != NULL && Py_IS_TYPE(base, state->shared_view_type) ? ((shared_view *)base)->export : NULL;
    if (export == NULL) {
        return atoll_export_new(state, view);
    }
    atoll_export_retain(export);
    return export;
}

static int put_view(atoll_encoder *enc, atoll_state *state, PyObject *view, const Py_buffer *b) {
    if (has_object_pointers(b->format)) {
        return atoll_encoder_refuse(enc, "memory that holds object pointers (format 'O') is not shareable");
    }
    if (b->suboffsets != NULL) {
        return atoll_encoder_refuse(enc, "memory with suboffsets is not shareable");
    }
    atoll_export *export = export_of(state, view);
    if (export == NULL) {
        return -1;
    }
    int64_t offset = (int64_t)((const char *)b->buf - (const char *)export->buffer.buf);
    atoll_message *msg = atoll_encoder_message(enc);
    uint32_t index = atoll_message_attach(msg, &atoll_export_class, export);
    const char *format = b->format != NULL ? b->format : "B";
    atoll_put_u32(&msg->body, index);
    atoll_put_u64(&msg->body, (uint64_t)offset);
    atoll_put_u64(&msg->body, (uint64_t)b->len);
    atoll_put_u64(&msg->body, (uint64_t)b->itemsize);
    atoll_put_u8(&msg->body, (uint8_t)(b->readonly != 0));
    atoll_put_u8(&msg->body, (uint8_t)b->ndim);
    atoll_put_u32(&msg->body, (uint32_t)strlen(format));
    atoll_put_bytes(&msg->body, format, strlen(format));
    for (int i = 0; i < b->ndim; i++) {
        atoll_put_u64(&msg->body, (uint64_t)b->shape[i]);
        atoll_put_u64(&msg->body, (uint64_t)b->strides[i]);
    }
    if (msg->body.failed) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static int view_encode(atoll_encoder *enc, PyObject *view) {
    atoll_state *state = atoll_state_of(PyInterpreterState_Get());
    if (state == NULL) {
        PyErr_SetString(PyExc_SystemError, "atoll is not loaded in this interpreter");
        return -1;
    }
    /* What a released view says of itself, and what it refers to, means nothing: ask for a buffer first.  While there is
     * one, the view cannot be released. */
    Py_buffer b;
    if (PyObject_GetBuffer(view, &b, PyBUF_FULL_RO) < 0) {
        return PyErr_ExceptionMatches(PyExc_ValueError) || PyErr_ExceptionMatches(PyExc_BufferError)
                   ? atoll_encoder_refuse(enc, "a released memoryview is not shareable")
                   : -1;
    }
    int rc = put_view(enc, state, view, &b);
    PyBuffer_Release(&b);
    return rc;
}

/* ---- receiving ---- */

/* Whether every element of the view lies inside the export's memory, and len is its size. */
static bool geometry_fits(const shared_view *v, const Py_buffer *whole, int64_t offset) {
    int64_t low = 0; /* where the export's memory begins, relative to whole->buf */
    int64_t high = whole->len;
    for (int i = 0; whole->strides != NULL && i < whole->ndim; i++) {
        int64_t reach = whole->shape[i] > 0 ? (whole->shape[i] - 1) * whole->strides[i] : 0;
        if (i == 0) {
            high = whole->itemsize;
        }
        *(reach < 0 ? &low : &high) += reach;
    }
    int64_t first = offset;
    int64_t last = offset;
    uint64_t count = 1;
    for (int i = 0; i < v->ndim; i++) {
        int64_t n = v->extents[i];
        int64_t step = v->extents[v->ndim + i];
        int64_t reach;
        if (n < 0 || __builtin_mul_overflow(count, (uint64_t)n, &count) ||
            __builtin_mul_overflow(n > 0 ? n - 1 : 0, step, &reach) ||
            __builtin_add_overflow(reach < 0 ? first : last, reach, reach < 0 ? &first : &last)) {
            return false;
        }
    }
    uint64_t bytes;
    if (v->itemsize < 0 || __builtin_mul_overflow(count, (uint64_t)v->itemsize, &bytes) ||
        bytes != (uint64_t)v->len) {
        return false;
    }
    return count == 0 || (first >= low && last <= high - v->itemsize);
}

/* Where the export's memory begins.  NULL with an exception. */
static char *hold(shared_view *v, atoll_state *state, atoll_export *export) {
    if (export->owner != state->entry) {
        atoll_export_retain(export);
        v->export = export;
        return export->buffer.buf;
    }
    return PyObject_GetBuffer(export->buffer.obj, &v->own, PyBUF_FULL_RO) == 0 ? v->own.buf : NULL;
}

static PyObject *view_decode(atoll_decoder *dec) {
    atoll_state *state = atoll_state_of(PyInterpreterState_Get());
    atoll_reader *rd = atoll_decoder_reader(dec);
    uint32_t index = atoll_get_u32(rd);
    atoll_export *export = atoll_message_handle(atoll_decoder_message(dec), index, &atoll_export_class);
    int64_t offset = (int64_t)atoll_get_u64(rd);
    Py_ssize_t len = (Py_ssize_t)atoll_get_u64(rd);
    Py_ssize_t itemsize = (Py_ssize_t)atoll_get_u64(rd);
    int readonly = atoll_get_u8(rd) != 0;
    int ndim = atoll_get_u8(rd);
    uint32_t format_len = atoll_get_u32(rd);
    const uint8_t *format = atoll_get_bytes(rd, format_len);
    if (state == NULL || export == NULL || rd->failed || ndim > PyBUF_MAX_NDIM ||
        atoll_reader_left(rd) < (size_t)ndim * 16) {
        PyErr_SetString(PyExc_ValueError, "malformed message: shared memory");
        return NULL;
    }
    shared_view *v = (shared_view *)state->shared_view_type->tp_alloc(state->shared_view_type, 0);
    if (v == NULL) {
        return NULL;
    }
    char *start = hold(v, state, export);
    if (start == NULL) {
        Py_DECREF(v);
        return NULL;
    }
    v->data = start + offset;
    v->len = len;
    v->itemsize = itemsize;
    v->readonly = readonly || export->buffer.readonly;
    v->ndim = ndim;
    v->format = PyMem_Malloc((size_t)format_len + 1);
    v->extents = PyMem_Calloc((size_t)ndim * 2 + 1, sizeof *v->extents);
    PyObject *view = NULL;
    if (v->format == NULL || v->extents == NULL) {
        PyErr_NoMemory();
    } else {
        memcpy(v->format, format, format_len);
        v->format[format_len] = '\0';
        for (int i = 0; i < ndim; i++) {
            v->extents[i] = (Py_ssize_t)atoll_get_u64(rd);
            v->extents[ndim + i] = (Py_ssize_t)atoll_get_u64(rd);
        }
        if (geometry_fits(v, &export->buffer, offset)) {
            view = PyMemoryView_FromObject((PyObject *)v);
        } else {
            PyErr_SetString(PyExc_ValueError, "malformed message: shared memory out of bounds");
        }
    }
    Py_DECREF(v);
    return view;
}

static const atoll_codec_hook view_hook = {ATOLL_HOOK_MEMORYVIEW, view_encode, view_decode};

/* ---- large bytes: lent, and copied once, by the receiver ---- */

static int bytes_encode(atoll_encoder *enc, PyObject *bytes) {
    atoll_state *state = atoll_state_of(PyInterpreterState_Get());
    atoll_export *export = state != NULL ? atoll_export_new(state, bytes) : NULL;
    if (export == NULL) {
        return -1;
    }
    atoll_message *msg = atoll_encoder_message(enc);
    atoll_put_u32(&msg->body, atoll_message_attach(msg, &atoll_export_class, export));
    return 0; /* the caller looks whether the message has failed */
}

static PyObject *bytes_decode(atoll_decoder *dec) {
    uint32_t index = atoll_get_u32(atoll_decoder_reader(dec));
    const atoll_message *msg = atoll_decoder_message(dec);
    const atoll_block *block = atoll_message_handle(msg, index, &atoll_block_class);
    if (block != NULL) { /* kept by a queue (export.h) */
        return PyBytes_FromStringAndSize((const char *)block->data, (Py_ssize_t)block->size);
    }
    atoll_export *export = atoll_message_handle(msg, index, &atoll_export_class);
    if (export == NULL || !PyBuffer_IsContiguous(&export->buffer, 'C')) {
        PyErr_SetString(PyExc_ValueError, "malformed message: lent bytes");
        return NULL;
    }
    return PyBytes_FromStringAndSize(export->buffer.buf, export->buffer.len);
}

static const atoll_codec_hook bytes_hook = {ATOLL_HOOK_BYTES, bytes_encode, bytes_decode};

/* ---- the type ---- */

/* False when flags ask for that order and the memory does not have it. */
static bool has_order(const Py_buffer *b, int flags, int asked, char order) {
    return (flags & asked) != asked || PyBuffer_IsContiguous(b, order);
}

static int shared_view_getbuffer(PyObject *self, Py_buffer *b, int flags) {
    shared_view *v = (shared_view *)self;
    if ((flags & PyBUF_WRITABLE) != 0 && v->readonly) {
        PyErr_SetString(PyExc_BufferError, "the shared memory is read-only");
        b->obj = NULL;
        return -1;
    }
    *b = (Py_buffer){
        .buf = v->data,
        .obj = Py_NewRef(self),
        .len = v->len,
        .itemsize = v->itemsize,
        .readonly = v->readonly,
        .ndim = v->ndim,
        .format = v->format,
        .shape = v->extents,
        .strides = v->extents + v->ndim,
    };
    if ((flags & PyBUF_FORMAT) == 0) {
        b->format = NULL;
    }
    bool strided = (flags & PyBUF_STRIDES) == PyBUF_STRIDES;
    if ((!strided && !PyBuffer_IsContiguous(b, 'C')) || !has_order(b, flags, PyBUF_C_CONTIGUOUS, 'C') ||
        !has_order(b, flags, PyBUF_F_CONTIGUOUS, 'F') || !has_order(b, flags, PyBUF_ANY_CONTIGUOUS, 'A')) {
        Py_CLEAR(b->obj);
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
    return 0;
}

static void shared_view_dealloc(PyObject *self) {
    shared_view *v = (shared_view *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (v->export != NULL) {
        atoll_export_release(v->export);
    }
    PyBuffer_Release(&v->own); /* nothing where there is none */
    PyMem_Free(v->format);
    PyMem_Free(v->extents);
    type->tp_free(self);
    Py_DECREF(type);
}

/* own.obj is not visited: 3.12 does not survive that a memoryview with exports is cleared. */
static int shared_view_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static PyType_Slot shared_view_slots[] = {
    {Py_tp_doc, "Memory of an object in another interpreter. Exports the buffer protocol."},
    {Py_tp_dealloc, shared_view_dealloc},
    {Py_tp_traverse, shared_view_traverse},
    {Py_bf_getbuffer, shared_view_getbuffer},
    {0, NULL},
};

static PyType_Spec shared_view_spec = {
    .name = "atoll._atoll.SharedView",
    .basicsize = sizeof(shared_view),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = shared_view_slots,
};

int atoll_shared_view_add(atoll_state *state, PyObject *module) {
    state->shared_view_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &shared_view_spec, NULL);
    if (state->shared_view_type == NULL) {
        return -1;
    }
    if (atoll_codec_add_hook(state->codec, &PyMemoryView_Type, &view_hook) < 0) {
        return -1;
    }
    return atoll_codec_add_hook(state->codec, &PyBytes_Type, &bytes_hook);
}
