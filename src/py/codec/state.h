/* What the codec of an interpreter knows. */
#ifndef ATOLL_PY_CODEC_STATE_H
#define ATOLL_PY_CODEC_STATE_H

#include "py/codec/codec.h"
#include "py/codec/fresh.h"
#include "py/codec/memo.h"

#include <stdatomic.h>

typedef struct atoll_written atoll_written;

/* What an instance's class says about how to encode it. */
typedef enum {
    KIND_UNKNOWN,
    KIND_REDUCE,
    KIND_PLAIN,       /* class and instance dict */
    KIND_PLAIN_SLOTS, /* class and object.__getstate__() */
    KIND_NAMEDTUPLE,
    KIND_ENUM,
    KIND_CLASS,      /* instances are classes: the type is a metaclass */
    KIND_REGISTERED, /* codec/registered.c */
    KIND_OWN,        /* __interp_reduce__() says how, as __reduce__() does */
    KIND_SPECIAL,    /* atoll._crossing.byvalue knows how */
} atoll_kind;

typedef struct {
    PyTypeObject *type; /* borrowed; means nothing when version differs */
    unsigned int version;
    atoll_kind kind;
    uint64_t epoch; /* of copyreg's table */
} atoll_type_info;

enum { ATOLL_TYPE_CACHE = 128 };

typedef struct atoll_function_entry {
    uint64_t number;
    uint64_t bound; /* the codec's, when it was kept */
    PyObject *func;
    /* Of what has come by its path, else NULL. */
    PyObject *module; /* its name */
    PyObject *qualname;
    uint64_t epoch; /* of globals, when that led to func; 0: what it leads to is not watched */
} atoll_function_entry;

/* A callable that is no function, and its number (codec/builtin.c). */
typedef struct {
    PyObject *obj; /* NULL: the entry is empty */
    bool owned;    /* else compared only, in the epoch */
    uint64_t number;
    uint64_t epoch;
    PyObject *name; /* of its module, where it crosses by its path; owned, or NULL */
    PyObject *qualname;
} atoll_builtin_entry;

enum { ATOLL_NAMED_BITS = 4096 };
enum { ATOLL_FUNCTION_CACHE = 1024, ATOLL_BUILTIN_CACHE = 64, ATOLL_RELAXED_MAX = 8 };

/* A class, or function, that a thread is reading. */
typedef struct atoll_making {
    struct atoll_making *next;
    uint64_t number;
    unsigned long thread;
    PyObject *cls;     /* borrowed: the class, once it has its functions, or NULL */
    PyObject *awaited; /* a tuple: names of attributes that come last, or NULL */
    PyObject *seen;    /* borrowed: what was taken of a class that was there before, or NULL */
    const struct atoll_reading *reading; /* the message that it comes in: compared only */
    PyObject *shown; /* what __main__ has while the statement of a class runs, or NULL: codec/shown.c */
    PyObject *shown_in;
    bool active; /* of a class: one of its stages is being read */
} atoll_making;

struct atoll_codec {
    int64_t interp_id;
    atoll_codec_await await;
    PyObject *not_shareable;
    PyTypeObject *hook_types[ATOLL_HOOK_MAX]; /* strong, NULL where there is none */
    atoll_codec_hook hooks[ATOLL_HOOK_MAX];
    atoll_memo *memo;              /* NULL while an encoder has it */
    atoll_memo *spare_memo;        /* likewise */
    struct atoll_written *written; /* likewise (codec/written.c) */
    PyObject **stack;              /* the decoder's memo storage, likewise */
    size_t stack_cap;
    atoll_fresh fresh;
    atoll_type_info types[ATOLL_TYPE_CACHE];
    Py_ssize_t code_extra; /* index for PyUnstable_Code_SetExtra, or -1 */
    int dict_watcher;      /* or -1 */
    int type_watcher;      /* or -1 */
    int table_watcher;     /* of copyreg's table, or -1 */
    int function_watcher;  /* once a class was sent by value, or -1 */
    int part_watcher;      /* likewise: of dicts that belong to classes and functions */

    /* Looked up when first needed; NULL until then. */
    PyObject *cache_token;    /* abc.get_cache_token */
    PyObject *copyreg;        /* module copyreg */
    PyObject *dispatch_table; /* copyreg.dispatch_table */
    PyObject *newobj;         /* copyreg.__newobj__ */
    PyObject *newobj_ex;      /* copyreg.__newobj_ex__ */
    PyObject *enum_type;      /* enum.EnumType; only once enum is imported */
    PyObject *byvalue;        /* module atoll._crossing.byvalue */
    PyObject *registered;     /* dict: class -> encode, decode, whether that has come from elsewhere */
    PyObject *arrive;         /* codec.h */
    PyObject *buffer_type;    /* exports a block */
    PyObject *origins;        /* weak map: module name -> its file, what is sent */
    PyObject *places;         /* module atoll._crossing.places */
    PyObject *stand_ins;      /* dict: name -> module that is in sys.modules for a namespace */
    PyObject *described;      /* dict: space -> its place (codec/module.c) */
    PyObject *same;           /* dict: which objects named values are (codec/same.c) */
    PyObject *named;          /* dict: address of what has a name -> its identity (codec/same.c) */
    Py_ssize_t searched;      /* so many modules (codec/nested.c) */
    uint64_t searched_stamp;  /* and which they were */
    bool has_received;        /* of some of them the identity is another's */
    uint64_t named_bits[ATOLL_NAMED_BITS / 64]; /* which addresses may be in it */
    PyObject
        *hidden; /* dict: space -> the module that stands for it here, and what was taken (codec/space.c) */
    uint64_t deaths;    /* of spaces, when hidden was last looked through */
    uint64_t followed;  /* the epoch of globals when they last followed __main__ */
    bool knows_frozen;  /* what frozen objects need of this interpreter is done (codec/frozen.c) */
    bool knows_proxies; /* likewise mapping proxies */
    uint64_t bound;     /* changes when what was received is made what it has become at home */
    struct {
        uint64_t number; /* 0: nothing */
        atoll_message full;
    } examined; /* the full form of the function that was numbered last */
    struct {
        PyObject *dict; /* not owned */
        PyObject *note;
    } relaxed[ATOLL_RELAXED_MAX]; /* codec/relaxed.c */
    unsigned nrelaxed;
    /* Weak maps (codec/weak.c). */
    PyObject *modules;               /* address of a module's dict -> what tells its end */
    PyObject *namespaces;            /* space -> module whose dict it is */
    PyObject *class_refs;            /* number -> class */
    atoll_making *making;            /* classes that are there in part */
    atoll_making *changing;          /* and those that become another version */
    uint64_t forks;                  /* when these were looked at last */
    _Atomic(uint32_t) made;          /* changes when one is whole, or is given up */
    PyObject *class_numbers;         /* address of a class -> number */
    PyObject *class_bytes;           /* number -> what was last written for the class (codec/kept.c) */
    PyObject *function_refs;         /* identity -> function */
    PyObject *function_ids;          /* address of a function -> identity, what it was then */
    atoll_function_entry *functions; /* open addressing by number; ATOLL_FUNCTION_CACHE entries */
    atoll_builtin_entry builtins[ATOLL_BUILTIN_CACHE];
    PyObject *names[33]; /* interned strings, see N_* */
};

enum {
    N_CLASS,
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
    N_PACKAGE,
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
    N_ANNOTATIONS_CACHE,
    N_DATACLASS_FIELDS,
    N_DOC,
    N_KWDEFAULTS,
    N_INTERP_REDUCE,
    N_REGISTERED,
    N_COUNT,
};

#endif
