/* The module state of atoll._atoll, one per interpreter, and what of it others need. */
#ifndef ATOLL_PY_STATE_H
#define ATOLL_PY_STATE_H

#include "core/queue/queue.h"
#include "core/registry/registry.h"
#include "core/sync/sync.h"
#include "py/compat.h"

typedef struct atoll_codec atoll_codec; /* py/codec/codec.h */

/* A compiled script kept for the next exec() of the same text. */
typedef struct {
    Py_hash_t hash;
    Py_ssize_t len;
    char *text; /* PyMem, len bytes: the caller's source before dedent, or marshalled code */
    int kind;
    PyObject *code;
} atoll_script;

enum { ATOLL_SCRIPT_CACHE = 64 };

/* What atoll._queues.names defines, in the order of module/queue_names.c's list. */
typedef enum {
    ATOLL_Q_ERROR,
    ATOLL_Q_NOT_FOUND,
    ATOLL_Q_EMPTY,
    ATOLL_Q_FULL,
    ATOLL_Q_SHUT,
    ATOLL_Q_DESTROYED,
    ATOLL_Q_UNBOUND,
    ATOLL_Q_UNBOUND_ERROR,
    ATOLL_Q_UNBOUND_REMOVE,
    ATOLL_Q_PUT_ASYNC,
    ATOLL_Q_GET_ASYNC,
    ATOLL_Q_NAMES
} atoll_pyqueue_name;

/* What atoll._pool.executor defines, in the order of module/pool_names.c's list. */
typedef enum {
    ATOLL_P_FUTURE,
    ATOLL_P_BASE,
    ATOLL_P_CANCELLED,
    ATOLL_P_BROKEN,
    ATOLL_P_START,
    ATOLL_P_SUBMIT_TO,
    ATOLL_P_CALL_ASYNC,
    ATOLL_P_END_GUEST,
    ATOLL_P_NAMES
} atoll_pypool_name;

/* Every live object of something that is shared, a queue or a lock (module/things.c): a table of chains, by the thing. */
typedef struct {
    struct atoll_thing **chains;
    size_t slots;
    size_t count;
} atoll_things;

typedef struct atoll_state {
    int64_t interp_id;
    PyInterpreterState *interp;
    atoll_entry *entry; /* a reference */
    atoll_codec *codec;
    PyObject *module; /* the module whose state this is: borrowed, unless it is kept */
    bool kept;
    PyTypeObject *interpreter_type;
    PyTypeObject *shared_view_type;
    PyTypeObject *shared_buffer_type;
    PyTypeObject *shared_array_type;
    PyTypeObject *lent_types[3];       /* by atoll_lent_kind */
    PyObject *error;                   /* InterpreterError */
    PyObject *not_found;               /* InterpreterNotFoundError */
    PyObject *not_shareable;           /* NotShareableError */
    PyObject *execution_failed;        /* ExecutionFailed */
    PyObject *lock_owner_lost;         /* LockOwnerLost */
    PyObject *limit_exceeded;          /* ResourceLimitExceeded */
    PyObject *stuck;                   /* InterpreterStuckError */
    PyObject *knock_type;              /* py/interp/runs.c's, or NULL */
    PyObject *main_dict;               /* __main__.__dict__, until it ends: atoll_state_main() */
    uintptr_t files;                   /* atoll_files_note(), when it was made: py/interp/wind_down.c */
    PyObject *namespace_type;          /* types.SimpleNamespace */
    struct atoll_interpreter *objects; /* every live Interpreter object of this interpreter */
    PyTypeObject *area_type;
    PyTypeObject *
        frozen_dict_type; /* of dicts behind frozen mappings with arrays (py/frozen/own.c); NULL from 3.15 on */
    struct atoll_area *frozen_area; /* what it freezes outside of blocks, or NULL */
    bool frozen_area_filled;        /* just now */
    PyTypeObject *sync_types[ATOLL_SYNC_KINDS];
    PyTypeObject *shareddict_type;
    atoll_things things;
    PyTypeObject *queue_type;
    PyTypeObject *row_type;
    atoll_batch batch; /* storage for the next put, unless somebody is using it */
    bool batch_in_use;
    PyObject *queue_names[ATOLL_Q_NAMES]; /* NULL until they are needed */
    PyObject *pool_names[ATOLL_P_NAMES];  /* likewise */
    atoll_script scripts[ATOLL_SCRIPT_CACHE];
} atoll_state;

/* The state of the interpreter whose thread state is attached, or NULL (no exception) where atoll._atoll
 * was not imported.  Borrowed. */
atoll_state *atoll_state_of(PyInterpreterState *interp);

/* state, or NULL with RuntimeError where its module was cleared (or state is NULL). */
atoll_state *atoll_state_live(atoll_state *state);

/* slots[which]: what a Python module of Atoll's has under names[which]; all n are filled when the first is needed.  Borrowed, or NULL with
 * an exception. */
PyObject *atoll_state_name(PyObject **slots, const char *module_name, const char *const *names, int n,
                           int which);

/* Says, before anything else here is used, how atoll._atoll is made in the attached interpreter: its state, or NULL with an exception. */
void atoll_state_init(atoll_state *(*make)(void));
/* The current interpreter's state, made when there is none; NULL with an exception. */
atoll_state *atoll_state_ensure(void);

/* The attached interpreter is about to end: nothing keeps its module any more but what uses it, and the module nothing of __main__, which is
 * finalized first.  (What CPython calls after a fork may lead to the module to the very end.) */
void atoll_state_let_go(atoll_state *state);
/* The dict of __main__: borrowed, or NULL with an exception. */
PyObject *atoll_state_main(atoll_state *state);

/* The Python module of this name if it was imported in the attached interpreter: a new reference; else NULL, without an exception. */
PyObject *atoll_python_module_loaded(const char *name);

/* Raises InterpreterNotFoundError for id; returns NULL. */
PyObject *atoll_raise_not_found(atoll_state *state, int64_t id);

/* Raises InterpreterError: Atoll did not make that interpreter, so it cannot do `what` there. */
void atoll_raise_unrecognized(atoll_state *state, const char *what, int64_t id);

#endif
