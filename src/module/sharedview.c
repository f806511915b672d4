/* memoryview across interpreters: the same memory, no copy.
 *
 * Sending a memoryview makes an export (py/interp/export.h).  What crosses is a handle to it and the view's geometry.  The
 * receiver wraps both in a SharedView, an object whose only ability is the buffer protocol, and gives the user a
 * memoryview of that.  Sending it on sends the same export again.  Where the memory comes home, the SharedView has a
 * buffer of the object instead of a reference to the export: exports are what others see.
 *
 * What C code has put into a queue (opaque.h) is shown in the same way: the handle is to that instead of an export, and nobody has it at home.
 *
 * Formats with 'O' are refused: they would hand raw object pointers to another interpreter.
 */
#include "module/geometry.h"
#include "module/module.h"
#include "module/opaque.h"
#include "py/interp/interp.h"

typedef struct {
    PyObject_HEAD
    atoll_export *export; /* NULL: the memory is this interpreter's own, and `own` is a buffer of it */
    Py_buffer own;
    atoll_entry *home;    /* then: a reference, and one of its homes */
    atoll_opaque *opaque; /* or NULL: the memory is this */
    atoll_geometry g;
} shared_view;

/* ---- sending ---- */

/* What is behind a memoryview that is not released, with a new reference, and where it begins; ptr is NULL with an exception. */
static atoll_handle memory_of(atoll_state *state, PyObject *view, const char **start) {
    PyObject *base = PyMemoryView_GET_BASE(view);
    const shared_view *v =
        base != NULL && Py_IS_TYPE(base, state->shared_view_type) ? (shared_view *)base : NULL;
    if (v != NULL && v->opaque != NULL) {
        atoll_opaque_class.retain(v->opaque);
        *start = v->opaque->data;
        return (atoll_handle){&atoll_opaque_class, v->opaque};
    }
    atoll_export *export = v != NULL ? v->export : NULL;
    if (export == NULL) {
        export = atoll_export_new(state, view);
    } else {
        atoll_export_retain(export);
    }
    *start = export != NULL ? export->buffer.buf : NULL;
    return (atoll_handle){&atoll_export_class, export};
}

static int put_view(atoll_encoder *enc, atoll_state *state, PyObject *view, const Py_buffer *b) {
    if (atoll_geometry_has_pointers(b->format)) {
        return atoll_encoder_refuse(enc, "memory that holds object pointers (format 'O') is not shareable");
    }
    if (b->suboffsets != NULL) {
        return atoll_encoder_refuse(enc, "memory with suboffsets is not shareable");
    }
    const char *start;
    atoll_handle memory = memory_of(state, view, &start);
    if (memory.ptr == NULL) {
        return -1;
    }
    int64_t offset = (int64_t)((const char *)b->buf - start);
    atoll_message *msg = atoll_encoder_message(enc);
    uint32_t index = atoll_message_attach(msg, memory.cls, memory.ptr);
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
    if (PyObject_GetBuffer(export->buffer.obj, &v->own, PyBUF_FULL_RO) < 0) {
        return NULL;
    }
    v->home = state->entry;
    atoll_entry_retain(v->home);
    atomic_fetch_add(&v->home->homes, 1);
    return v->own.buf;
}

/* The memoryview of a new SharedView, whose memory is `held`, where that lies between low and high from start on. */
static PyObject *show(shared_view *v, char *start, int64_t offset, int64_t low, int64_t high) {
    v->g.data = start + offset;
    if (atoll_geometry_fits(&v->g, offset, low, high)) {
        return PyMemoryView_FromObject((PyObject *)v);
    }
    PyErr_SetString(PyExc_ValueError, "malformed message: shared memory out of bounds");
    return NULL;
}

static PyObject *show_export(shared_view *v, atoll_state *state, atoll_export *export, int64_t offset) {
    char *start = hold(v, state, export);
    if (start == NULL) {
        return NULL;
    }
    int64_t low;
    int64_t high;
    atoll_geometry_extent(&export->buffer, &low, &high);
    v->g.readonly |= export->buffer.readonly != 0;
    return show(v, start, offset, low, high);
}

static PyObject *show_opaque(shared_view *v, atoll_opaque *opaque, int64_t offset) {
    atoll_opaque_class.retain(opaque);
    v->opaque = opaque;
    v->g.readonly = true;
    return show(v, opaque->data, offset, 0, (int64_t)opaque->size);
}

static PyObject *view_decode(atoll_decoder *dec) {
    atoll_state *state = atoll_state_of(PyInterpreterState_Get());
    const atoll_message *msg = atoll_decoder_message(dec);
    atoll_reader *rd = atoll_decoder_reader(dec);
    uint32_t index = atoll_get_u32(rd);
    atoll_export *export = atoll_message_handle(msg, index, &atoll_export_class);
    atoll_opaque *opaque = atoll_message_handle(msg, index, &atoll_opaque_class);
    if (state == NULL || (export == NULL && opaque == NULL) || rd->failed) {
        PyErr_SetString(PyExc_ValueError, "malformed message: shared memory");
        return NULL;
    }
    shared_view *v = (shared_view *)state->shared_view_type->tp_alloc(state->shared_view_type, 0);
    if (v == NULL) {
        return NULL;
    }
    int64_t offset;
    PyObject *view = NULL;
    if (atoll_geometry_get(rd, &v->g, &offset) == 0) {
        view = export != NULL ? show_export(v, state, export, offset) : show_opaque(v, opaque, offset);
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

/* ---- without Python: for C code that puts and gets ---- */

void atoll_sharedview_put(atoll_message *msg, atoll_opaque *opaque) {
    Py_ssize_t size = (Py_ssize_t)opaque->size;
    Py_ssize_t stride = 1;
    char format[] = "B";
    const Py_buffer b = {.len = size,
                         .itemsize = 1,
                         .readonly = 1,
                         .ndim = 1,
                         .format = format,
                         .shape = &size,
                         .strides = &stride};
    atoll_codec_put_hook(msg, ATOLL_HOOK_MEMORYVIEW);
    atoll_opaque_class.retain(opaque);
    atoll_put_u32(&msg->body, atoll_message_attach(msg, &atoll_opaque_class, opaque));
    atoll_geometry_put(&msg->body, &b, 0);
}

bool atoll_sharedview_peek(const atoll_message *msg, uint8_t hook, atoll_reader *rd, void **data,
                           size_t *size, bool *readonly, atoll_opaque **opaque) {
    uint32_t index = atoll_get_u32(rd);
    const atoll_export *export = atoll_message_handle(msg, index, &atoll_export_class);
    atoll_opaque *message = atoll_message_handle(msg, index, &atoll_opaque_class);
    const atoll_block *block = atoll_message_handle(msg, index, &atoll_block_class);
    int64_t offset = 0;
    int64_t low = 0;
    int64_t high = 0;
    char *start = NULL;
    *opaque = NULL;
    *readonly = true;
    if (message != NULL) {
        start = message->data;
        high = (int64_t)message->size;
    } else if (block != NULL) {
        start = (char *)block->data;
        high = (int64_t)block->size;
    } else if (export != NULL) {
        start = export->buffer.buf;
        atoll_geometry_extent(&export->buffer, &low, &high);
    }
    *size = (size_t)high;
    if (hook == ATOLL_HOOK_MEMORYVIEW && !atoll_geometry_peek(rd, &offset, size, readonly)) {
        return false;
    }
    if ((message == NULL && block == NULL && export == NULL) || offset < low ||
        offset + (int64_t)*size > high) {
        return false;
    }
    *readonly |= message != NULL || (export != NULL && export->buffer.readonly);
    *opaque = message != NULL && *size == message->size ? message : NULL;
    *data = start + offset;
    return true;
}

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
    if (v->opaque != NULL) {
        atoll_opaque_class.release(v->opaque);
    }
    PyBuffer_Release(&v->own); /* nothing where there is none */
    if (v->home != NULL) {
        atomic_fetch_sub(&v->home->homes, 1);
        atoll_entry_release(v->home);
    }
    atoll_geometry_clear(&v->g);
    type->tp_free(self);
    Py_DECREF(type);
}

/* own.obj is not visited: 3.12 does not survive that a memoryview with exports is cleared.  So at the end of an interpreter the collector
 * may not find what it is in a circle with; py/interp/ending.c opens that. */
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
