/* Frozen objects (py/frozen): where they lie is sent, not what is in them.
 *
 * What is written is how far into the region the object lies and, of an area that may be given back, a handle that keeps it for as long as the
 * message lives.  An area that stays needs none; so does what is written whole, which others may keep: that makes an area stay.
 *
 * Bytes never hold pointers: that an object begins at this place, of this very area, is vouched for by a seal that depends on a secret of the
 * process, as with code.
 *
 * A frozen object is in no memo: it is as quickly written again.  Its copy is itself, so `is` holds wherever it has been.
 *
 * What leads to arrays is the sender's own (frozen/own.c), and is written as any data: tuples as such, a mapping as one that the receiver makes in its
 * turn.  Text in it that CPython has once for the process is no frozen memory, and is written as text: the receiver looks for it.
 */
#include "py/codec/internal.h"

static uint64_t seal_of(size_t place, const atoll_area *area) {
    uint8_t sealed[16];
    atoll_store_u64(sealed, place);
    atoll_store_u64(sealed + 8, atoll_area_serial(area));
    return atoll_code_seal(sealed, sizeof sealed);
}

/* The index of the message's handle of an area; ATOLL_NO_HANDLE when it needs none.  0, or -1 with an exception. */
static int handle_of(atoll_encoder *enc, atoll_area *area, uint32_t *index) {
    *index = ATOLL_NO_HANDLE;
    if (enc->outline) {
        return 0;
    }
    if (enc->whole) {
        atoll_area_keep(area);
    }
    if (atoll_area_stays(area)) {
        return 0;
    }
    enc->impure = true; /* its handle belongs to this message */
    atoll_message *msg = enc->msg;
    if (msg->nhandles != 0 &&
        atoll_message_handle(msg, msg->nhandles - 1, &atoll_area_class) == (void *)area) {
        *index = msg->nhandles - 1;
        return 0;
    }
    atoll_area_retain(area);
    *index = atoll_message_attach(msg, &atoll_area_class, area);
    if (*index == ATOLL_NO_HANDLE) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

int atoll_encode_frozen(atoll_encoder *enc, PyObject *obj) {
    atoll_area *area = atoll_area_of(obj);
    size_t place = atoll_area_place(obj);
    uint32_t handle;
    uint8_t *at = handle_of(enc, area, &handle) == 0 ? atoll_reserve(enc, 21) : NULL;
    if (at == NULL) {
        return -1;
    }
    at[0] = T_FROZEN;
    atoll_store_u64(at + 1, place);
    atoll_store_u32(at + 9, handle);
    atoll_store_u64(at + 13, seal_of(place, area));
    atoll_commit(enc, at + 21);
    return 0;
}

/* Whether any of so many objects is frozen. */
bool atoll_encode_any_frozen(PyObject *const *items, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (atoll_frozen_has(items[i])) {
            return true;
        }
    }
    return false;
}

static bool is_prepared(const atoll_codec *codec, bool proxies) {
    return codec->knows_frozen && (codec->knows_proxies || !proxies);
}

int atoll_codec_prepare_frozen(atoll_codec *codec, bool proxies) {
    if (is_prepared(codec, proxies)) {
        return 0;
    }
    if (atoll_frozen_intern() < 0 || atoll_frozen_expect() < 0) {
        return -1;
    }
    codec->knows_frozen = true;
    if (proxies) {
        PyObject *module = PyImport_ImportModule("atoll._crossing.frozen");
        if (module == NULL) {
            return -1;
        }
        Py_DECREF(module);
        codec->knows_proxies = true;
    }
    return 0;
}

/* What this may import runs code. */
static int prepare_decoder(atoll_decoder *dec, bool proxies) {
    if (!is_prepared(dec->codec, proxies)) {
        atoll_decoder_pin(dec);
    }
    return atoll_codec_prepare_frozen(dec->codec, proxies);
}

PyObject *atoll_decode_frozen(atoll_decoder *dec) {
    const uint8_t *at = atoll_get_bytes(&dec->rd, 20);
    if (at == NULL) {
        return atoll_malformed("it ends too early");
    }
    size_t place = (size_t)atoll_load_u64(at);
    uint32_t handle = atoll_load_u32(at + 8);
    PyObject *obj = atoll_area_at(place);
    atoll_area *area = obj != NULL ? atoll_area_of(obj) : NULL;
    bool kept =
        area != NULL && (handle == ATOLL_NO_HANDLE
                             ? atoll_area_stays(area)
                             : atoll_message_handle(dec->msg, handle, &atoll_area_class) == (void *)area);
    if (!kept || atoll_load_u64(at + 12) != seal_of(place, area)) {
        return atoll_malformed("a frozen object that is not there");
    }
    if (atoll_area_seen(area, dec->codec->interp_id) < 0 ||
        prepare_decoder(dec, atoll_area_has_proxies(area)) < 0) {
        return NULL;
    }
    return Py_NewRef(obj);
}

int atoll_encode_own_mapping(atoll_encoder *enc, PyObject *mapping) {
    PyObject *dict = ATOLL_HAS_FROZENDICT ? mapping : ((atoll_mapping_proxy *)mapping)->mapping;
    int rc = atoll_try_ref(enc, mapping);
    if (rc != 0) {
        return rc < 0 ? -1 : 0;
    }
    if (atoll_write_tag(enc, T_FROZEN_MAPPING | ATOLL_MEMO) < 0) {
        return -1;
    }
    enc->late++;
    rc = atoll_encode_dict_body(enc, dict, AT_KEY);
    enc->late--;
    return rc < 0 ? -1 : atoll_memo_add(enc, mapping);
}

void atoll_decoder_note_array(atoll_decoder *dec) {
    atoll_decoder_pin(dec); /* what is in the memo may be exchanged */
    dec->has_arrays = true;
}

void atoll_decode_shared_str(PyObject **item) {
    if (PyUnicode_CheckExact(*item) && !atoll_frozen_has(*item)) {
        PyObject *shared = atoll_frozen_shared_str(*item);
        if (shared != NULL) {
            Py_SETREF(*item, Py_NewRef(shared));
        }
    }
}

static int decode_pair(atoll_decoder *dec, PyObject *dict) {
    PyObject *key = atoll_decode_value(dec);
    PyObject *value = key != NULL ? atoll_decode_value(dec) : NULL;
    int rc = -1;
    if (value != NULL) {
        atoll_decode_shared_str(&key);
        atoll_decode_shared_str(&value);
        rc = PyDict_SetItem(dict, key, value);
    }
    Py_XDECREF(key);
    Py_XDECREF(value);
    return rc;
}

PyObject *atoll_decode_own_mapping(atoll_decoder *dec) {
    Py_ssize_t n = atoll_read_count(dec, 2);
    if (n < 0 || prepare_decoder(dec, !ATOLL_HAS_FROZENDICT) < 0) {
        return NULL;
    }
    atoll_decoder_pin(dec);
    PyObject *dict = atoll_frozen_own_dict();
    for (Py_ssize_t i = 0; dict != NULL && i < n; i++) {
        if (decode_pair(dec, dict) < 0) {
            Py_CLEAR(dict);
        }
    }
    PyObject *mapping = dict != NULL ? atoll_frozen_own_mapping(dict) : NULL;
    Py_XDECREF(dict);
    return mapping;
}
