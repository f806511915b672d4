/* The decoder. */
#ifndef ATOLL_PY_CODEC_DECODER_H
#define ATOLL_PY_CODEC_DECODER_H

#include "py/codec/depth.h"
#include "py/codec/format.h"
#include "py/codec/state.h"

/* A message that is being read (codec/reading.c). */
typedef struct atoll_reading {
    struct atoll_reading *outer; /* inside of which it came, on this thread, whoever's it is; or NULL */
    const atoll_codec *codec;
    PyObject *recent; /* dict: identity -> version and object of what has come (codec/same.c), or NULL */
    uint64_t bound;   /* what this thread had changed before it */
    bool leans;       /* on what is being made by one that it came inside of */
} atoll_reading;

struct atoll_decoder {
    atoll_codec *codec;
    const atoll_message *msg;
    atoll_reader rd;
    PyObject **memo; /* borrowed references until pinned */
    size_t nmemo;
    size_t memo_cap;
    atoll_depth depth;
    bool pinned;
    int8_t
        fresh; /* 1: numbers and texts are made as codec/fresh.h says, -1: they are not, 0: nobody has looked */
    bool has_arrays; /* frozen ones: see codec/frozen.c */
    struct atoll_arrivals
        *arrivals;               /* a class is coming: which others came with it, or NULL (codec/arrival.c) */
    struct atoll_models *models; /* dicts that others are like, or NULL (codec/shape.c) */
    struct atoll_pending *pending; /* and what comes later, or NULL (codec/later.c) */
    size_t
        lowest; /* the first index that was referred to since it was SIZE_MAX, of what is an object of its own (codec/nested.c) */
    /* The first index of the definitions that are being read, or SIZE_MAX: what came before is data, which stays as it is. */
    size_t defined;
    struct atoll_yielded *yielded; /* what has given way to what is bound here, or NULL (codec/same.c) */
    size_t yielded_end;            /* beyond the last index of such */
    atoll_reading *reading;        /* own_reading, or that of which this reads a part; NULL until pinned */
    atoll_reading own_reading;
    /* When the message began: how often what was received had been changed, and that by other threads (codec/number.c). */
    uint64_t began;
    uint64_t began_others;
};

/* What comes next, until `defined` is again what is returned, are definitions. */
static inline size_t atoll_begin_definitions(atoll_decoder *dec) {
    size_t outer = dec->defined;
    dec->defined = dec->nmemo;
    return outer;
}

/* Whether it makes a difference which of two that are equal it is. */
static inline bool atoll_is_own_object(PyObject *obj) {
    const PyTypeObject *type = Py_TYPE(obj);
    const unsigned long values = Py_TPFLAGS_UNICODE_SUBCLASS | Py_TPFLAGS_BYTES_SUBCLASS |
                                 Py_TPFLAGS_LONG_SUBCLASS | Py_TPFLAGS_TYPE_SUBCLASS;
    return (type->tp_flags & values) == 0 && type != &PyFunction_Type && type != &PyCode_Type;
}

PyObject *atoll_decode_value(atoll_decoder *dec);
/* The tag was read: everything that is not one of the basic types. */
PyObject *atoll_decode_object(atoll_decoder *dec, uint8_t tag);
/* Where a message that is a path leads: new references, or NULL where it is none.  0, or -1 with an exception. */
int atoll_decode_place(atoll_codec *codec, const atoll_message *msg, PyObject **module, PyObject **qualname);
PyObject *atoll_decode_function(atoll_decoder *dec, uint8_t tag);
PyObject *atoll_decode_class(atoll_decoder *dec, uint8_t tag);
PyObject *atoll_decode_module(atoll_decoder *dec);
PyObject *atoll_decode_namespace(atoll_decoder *dec);
PyObject *atoll_decode_buffer(atoll_decoder *dec);
/* Raises ValueError("malformed message: why"); returns NULL. */
PyObject *atoll_malformed(const char *why);
/* Python code may run from here on, or a value is about to be dropped: the memo holds its values. */
void atoll_decoder_pin(atoll_decoder *dec);
/* Of a decoder that is being pinned, and of one that was. */
void atoll_reading_begin(atoll_decoder *dec);
void atoll_reading_end(const atoll_decoder *dec);
/* What is being read refers to what is being made by `on`: if that is one around it, it is good only if that is. */
void atoll_reading_lean(const atoll_decoder *dec, const atoll_reading *on);
/* An object has come, which may not be bound yet: 0, or -1 with an exception.  And one that has come in this version: new reference, or NULL,
 * maybe with an exception. */
int atoll_recent_note(const atoll_decoder *dec, PyObject *key, uint64_t version, PyObject *obj);
PyObject *atoll_recent_find(const atoll_decoder *dec, PyObject *key, uint64_t version);
int atoll_decoder_remember_slow(atoll_decoder *dec, PyObject *obj);

static inline int atoll_remember(atoll_decoder *dec, PyObject *obj) {
    if (dec->pinned || dec->nmemo == dec->memo_cap) {
        return atoll_decoder_remember_slow(dec, obj);
    }
    dec->memo[dec->nmemo++] = obj;
    return 0;
}

/* Packed runs (codec/unpack.c): the bytes of a number of each kind; makes n objects, on failure the rest of items is as it was (NULL). */
extern const uint8_t atoll_pack_widths[P_COUNT];
int atoll_unpack(const atoll_fresh *fresh, uint8_t kind, const uint8_t *at, PyObject **items, Py_ssize_t n);
static inline double atoll_double_load(const uint8_t *at) {
    uint64_t bits = atoll_load_u64(at);
    double v;
    memcpy(&v, &bits, 8);
    return v;
}

/* What numbers and texts are made of (codec/fresh.h), or NULL. */
static inline const atoll_fresh *atoll_decoder_fresh(atoll_decoder *dec) {
    if (dec->fresh == 0) {
        dec->fresh = dec->codec->fresh.usable && !atoll_references_traced() ? 1 : -1;
    }
    return dec->fresh > 0 ? &dec->codec->fresh : NULL;
}

/* A tuple that is filled while code may run: until it is whole the garbage collector, whom anybody may ask, does not know it.  Both may be
 * given NULL, or what has no items. */
static inline PyObject *atoll_tuple_begin(Py_ssize_t n) {
    PyObject *tuple = PyTuple_New(n);
    if (tuple != NULL && n != 0) {
        PyObject_GC_UnTrack(tuple);
    }
    return tuple;
}

static inline void atoll_tuple_end(PyObject *tuple) {
    if (tuple != NULL && PyTuple_GET_SIZE(tuple) != 0) {
        PyObject_GC_Track(tuple);
    }
}

/* A count; `at_least` bytes of each item must still be there (0: no bound but SIZE_MAX).  -1 with an exception. */
static inline Py_ssize_t atoll_read_count(atoll_decoder *dec, size_t at_least) {
    atoll_reader *rd = &dec->rd;
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 63; shift += 7) {
        if (rd->at == rd->end) {
            break;
        }
        uint8_t byte = *rd->at++;
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            if (at_least != 0 && v > atoll_reader_left(rd) / at_least) {
                break;
            }
            return (Py_ssize_t)v;
        }
    }
    atoll_malformed("a length goes past the end");
    return -1;
}

/* object.__new__(type): new reference, or NULL with an exception. */
PyObject *atoll_object_new(PyTypeObject *type);
/* The same after a TypeError, which the class's own __new__ has raised; NULL with that where there is more in an instance than classes made by
 * code put there. */
PyObject *atoll_object_without_new(const atoll_codec *codec, PyTypeObject *type);
/* What a reduction with these parts makes: new reference, or NULL with an exception (codec/construct.c). */
PyObject *atoll_construct(atoll_decoder *dec, uint8_t tag, PyObject *func, PyObject *args, bool plain);

#endif
