/* The encoder. */
#ifndef ATOLL_PY_CODEC_ENCODER_H
#define ATOLL_PY_CODEC_ENCODER_H

#include "py/codec/depth.h"
#include "py/codec/format.h"
#include "py/codec/memo.h"
#include "py/codec/state.h"

/* Where an encoder is: linked on the C stack, read only to name an offending object or to pin. */
typedef enum {
    AT_ROOT,     /* the root's own name */
    AT_CALLABLE, /* word */
    AT_ARG,      /* word[index] */
    AT_KWARG,    /* kwargs[key] */
    AT_INDEX,    /* [index] */
    AT_KEY,      /* [key] */
    AT_ATTR,     /* .key */
    AT_ELEMENT,  /* {...}: a member of a set or a key of a dict */
    AT_GLOBAL,   /* .__globals__[key] */
    AT_SELF,     /* a step with no name of its own */
    AT_WORD,     /* .word */
} atoll_step;

typedef struct atoll_frame {
    struct atoll_frame *up;
    PyObject *obj; /* the container being written, or NULL */
    atoll_step step;
    Py_ssize_t index;
    PyObject *key; /* borrowed */
    const char *word;
} atoll_frame;

/* A class being written by value. */
typedef struct atoll_class_frame {
    struct atoll_class_frame *up;
    PyObject *cls;
    uint64_t number;
    size_t at;    /* where it begins in the message */
    bool awaited; /* what makes it is being written: code that runs over there, and cannot have it yet */
} atoll_class_frame;

/* Those that cross; none; all, whatever they are, for who only wants to know. */
typedef enum { CAUSES_TRIED, CAUSES_NONE, CAUSES_ALL } atoll_causes;

struct atoll_encoder {
    atoll_codec *codec;
    atoll_message *msg;
    atoll_memo *memo;
    atoll_frame *top;
    const char *root;
    atoll_depth depth;
    struct atoll_later *
        later; /* the code of a class is being written: what waits until it is there (codec/later.c), or NULL */
    struct atoll_later
        *empty; /* what is being written is lists, dicts and sets that are filled later, or NULL */
    struct atoll_later *unfilled;      /* what is being written comes when these are filled, or NULL */
    unsigned reducing;                 /* and is given to code that makes something */
    struct atoll_class_frame *classes; /* classes being written, innermost first */
    struct atoll_reach *reach;         /* what may change without notice is written down here, or NULL */
    struct atoll_reach *own;           /* and here, for the class being written, or NULL */
    PyObject *witnesses;    /* dict: what the bytes of the class being written depend on, or NULL */
    const PyObject *bound;  /* what the method that is being written is bound to, borrowed, or NULL */
    PyObject *named;        /* what is being written under its name, borrowed, or NULL */
    PyTypeObject *searched; /* names of its instances were looked for last, or NULL (codec/nested.c) */
    const PyObject *raised; /* an exception whose cause is told otherwise, or NULL */
    PyObject *code;         /* of the innermost function that is being written, borrowed, or NULL */
    PyObject **keep;        /* strong references: what the frames had when the encoder was pinned */
    size_t nkeep;
    unsigned
        late; /* how many objects that are entered after their contents are being written: while there are
                      * any, every container is entered, or a cycle through them would not end */
    atoll_written *written; /* classes that are in the message, or NULL (codec/written.c) */
    size_t
        earliest; /* where the first of them begins that was referred to, or left out: SIZE_MAX where there is none */
    size_t left_out; /* likewise, of those that were left out */
    unsigned many;   /* lists and the like, which hold several things, around what is being written */
    unsigned exempt; /* what is being written is part of a definition, however mutable */
    unsigned
        defining; /* what is being written belongs to globals or classes: the receiver's own has the better of it */
    bool pinned;
    bool whole;              /* large bytes are copied, not lent */
    bool identities;         /* and in it, which objects are which, of those that have names */
    bool outline;            /* for a version: definitions by what they are, large data by its hash */
    atoll_causes causes;     /* of exceptions */
    const PyObject *chained; /* an exception of which so many causes cross, or NULL */
    Py_ssize_t nchained;
    bool impure; /* something that may change without notice was written: do not keep these bytes */
};

/* Whether obj crosses, with causes or without: 1, 0, or -1 with an exception that must reach the user. */
int atoll_encode_trial(atoll_codec *codec, PyObject *obj, atoll_causes causes);
int atoll_encode_value(atoll_encoder *enc, PyObject *obj);
/* The same for an object whose reference count says nothing about how often it occurs. */
int atoll_encode_shared(atoll_encoder *enc, PyObject *obj);
/* For everything that is not one of the basic types. */
int atoll_encode_object(atoll_encoder *enc, PyObject *obj);
/* An instance, by what is known of its class. */
int atoll_encode_instance(atoll_encoder *enc, PyObject *obj, const atoll_type_info *info);
int atoll_encode_reduced(atoll_encoder *enc, PyObject *obj);
/* obj by what __reduce_ex__ would say of it: a tuple of 2 to 6. */
int atoll_encode_reduction(atoll_encoder *enc, PyObject *obj, PyObject *value);
int atoll_encode_wrapper(atoll_encoder *enc, PyObject *obj, uint8_t kind);
int atoll_encode_method(atoll_encoder *enc, PyObject *obj);
int atoll_encode_cell(atoll_encoder *enc, PyObject *obj);
/* 1: written by import path, 0: it has none, -1: exception. */
int atoll_try_global(atoll_encoder *enc, PyObject *obj);
/* The same with a path that it need not know of. */
int atoll_try_path(atoll_encoder *enc, PyObject *obj, PyObject *name, PyObject *qualname);
/* The same for what is bound to a name in a module: 0 when the module is not found by its own name.  Gives no index. */
int atoll_write_path(atoll_encoder *enc, PyObject *module, PyObject *name, PyObject *qualname);
/* And for an object of the standard library's (codec/own.c). */
int atoll_try_own(atoll_encoder *enc, PyObject *obj);
/* A bound method, by its path or, what it is bound to being the receiver's own if it is a module's, by encode(). */
int atoll_encode_bound(atoll_encoder *enc, PyObject *obj, int (*encode)(atoll_encoder *enc, PyObject *obj));
int atoll_encode_function(atoll_encoder *enc, PyObject *obj);
int atoll_encode_class(atoll_encoder *enc, PyObject *cls);
/* Whether obj is a class that what is being written will make: then it is left out. */
bool atoll_class_is_awaited(atoll_encoder *enc, const PyObject *obj);
/* The class being written that has this namespace, or NULL: borrowed. */
PyObject *atoll_class_of_namespace(const atoll_encoder *enc, const PyObject *dict);
int atoll_encode_module(atoll_encoder *enc, PyObject *obj);
/* 1: written packed, 0: not of one kind, nothing written, -1: exception.  n is not 0. */
int atoll_try_pack(atoll_encoder *enc, uint8_t tag, PyObject **items, size_t n);
int atoll_encode_buffer(atoll_encoder *enc, PyObject *obj);
int atoll_encode_dict_body(atoll_encoder *enc, PyObject *dict, atoll_step step);

/* Python code may run from here on: holds all that the memo and the frames refer to. */
int atoll_encoder_pin(atoll_encoder *enc);
/* NotShareableError naming the current object; the current exception, if any, becomes its cause. */
int atoll_refuse_with_cause(atoll_encoder *enc, const char *why);
int atoll_refuse_type(atoll_encoder *enc, PyObject *obj);
/* Whether the current exception must reach the user as it is. */
bool atoll_passes_through(atoll_codec *codec);

/* After a failure: an instance that goes while an exception is set loses it when CPython has no memory to part it from its dict (3.13 on);
 * then it is MemoryError again. */
void atoll_error_ensure(void);

static inline void atoll_push(atoll_encoder *enc, atoll_frame *fr, PyObject *obj, atoll_step step) {
    fr->up = enc->top;
    fr->obj = obj;
    fr->step = step;
    fr->index = 0;
    fr->key = NULL;
    fr->word = NULL;
    enc->top = fr;
}

static inline void atoll_pop(atoll_encoder *enc, atoll_frame *fr) { enc->top = fr->up; }

/* Encodes obj as the part of `of` that word names in errors. */
int atoll_encode_part(atoll_encoder *enc, PyObject *of, const char *word, PyObject *obj);

int atoll_memo_add_slow(atoll_encoder *enc, PyObject *obj);

/* Gives obj the next index; it must not be there yet. */
static inline int atoll_memo_add(atoll_encoder *enc, PyObject *obj) {
    atoll_memo *memo = enc->memo;
    if (memo->used * 2 >= memo->mask) {
        return atoll_memo_add_slow(enc, obj);
    }
    atoll_memo_enter(memo, atoll_memo_find(memo, obj), obj);
    if (enc->pinned) {
        Py_INCREF(obj);
    }
    return 0;
}

/* After the parts without which obj is not made over there: gives it the next index, 0.  When it has got one meanwhile, in a cycle, what
 * has been written is dropped over there: the byte at `at` becomes `duplicate`, the index follows, and it is 1.  -1: exception. */
int atoll_memo_add_late(atoll_encoder *enc, PyObject *obj, size_t at, uint8_t duplicate);

/* What is being written may change without anybody noticing. */
static inline void atoll_mark_mutable(atoll_encoder *enc) { enc->impure |= enc->exempt == 0; }

static inline uint8_t *atoll_reserve(atoll_encoder *enc, size_t n) {
    atoll_buffer *buf = &enc->msg->body;
    if (buf->cap - buf->len < n && atoll_buffer_grow(buf, n) < 0) {
        PyErr_NoMemory();
        return NULL;
    }
    return buf->data + buf->len;
}

static inline void atoll_commit(atoll_encoder *enc, const uint8_t *end) {
    enc->msg->body.len = (size_t)(end - enc->msg->body.data);
}

enum { ATOLL_VARINT_MAX = 10 };

static inline uint8_t *atoll_write_varint(uint8_t *at, uint64_t v) {
    while (v >= 0x80) {
        *at++ = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    *at++ = (uint8_t)v;
    return at;
}

static inline uint8_t *atoll_double_store(uint8_t *at, double v) {
    uint64_t bits;
    memcpy(&bits, &v, 8);
    atoll_store_u64(at, bits);
    return at + 8;
}

static inline int atoll_write_tag(atoll_encoder *enc, uint8_t tag) {
    uint8_t *at = atoll_reserve(enc, 1);
    if (at == NULL) {
        return -1;
    }
    *at = tag;
    atoll_commit(enc, at + 1);
    return 0;
}

static inline int atoll_write_tag_count(atoll_encoder *enc, uint8_t tag, uint64_t count) {
    uint8_t *at = atoll_reserve(enc, 1 + ATOLL_VARINT_MAX);
    if (at == NULL) {
        return -1;
    }
    *at++ = tag;
    atoll_commit(enc, atoll_write_varint(at, count));
    return 0;
}

static inline int atoll_write_count(atoll_encoder *enc, uint64_t count) {
    uint8_t *at = atoll_reserve(enc, ATOLL_VARINT_MAX);
    if (at == NULL) {
        return -1;
    }
    atoll_commit(enc, atoll_write_varint(at, count));
    return 0;
}

static inline int atoll_write_u64(atoll_encoder *enc, uint64_t v) {
    uint8_t *at = atoll_reserve(enc, 8);
    if (at == NULL) {
        return -1;
    }
    atoll_store_u64(at, v);
    atoll_commit(enc, at + 8);
    return 0;
}

/* 1: a reference to obj was written; 0: it is new; -1: exception. */
int atoll_write_ref(atoll_encoder *enc, uint32_t index);
static inline int atoll_try_ref(atoll_encoder *enc, PyObject *obj) {
    uint32_t index = atoll_memo_get(enc->memo, obj);
    return index == ATOLL_NOT_FOUND ? 0 : atoll_write_ref(enc, index);
}

/* What has this index, if it is to be filled later: 1 when that was written here, 0, or -1 with an exception (codec/later.c). */
int atoll_fill_now(atoll_encoder *enc, uint32_t index);

/* ---- which classes are in a message (codec/written.c) ---- */

/* The class of this number begins there, with its version and its size; SIZE_MAX: it is not to be referred to.  0, or -1 with MemoryError. */
int atoll_written_begin(atoll_encoder *enc, uint64_t number, size_t at);
bool atoll_written_find(const atoll_encoder *enc, uint64_t number, size_t *at);
/* Writes how far back it is. */
int atoll_written_refer(atoll_encoder *enc, size_t target);
/* What is being written lacks the class that begins there. */
void atoll_written_leave_out(atoll_encoder *enc, size_t at);
/* n bytes were put in there. */
void atoll_written_moved(const atoll_encoder *enc, size_t from, size_t n);
/* There is one. */
void atoll_written_end(atoll_encoder *enc, bool whole);
void atoll_written_free(atoll_written *table); /* or NULL */
/* What is known of the bytes from there on, which refer to nothing outside: new reference, or NULL with an exception; and of these bytes when
 * they are written again. */
PyObject *atoll_written_inside(const atoll_encoder *enc, size_t from);
int atoll_written_again(atoll_encoder *enc, PyObject *inside, size_t from);

#endif
