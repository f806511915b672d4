/* memoryview across interpreters: the same memory, no copy.
 *
 * Sending a memoryview makes an export (py/interp/export.h).  What crosses is a handle to it and the view's geometry.  The
 * receiver wraps both in a SharedView, an object whose only ability is the buffer protocol, and gives the user a
 * memoryview of that.  Sending it on sends the same export again.  Where the memory comes home, the SharedView has a
 * buffer of the object instead of a reference to the export: exports are what others see.
 *
 * Formats with 'O' are refused: they would hand raw object pointers to another interpreter.
 */
#include "module/geometry.h"
#include "module/module.h"
#include "py/interp/interp.h"

typedef struct {
    PyObject_HEAD
    atoll_export *export; /* NULL: the memory is this interpreter's own, and `own` is a buffer of it */
    Py_buffer own;
    atoll_geometry g;
} shared_view;

/* ---- sending ---- */

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
    if (atoll_geometry_has_pointers(b->format)) {
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
    atoll_put_u32(&msg->body, index);
    atoll_geometry_put(&msg->body, b, offset);
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
    if (state == NULL || export == NULL || rd->failed) {
        PyErr_SetString(PyExc_ValueError, "malformed message: shared memory");
        return NULL;
    }
    shared_view *v = (shared_view *)state->shared_view_type->tp_alloc(state->shared_view_type, 0);
    if (v == NULL) {
        return NULL;
    }
    int64_t offset;
    char *start = atoll_geometry_get(rd, &v->g, &offset) == 0 ? hold(v, state, export) : NULL;
    PyObject *view = NULL;
    if (start != NULL) {
        int64_t low;
        int64_t high;
        atoll_geometry_extent(&export->buffer, &low, &high);
        v->g.data = start + offset;
        v->g.readonly |= export->buffer.readonly != 0;
        if (atoll_geometry_fits(&v->g, offset, low, high)) {
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

static int shared_view_getbuffer(PyObject *self, Py_buffer *b, int flags) {
    return atoll_geometry_getbuffer(&((shared_view *)self)->g, self, b, flags);
}

static void shared_view_dealloc(PyObject *self) {
    shared_view *v = (shared_view *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (v->export != NULL) {
        atoll_export_release(v->export);
    }
    PyBuffer_Release(&v->own); /* nothing where there is none */
    atoll_geometry_clear(&v->g);
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

int atoll_sharedview_add(atoll_state *state, PyObject *module) {
    state->shared_view_type = (PyTypeObject *)PyType_FromSpec(&shared_view_spec);
    if (state->shared_view_type == NULL) {
        return -1;
    }
    if (atoll_codec_add_hook(state->codec, &PyMemoryView_Type, &view_hook) < 0) {
        return -1;
    }
    return atoll_codec_add_hook(state->codec, &PyBytes_Type, &bytes_hook);
}
