/* Atoll's C API: interpreters, queues and shared memory, for extension modules and for programs that embed CPython.
 *
 *     #include <atoll.h>                  // with the path that atoll.get_include() returns
 *
 *     if (atoll_import() < 0) {           // attached, in each interpreter, in each source file that uses it
 *         return NULL;
 *     }
 *
 * Nothing is linked: atoll_import() finds a table of functions in a capsule, and the functions below call through it.  It needs C11 or C++11, and
 * CPython 3.12 or newer.  docs/c-api.md has a tutorial and a page for each function.
 *
 * What belongs to whom.  No PyObject of one interpreter ever reaches another.  What all of them may have are Atoll's own things, none of which is a
 * Python object: interpreters, queues, items, shared memory.  A function that gives one out gives a reference; whoever has it gives it back with
 * the release function of its kind.  Such a reference is good on every thread, with a thread state or without, and for as long as the process
 * lives: also after its interpreter is closed, after a fork, and when Python has ended and begun again.  Then functions fail, and say why.
 *
 * Thread states.  Each function says what it needs:
 *
 *     anywhere      any thread: attached to any interpreter, with a thread state that is not attached, or one that knows no Python.
 *                   After it the thread is attached to what it was attached to before, or to nothing, as before.
 *     attached      a thread state is attached; what it makes or reads belongs to that interpreter
 *     nothing       looks at no thread state, takes no GIL, and does not wait
 *
 * A thread that has a thread state which is not attached (inside of Py_BEGIN_ALLOW_THREADS) is attached to it for the time of a function that needs
 * one.  A thread that has none is attached to the main interpreter for that time, with a new one; but atoll_enter() needs no interpreter
 * but the one that is entered, and queues and shared memory need none at all.
 *
 * Entering.  atoll_enter() attaches the thread to an interpreter, as a call from Python does, and counts as one: the interpreter is running, is not
 * closed meanwhile, can be interrupted, and is limited in what it takes.  atoll_leave() goes back to what was before, to the bit that
 * PyGILState_Check() looks at.  Entering is nested on a thread, and left in the reverse order, by the same thread.  Inside, everything of CPython's
 * API may be used, also giving the GIL back and taking it again.  A thread that ends inside stays there for ever, and the interpreter open.
 *
 * Errors.  A function that can fail returns 0 or one of the negative numbers below, and then has done nothing.  Where a thread state is attached, an
 * exception is set as well; atoll_message() has its text on every thread.  A function that returns PyObject * returns NULL with an exception.  None may
 * be set before, as for CPython's own functions, but for those that need nothing, and in the interpreter that atoll_leave() leaves.
 *
 * Locks.  No function may be called with a lock held that a release function, or code of the interpreter that is entered, may want.  Those that need
 * "nothing" take Atoll's own locks for a few instructions.
 *
 * Versions.  The table has a major and a minor number.  Within a major number it only grows, at its end; a module that was compiled with a minor number
 * works with that and all later ones.  Each function says since when it is there.  atoll_import() raises ImportError when it does not fit.
 */
#ifndef ATOLL_H
#define ATOLL_H

#include <Python.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ATOLL_API_MAJOR 1
#define ATOLL_API_MINOR 0

/* What functions return.  Since 1.0. */
enum {
    ATOLL_OK = 0,
    ATOLL_ERROR = -1,       /* what the others do not say: InterpreterError, or what Python code has raised */
    ATOLL_INVALID = -2,     /* wrong is an argument, or the thread that calls: ValueError, TypeError */
    ATOLL_NOT_FOUND = -3,   /* it is gone: InterpreterNotFoundError, QueueNotFoundError */
    ATOLL_NO_MEMORY = -4,   /* MemoryError */
    ATOLL_TIMEOUT = -5,     /* the time is over: TimeoutError, QueueEmpty, QueueFull */
    ATOLL_SHUT = -6,        /* the queue is shut down: QueueShutDown */
    ATOLL_STUCK = -7,       /* something in an interpreter does not end: InterpreterStuckError */
    ATOLL_INTERRUPTED = -8, /* KeyboardInterrupt; a limit: TimeoutError, ResourceLimitExceeded */
    ATOLL_NO_PYTHON = -9    /* Python has not begun, ends, has ended, or is gone in a forked child */
};

/* An interpreter; a queue; memory; the stay of a thread in an interpreter. */
typedef struct atoll_entry atoll_interp;
typedef struct atoll_queue atoll_queue;
typedef struct atoll_shared atoll_shared;
typedef struct atoll_visit atoll_visit;

/* What an interpreter is to be: all of it 0 is the usual, but for `size`.  As the arguments of atoll.create().  Since 1.0. */
typedef struct {
    size_t size;            /* sizeof(atoll_options): so that it can grow */
    const char *name;       /* UTF-8, or NULL */
    const char *extensions; /* "isolate", "strict", "shared", or NULL */
    unsigned flags;         /* ATOLL_NO_SITE and so on */
    uint64_t memory_limit;  /* bytes; 0: none */
    double cpu_limit;       /* seconds; 0: none */
} atoll_options;

enum {
    ATOLL_NO_SITE = 1,           /* it does not import site */
    ATOLL_NO_DAEMON_THREADS = 2, /* threading starts no daemon threads in it */
    ATOLL_MAY_FORK = 4           /* code in it may fork the process, and replace it */
};

/* Releases what was put into a queue: called once, when nobody has it any more, on any thread, attached or not.  It must not use Python, nor wait. */
typedef void (*atoll_release_function)(void *data, size_t size, void *context);

/* What was got from a queue.  Since 1.0. */
enum {
    ATOLL_ITEM_NONE = 0,   /* nothing: it was released */
    ATOLL_ITEM_OPAQUE = 1, /* what atoll_queue_put() has put: the very same memory */
    ATOLL_ITEM_BYTES = 2,  /* bytes, bytearray, memoryview that Python code has put */
    ATOLL_ITEM_SHARED = 3, /* likewise SharedBuffer, SharedArray */
    ATOLL_ITEM_OBJECT = 4, /* anything else: atoll_item_object() makes an object of it */
    ATOLL_ITEM_UNBOUND = 5 /* the interpreter that put it has ended */
};

typedef struct {
    int kind;
    int readonly;                   /* of BYTES and SHARED: nobody may write to it */
    void *data;                     /* of OPAQUE, BYTES and SHARED: until the item is released */
    size_t size;                    /* bytes */
    atoll_release_function release; /* of OPAQUE: what it was put with; not to be called */
    void *context;
    atoll_shared *shared; /* of SHARED: the memory that data is in, a reference of the item's */
    void *held;           /* Atoll's */
} atoll_item;

/* How objects of a type cross, in C.  Attached; each returns a new reference, or NULL with an exception.  encode: what is sent in the object's
 * place.  decode: in the interpreter where that arrives, an object of it. */
typedef PyObject *(*atoll_encode_function)(PyObject *object);
typedef PyObject *(*atoll_decode_function)(PyObject *value);

/* The table.  Use the functions below it. */
typedef struct {
    int major;
    int minor;
    size_t size;
    const char *(*message)(void);
    int (*create)(const atoll_options *options, atoll_interp **interp);
    int (*find)(int64_t id, atoll_interp **interp);
    int (*adopt)(atoll_interp **interp);
    void (*retain)(atoll_interp *interp);
    void (*release)(atoll_interp *interp);
    int64_t (*id)(const atoll_interp *interp);
    int64_t (*current_id)(void);
    int (*enter)(atoll_interp *interp, atoll_visit **visit);
    int (*leave)(atoll_visit *visit);
    int (*close)(atoll_interp *interp, double timeout, int force);
    PyObject *(*object)(atoll_interp *interp);
    int (*from_object)(PyObject *object, atoll_interp **interp);
    int (*queue_create)(int64_t maxsize, atoll_queue **queue);
    int (*queue_find)(int64_t id, atoll_queue **queue);
    void (*queue_retain)(atoll_queue *queue);
    void (*queue_release)(atoll_queue *queue);
    int64_t (*queue_id)(const atoll_queue *queue);
    uint64_t (*queue_count)(const atoll_queue *queue);
    int (*queue_put)(atoll_queue *queue, void *data, size_t size, atoll_release_function release,
                     void *context, double timeout);
    int (*queue_put_shared)(atoll_queue *queue, atoll_shared *shared, double timeout);
    int (*queue_get)(atoll_queue *queue, atoll_item *item, double timeout);
    void (*queue_shutdown)(atoll_queue *queue, int drop);
    PyObject *(*queue_object)(atoll_queue *queue);
    int (*queue_from_object)(PyObject *object, atoll_queue **queue);
    void (*item_release)(atoll_item *item);
    PyObject *(*item_object)(const atoll_item *item);
    int (*shared_create)(size_t size, atoll_shared **shared);
    void (*shared_retain)(atoll_shared *shared);
    void (*shared_release)(atoll_shared *shared);
    void *(*shared_data)(const atoll_shared *shared);
    size_t (*shared_size)(const atoll_shared *shared);
    PyObject *(*shared_object)(atoll_shared *shared);
    int (*shared_from_object)(PyObject *object, atoll_shared **shared, void **data, size_t *size,
                              int *readonly);
    int (*register_type)(PyObject *type, atoll_encode_function encode, atoll_decode_function decode);
} atoll_api;

#define ATOLL_CAPSULE_MODULE "atoll._atoll"
#define ATOLL_CAPSULE_NAME "atoll._atoll._C_API"

#ifndef ATOLL_TYPES_ONLY /* Atoll's own source has other functions of these names */

static const atoll_api *atoll_the_api; /* of this source file */

/* Finds the table.  Attached; it imports Atoll.  0, or -1 with ImportError, also when the Atoll that is installed is too old for this header, or
 * too new.  Since 1.0. */
static inline int atoll_import(void) {
    PyObject *module = PyImport_ImportModule(ATOLL_CAPSULE_MODULE);
    PyObject *capsule = module != NULL ? PyObject_GetAttrString(module, "_C_API") : NULL;
    const atoll_api *api = NULL;
    if (module != NULL && capsule == NULL) {
        PyErr_SetString(PyExc_ImportError, "the Atoll that is installed has no C API");
    } else if (capsule != NULL) {
        api = (const atoll_api *)PyCapsule_GetPointer(capsule, ATOLL_CAPSULE_NAME);
    }
    if (api != NULL &&
        (api->major != ATOLL_API_MAJOR || api->minor < ATOLL_API_MINOR || api->size < sizeof(atoll_api))) {
        PyErr_Format(PyExc_ImportError,
                     "this module was compiled for version %d.%d of Atoll's C API, and the Atoll that is "
                     "installed has %d.%d: %s",
                     ATOLL_API_MAJOR, ATOLL_API_MINOR, api->major, api->minor,
                     api->major > ATOLL_API_MAJOR ? "compile it with the atoll.h that is installed"
                                                  : "install a newer Atoll");
        api = NULL;
    }
    Py_XDECREF(capsule);
    Py_XDECREF(module);
    if (api == NULL) {
        return -1;
    }
    atoll_the_api = api;
    return 0;
}

/* What was wrong the last time that a function failed on this thread, in UTF-8; "" before that.  Good until the next one fails.  Needs nothing.
 * Since 1.0. */
static inline const char *atoll_message(void) { return atoll_the_api->message(); }

/* ---- interpreters ---- */

/* Makes an interpreter with its own GIL.  Anywhere.  options: NULL is the usual.  *interp: a reference, which keeps it open as an Interpreter object
 * does.  Its sys.path is that of the interpreter which the thread is attached to, or of the main one.  Takes milliseconds.  Since 1.0. */
static inline int atoll_create(const atoll_options *options, atoll_interp **interp) {
    return atoll_the_api->create(options, interp);
}

/* The interpreter with this id, which Atoll has made or adopted, or the main one.  Anywhere.  *interp: a reference.  Since 1.0. */
static inline int atoll_find(int64_t id, atoll_interp **interp) { return atoll_the_api->find(id, interp); }

/* Makes an interpreter that somebody else has made (Py_NewInterpreterFromConfig()) known to Atoll: it can be entered, called and listed.  Attached to it.
 * Who has made it ends it, with Py_EndInterpreter(), which waits until nobody is inside.  *interp: a reference.  Since 1.0. */
static inline int atoll_adopt(atoll_interp **interp) { return atoll_the_api->adopt(interp); }

/* One more reference; one less, and with the last of an interpreter that Atoll has made, in C or Python, it is closed by whoever next makes, closes or
 * lists interpreters; atoll_close() does so at once.  Need nothing.  NULL is passed over by atoll_release().  Since 1.0. */
static inline void atoll_retain(atoll_interp *interp) { atoll_the_api->retain(interp); }
static inline void atoll_release(atoll_interp *interp) { atoll_the_api->release(interp); }

/* Its id.  Needs nothing.  Since 1.0. */
static inline int64_t atoll_id(const atoll_interp *interp) { return atoll_the_api->id(interp); }

/* The id of the interpreter that this thread is attached to, or -1.  Anywhere; takes no GIL.  Since 1.0. */
static inline int64_t atoll_current_id(void) { return atoll_the_api->current_id(); }

/* Attaches the thread to the interpreter.  Anywhere.  *visit is for atoll_leave().  ATOLL_NOT_FOUND when it is closed, ATOLL_ERROR while somebody
 * closes it.  Waits for its GIL.  Since 1.0. */
static inline int atoll_enter(atoll_interp *interp, atoll_visit **visit) {
    return atoll_the_api->enter(interp, visit);
}

/* Goes back to where the thread was.  Attached, as atoll_enter() has left it.  The visit is the innermost of this thread, and gone afterwards,
 * whatever is returned but ATOLL_INVALID and ATOLL_NO_PYTHON.  An exception that is set becomes ExecutionFailed there, and ATOLL_ERROR or
 * ATOLL_INTERRUPTED.  Since 1.0. */
static inline int atoll_leave(atoll_visit *visit) { return atoll_the_api->leave(visit); }

/* Ends the interpreter, as Interpreter.close() does.  Anywhere but inside of it.  timeout: seconds that may pass until it is closed; negative: it
 * takes as long as it takes, but is refused while somebody is inside.  force: what runs is interrupted; a negative timeout is ten seconds then.  The
 * reference stays the caller's.  Since 1.0. */
static inline int atoll_close(atoll_interp *interp, double timeout, int force) {
    return atoll_the_api->close(interp, timeout, force);
}

/* The Interpreter object for it in the attached interpreter: a new reference, or NULL with an exception.  Since 1.0. */
static inline PyObject *atoll_object(atoll_interp *interp) { return atoll_the_api->object(interp); }

/* The interpreter that an Interpreter object is for.  Attached.  *interp: a reference.  Since 1.0. */
static inline int atoll_from_object(PyObject *object, atoll_interp **interp) {
    return atoll_the_api->from_object(object, interp);
}

/* ---- queues ---- */

/* A new queue, of at most maxsize items, or of any number when that is not positive.  Needs nothing.  *queue: a reference.  Since 1.0. */
static inline int atoll_queue_create(int64_t maxsize, atoll_queue **queue) {
    return atoll_the_api->queue_create(maxsize, queue);
}

/* The queue with this id, which is that of the Queue object.  Needs nothing.  *queue: a reference.  Since 1.0. */
static inline int atoll_queue_find(int64_t id, atoll_queue **queue) {
    return atoll_the_api->queue_find(id, queue);
}

/* One more reference; one less, and with the last in C and Python what is in it is released.  Need nothing.  NULL is passed over by
 * atoll_queue_release().  Since 1.0. */
static inline void atoll_queue_retain(atoll_queue *queue) { atoll_the_api->queue_retain(queue); }
static inline void atoll_queue_release(atoll_queue *queue) { atoll_the_api->queue_release(queue); }

/* Its id; how many items are in it.  Need nothing.  Since 1.0. */
static inline int64_t atoll_queue_id(const atoll_queue *queue) { return atoll_the_api->queue_id(queue); }
static inline uint64_t atoll_queue_count(const atoll_queue *queue) {
    return atoll_the_api->queue_count(queue);
}

/* Puts memory, as a pointer.  Anywhere; waits while the queue is full, for at most timeout seconds (negative: for ever), with the GIL given back.
 * When it returns 0 the memory is the queue's, and release(data, size, context) is called once, when nobody has it any more; else it stays the caller's.
 * release may be NULL.  ATOLL_ERROR, too, when it is code of a module that is about to be unloaded with its interpreter.  Python code gets a memoryview
 * of it, which is read-only.  Since 1.0. */
static inline int atoll_queue_put(atoll_queue *queue, void *data, size_t size, atoll_release_function release,
                                  void *context, double timeout) {
    return atoll_the_api->queue_put(queue, data, size, release, context, timeout);
}

/* Puts all of a block of shared memory, which Python code gets as a SharedBuffer.  Anywhere, as atoll_queue_put().  The queue has a reference of its
 * own.  Since 1.0. */
static inline int atoll_queue_put_shared(atoll_queue *queue, atoll_shared *shared, double timeout) {
    return atoll_the_api->queue_put_shared(queue, shared, timeout);
}

/* Takes the first item, whoever has put it.  Anywhere; waits while there is none, as atoll_queue_put().  *item is to be released, and is
 * ATOLL_ITEM_NONE when this fails.  Since 1.0. */
static inline int atoll_queue_get(atoll_queue *queue, atoll_item *item, double timeout) {
    return atoll_the_api->queue_get(queue, item, timeout);
}

/* No more is put; what is left may still be got, or is released, where drop is not 0.  Needs nothing.  Since 1.0. */
static inline void atoll_queue_shutdown(atoll_queue *queue, int drop) {
    atoll_the_api->queue_shutdown(queue, drop);
}

/* The Queue object for it in the attached interpreter: a new reference, or NULL with an exception.  Since 1.0. */
static inline PyObject *atoll_queue_object(atoll_queue *queue) { return atoll_the_api->queue_object(queue); }

/* The queue that a Queue object is for.  Attached.  *queue: a reference.  Since 1.0. */
static inline int atoll_queue_from_object(PyObject *object, atoll_queue **queue) {
    return atoll_the_api->queue_from_object(object, queue);
}

/* Gives up an item, and makes it ATOLL_ITEM_NONE, for which this does nothing.  Needs nothing.  Since 1.0. */
static inline void atoll_item_release(atoll_item *item) { atoll_the_api->item_release(item); }

/* The object that Python code would have got, in the attached interpreter: a new reference, or NULL with an exception.  Since 1.0. */
static inline PyObject *atoll_item_object(const atoll_item *item) { return atoll_the_api->item_object(item); }

/* ---- shared memory ---- */

/* Zero-filled memory that belongs to no interpreter, aligned to 64 bytes.  Needs nothing.  *shared: a reference.  Since 1.0. */
static inline int atoll_shared_create(size_t size, atoll_shared **shared) {
    return atoll_the_api->shared_create(size, shared);
}

/* One more reference; one less, and with the last in C and Python it is freed.  Need nothing.  NULL is passed over by atoll_shared_release().
 * Since 1.0. */
static inline void atoll_shared_retain(atoll_shared *shared) { atoll_the_api->shared_retain(shared); }
static inline void atoll_shared_release(atoll_shared *shared) { atoll_the_api->shared_release(shared); }

/* Where it is, as long as the reference; how many bytes it has.  Need nothing.  Since 1.0. */
static inline void *atoll_shared_data(const atoll_shared *shared) {
    return atoll_the_api->shared_data(shared);
}
static inline size_t atoll_shared_size(const atoll_shared *shared) {
    return atoll_the_api->shared_size(shared);
}

/* A SharedBuffer of all of it in the attached interpreter: a new reference, or NULL with an exception.  Since 1.0. */
static inline PyObject *atoll_shared_object(atoll_shared *shared) {
    return atoll_the_api->shared_object(shared);
}

/* The memory that a SharedBuffer or SharedArray is in, and the part that it shows, whose elements have to lie one after the other.  Attached.
 * *shared: a reference.  readonly, which may be NULL: whether nobody may write to it.  Since 1.0. */
static inline int atoll_shared_from_object(PyObject *object, atoll_shared **shared, void **data, size_t *size,
                                           int *readonly) {
    return atoll_the_api->shared_from_object(object, shared, data, size, readonly);
}

/* ---- types ---- */

/* Says how instances of exactly this type cross, in this interpreter.  Attached; for the module that makes the type, when it is executed, in each
 * interpreter.  The type has to be found by its module and name: where an instance arrives its module is imported, which registers it there.
 * Since 1.0. */
static inline int atoll_register(PyObject *type, atoll_encode_function encode, atoll_decode_function decode) {
    return atoll_the_api->register_type(type, encode, decode);
}

#endif /* ATOLL_TYPES_ONLY */

#ifdef __cplusplus
}
#endif

#endif
