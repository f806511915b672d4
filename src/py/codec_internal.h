/* What the codec's files share: the format, the encoder, the decoder, the codec's state.
 *
 * Format.  A message body is one or more values.  A value is a tag byte, its bit ATOLL_MEMO saying
 * whether the value gets the next memo index, and the tag's fields.  Lengths and counts are LEB128
 * varints; what is wider than a byte is little-endian, except the raw code units of a non-ASCII string,
 * which are the machine's (a message never leaves its process).
 *
 * Memo indices are given in the order in which values become referable: lists, dicts, sets, instances,
 * functions and classes before their contents (so that cycles can refer to them), tuples,
 * frozensets and the results of calls after.  When an object of the second sort turns out, after its contents,
 * to have been written meanwhile (a cycle through it), its tag is followed by a reference
 * to that copy and the decoder drops its own (T_*_DUP, R_DUP).
 *
 * Who holds references.  Messages of the exact builtin data types only are written and read without any Python code
 * running and without the GIL being given away: there, memo and frames borrow what the object being encoded
 * (or the values under construction) hold.  As soon as anything else comes, "pin" makes the memo and the
 * frames own what they have, and what they get later.  It happens in one place on each side, where builtin data
 * ends (encode_other, decode_container): what comes after need not think of it.
 */
#ifndef ATOLL_PY_CODEC_INTERNAL_H
#define ATOLL_PY_CODEC_INTERNAL_H

#include "py/codec.h"
#include "py/codec_depth.h"

enum {
    ATOLL_MEMO = 0x80,

    T_NONE = 0,
    T_FALSE,
    T_TRUE,
    T_ELLIPSIS,
    T_NOT_IMPLEMENTED,
    T_INT8,
    T_INT32,
    T_INT64,
    T_INT_BIG, /* count, two's complement little-endian bytes */
    T_FLOAT,
    T_COMPLEX,
    T_STR_SHORT, /* u8 length, ASCII */
    T_STR_ASCII, /* count, ASCII */
    T_STR_1,     /* count, Latin-1 */
    T_STR_2,     /* count of code units, UCS-2 */
    T_STR_4,     /* count of code units, UCS-4 */
    T_BYTES,
    T_BYTEARRAY,
    T_REF, /* memo index */
    T_LIST,
    T_TUPLE,
    T_TUPLE_DUP, /* a tuple, then the index of the copy to use */
    T_DICT,
    T_SET,
    T_FROZENSET,
    T_FROZENSET_DUP,
    T_PACKED_LIST,  /* kind, count, elements */
    T_PACKED_TUPLE, /* likewise */
    T_RANGE,        /* start, stop, step */
    T_SLICE,        /* start, stop, step */
    T_HOOK,         /* hook id, what the hook writes */
    T_BUFFER,       /* handle of a block, read-only flag */
    T_CODE,         /* bytes of marshal, seal */
    T_MODULE,       /* name, origin */
    T_GLOBAL,       /* module name, qualified name, origin */
    T_OBJECT,       /* class, state dict's count and pairs */
    T_OBJECT_STATE, /* class, state (what object.__getstate__ returns) */
    T_NAMEDTUPLE,   /* class, count, items */
    T_NAMEDTUPLE_DUP,
    T_VALUE_DUP, /* a value to drop, the index of the one to use */
    T_ENUM,      /* class, member name */
    T_ENUM_DUP,
    T_REDUCE,       /* flags, callable, arguments, parts */
    T_NEWOBJ,       /* flags, class, arguments, parts */
    T_NEWOBJ_EX,    /* flags, class, arguments, keywords, parts */
    T_CLOUDPICKLE,  /* bytes */
    T_FUNCTION,     /* see codec_function.c */
    T_CELL,         /* contents */
    T_EMPTY,        /* nothing: an empty cell, a missing field */
    T_CLASS,        /* see codec_class.c */
    T_CLASS_NUMBER, /* the number of a class under construction */
    T_STATICMETHOD,
    T_CLASSMETHOD,
    T_PROPERTY, /* fget, fset, fdel, doc */
};

/* Kinds of T_PACKED_*. */
enum { P_INT8, P_INT16, P_INT32, P_INT64, P_FLOAT, P_COUNT };

/* Flags of T_REDUCE, T_NEWOBJ, T_NEWOBJ_EX. */
enum { R_STATE = 1, R_LIST = 2, R_DICT = 4, R_SETTER = 8, R_DUP = 16 };

/* What an instance's class says about how to encode it. */
typedef enum {
    KIND_UNKNOWN,
    KIND_REDUCE,
    KIND_PLAIN,       /* class and instance dict */
    KIND_PLAIN_SLOTS, /* class and object.__getstate__() */
    KIND_NAMEDTUPLE,
    KIND_ENUM,
    KIND_CLASS,   /* instances are classes: the type is a metaclass */
    KIND_SPECIAL, /* atoll._byvalue knows how */
} atoll_kind;

typedef struct {
    PyTypeObject *type; /* borrowed; means nothing when version differs */
    unsigned int version;
    atoll_kind kind;
    uint64_t epoch; /* of copyreg's table */
} atoll_type_info;

/* ---- the pointer memo (codec_memo.c) ---- */

typedef struct {
    PyObject *key;
    uint32_t epoch; /* the slot is in use when this is the memo's epoch */
    uint32_t index;
} atoll_memo_slot;

typedef struct {
    atoll_memo_slot *slots;
    PyObject **keys; /* by index */
    uint32_t mask;
    uint32_t epoch;
    uint32_t used; /* the next index */
} atoll_memo;

#define ATOLL_NOT_FOUND UINT32_MAX

atoll_memo *atoll_memo_new(void);
void atoll_memo_free(atoll_memo *memo);
/* Forgets all; gives back storage beyond a modest size. */
void atoll_memo_reset(atoll_memo *memo);
int atoll_memo_grow(atoll_memo *memo);

static inline uint32_t atoll_memo_hash(const void *ptr) {
    return (uint32_t)(((uint64_t)(uintptr_t)ptr >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 32);
}

/* The slot that holds key, or the free slot where it belongs. */
static inline atoll_memo_slot *atoll_memo_find(atoll_memo *memo, PyObject *key) {
    uint32_t i = atoll_memo_hash(key) & memo->mask;
    for (;;) {
        atoll_memo_slot *slot = &memo->slots[i];
        if (slot->epoch != memo->epoch || slot->key == key) {
            return slot;
        }
        i = (i + 1) & memo->mask;
    }
}

static inline uint32_t atoll_memo_get(atoll_memo *memo, PyObject *key) {
    atoll_memo_slot *slot = atoll_memo_find(memo, key);
    return slot->epoch == memo->epoch ? slot->index : ATOLL_NOT_FOUND;
}

/* Gives key, whose free slot this is, the next index.  There is room. */
static inline void atoll_memo_enter(atoll_memo *memo, atoll_memo_slot *slot, PyObject *key) {
    slot->key = key;
    slot->epoch = memo->epoch;
    slot->index = memo->used;
    memo->keys[memo->used++] = key;
}

/* ---- the codec ---- */

enum { ATOLL_TYPE_CACHE = 128 };

typedef struct atoll_function_entry {
    uint64_t number;
    PyObject *func;
} atoll_function_entry;

enum { ATOLL_FUNCTION_CACHE = 1024 };

struct atoll_codec {
    int64_t interp_id;
    PyObject *not_shareable;
    PyTypeObject *hook_types[ATOLL_HOOK_MAX]; /* strong, NULL where there is none */
    atoll_codec_hook hooks[ATOLL_HOOK_MAX];
    atoll_memo *memo; /* NULL while an encoder has it */
    PyObject **stack; /* the decoder's memo storage, likewise */
    size_t stack_cap;
    atoll_type_info types[ATOLL_TYPE_CACHE];
    Py_ssize_t code_extra; /* index for PyUnstable_Code_SetExtra, or -1 */
    int dict_watcher;      /* or -1 */
    int type_watcher;      /* or -1 */
    int table_watcher;     /* of copyreg's table, or -1 */
    int function_watcher;  /* once a class was kept, or -1 */

    /* Looked up when first needed; NULL until then. */
    PyObject *copyreg;        /* module copyreg */
    PyObject *dispatch_table; /* copyreg.dispatch_table */
    PyObject *newobj;         /* copyreg.__newobj__ */
    PyObject *newobj_ex;      /* copyreg.__newobj_ex__ */
    PyObject *enum_type;      /* enum.EnumType; only once enum is imported */
    PyObject *byvalue;        /* module atoll._byvalue */
    PyObject *buffer_type;    /* exports a block */
    PyObject *origins;       /* dict: module name -> (weak reference to the module, its file, what is sent) */
    PyObject *hidden;        /* dict: space -> the dict that stands for it here (codec_space.c) */
    uint64_t deaths;         /* of spaces, when hidden was last looked through */
    PyObject *class_refs;    /* dict: number -> weak reference to a class */
    PyObject *class_numbers; /* dict: id(class) -> (weak reference, number) */
    PyObject *class_bytes;   /* dict: number -> (epochs, bytes): what was last written for the class */
    PyObject *function_refs; /* dict: identity -> weak reference to a function */
    PyObject *function_ids;  /* dict: id(function) -> (weak reference, identity, what it was then) */
    atoll_function_entry *functions; /* open addressing by number; ATOLL_FUNCTION_CACHE entries */
    PyObject *names[32];             /* interned strings, see N_* */
};

enum {
    N_REDUCE_EX,
    N_REDUCE,
    N_GETSTATE,
    N_SETSTATE,
    N_GETNEWARGS,
    N_GETNEWARGS_EX,
    N_DICT,
    N_MODULE,
    N_QUALNAME,
    N_NAME,
    N_FILE,
    N_FIELDS,
    N_MEMBER_MAP,
    N_ENUM_NAME,
    N_SLOTNAMES,
    N_NEW,
    N_MAIN,
    N_FAKE_MAIN,
    N_BUILTINS_MODULE,
    N_BUILTINS,
    N_EXTEND,
    N_APPEND,
    N_ANNOTATE,
    N_SPEC,
    N_ANNOTATIONS,
    N_DOC,
    N_KWDEFAULTS,
    N_COUNT,
};

/* ---- the encoder ---- */

/* Where an encoder is: linked on the C stack, read only to name an offending object or to pin. */
typedef enum {
    AT_ROOT, /* the root's own name */
    AT_CALLABLE,
    AT_ARG,     /* args[index] */
    AT_KWARG,   /* kwargs[key] */
    AT_INDEX,   /* [index] */
    AT_KEY,     /* [key] */
    AT_ATTR,    /* .key */
    AT_ELEMENT, /* {...}: a member of a set or a key of a dict */
    AT_GLOBAL,  /* .__globals__[key] */
    AT_SELF,    /* a step with no name of its own */
    AT_WORD,    /* .word */
} atoll_step;

typedef struct atoll_frame {
    struct atoll_frame *up;
    PyObject *obj; /* the container being written, or NULL */
    atoll_step step;
    Py_ssize_t index;
    PyObject *key; /* borrowed */
    const char *word;
} atoll_frame;

/* A class being written by value: inside, it is named by its number. */
typedef struct atoll_class_frame {
    struct atoll_class_frame *up;
    PyObject *cls;
    uint64_t number;
    unsigned depth; /* from 1 */
} atoll_class_frame;

struct atoll_encoder {
    atoll_codec *codec;
    atoll_message *msg;
    atoll_memo *memo;
    atoll_frame *top;
    const char *root;
    bool pinned;
    atoll_depth depth;
    unsigned late; /* how many objects that are entered after their contents are being written: while
                    * there are any, every container is entered, or a cycle through them would not end */
    struct atoll_class_frame *classes; /* classes being written, innermost first */
    unsigned lowest;                   /* the outermost of them that was named by its number: its depth */
    unsigned exempt;                   /* what is being written is part of a definition, however mutable */
    bool whole;                        /* large bytes are copied, not lent */
    bool impure;     /* something that may change without notice was written: do not keep these bytes */
    PyObject **keep; /* strong references: what the frames had when the encoder was pinned */
    size_t nkeep;
};

int atoll_encode_value(atoll_encoder *enc, PyObject *obj);
/* The same for an object whose reference count says nothing about how often it occurs. */
int atoll_encode_shared(atoll_encoder *enc, PyObject *obj);
/* For everything that is not one of the basic types. */
int atoll_encode_object(atoll_encoder *enc, PyObject *obj);
int atoll_encode_reduced(atoll_encoder *enc, PyObject *obj);
/* 1: written by import path, 0: it has none, -1: exception. */
int atoll_try_global(atoll_encoder *enc, PyObject *obj);
int atoll_encode_function(atoll_encoder *enc, PyObject *obj);
int atoll_encode_class(atoll_encoder *enc, PyObject *cls);
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

static inline uint8_t *atoll_store_double(uint8_t *at, double v) {
    uint64_t bits;
    memcpy(&bits, &v, 8);
    atoll_store_u64(at, bits);
    return at + 8;
}

static inline int atoll_put_tag(atoll_encoder *enc, uint8_t tag) {
    uint8_t *at = atoll_reserve(enc, 1);
    if (at == NULL) {
        return -1;
    }
    *at = tag;
    atoll_commit(enc, at + 1);
    return 0;
}

static inline int atoll_put_tag_count(atoll_encoder *enc, uint8_t tag, uint64_t count) {
    uint8_t *at = atoll_reserve(enc, 1 + ATOLL_VARINT_MAX);
    if (at == NULL) {
        return -1;
    }
    *at++ = tag;
    atoll_commit(enc, atoll_write_varint(at, count));
    return 0;
}

static inline int atoll_put_count(atoll_encoder *enc, uint64_t count) {
    uint8_t *at = atoll_reserve(enc, ATOLL_VARINT_MAX);
    if (at == NULL) {
        return -1;
    }
    atoll_commit(enc, atoll_write_varint(at, count));
    return 0;
}

static inline int atoll_put_u64_checked(atoll_encoder *enc, uint64_t v) {
    uint8_t *at = atoll_reserve(enc, 8);
    if (at == NULL) {
        return -1;
    }
    atoll_store_u64(at, v);
    atoll_commit(enc, at + 8);
    return 0;
}

/* 1: a reference to obj was written; 0: it is new; -1: exception. */
int atoll_put_ref(atoll_encoder *enc, uint32_t index);
static inline int atoll_try_ref(atoll_encoder *enc, PyObject *obj) {
    uint32_t index = atoll_memo_get(enc->memo, obj);
    return index == ATOLL_NOT_FOUND ? 0 : atoll_put_ref(enc, index);
}

/* ---- the decoder ---- */

struct atoll_decoder {
    atoll_codec *codec;
    const atoll_message *msg;
    atoll_reader rd;
    PyObject **memo; /* borrowed references until pinned */
    size_t nmemo;
    size_t memo_cap;
    atoll_depth depth;
    bool pinned;
};

PyObject *atoll_decode_value(atoll_decoder *dec);
/* The tag was read: everything that is not one of the basic types. */
PyObject *atoll_decode_object(atoll_decoder *dec, uint8_t tag);
PyObject *atoll_decode_function(atoll_decoder *dec, uint8_t tag);
PyObject *atoll_decode_class(atoll_decoder *dec, uint8_t tag);
PyObject *atoll_decode_buffer(atoll_decoder *dec);
/* Raises ValueError("malformed message: why"); returns NULL. */
PyObject *atoll_malformed(const char *why);
/* Python code may run from here on, or a value is about to be dropped: the memo holds its values. */
void atoll_decoder_pin(atoll_decoder *dec);
int atoll_decoder_remember_slow(atoll_decoder *dec, PyObject *obj);

static inline int atoll_remember(atoll_decoder *dec, PyObject *obj) {
    if (dec->pinned || dec->nmemo == dec->memo_cap) {
        return atoll_decoder_remember_slow(dec, obj);
    }
    dec->memo[dec->nmemo++] = obj;
    return 0;
}

/* A count; `at_least` bytes of each item must still be there (0: no bound but SIZE_MAX).  -1 with an exception. */
static inline Py_ssize_t atoll_get_count(atoll_decoder *dec, size_t at_least) {
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

/* ---- state and lookups (codec_state.c) ---- */

atoll_type_info *atoll_type_info_get(atoll_encoder *enc, PyTypeObject *type);
int atoll_codec_need_copyreg(atoll_codec *codec);
PyObject *atoll_codec_byvalue(atoll_codec *codec); /* borrowed, or NULL with an exception */
/* sys.modules[name]: new reference, or NULL, without an exception when it is not there.  Waits for the import lock of a
 * module that another thread imports. */
PyObject *atoll_module_by_name(PyObject *name);
/* obj.qualname, dots followed: new reference or NULL with an exception. */
PyObject *atoll_get_dotted(PyObject *obj, PyObject *qualname);
/* The file of a module that may not be importable elsewhere, or None.  New reference. */
PyObject *atoll_module_origin(atoll_codec *codec, PyObject *module, PyObject *name);
/* Imports module `name`, loading it from origin (a str or None) where it cannot be found. New reference. */
PyObject *atoll_import_module(atoll_codec *codec, PyObject *name, PyObject *origin);
PyObject *atoll_buffer_wrap(atoll_codec *codec, void *block, int readonly);
/* Is this the name of the module that scripts run in, here or where it came from? */
bool atoll_is_main_name(atoll_codec *codec, PyObject *name);

/* ---- functions (codec_number.c, codec_names.c, codec_function.c, codec_class.c) ---- */

/* Neither marshal nor the interpreter survives bytecode that no compiler made.  The seal depends on a secret of the
 * process, so that code is only accepted as it was sent. */
uint64_t atoll_code_seal(const uint8_t *data, size_t size);

/* The names of globals that code, and the code objects in it, use: a new set of str. */
PyObject *atoll_global_names(PyCodeObject *code);

/* How a function crosses. */
typedef enum {
    CROSS_NOT,       /* neither by value nor by path */
    CROSS_STATELESS, /* by value; its globals are the receiver's __main__ */
    CROSS_PATH,      /* by import path */
    CROSS_MAIN,      /* by value; its globals are those of the functions of a __main__ */
    CROSS_MODULE,    /* by value, defined by code of an importable module, which has its globals */
    CROSS_ERROR,
} atoll_crossing;

/* May run Python code only for CROSS_PATH's lookups. */
atoll_crossing atoll_function_crossing(atoll_codec *codec, PyFunctionObject *func);
bool atoll_function_is_stateless(PyFunctionObject *func);

uint64_t atoll_next_number(void);
/* Changes when a watched globals dict or a watched class does. */
uint64_t atoll_definitions_epoch(void);
/* Makes changes of these globals, or of this class, count; false where that cannot be. */
bool atoll_watch_globals(atoll_codec *codec, PyObject *globals);
bool atoll_watch_class(atoll_codec *codec, PyObject *cls);
/* Watches copyreg's table; without a watcher nothing that depends on it is kept. */
void atoll_watch_table(atoll_codec *codec, PyObject *table);
/* Changes when a watched table does. */
uint64_t atoll_tables_epoch(void);
/* The identity of a function that crosses by value: the same wherever it goes; 0 when it has none.  0, or -1 with an
 * exception. */
int atoll_function_identity(atoll_codec *codec, PyFunctionObject *func, atoll_crossing crossing,
                            uint64_t *identity);
/* Gives a received function the identity it was sent with. */
int atoll_function_adopt(atoll_codec *codec, PyFunctionObject *func, uint64_t identity);

/* A function, class or module: code that uses a global which is one wants the present one. */
bool atoll_is_definition(PyObject *obj);
/* Drops cached functions whose globals are among these: a dict, address -> globals. */
int atoll_functions_give_up(atoll_codec *codec, PyObject *dicts);

/* Weak maps from a number to an object: refs is a dict of int -> weak reference.  get: new reference, or
 * NULL, maybe with an exception. */
PyObject *atoll_weak_get(PyObject *refs, uint64_t number);
int atoll_weak_put(PyObject *refs, uint64_t number, PyObject *obj);
/* Stores an entry, a weak reference or a tuple that begins with one, under an int. */
int atoll_weak_store(PyObject *map, PyObject *key, PyObject *entry);

/* ---- namespaces (codec_space.c) ---- */

void atoll_spaces_forget(atoll_codec *codec);
/* Whether this dict is watched and in the table. */
bool atoll_space_known(PyObject *dict);
/* Enters a watched dict, or gives it its number.  -1 when out of memory, without an exception. */
int atoll_space_add(atoll_codec *codec, PyObject *dict, uint64_t number, bool native);
/* A watched dict goes away.  Runs no code. */
void atoll_space_gone(PyObject *dict);
/* The number of these globals; 0 with an exception. */
uint64_t atoll_space_of(atoll_codec *codec, PyObject *globals);
/* The dict that has this number here; native: it is the original.  New reference. */
PyObject *atoll_space_globals(atoll_codec *codec, uint64_t number, bool *native);

/* Called once when the codec is made and once when it is cleared. */
int atoll_numbers_start(atoll_codec *codec);
void atoll_numbers_stop(atoll_codec *codec);

/* An encoder or decoder with a memo of its own, for a part that the receiver may skip. */
int atoll_encoder_begin_part(atoll_encoder *part, atoll_encoder *enc); /* both are pinned */
void atoll_encoder_end_part(atoll_encoder *part);
void atoll_decoder_begin_part(atoll_decoder *part, atoll_decoder *dec, size_t len);
void atoll_decoder_end_part(atoll_decoder *part);

int atoll_decode_dict_body(atoll_decoder *dec, PyObject *dict, bool intern);
/* Calls what cannot be sent otherwise cloudpickle's: 0, or -1 with NotShareableError for obj. */
int atoll_encode_fallback(atoll_encoder *enc, PyObject *obj);
int atoll_encode_state(atoll_encoder *enc, PyObject *state);

#endif
