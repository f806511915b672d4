/* The codec: Python objects to messages and back.  Public face; codec/internal.h has the rest.
 *
 * One atoll_codec lives in the module state of each interpreter.  All functions need
 * that interpreter's thread state attached, and may run Python code unless said otherwise.
 */
#ifndef ATOLL_PY_CODEC_H
#define ATOLL_PY_CODEC_H

#include "py/compat.h" /* first: Python.h wants to be */

#include "core/base/base.h"
#include "port/port.h"
#include "py/frozen/frozen.h"

typedef struct atoll_codec atoll_codec;
typedef struct atoll_encoder atoll_encoder;
typedef struct atoll_decoder atoll_decoder;

/* What the module layer adds: types that cross by handle.  `id` is stable and the same in
 * every interpreter (one of ATOLL_HOOK_*).  Hooked types match exactly (Py_TYPE(obj) == type),
 * are memoised by the codec, and count as shareable. */
typedef struct {
    uint8_t id;
    int (*encode)(atoll_encoder *enc, PyObject *obj); /* 0, or -1 with an exception */
    PyObject *(*decode)(atoll_decoder *dec);          /* a new reference, or NULL with an exception */
} atoll_codec_hook;

enum {
    ATOLL_HOOK_INTERPRETER = 0,
    ATOLL_HOOK_MEMORYVIEW = 1,
    ATOLL_HOOK_QUEUE = 2,
    ATOLL_HOOK_BYTES = 3, /* used from ATOLL_LEND_LEAST bytes on */
    ATOLL_HOOK_SHARED_BUFFER = 5,
    ATOLL_HOOK_SHARED_ARRAY = 6,
    ATOLL_HOOK_SYNC = 7, /* locks and the like; the kind is the first byte */
    ATOLL_HOOK_SHARED_DICT = 13,
    ATOLL_HOOK_LENT = 14, /* Arrow arrays and tensors of libraries */
    ATOLL_HOOK_MAX = 32
};

/* Bytes objects of at least this size are lent, not copied, where the message may hold handles. */
#define ATOLL_LEND_LEAST (64 * 1024)

/* interp_id: the id of the interpreter that owns this codec.  not_shareable: the exception class
 * NotShareableError (a new reference is taken). */
/* Waits, with the thread state detached, until the word is not what was seen, or the deadline.  0, or -1 when an interrupt has raised. */
typedef int (*atoll_codec_await)(_Atomic(uint32_t) *word, uint32_t seen, double deadline);
atoll_codec *atoll_codec_new(int64_t interp_id, PyObject *not_shareable, atoll_codec_await await);
int atoll_codec_traverse(atoll_codec *codec, visitproc visit, void *arg);
void atoll_codec_clear(atoll_codec *codec);
void atoll_codec_free(atoll_codec *codec);
int atoll_codec_add_hook(atoll_codec *codec, PyTypeObject *type, const atoll_codec_hook *hook);

/* An int of any size as bytes, as few as can be, little-endian and signed: a new bytes object.  And back: a new int.  NULL with an
 * exception. */
PyObject *atoll_codec_int_bytes(PyObject *number);
PyObject *atoll_codec_int_of(const uint8_t *bytes, size_t len);

/* How instances of a class, exactly, cross: as what encode() gives, of which decode() makes another one.  arrived: it came with one,
 * and counts only where code of this interpreter has said nothing.  0, or -1 with an exception: TypeError for what crosses as it is,
 * ValueError for what is not registered. */
int atoll_codec_register(atoll_codec *codec, PyObject *cls, PyObject *encode, PyObject *decode, bool arrived);
int atoll_codec_unregister(atoll_codec *codec, PyObject *cls);
/* The same for functions of C: where an instance arrives are those with which cls is registered there, by its module.  So cls has to cross by its
 * path, which is seen when an instance is sent: its module may be about to be imported. */
int atoll_codec_register_native(atoll_codec *codec, PyObject *cls, PyObject *encode, PyObject *decode);
/* What decode is for instances of cls that come with none: new reference, or NULL with TypeError. */
PyObject *atoll_codec_decode_of(atoll_codec *codec, PyObject *cls);
/* What is called with the class, encode, decode and what encode() has given, where an instance arrives. */
void atoll_codec_set_arrive(atoll_codec *codec, PyObject *arrive);

/* For hooks: the message being written or read, its body's reader, and the exception to raise. */
atoll_message *atoll_encoder_message(atoll_encoder *enc);
const atoll_message *atoll_decoder_message(atoll_decoder *dec);
atoll_reader *atoll_decoder_reader(atoll_decoder *dec);
/* For hooks: what was decoded is a frozen array.  So what is decoded later may be frozen, too. */
void atoll_decoder_note_array(atoll_decoder *dec);
/* Sets NotShareableError "PATH: why" for the object being encoded; returns -1. */
int atoll_encoder_refuse(atoll_encoder *enc, const char *why);

/* Appends obj to msg.  root names it in errors ("result", "args", ...).  0, or -1 with an exception
 * (NotShareableError for what cannot cross) and the message as it was before. */
int atoll_encode(atoll_codec *codec, atoll_message *msg, PyObject *obj, const char *root);
/* The same with all of it in the message's bytes, as far as possible: nothing is lent. */
int atoll_encode_whole(atoll_codec *codec, atoll_message *msg, PyObject *obj, const char *root);
/* The same for what holds an exception that was raised, and is going to have another cause. */
int atoll_encode_raised(atoll_codec *codec, atoll_message *msg, PyObject *obj, const PyObject *exc);
/* Rebuilds the object of a message.  The message stays the caller's. */
PyObject *atoll_decode(atoll_codec *codec, const atoll_message *msg);
/* The same for a tuple of two, one after the other, or for what is none: that is out[1].  2, or with an exception 1 (it is
 * the second that could not be had) or 0. */
int atoll_decode_pair(atoll_codec *codec, const atoll_message *msg, PyObject *out[2]);
/* What a message holds, without Python: a bytes or bytearray whose bytes are `data`, a hook's value, whose own part the reader is at, or anything else.
 * No thread state needed. */
typedef enum { ATOLL_PEEK_BYTES, ATOLL_PEEK_HOOK, ATOLL_PEEK_OTHER } atoll_peek_kind;
typedef struct {
    atoll_peek_kind kind;
    const uint8_t *data;
    size_t size;
    uint8_t hook;
    atoll_reader rd;
} atoll_peek;
atoll_peek atoll_codec_peek(const atoll_message *msg);
/* Begins a message that holds one, whose own part follows. */
void atoll_codec_put_hook(atoll_message *msg, uint8_t hook);
/* A message that is nothing but a list of numbers of one kind, whose numbers are made one by one (codec/unpack.c).  Borrows its bytes. */
typedef struct {
    const uint8_t *at;
    Py_ssize_t n;
    uint8_t kind;
} atoll_row;
/* Whether the message is one; whether it is a call of what travels by number, with one as its only argument. */
bool atoll_row_of(const atoll_message *msg, atoll_row *row);
bool atoll_row_of_call(const atoll_message *msg, atoll_row *row);
/* One of its numbers; some of them as a list.  New references, or NULL with MemoryError. */
PyObject *atoll_row_item(const atoll_row *row, Py_ssize_t i);
PyObject *atoll_row_list(const atoll_row *row, Py_ssize_t from, Py_ssize_t to);

/* The other way: a list that is written while its items come (codec/pack.c).  As long as they are numbers of one kind it is no list yet. */
typedef struct {
    atoll_message *msg; /* empty; what is written there counts from end() on */
    PyObject *list;     /* NULL: numbers */
    Py_ssize_t n;       /* of those */
    uint32_t magnitude;
    uint8_t kind;
} atoll_gather;
void atoll_gather_begin(atoll_gather *gather, atoll_message *msg);
int atoll_gather_add_first(atoll_gather *gather, PyObject *item);
/* 0, or -1 with MemoryError. */
static inline int atoll_gather_add(atoll_gather *gather, PyObject *item) {
    return gather->list != NULL ? PyList_Append(gather->list, item) : atoll_gather_add_first(gather, item);
}
/* What has come, as a list from now on: borrowed, or NULL with MemoryError. */
PyObject *atoll_gather_list(atoll_gather *gather);
/* Writes it, as atoll_encode_whole() would.  0, or -1 with an exception. */
int atoll_gather_end(atoll_gather *gather, atoll_codec *codec, const char *root);
void atoll_gather_clear(atoll_gather *gather);

/* Whether the current exception has nothing to do with what was being done: Ctrl-C, the end of the process, no memory.  It is not
 * turned into anything else, and nothing is lost by it. */
bool atoll_error_is_urgent(void);
/* The same, or the stack is used up: who then tries another way to the same end runs into that again, and where each attempt leads to two
 * further in, as hooks and __reduce__ that make calls do, without end. */
bool atoll_error_comes_again(void);
/* What marshal writes for code; NULL with an exception: ValueError for what it cannot write, which no compiler makes. */
PyObject *atoll_code_bytes(PyObject *code);

/* A call's arguments, in one memo, so that shared references keep their shape.  `args` is
 * a vectorcall array (may hold the same object twice and borrowed references: no assumption
 * about reference counts); kwnames a tuple or NULL.  callable may be NULL when it travels by
 * number.  In errors: "callable", "args[1]", "kwargs['x']". */
int atoll_encode_call(atoll_codec *codec, atoll_message *msg, PyObject *callable, PyObject *const *args,
                      Py_ssize_t nargs, PyObject *kwnames);
/* The same for what a pool's workers call first.  The first `own` of the arguments are Atoll's, not the user's: what the user calls the
 * initializer is callable, or the last of these.  In errors: "initializer", "initargs[1]". */
int atoll_encode_initializer(atoll_codec *codec, atoll_message *msg, PyObject *callable,
                             PyObject *const *args, Py_ssize_t nargs, Py_ssize_t own);
/* The other side.  *callable is NULL when it travelled by number; *stack is a PyMem array of
 * nargs + len(kwnames) new references with one writable slot before it (PY_VECTORCALL_ARGUMENTS_OFFSET). */
typedef struct {
    PyObject *callable;
    PyObject **stack; /* stack[-1] is writable */
    Py_ssize_t nargs;
    PyObject *kwnames; /* NULL when there are none */
    PyObject *small[9];
} atoll_call_args;
int atoll_decode_call(atoll_codec *codec, const atoll_message *msg, atoll_call_args *out);
void atoll_codec_args_clear(atoll_call_args *args);

/* The process-unique number of a callable that the receiver may cache whole: a function with no closure, no defaults that could
 * differ, and all that it reaches as it is now, or a builtin, a class or the like that crosses by its import path.  *number is 0
 * when obj is no such callable (the caller then encodes it in full).  Runs no Python code on the fast path (number already known,
 * nothing in its reach that changes without notice).  0, or -1 with an
 * exception: Ctrl-C, while it waited for somebody to import the function's module. */
int atoll_function_number(atoll_codec *codec, PyObject *obj, uint64_t *number);
/* Holds the lock of the table of namespaces while the process is forked. */
void atoll_spaces_fork(atoll_fork_moment when);
/* A child has none of the threads that were receiving something. */
void atoll_arrivals_fork(atoll_fork_moment when);
/* Python has ended, and no dict is left. */
void atoll_spaces_forget_all(void);
/* Gives up what was kept for interpreters, or namespaces, that are gone.  0, or -1 with an exception. */
int atoll_spaces_sweep(atoll_codec *codec);
/* A borrowed reference to the function cached here under number, or NULL: send it in full, or, with an exception, fail. */
PyObject *atoll_function_cached(atoll_codec *codec, uint64_t number);
/* The full form of the function that has just got this number, if it is still at hand: the caller's to clear. */
bool atoll_function_take_full(atoll_codec *codec, uint64_t number, atoll_message *full);
/* Keeps func (a decoded copy of `full`) under number for later. 0, or -1 with an exception. */
/* before: atoll_bound_by_others() before func was decoded.  When it is another now, func is good for this once. */
int atoll_function_keep(atoll_codec *codec, uint64_t number, PyObject *func, uint64_t before,
                        const atoll_message *full);
uint64_t atoll_bound_by_others(const atoll_codec *codec);

/* What an interpreter needs that has frozen objects, the first time: sys.intern() learns what to do with frozen text; copy and pickle with
 * mapping proxies, if there are any.  0, or -1 with an exception. */
int atoll_codec_prepare_frozen(atoll_codec *codec, bool proxies);

/* concurrent.interpreters.is_shareable(): 1, 0 or -1 with an exception.  Deep. */
int atoll_is_shareable(atoll_codec *codec, PyObject *obj);

#endif
