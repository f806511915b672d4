/* The format of messages.
 *
 * A message body is one or more values.  A value is a tag byte, its bit ATOLL_MEMO saying
 * whether the value gets the next memo index, and the tag's fields.  Lengths and counts are LEB128
 * varints; what is wider than a byte is little-endian, except the raw code units of a non-ASCII string,
 * which are the machine's (a message never leaves its process).
 *
 * Memo indices are given in the order in which values become referable: lists, dicts, sets, instances,
 * functions and classes before their contents (so that cycles can refer to them), tuples,
 * frozensets and the results of calls after.  When an object of the second sort turns out, after its contents,
 * to have been written meanwhile (a cycle through it), its tag is followed by a reference
 * to that copy and the decoder drops its own (T_*_DUP, R_DUP).
 */
#ifndef ATOLL_PY_CODEC_FORMAT_H
#define ATOLL_PY_CODEC_FORMAT_H

#include "py/compat.h" /* first: Python.h wants to be */

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
    T_SLICE_DUP,    /* a slice, then the index of the copy to use */
    T_HOOK,         /* hook id, what the hook writes */
    T_BUFFER,       /* handle of a block, read-only flag */
    T_CODE,         /* bytes of marshal, seal */
    T_MODULE,       /* name, origin, count of submodules, their names */
    T_NAMESPACE,    /* space, place, count of names and values, those */
    T_GLOBAL,       /* module name, qualified name, origin */
    T_OBJECT,       /* class, state dict's count and pairs */
    T_OBJECT_STATE, /* class, state (what object.__getstate__ returns) */
    T_NAMEDTUPLE,   /* class, count, items */
    T_NAMEDTUPLE_DUP,
    T_VALUE_DUP, /* a value to drop, the index of the one to use */
    T_ENUM,      /* class, member name */
    T_ENUM_DUP,
    T_REDUCE,         /* flags, callable, arguments, parts */
    T_NEWOBJ,         /* flags, class, arguments, parts */
    T_NEWOBJ_EX,      /* flags, class, arguments, keywords, parts */
    T_FUNCTION,       /* see codec/function.c */
    T_CELL,           /* contents */
    T_CELL_LATER,     /* u8 rank of the contents, which come later (codec/later.c) */
    T_EMPTY,          /* nothing: an empty cell, a missing field */
    T_CLASS,          /* see codec/class.c */
    T_CLASS_NUMBER,   /* likewise: a class that is in the message before; of an outline, its number alone */
    T_FILLED_LATER,   /* tag of a list, dict or set, whose contents come later (codec/later.c) */
    T_FILLED_NOW,     /* number of what is RANK_LATE, the contents of one of those, a reference to it */
    T_WRAPPER,        /* kind, maybe with W_DUP, and parts: see codec/wrapped.c */
    T_FROZEN,         /* see codec/frozen.c */
    T_FROZEN_MAPPING, /* one with arrays: count of keys and values, those */
    T_SAME,           /* see codec/nested.c */
    T_DICT_FIRST,     /* count, keys, values: the first of a shape (codec/shape.c) */
    T_DICT_LIKE,      /* number of the shape, values */
};

/* Of a class: its version and its size. */
enum { ATOLL_CLASS_HEAD = 12 };

/* Kinds of T_PACKED_*. */
enum { P_INT8, P_INT16, P_INT32, P_INT64, P_FLOAT, P_COUNT };

/* Kinds of T_WRAPPER.  W_DUP: one to drop, the index of the one to use follows. */
enum { W_STATICMETHOD, W_CLASSMETHOD, W_PROPERTY, W_COUNT, W_DUP = 0x80 };

/* Flags of T_REDUCE, T_NEWOBJ, T_NEWOBJ_EX. */
/* R_PLAIN: an exception, which is made without its class's code; the slots of the class are in its state. */
/* R_ELSE: what finds an object, rather than makes it, may find none over there: its class comes after the arguments, and its attributes last. */
enum { R_STATE = 1, R_LIST = 2, R_DICT = 4, R_SETTER = 8, R_DUP = 16, R_PLAIN = 32, R_ELSE = 64 };

/* Copies n bytes, which are few as a rule: fewer than a word overlap.  All of them, or'ed: a byte of ASCII has not the highest bit. */
static inline uint64_t atoll_copy_short(uint8_t *to, const uint8_t *from, size_t n) {
    uint64_t word = 0;
    uint64_t bits = 0;
    if (n >= 8) {
        for (size_t i = 0; i + 8 < n; i += 8) {
            memcpy(&word, from + i, 8);
            memcpy(to + i, &word, 8);
            bits |= word;
        }
        memcpy(&word, from + n - 8, 8);
        memcpy(to + n - 8, &word, 8);
    } else if (n >= 4) {
        uint32_t half[2];
        memcpy(&half[0], from, 4);
        memcpy(&half[1], from + n - 4, 4);
        memcpy(to, &half[0], 4);
        memcpy(to + n - 4, &half[1], 4);
        word = half[0] | half[1];
    } else {
        for (size_t i = 0; i < n; i++) {
            to[i] = from[i];
            word |= from[i];
        }
    }
    return bits | word;
}

#endif
