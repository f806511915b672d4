/* What the codec's files share.
 *
 * Who holds references.  Messages of the exact builtin data types only are written and read without any Python code
 * running and without the GIL being given away: there, memo and frames borrow what the object being encoded
 * (or the values under construction) hold.  As soon as anything else comes, "pin" makes the memo and the
 * frames own what they have, and what they get later.  It happens in one place on each side, where builtin data
 * ends (encode_other, decode_container): what comes after need not think of it.
 */
#ifndef ATOLL_PY_CODEC_INTERNAL_H
#define ATOLL_PY_CODEC_INTERNAL_H

#include "py/codec/decoder.h"
#include "py/codec/encoder.h"
#include "py/codec/making.h"

/* ---- state and lookups (codec/state.c, codec/module.c) ---- */

atoll_type_info *atoll_type_info_get(atoll_encoder *enc, PyTypeObject *type);
/* Changes when copyreg's table does. */
uint64_t atoll_tables_epoch(void);

/* What is known of type and still so, or NULL.  Only of types whose instances nothing but their kind decides about. */
static inline atoll_type_info *atoll_type_info_known(atoll_codec *codec, PyTypeObject *type) {
    atoll_type_info *info = &codec->types[atoll_memo_hash(type) % ATOLL_TYPE_CACHE];
    bool known = info->type == type && info->version == type->tp_version_tag && info->version != 0 &&
                 codec->table_watcher >= 0 && info->epoch == atoll_tables_epoch();
    return known ? info : NULL;
}
/* type's attribute by its MRO, without running Python code: borrowed, or NULL (never an exception). */
PyObject *atoll_find_in_type(PyTypeObject *type, PyObject *name);
/* Whether instances themselves say of which class they are. */
bool atoll_type_has_own_class(atoll_codec *codec, PyTypeObject *type);
bool atoll_type_has_dict(const PyTypeObject *type);
/* Whether instances have at most a dict, weak references and so many slots. */
bool atoll_type_has_only(const PyTypeObject *type, Py_ssize_t nslots);
int atoll_codec_need_copyreg(atoll_codec *codec);
/* What a table has for a class, which its metaclass may have made unhashable: a new reference, or NULL, maybe with an exception. */
PyObject *atoll_find_class(PyObject *table, PyObject *cls);
/* What is sent of an exception for what __reduce_ex__ has said of it: a new reference, or NULL with an exception (codec/exception.c).
 * plain: it is made without its class's code. */
PyObject *atoll_exception_reduction(atoll_encoder *enc, PyObject *obj, PyObject *value, bool *plain);
/* The builtin class that exceptions of this class come from; one of these arguments as that makes it, of whichever class: new reference, or NULL
 * with an exception; and an attribute as the builtin class, or the exception's __dict__, has it: 0, or -1 with an exception. */
PyTypeObject *atoll_exception_base(PyTypeObject *type);
PyObject *atoll_exception_new(PyTypeObject *type, PyObject *args);
int atoll_exception_set(PyObject *obj, PyObject *name, PyObject *value);
/* Whether exceptions of this class, which a class statement has made, are what they have: no code says how to make them again. */
bool atoll_is_plain_exception(atoll_codec *codec, PyTypeObject *type);
/* The module of this name, which slot keeps from then on: borrowed, or NULL with an exception. */
PyObject *atoll_import_once(PyObject **slot, const char *name);
PyObject *atoll_codec_byvalue(atoll_codec *codec); /* borrowed, or NULL with an exception */
/* sys.modules[name]: new reference, or NULL, without an exception when it is not there.  Waits for the import lock of a
 * module that another thread imports. */
PyObject *atoll_origin_module(PyObject *name);
/* Whether a module of this name is the standard library's, so that every interpreter has it: 1, 0, or -1 with an exception. */
int atoll_is_standard(atoll_codec *codec, PyObject *name);
/* Whether obj, as a global or an attribute of a class, is the receiver's own (codec/own.c): 1, 0, or -1 with an exception. */
int atoll_is_own(atoll_codec *codec, PyObject *obj);
/* A str attribute, of this N_ name: new reference, or NULL, without an exception where there is none. */
PyObject *atoll_text_attr(atoll_codec *codec, PyObject *obj, int name);
/* obj.qualname, dots followed: new reference or NULL with an exception. */
PyObject *atoll_dotted_get(PyObject *obj, PyObject *qualname);
/* Whether another interpreter finds the module by its name: 1, 0, or -1 with an exception. */
int atoll_origin_is_found(atoll_codec *codec, PyObject *module, PyObject *name);
/* The file that leads to a module, where its name alone may not, or None; False where it is not found.  New reference, or NULL with
 * an exception. */
PyObject *atoll_origin_of(atoll_codec *codec, PyObject *module, PyObject *name);
/* Imports module `name`, loading it from origin (a str or None) where it cannot be found. New reference. */
PyObject *atoll_import_module(atoll_codec *codec, PyObject *name, PyObject *origin);
/* What functions of these globals, which have this number, know of where they are; a stand-in for them learns it.  New reference;
 * 0, or -1 with an exception. */
PyObject *atoll_space_place(atoll_codec *codec, uint64_t space, PyObject *globals);
int atoll_space_settle(atoll_codec *codec, uint64_t space, PyObject *dict, PyObject *place);
/* A received class of a module that is not imported here is found under its name, by pickle.  0, or -1 with an exception. */
int atoll_bind_class(atoll_codec *codec, PyObject *cls);
PyObject *atoll_wrap_buffer(atoll_codec *codec, void *block, int readonly);
/* Is this the name of the module that scripts run in, here or where it came from? */
bool atoll_is_main_name(atoll_codec *codec, PyObject *name);

/* Ints of any size (codec/bigint.c). */
int atoll_encode_big_int(atoll_encoder *enc, PyObject *obj);
PyObject *atoll_decode_big_int(atoll_decoder *dec);

/* ---- dicts with the same keys (codec/shape.c) ---- */

typedef struct atoll_shapes atoll_shapes;
typedef struct atoll_models atoll_models;
/* Looks, once in a process, whether tables of dicts lie as they should: if not, none has a shape.  0, or -1 with an exception. */
int atoll_shapes_prove(void);
/* Attached; NULL has none. */
void atoll_shapes_free(atoll_shapes *shapes);
void atoll_models_free(atoll_models *models);
/* 1: written, 0: it has no shape, and nothing was written, -1: exception.  memo: ATOLL_MEMO or 0. */
int atoll_encode_shaped(atoll_encoder *enc, PyObject *dict, uint8_t memo);
PyObject *atoll_decode_shaped(atoll_decoder *dec, uint8_t tag);

/* ---- functions (codec/number.c, codec/names.c, codec/function.c, codec/class.c) ---- */

/* Neither marshal nor the interpreter survives bytecode that no compiler made.  The seal depends on a secret of the
 * process, so that code is only accepted as it was sent. */
uint64_t atoll_code_seal(const uint8_t *data, size_t size);

/* The names of globals that code, and the code objects in it, use: a new set of str. */
PyObject *atoll_global_names(PyCodeObject *code);
/* All names that it uses, those of attributes too: a new set of str. */
PyObject *atoll_all_names(PyCodeObject *code);
/* *found (a dict, made when it is needed) gets the modules that code finds in globals under names which no source has: a test
 * runner has put them there, and has rewritten the code.  0, or -1 with an exception. */
int atoll_odd_globals(PyCodeObject *code, PyObject *globals, PyObject **found);

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
/* Whether it calls what looks names up in its globals: globals(), eval() and the like. */
bool atoll_function_asks_globals(PyFunctionObject *func);
/* Whether it computes annotations (3.14+). */
bool atoll_is_annotate(const PyFunctionObject *func);
/* Whether it was put around somebody else's function by a decorator: its globals are of another module than it says.  What such a
 * function keeps in its closure is the decorator's affair. */
bool atoll_is_foreign(atoll_codec *codec, const PyFunctionObject *func);

uint64_t atoll_next_number(void);
/* The number of a callable that is no function (codec/builtin.c); 0 when it has none.  0, or -1 with an exception. */
int atoll_builtins_number(atoll_codec *codec, PyObject *obj, uint64_t *number);
int atoll_builtins_traverse(atoll_codec *codec, visitproc visit, void *arg);
void atoll_builtins_clear(atoll_codec *codec);
/* Changes when anything does that is watched: definitions in globals, classes and functions, parts of those. */
uint64_t atoll_definitions_epoch(atoll_codec *codec);
uint64_t atoll_globals_epoch(atoll_codec *codec);
/* A dict was found to have other definitions than when it was last watched. */
void atoll_globals_changed(PyObject *dict);
/* How often something that has, or shares a place with, this address was seen to change: a class, a function, or a dict
 * that is part of one. */
uint64_t atoll_changes_of(PyObject *obj);
/* Makes changes of these globals, or of this class, count; false where that cannot be. */
bool atoll_watch_globals(atoll_codec *codec, PyObject *globals);
bool atoll_watch_functions(atoll_codec *codec);
bool atoll_watch_class(atoll_codec *codec, PyObject *cls);
/* A dict that belongs to a class or function by value; NULL and what is no dict need no watching. */
bool atoll_watch_part(atoll_codec *codec, PyObject *dict);
/* Watches copyreg's table; without a watcher nothing that depends on it is kept. */
void atoll_watch_table(atoll_codec *codec, PyObject *table);
/* No closure, attributes or keyword defaults, and nothing in it that can change: what has a number, and need not be made again. */
bool atoll_function_may_be_numbered(const PyFunctionObject *func);
/* None, a number, a str and the like: nothing in it can change. */
bool atoll_is_plain_value(PyObject *obj);
/* A tuple of such. */
bool atoll_is_plain_tuple(PyObject *obj);
/* Whether a class statement made it, or a call of a metaclass, and no extension module: such a class can be made again. */
bool atoll_is_made_by_code(const atoll_codec *codec, const PyTypeObject *cls);
/* Whether all classes from this one up to tuple are such: what C code makes of tuple has more in it than it tells. */
bool atoll_is_plain_tuple_class(const atoll_codec *codec, const PyTypeObject *type);
/* A function, class or module: code that uses a global which is one wants the present one. */
bool atoll_is_definition(PyObject *obj);
/* Drops cached functions whose globals are among these: a dict, address -> globals. */
int atoll_functions_give_up(atoll_codec *codec, PyObject *dicts);

/* What func is annotated with; lazy: it is the function that computes that (3.14+), or None.  Never a reason to refuse func.  New
 * reference (codec/annotations.c). */
PyObject *atoll_annotations_of(atoll_encoder *enc, PyFunctionObject *func, bool *lazy);

/* Adds the identifiers in annotations of func that are text to a set.  0, or -1 with an exception. */
int atoll_add_annotated_names(atoll_codec *codec, PyFunctionObject *func, PyObject *names);

/* ---- identities (codec/identity.c) ---- */

/* The identity of a function that crosses by value: the same wherever it goes; reusable: who has it need not make it again.  0,
 * or -1 with an exception. */
int atoll_function_identity(atoll_codec *codec, PyFunctionObject *func, atoll_crossing way,
                            uint64_t *identity, bool *reusable);
/* Gives a received function the identity it was sent with.  0, or -1 with an exception. */
int atoll_function_adopt(atoll_codec *codec, PyFunctionObject *func, atoll_crossing way, uint64_t identity,
                         bool reusable);
/* One that has not come as a whole is nobody's. */
void atoll_function_forget(atoll_codec *codec, PyFunctionObject *func, uint64_t identity);

/* ---- weak maps (codec/weak.c) ---- */

/* From a number to an object.  get: new reference, or NULL, maybe with an exception. */
PyObject *atoll_weak_get(PyObject *map, uint64_t number);
int atoll_weak_put(PyObject *map, uint64_t number, PyObject *obj);
/* map[key] = (weak reference to obj, more...), an int or a str being the key. */
int atoll_weak_store(PyObject *map, PyObject *key, PyObject *obj, PyObject *const *more, Py_ssize_t n);
/* Forgets what is under an int. */
void atoll_weak_drop(PyObject *map, PyObject *key);
/* Forgets an object in both directions. */
void atoll_weak_forget(PyObject *by_number, uint64_t number, PyObject *by_address, PyObject *obj);
/* The tuple under key if it is obj's: borrowed, or NULL, maybe with an exception. */
PyObject *atoll_weak_entry(PyObject *map, PyObject *key, PyObject *obj);
void atoll_weak_clear(PyObject *map);

/* ---- the bytes of classes (codec/kept.c) ---- */

/* What is being written depends on this function or class by value. */
int atoll_witness(atoll_encoder *enc, PyObject *obj);
/* And on this value, a number or the like, in a cell: that it is that one is seen by its address. */
int atoll_witness_value(atoll_encoder *enc, PyObject *value);
/* And on this dict, which is watched and belongs to something else. */
int atoll_witness_part(atoll_encoder *enc, PyObject *dict);
int atoll_witness_all(atoll_encoder *enc, PyObject *witnesses);
/* Makes changes count; false where that cannot be. */
bool atoll_kept_watch_function(atoll_encoder *enc, PyFunctionObject *func);
bool atoll_kept_watch_class(atoll_codec *codec, PyObject *cls);
/* 1 when what was last written for the class was written again, 0 when there is nothing or it has changed. */
int atoll_kept_write(atoll_encoder *enc, PyObject *cls, uint64_t number);
/* How often a class was registered with an abstract one (A.register(B)), of whichever.  0, or -1 with an exception. */
int atoll_registrations(atoll_codec *codec, uint64_t *count);
/* Keeps what `part` has written of the class, from there to the end of the message.  0, or -1 with an exception. */
int atoll_kept_store(const atoll_encoder *part, PyObject *cls, uint64_t number, size_t from);

/* ---- namespaces (codec/space.c) ---- */

void atoll_spaces_forget(atoll_codec *codec);
/* Whether this dict is watched and in the table. */
bool atoll_space_known(PyObject *dict);
/* Whether this is a dict of codec's interpreter: whoever has its GIL may look into it. */
bool atoll_space_is_of(const atoll_codec *codec, PyObject *dict);
/* Enters a watched dict, or gives it its number.  -1 when out of memory, without an exception. */
int atoll_space_add(atoll_codec *codec, PyObject *dict, uint64_t number, bool native);
/* A watched dict goes away.  Runs no code. */
void atoll_space_gone(PyObject *dict);
/* Whether the dict's end is told when it is not watched. */
void atoll_space_lasts(PyObject *dict, atoll_codec *codec, bool lasts);
/* Marks a dict that lasts as one that is to be watched no more: whether it was not yet.  Takes the mark away; takes it from any
 * dict of the attached interpreter, which is returned, borrowed, with its codec. */
bool atoll_space_want(PyObject *dict);
void atoll_space_unwant(PyObject *dict);
PyObject *atoll_space_take_wanted(int64_t interp, atoll_codec **codec);
/* The number of these globals; 0 with an exception. */
uint64_t atoll_space_of(atoll_codec *codec, PyObject *globals);
/* Where the globals of received functions are. */
typedef struct {
    PyObject *dict; /* owned */
    PyObject *seen; /* owned: name -> version that was taken from the sender; NULL at home */
    PyObject *
        mains; /* owned: name -> what __main__ had under it when it was looked at, a tuple of one or none; NULL at home */
    uint64_t space; /* their number */
    bool bare;      /* at home: a name that is not bound gets its value back */
} atoll_globals;
/* The dict that has this number here.  0, or -1 with an exception. */
int atoll_space_globals(atoll_codec *codec, uint64_t number, atoll_globals *to);
void atoll_globals_clear(atoll_globals *to);
/* The dict of these globals here, and, where it stands for another, what was taken into it: new references, or NULL where there is none.  0,
 * or -1 with an exception. */
int atoll_space_look(atoll_codec *codec, uint64_t number, PyObject **dict, PyObject **seen);
/* What code here has bound in __main__, or deleted, since it was looked at last, is so for functions that were received, too.  0, or
 * -1 with an exception. */
int atoll_spaces_follow(atoll_codec *codec);
int atoll_globals_follow(atoll_codec *codec, const atoll_globals *to);
/* The module whose dict stands for them here: new reference, or NULL with an exception. */
PyObject *atoll_space_module(atoll_codec *codec, uint64_t number);

/* ---- globals (codec/globals.c) ---- */

/* The dict of this interpreter's __main__: new reference, or NULL, maybe with an exception. */
PyObject *atoll_main_dict(const atoll_codec *codec);
/* The globals that func names, or only the definitions among them. */
int atoll_encode_globals(atoll_encoder *enc, PyFunctionObject *func, bool definitions);
/* The same for what else has no globals that go along, and for names and values that code reaches in globals: all of them, or
 * without those that wait until the code of a class is there. */
int atoll_write_no_globals(atoll_encoder *enc);
int atoll_encode_reached(atoll_encoder *enc, PyObject *globals, PyObject *found);
int atoll_encode_split(atoll_encoder *enc, PyObject *globals, PyObject *found);
/* The keys of a dict, or of NULL: a tuple. */
int atoll_encode_names(atoll_encoder *enc, PyObject *attributes);
PyObject *atoll_decode_names(atoll_decoder *dec); /* new reference, or NULL with an exception */
/* What came with a function or namespace; what of it came later.  0, or -1 with an exception. */
int atoll_decode_globals(atoll_decoder *dec, const atoll_globals *to, PyObject *builtins);
int atoll_decode_reached(atoll_decoder *dec, const atoll_globals *to);

/* ---- what waits for the code of classes (codec/later.c) ---- */

/* A value: code, and what can change nothing; made without running code; a list, dict or set of others; any other. */
typedef enum { RANK_CODE, RANK_EARLY, RANK_FILLED, RANK_LATE, ATOLL_RANKS } atoll_rank;
int atoll_rank_of(atoll_encoder *enc, PyObject *value, atoll_rank *rank); /* 0, or -1 with an exception */
/* Whether value is a class whose making runs code that needs one which is being written, as a whole (atoll._crossing.statements).  1, 0,
 * or -1 with an exception. */
int atoll_waits_for_class(atoll_encoder *enc, PyObject *value);
/* Whether no more than a few values are in obj's __dict__, which are made without running code, and nothing else is in obj: 1, 0, or -1
 * with an exception. */
int atoll_rank_is_simple(atoll_encoder *enc, PyObject *obj);
/* Names and values by ranks: a dict for each rank that has some.  0, or -1 with an exception. */
int atoll_ranks_put(PyObject *parts[ATOLL_RANKS], atoll_rank rank, PyObject *name, PyObject *value);
void atoll_ranks_drop(PyObject *parts[ATOLL_RANKS]);

/* Of the writer. */
typedef struct atoll_later {
    atoll_frame *base;             /* the class's */
    const struct waiting *writing; /* what in these lists is being written, or NULL */
    struct waiting *functions;
    struct waiting **functions_end;
    struct waiting *data[ATOLL_RANKS];
    struct waiting **data_end[ATOLL_RANKS];
} atoll_later;

void atoll_later_begin(atoll_later *later, atoll_encoder *enc);
void atoll_later_end(atoll_later *later);
/* A function that was written but for its body and state; globals, name -> value, or a cell and what is in it. */
int atoll_later_function(atoll_encoder *enc, PyFunctionObject *func);
int atoll_later_data(atoll_encoder *enc, atoll_rank rank, PyObject *obj, PyObject *found);
int atoll_write_bodies(atoll_encoder *enc, atoll_later *later);
int atoll_write_early(atoll_encoder *enc, atoll_later *later); /* what is EARLY or FILLED, this still empty */
int atoll_write_states(atoll_encoder *enc, atoll_later *later); /* of functions */
/* An empty list, dict or set for this one, whose contents come with what is LATE. */
int atoll_write_empty(atoll_encoder *enc, PyObject *value);
int atoll_write_late(atoll_encoder *enc, atoll_later *later);
/* An empty dict for this one likewise, while code is written. */
int atoll_later_dict(atoll_encoder *enc, PyObject *dict);

/* Functions and classes that are in the data of these ranks, which belongs to `of` (codec/held.c).  0, or -1 with an exception. */
int atoll_encode_held(atoll_encoder *enc, PyObject *of, atoll_step step, PyObject *const parts[ATOLL_RANKS]);
int atoll_decode_held(atoll_decoder *dec);

/* What is taken into globals while a class comes (codec/taking.c). */
typedef struct atoll_takings {
    struct atoll_takings *outer;  /* of this thread's, in whichever interpreter */
    const atoll_reading *reading; /* the message that it is part of */
    struct taking *first;
    bool filling;   /* what is bound now is filled later */
    PyObject *kept; /* a list: lists and the like that were filled, each followed by what is in it; or NULL */
    PyObject *classes; /* a list of those that came meanwhile, or NULL */
} atoll_takings;

void atoll_takings_begin(atoll_takings *list, const atoll_decoder *dec);
/* whole: all of it is taken for good; else it is taken again when it comes again.  No exception is set before; afterwards there may be
 * one that has to reach the user. */
void atoll_takings_end(atoll_takings *list, atoll_codec *codec, bool whole);
/* Whether this thread has bound it, in this version, and is about to fill it. */
bool atoll_is_taking(const atoll_decoder *dec, PyObject *seen, PyObject *name, uint64_t version);
/* A class has come: it is forgotten if what it came in fails, and all of one that was there before is taken again.  Without memory it stays. */
void atoll_takings_class(atoll_takings *list, PyObject *cls, uint64_t number, PyObject *seen, bool is_new);
/* It is nobody's: it is made again when it comes again.  Exceptions that are set stay (codec/arrival.c). */
void atoll_class_forget(atoll_codec *codec, uint64_t number, PyObject *cls);
/* What obj, which was filled, has at home: in the end it has that, and whole is a list of it.  0, or -1 with an exception. */
int atoll_takings_keep(atoll_takings *list, PyObject *obj, PyObject *whole);
/* obj has what is in `whole` (codec/filled.c).  0, or -1 with an exception. */
int atoll_filled_settle(atoll_codec *codec, PyObject *obj, PyObject *whole);
/* Something stands for the value, which is still to come. */
int atoll_await_global(PyObject *seen, PyObject *name);

/* Of the reader. */
typedef struct atoll_pending {
    atoll_takings takings;
    struct pending *functions;
    struct pending **functions_end;
    struct pending *data[ATOLL_RANKS];
    struct pending **data_end[ATOLL_RANKS];
    bool
        of_function; /* no class is being made: nobody waits for these functions, and the thread may wait for others */
} atoll_pending;

/* What is known of a function that comes. */
typedef struct {
    atoll_crossing way;
    uint64_t identity;
    bool reusable;
    bool known; /* it is there already */
} atoll_received;

void atoll_pending_begin(atoll_pending *list, const atoll_decoder *dec);
/* An exception that is set stays; where there is none, there may be one afterwards that has to reach the user. */
void atoll_pending_end(atoll_pending *list, atoll_codec *codec, bool whole);
int atoll_pending_function(atoll_decoder *dec, PyFunctionObject *func, const atoll_globals *to,
                           const atoll_received *received);
int atoll_pending_globals(atoll_decoder *dec, atoll_rank rank, const atoll_globals *to);
/* Of a cell, list, dict or set. */
int atoll_pending_contents(atoll_decoder *dec, atoll_rank rank, PyObject *obj);
PyObject *atoll_decode_empty(atoll_decoder *dec);
PyObject *atoll_decode_filled(atoll_decoder *dec);

/* ---- lists and the like that are filled later (codec/filled.c) ---- */

/* An empty one for a deque, a weak dictionary and the like, which are filled as lists and dicts are: new reference, None for anything else,
 * or NULL with an exception. */
PyObject *atoll_filled_shell(atoll_codec *codec, PyObject *value);
int atoll_filled_write_shell(atoll_encoder *enc, PyObject *value);
/* What is in it. */
int atoll_filled_write(atoll_encoder *enc, PyObject *obj);
int atoll_filled_read(atoll_decoder *dec, PyObject *obj);
int atoll_read_bodies(atoll_decoder *dec, const atoll_pending *list);
int atoll_read_early(atoll_decoder *dec, atoll_pending *list);
int atoll_read_states(atoll_decoder *dec, const atoll_pending *list);
int atoll_read_late(atoll_decoder *dec, const atoll_pending *list);

/* The parts of a function (codec/function.c).  0, or -1 with an exception. */
int atoll_encode_body(atoll_encoder *enc, PyObject *obj, PyObject *unused);
int atoll_encode_function_state(atoll_encoder *enc, PyObject *obj, PyObject *unused);
int atoll_decode_body(atoll_decoder *dec, PyFunctionObject *func, atoll_globals *to,
                      const atoll_received *received);
int atoll_decode_function_state(atoll_decoder *dec, PyFunctionObject *func, const atoll_received *received);

/* ---- versions (codec/version.c) ---- */

uint64_t atoll_hash(const void *data, size_t size);
/* Tells one value from another: equal for what encodes to the same.  0, or -1 with an exception: it cannot be encoded. */
int atoll_version_of(atoll_codec *codec, PyObject *value, uint64_t *version);
/* The same, whichever of the objects in it have names. */
int atoll_version_of_state(atoll_codec *codec, PyObject *value, uint64_t *state);
/* The version of a value that may change, of which this is what it encodes to. */
uint64_t atoll_version_of_identity(uint64_t version, uint64_t identity);
/* Appends all of obj, and writes down what it reaches (codec/call.c). */
typedef struct atoll_reach atoll_reach;
int atoll_encode_examined(atoll_codec *codec, atoll_message *msg, PyObject *obj, atoll_reach *reach);
/* Appends what atoll_version_of hashes. */
int atoll_encode_outline(atoll_codec *codec, atoll_message *msg, PyObject *obj, bool identities);
/* The same, and in which order objects were met: a new list, or NULL with an exception. */
PyObject *atoll_encode_shape(atoll_codec *codec, atoll_message *msg, PyObject *obj);
/* Type variables, list[int], int | str, and whatever else typing has made to stand for types. */
bool atoll_is_type_form(PyObject *value);
/* Whether nothing in it can change, or tells when it does. */
bool atoll_is_fixed(PyObject *value);
/* Whether it is a static or class method or a property of functions. */
bool atoll_is_code_wrapper(PyObject *value);

/* Where values are, among what a function reaches, that may change without notice. */
atoll_reach *atoll_reach_new(void); /* NULL when out of memory, without an exception */
void atoll_reach_retain(atoll_reach *reach);
void atoll_reach_release(atoll_reach *reach); /* or NULL */
bool atoll_reach_is_empty(const atoll_reach *reach);
/* version: of what is there, told before it is encoded. */
int atoll_reach_global(atoll_encoder *enc, PyObject *globals, PyObject *name, uint64_t version);
int atoll_reach_attribute(atoll_encoder *enc, PyObject *cls, PyObject *name, uint64_t version);
int atoll_reach_function(atoll_encoder *enc, PyFunctionObject *func);
void atoll_reach_always(atoll_encoder *enc);
/* There is a class in it: so many registrations there were before it was encoded. */
void atoll_reach_class(atoll_encoder *enc, uint64_t registrations);
/* Adds all of another reach; neither need be there. */
int atoll_reach_add_all(atoll_reach *reach, const atoll_reach *more);
/* Whether all of it is as it was when it was encoded: 1, 0, or -1 with an exception. */
int atoll_reach_is_same(atoll_codec *codec, const atoll_reach *reach);

/* Globals or classes that functions may have are changed by what is received. */
void atoll_note_bound(atoll_codec *codec, uint64_t n);

/* A name, the version of its value, which object it is (0 where that makes no difference), and the value. */
typedef struct {
    PyObject *name;
    uint64_t version;
    uint64_t identity;
    PyObject *value;
} atoll_named;

/* What has been bound counts as taken (codec/taking.c); list may be NULL: no class is coming.  0, or -1 with an exception. */
int atoll_take_global(atoll_takings *list, const atoll_globals *to, const atoll_named *named);
/* The version that goes with a value, which may change or not; a new one where it cannot be told.  0, or -1 with an exception that must reach the user. */
int atoll_version_to_send(atoll_encoder *enc, PyObject *value, uint64_t *version, bool fixed);
int atoll_encode_named(atoll_encoder *enc, PyObject *name, PyObject *value, uint64_t version, bool fixed);
/* New references in *out.  0, or -1 with an exception. */
int atoll_decode_named(atoll_decoder *dec, atoll_named *out);

/* What was taken for a name before: nothing, this version, or another; -1 with an exception. */
enum { ATOLL_NEVER, ATOLL_SAME, ATOLL_OTHER };
int atoll_taken(PyObject *seen, PyObject *name, uint64_t version);
int atoll_take(PyObject *seen, PyObject *name, uint64_t version);
/* A version that no value has: the name is bound by what was received, and whatever comes for it is another. */
enum { ATOLL_NONE_YET = 0 };
void atoll_take_again(PyObject *seen); /* when it comes again; what does not come then is gone at home */

/* ---- one object under several names (codec/same.c) ---- */

uint64_t atoll_identity_of(const atoll_codec *codec, PyObject *value);
/* Of an object that is known to have, or to have had, a name: else 0. */
uint64_t atoll_named_identity(const atoll_codec *codec, PyObject *value);
/* The value that came gives way to the object that it is, where that is there; else it is noted as that, under its name in a
 * namespace or class with this number.  0, or -1 with an exception. */
int atoll_same_value(atoll_decoder *dec, atoll_named *named, uint64_t owner, bool is_class);
/* Where an object is that has an identity. */
typedef enum {
    PLACE_SPACE,  /* a name in a namespace with this number */
    PLACE_CLASS,  /* an attribute of a class with this number */
    PLACE_MODULE, /* a name in the module of this name */
    PLACE_HELD,   /* no name: in something that has one */
} atoll_place;
/* The object can be told from others: an instance of object, or of a class that code has made. */
bool atoll_is_nameable(const atoll_codec *codec, PyObject *obj);
/* A name is bound to it at home.  owner: a number, or a str.  0, or -1 with an exception. */
int atoll_same_name(atoll_codec *codec, atoll_place kind, PyObject *owner, PyObject *name, PyObject *obj);
/* The same for a dict of names and values that belong to these globals, or to a class with this number. */
int atoll_same_names(atoll_codec *codec, atoll_place kind, uint64_t owner, PyObject *values);
/* Whether something with this address may have a name. */
static inline bool atoll_may_have_name(const atoll_codec *codec, const PyObject *obj) {
    uint32_t bit = atoll_memo_hash(obj) % ATOLL_NAMED_BITS;
    return (codec->named_bits[bit / 64] >> (bit % 64) & 1) != 0;
}
/* 1 when obj has a name, or came in something that has one: its identity, and, if there is one, the module that has it and its name there
 * (new references; else NULL).  0, or -1 with an exception. */
int atoll_same_lookup(atoll_codec *codec, PyObject *obj, uint64_t *identity, PyObject **module,
                      PyObject **name);
/* What came (obj) may be one that is here: that, or obj.  New reference, or NULL with an exception. */
PyObject *atoll_same_nested(const atoll_decoder *dec, uint64_t identity, uint64_t state, bool defining,
                            PyObject *obj);
PyObject *atoll_same_by_path(atoll_codec *codec, PyObject *module, PyObject *name, uint64_t state,
                             PyObject *obj);
/* obj came, and is another one than that which is here.  0, or -1 with an exception. */
int atoll_same_hold(atoll_codec *codec, uint64_t identity, uint64_t version, PyObject *obj);
/* What refers to old from here on in the message refers to `with`. */
void atoll_replace_in_memo(atoll_decoder *dec, size_t from, PyObject *old, PyObject *with);
/* Data refers to an index at which something may have given way: what is there for data is in the memo then.  0, or -1 with an exception. */
int atoll_yielded_settle(atoll_decoder *dec, size_t index);
void atoll_yielded_free(atoll_decoder *dec);

/* ---- objects with a name inside of others (codec/nested.c) ---- */

/* obj was written from `at` on: that it is one that has a name is written in front of it.  0, or -1 with an exception. */
int atoll_encode_nested(atoll_encoder *enc, PyObject *obj, size_t at);
PyObject *atoll_decode_nested(atoll_decoder *dec); /* new reference, or NULL with an exception */
/* The value that came is what is bound under the name already, and stays: so it is to what refers to it from here on in the message.  0,
 * or -1 with an exception. */
int atoll_keep_bound(atoll_decoder *dec, PyObject *dict, const atoll_named *named);

/* ---- classes (codec/class.c) ---- */

/* What was taken of a class that was received: a borrowed dict, name -> version, with the version of all of it under None; None for
 * a class that is at home; NULL, maybe with an exception, for one that has no number. */
PyObject *atoll_class_seen(atoll_codec *codec, PyObject *cls);
/* Whether obj is a class that crosses by value: what it is filled with may be made before its attributes are there. */
bool atoll_class_is_of_script(const atoll_encoder *enc, PyObject *obj);
int atoll_class_give_number(atoll_codec *codec, PyObject *cls, uint64_t number, PyObject *seen);
/* Whether the class came from another interpreter: 1, 0, or -1 with an exception. */
int atoll_class_is_received(atoll_codec *codec, PyObject *cls);

/* ---- classes that are registered (codec/registered.c) ---- */

int atoll_is_registered(atoll_codec *codec, PyTypeObject *type); /* 1, 0, or -1 with an exception */
int atoll_encode_registered(atoll_encoder *enc, PyObject *obj);

/* ---- handles (codec/handle.c) ---- */

const atoll_codec_hook *atoll_hook_of(const atoll_codec *codec, const PyTypeObject *type);
/* Frozen objects, and whether there are any among so many (codec/frozen.c). */
int atoll_encode_frozen(atoll_encoder *enc, PyObject *obj);
PyObject *atoll_decode_frozen(atoll_decoder *dec);
int atoll_encode_own_mapping(atoll_encoder *enc, PyObject *mapping);
PyObject *atoll_decode_own_mapping(atoll_decoder *dec);
/* Exchanges a str for the equal one that CPython has once for the process, if there is one. */
void atoll_decode_shared_str(PyObject **item);
bool atoll_encode_any_frozen(PyObject *const *items, size_t n);
int atoll_encode_hooked(atoll_encoder *enc, PyObject *obj, const atoll_codec_hook *hook);
PyObject *atoll_decode_hooked(atoll_decoder *dec);

/* ---- what is watched (codec/watch.c) ---- */

/* Code reaches this name of a watched dict: binding it anew moves the epoch. */
void atoll_note_reached(PyObject *dict, PyObject *name);
bool atoll_is_reached(PyObject *dict, PyObject *name);
/* The same for the name under which something is found by its path. */
void atoll_note_path(atoll_codec *codec, PyObject *dict, PyObject *name);

/* ---- dicts that are not watched for a while (codec/relaxed.c) ---- */

/* A watched dict is stored to again and again.  From its watcher: runs no code. */
void atoll_relaxed_want(PyObject *dict);
/* These globals, which are watched from now on, may be left alone if they are a module's.  0, or -1 with an exception. */
int atoll_relaxed_allow(atoll_codec *codec, PyObject *globals);
/* Watches them all again; one of them, which is to be given up. */
void atoll_relaxed_end(atoll_codec *codec);
void atoll_relaxed_leave(atoll_codec *codec, PyObject *dict);
/* The codec is cleared: they are not looked at any more. */
void atoll_relaxed_forget(atoll_codec *codec);

/* What a code object has of the codec's goes with it. */
void atoll_records_free(void *ptr);
/* Drops the full form that is kept for the next who sends it. */
void atoll_examined_forget(atoll_codec *codec);

/* Called once when the codec is made and once when it is cleared. */
int atoll_numbers_start(atoll_codec *codec);
void atoll_numbers_stop(atoll_codec *codec);

/* An encoder or decoder with a memo of its own, for a part that the receiver may skip. */
int atoll_encoder_begin_part(atoll_encoder *part, atoll_encoder *enc); /* both are pinned */
void atoll_encoder_end_part(atoll_encoder *part);
void atoll_decoder_begin_part(atoll_decoder *part, atoll_decoder *dec, size_t len);
void atoll_decoder_end_part(atoll_decoder *part);

int atoll_decode_dict_body(atoll_decoder *dec, PyObject *dict, bool intern);
/* obj, which refuses to be reduced: 0, or -1 with NotShareableError. */
int atoll_encode_fallback(atoll_encoder *enc, PyObject *obj);
int atoll_encode_state(atoll_encoder *enc, PyObject *state);

#endif
