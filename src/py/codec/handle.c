/* What is shared and not copied: it travels as a handle beside the message, which its hook attaches (module/).
 *
 * An outline (codec/version.c) has the handle's address instead: the very same thing is the same value, whatever is in it.  Where each
 * message has a handle of its own (memoryviews, what is lent) it has what tells the thing itself.
 */
#include "py/codec/internal.h"

const atoll_codec_hook *atoll_hook_of(const atoll_codec *codec, const PyTypeObject *type) {
    for (int i = 0; i < ATOLL_HOOK_MAX && codec->hook_types[i] != NULL; i++) {
        if (codec->hook_types[i] == type) {
            return &codec->hooks[i];
        }
    }
    return NULL;
}

static int outline_view(atoll_encoder *enc, PyObject *obj) {
    const Py_buffer *view = PyMemoryView_GET_BUFFER(obj);
    return atoll_write_u64(enc, (uint64_t)(uintptr_t)view->buf) < 0
               ? -1
               : atoll_write_u64(enc, (uint64_t)view->len);
}

int atoll_encode_hooked(atoll_encoder *enc, PyObject *obj, const atoll_codec_hook *hook) {
    int rc = atoll_try_ref(enc, obj);
    if (rc != 0) {
        return rc < 0 ? -1 : 0;
    }
    enc->impure = true; /* its handle belongs to this message */
    if (atoll_memo_add(enc, obj) < 0 || atoll_write_tag(enc, T_HOOK | ATOLL_MEMO) < 0 ||
        atoll_write_tag(enc, hook->id) < 0) {
        return -1;
    }
    if (enc->outline && hook->id == ATOLL_HOOK_MEMORYVIEW) {
        return outline_view(enc, obj);
    }
    uint32_t before = enc->msg->nhandles;
    if (hook->encode(enc, obj) < 0) {
        return -1;
    }
    if (enc->msg->body.failed) {
        PyErr_NoMemory();
        return -1;
    }
    bool told = hook->id == ATOLL_HOOK_LENT; /* by a number among its bytes */
    for (uint32_t i = before; enc->outline && !told && i < enc->msg->nhandles; i++) {
        if (atoll_write_u64(enc, (uint64_t)(uintptr_t)enc->msg->handles[i].ptr) < 0) {
            return -1;
        }
    }
    return 0;
}

PyObject *atoll_decode_hooked(atoll_decoder *dec) {
    uint8_t id = atoll_get_u8(&dec->rd);
    atoll_codec *codec = dec->codec;
    for (int i = 0; i < ATOLL_HOOK_MAX && codec->hook_types[i] != NULL; i++) {
        if (codec->hooks[i].id == id) {
            return codec->hooks[i].decode(dec);
        }
    }
    return atoll_malformed("an unknown kind of handle");
}

/* ---- without Python: for C code that puts and gets (module/capi_queue.c) ---- */

/* A count, as put by atoll_write_count(); 0 with `failed` set when it goes past the end. */
static uint64_t get_count(atoll_reader *rd) {
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 63; shift += 7) {
        uint8_t byte = atoll_get_u8(rd);
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            return v;
        }
    }
    rd->failed = true;
    return 0;
}

atoll_peek atoll_codec_peek(const atoll_message *msg) {
    atoll_peek peek = {.kind = ATOLL_PEEK_OTHER,
                       .rd = {.at = msg->body.data, .end = msg->body.data + msg->body.len}};
    uint8_t tag = atoll_get_u8(&peek.rd) & (uint8_t)~ATOLL_MEMO;
    if (tag == T_HOOK) {
        peek.hook = atoll_get_u8(&peek.rd);
        peek.kind = ATOLL_PEEK_HOOK;
    } else if (tag == T_BYTES || tag == T_BYTEARRAY) {
        peek.size = (size_t)get_count(&peek.rd);
        peek.data = atoll_get_bytes(&peek.rd, peek.size);
        peek.kind = ATOLL_PEEK_BYTES;
    }
    if (peek.rd.failed) {
        peek.kind = ATOLL_PEEK_OTHER;
    }
    return peek;
}

void atoll_codec_put_hook(atoll_message *msg, uint8_t hook) {
    atoll_put_u8(&msg->body, T_HOOK | ATOLL_MEMO);
    atoll_put_u8(&msg->body, hook);
}
