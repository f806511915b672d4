/* Buffers by value (pickle protocol 5's): the sender copies them into a block, and the receiver uses the block in
 * place, through an object that exports its memory and holds a reference to it.
 *
 * What the user gets is a memoryview of it, so that the bytes that the sender copied into the block
 * are the very bytes the receiver's array is made on.
 */
#include "py/codec/internal.h"

#include "core/base/base.h"

typedef struct {
    PyObject_HEAD
    atoll_block *block;
    int readonly;
} block_object;

static int block_getbuffer(PyObject *self, Py_buffer *view, int flags) {
    block_object *b = (block_object *)self;
    return PyBuffer_FillInfo(view, self, b->block->data, (Py_ssize_t)b->block->size, b->readonly, flags);
}

static void block_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    block_object *b = (block_object *)self;
    if (b->block != NULL) {
        atoll_block_release(b->block);
    }
    type->tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot block_slots[] = {
    {Py_tp_doc, (void *)"Memory received from another interpreter."},
    {Py_tp_dealloc, (void *)block_dealloc},
    {Py_bf_getbuffer, (void *)block_getbuffer},
    {0, NULL},
};

static PyType_Spec block_spec = {
    .name = "atoll._atoll.Block",
    .basicsize = sizeof(block_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = block_slots,
};

PyObject *atoll_decode_buffer(atoll_decoder *dec) {
    Py_ssize_t index = atoll_read_count(dec, 0);
    uint8_t readonly = atoll_get_u8(&dec->rd);
    atoll_block *block = index >= 0 && index < UINT32_MAX && !dec->rd.failed
                             ? atoll_message_handle(dec->msg, (uint32_t)index, &atoll_block_class)
                             : NULL;
    if (block == NULL) {
        return atoll_malformed("a buffer that was not sent");
    }
    atoll_codec *codec = dec->codec;
    if (codec->buffer_type == NULL && (codec->buffer_type = PyType_FromSpec(&block_spec)) == NULL) {
        return NULL;
    }
    PyTypeObject *type = (PyTypeObject *)codec->buffer_type;
    block_object *b = (block_object *)type->tp_alloc(type, 0);
    if (b == NULL) {
        return NULL;
    }
    atoll_block_retain(block);
    b->block = block;
    b->readonly = readonly != 0;
    PyObject *view = PyMemoryView_FromObject((PyObject *)b);
    Py_DECREF(b);
    return view;
}

int atoll_encode_buffer(atoll_encoder *enc, PyObject *obj) {
    const Py_buffer *view = PyPickleBuffer_GetBuffer(obj);
    enc->impure = true;
    if (view == NULL) {
        return -1;
    }
    if (!PyBuffer_IsContiguous(view, 'A')) {
        return atoll_encoder_refuse(enc, "a buffer that is not contiguous is not shareable");
    }
    if (enc->outline) {
        return atoll_write_tag_count(enc, T_BUFFER, (uint64_t)view->len) < 0 ||
                       atoll_write_u64(enc, atoll_hash(view->buf, (size_t)view->len)) < 0 ||
                       atoll_write_tag(enc, view->readonly != 0) < 0
                   ? -1
                   : atoll_memo_add(enc, obj);
    }
    atoll_block *block = atoll_block_new((size_t)view->len);
    if (block == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (view->len != 0) {
        memcpy(block->data, view->buf, (size_t)view->len);
    }
    uint32_t index = atoll_message_attach(enc->msg, &atoll_block_class, block);
    if (index == ATOLL_NO_HANDLE) {
        PyErr_NoMemory();
        return -1;
    }
    if (atoll_write_tag_count(enc, T_BUFFER | ATOLL_MEMO, index) < 0 ||
        atoll_write_tag(enc, view->readonly != 0) < 0) {
        return -1;
    }
    return atoll_memo_add(enc, obj);
}
