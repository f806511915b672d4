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
 * API may be used, also giving the GIL back and taking it again.
 *
 * Errors.  A function that can fail returns 0 or one of the negative numbers below, and then has done nothing.  Where a thread state is attached, an
 * exception is set as well; atoll_message() has its text on every thread.  A function that returns PyObject * returns NULL with an exception.
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
    ATOLL_ERROR = -1, /* what none of the others says; InterpreterError, or what Python code has raised */
    ATOLL_INVALID =
        -2, /* an argument, or the thread that calls, is not what it has to be: ValueError, TypeError */
    ATOLL_NOT_FOUND =
        -3, /* there is no such interpreter, or queue, any more: InterpreterNotFoundError, QueueNotFoundError */
    ATOLL_NO_MEMORY = -4,   /* MemoryError */
    ATOLL_TIMEOUT = -5,     /* the time is over: TimeoutError, or QueueEmpty, QueueFull */
    ATOLL_SHUT = -6,        /* the queue is shut down: QueueShutDown */
    ATOLL_STUCK = -7,       /* something in an interpreter does not end: InterpreterStuckError */
    ATOLL_INTERRUPTED = -8, /* KeyboardInterrupt; a limit is reached: TimeoutError, ResourceLimitExceeded */
    ATOLL_NO_PYTHON =
        -9 /* Python has not begun, is about to end, has ended; or this is a forked child, where it is gone */
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

/* One more reference; one less, and with the last of an interpreter that Atoll has made, in C or Python, it is closed, soon.  Need nothing.  NULL
 * is passed over by atoll_release().  Since 1.0. */
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

#endif /* ATOLL_TYPES_ONLY */

#ifdef __cplusplus
}
#endif

#endif
