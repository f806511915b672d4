/* What differs between CPython 3.12, 3.13, 3.14 and 3.15.
 *
 * The only file that tests PY_VERSION_HEX or names a private symbol of CPython's.  Every
 * shim says why it exists; when a version's reason is gone, so is the shim.
 */
#ifndef ATOLL_PY_COMPAT_H
#define ATOLL_PY_COMPAT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <marshal.h>

#if PY_VERSION_HEX < 0x030C0000
#error "Atoll needs CPython 3.12 or newer"
#endif
#if PY_VERSION_HEX >= 0x03100000
#error "Atoll does not know this CPython yet: 3.12 to 3.15 are supported"
#endif
#ifdef Py_GIL_DISABLED
#error "Atoll needs a build with the GIL: free-threaded CPython is not supported"
#endif

/* Exported by every supported version under the same name, declared only in its internal headers.
 * LookUpID: the interpreter with this id, or NULL with an exception (which class differs).
 * RunningMain: whether code runs in an interpreter's __main__; the standard library's own modules and
 * threading's shutdown go by it.  Set and SetNot need that interpreter's thread state attached.
 * AddPendingCall: makes the eval loop of any thread of that interpreter call func; needs no thread state;
 * -1 when its list is full.  The last argument restricts it to the main thread. */
PyAPI_FUNC(PyInterpreterState *) _PyInterpreterState_LookUpID(int64_t id);
PyAPI_FUNC(int) _PyInterpreterState_SetRunningMain(PyInterpreterState *interp);
PyAPI_FUNC(void) _PyInterpreterState_SetNotRunningMain(PyInterpreterState *interp);
PyAPI_FUNC(int) _PyInterpreterState_IsRunningMain(PyInterpreterState *interp);
PyAPI_FUNC(int) _PyEval_AddPendingCall(PyInterpreterState *interp, int (*func)(void *), void *arg, int flags);

#define atoll_interp_lookup _PyInterpreterState_LookUpID
#define atoll_interp_set_running _PyInterpreterState_SetRunningMain
#define atoll_interp_set_not_running _PyInterpreterState_SetNotRunningMain
#define atoll_interp_is_running _PyInterpreterState_IsRunningMain

static inline int atoll_compat_add_pending_call(PyInterpreterState *interp, int (*func)(void *), void *arg) {
    return _PyEval_AddPendingCall(interp, func, arg, 0);
}

/* The configuration of the attached interpreter: its own copy of PyConfig, which is public.  site.c proves that it is that. */
PyAPI_FUNC(const PyConfig *) _Py_GetConfig(void);
#define atoll_config _Py_GetConfig

/* Since 3.15 imports may be lazy by option; CPython turns that on only after it has imported site.  The mode that was on, a new
 * reference, or NULL without an exception: there is nothing to resume. */
#if PY_VERSION_HEX >= 0x030F0000
static inline PyObject *atoll_lazy_imports_pause(void) {
    PyObject *sys = PyImport_ImportModule("sys");
    PyObject *mode = sys != NULL ? PyObject_CallMethod(sys, "get_lazy_imports", NULL) : NULL;
    if (mode != NULL && PyUnicode_Check(mode) && PyUnicode_CompareWithASCIIString(mode, "normal") == 0) {
        Py_CLEAR(mode);
    }
    PyObject *done = mode != NULL ? PyObject_CallMethod(sys, "set_lazy_imports", "s", "normal") : NULL;
    Py_XDECREF(done);
    Py_XDECREF(sys);
    PyErr_Clear();
    return mode;
}

/* Takes mode over.  Keeps an exception; 0, or -1 with one. */
static inline int atoll_lazy_imports_resume(PyObject *mode) {
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *sys = mode != NULL ? PyImport_ImportModule("sys") : NULL;
    PyObject *done = sys != NULL ? PyObject_CallMethod(sys, "set_lazy_imports", "O", mode) : NULL;
    int rc = mode == NULL || done != NULL ? 0 : -1;
    Py_XDECREF(done);
    Py_XDECREF(sys);
    Py_XDECREF(mode);
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
    return rc;
}
#else
static inline PyObject *atoll_lazy_imports_pause(void) { return NULL; }
static inline int atoll_lazy_imports_resume(PyObject *Py_UNUSED(mode)) { return 0; }
#endif

/* A dict with room for this many keys, which spares growing it step by step.  Declared, but not documented. */
#define atoll_dict_presized _PyDict_NewPresized

/* The thread state that is attached, or NULL: public from 3.13 on. */
#if PY_VERSION_HEX >= 0x030D0000
#define atoll_thread_state_attached PyThreadState_GetUnchecked
#else
#define atoll_thread_state_attached _PyThreadState_UncheckedGet
#endif

/* PyThreadState_Delete() takes a thread state that some thread's PyGILState_Ensure() would find for the calling
 * thread's, and makes that one forget its own.  So before another thread's is deleted, it has to be known to none.
 * Declared, but not documented; that the bit is set in this thread's own shows that it is the one. */
static inline void atoll_compat_tstate_unbind(PyThreadState *tstate) {
    const PyThreadState *here = PyGILState_GetThisThreadState();
    if (here != NULL && here != tstate && here->_status.bound_gilstate) {
        tstate->_status.bound_gilstate = 0;
    }
}

/* Whether the process is finalizing Python: public from 3.13 on. */
#if PY_VERSION_HEX >= 0x030D0000
#define atoll_is_finalizing Py_IsFinalizing
#else
#define atoll_is_finalizing _Py_IsFinalizing
#endif

/* Before 3.14 no two interpreters can share _datetime: in 3.12 it does not declare support, and 3.13 frees what its types
 * have in the interpreter that made them in another one.  Who uses its C API has the address of one of them. */
#define ATOLL_DATETIME_IS_PRIVATE (PY_VERSION_HEX < 0x030E0000)

/* Of a built-in _datetime there is no file to clone.  3.12 keeps its types and other objects in static variables:
 * builtin_datetime.c.  In 3.13 they belong to whichever interpreter imported it first and are freed by the one that ends last:
 * that must be main in both cases.  Since 3.14 CPython itself makes them in main first. */
#define ATOLL_DATETIME_IS_STATIC (PY_VERSION_HEX < 0x030D0000)
#define ATOLL_DATETIME_NEEDS_MAIN (PY_VERSION_HEX < 0x030E0000)

/* 3.12 runs the init function of a built-in module with single-phase initialisation in any interpreter, unless main has
 * imported it before; newer versions run it in main. */
#define ATOLL_BUILTINS_NEED_MAIN (PY_VERSION_HEX < 0x030D0000)

#if ATOLL_DATETIME_IS_STATIC
/* The table of CPython's own static types in each interpreter's state: static_types.c proves where it is, how long it is, and
 * that the slots are these.  Bit 1 of a type's flags says that it is in the table; its index plus one is then where other types
 * have their subclasses.  A table of a few things that are often called follows. */
typedef struct {
    PyTypeObject *type;
    int readying;
    int ready;
    PyObject *dict;
    PyObject *subclasses;
    PyObject *weak_references;
} atoll_static_slot;

#define ATOLL_STATIC_SLOTS 200
#define ATOLL_STATIC_FLAG (1UL << 1)
#define ATOLL_LIST_APPEND_AFTER 2 /* words after the table */
#define ATOLL_GETATTRIBUTE_AFTER 3
/* Version tags up to this one are given to types that all interpreters share. */
#define ATOLL_SHARED_VERSION_TAGS ((1U << 16) - 1)
/* Makes an object one that is never freed.  Nobody else may count its references meanwhile. */
#define atoll_make_immortal(op) ((void)((op)->ob_refcnt = _Py_IMMORTAL_REFCNT))
#endif

/* 3.15 has a second way to initialise a module, PyModExport_NAME() (PEP 793), and gave slots new numbers; extensions for
 * the limited API of older versions go on using the old ones. */
#define ATOLL_OLD_MULTIPLE_INTERPRETERS 3
#define ATOLL_NEW_MULTIPLE_INTERPRETERS 86
#if PY_VERSION_HEX >= 0x030F0000
#define ATOLL_HAS_MODULE_EXPORT 1
#define ATOLL_HAS_INTERPRETER_VIEWS 1 /* and guards, for threads that are not Python's (PEP 788) */
#else
#define ATOLL_HAS_MODULE_EXPORT 0
#define ATOLL_HAS_INTERPRETER_VIEWS 0
#endif

/* Parsers of arguments that are static variables are on a list of the process: see parsers.c.  Declared, but not documented;
 * where the list begins is in the runtime's state, of which only the name and the size are to be had. */
PyAPI_DATA(char) _PyRuntime[];
#define atoll_runtime _PyRuntime

/* Since 3.13 the runtime's state begins with a description of itself, for debuggers: words of 8 bytes, among them the size
 * of it all and where the list of interpreters begins.  That offset; 0 where there is no such thing. */
static inline size_t atoll_compat_published_head(void) {
#if PY_VERSION_HEX >= 0x030D0000
    uint64_t words[6]; /* cookie, version, whether threads are free, size, (another offset), the list */
    memcpy(words, atoll_runtime, sizeof words);
    if (memcmp(words, "xdebugpy", 8) == 0 && words[1] >> 16 == PY_VERSION_HEX >> 16 && words[2] == 0 &&
        words[5] % sizeof(void *) == 0 && words[5] + 2 * sizeof(void *) <= words[3]) {
        return (size_t)words[5];
    }
#endif
    return 0;
}
/* There, too, the size of an interpreter's state; 0: it does not say. */
static inline size_t atoll_compat_published_interp_size(void) {
#if PY_VERSION_HEX >= 0x030D0000
    uint64_t words[7];
    memcpy(words, atoll_runtime, sizeof words);
    return atoll_compat_published_head() != 0 ? (size_t)words[6] : 0;
#else
    return 0;
#endif
}
/* 3.15 drops what list.append() was given twice when there is no memory for it: see appending.c. */
#define ATOLL_APPENDING_DROPS_TWICE (PY_VERSION_HEX >= 0x030F0000)
/* There, too, an interpreter's GIL: where it has the pointer to it, and how far in it who has it and whether somebody has. */
typedef struct {
    size_t gil;
    size_t holder;
    size_t locked;
} atoll_compat_gil;
static inline int atoll_compat_published_gil(atoll_compat_gil *place) {
#if PY_VERSION_HEX >= 0x030D0000
    enum { SIZE = 6, GIL = PY_VERSION_HEX >= 0x030E0000 ? 15 : 14 };
    /* From GIL on: the pointer, and in an interpreter that has one of its own the GIL, enabled, locked, holder. */
    uint64_t words[GIL + 5];
    if (atoll_compat_published_head() == 0) {
        return 0;
    }
    memcpy(words, atoll_runtime, sizeof words);
    const uint64_t *gil = &words[GIL];
    place->gil = (size_t)gil[0];
    place->locked = (size_t)(gil[3] - gil[1]);
    place->holder = (size_t)(gil[4] - gil[1]);
    const uint64_t most = words[SIZE] - sizeof(void *);
    return gil[0] <= most && gil[1] <= most && gil[3] <= most && gil[4] <= most && place->locked < 256 &&
           place->holder < 256 && place->locked % sizeof(int) == 0 && place->holder % sizeof(void *) == 0;
#else
    (void)place;
    return 0;
#endif
}
/* Since 3.13 a signal that arrives is announced to one thread state, the main thread's in the main interpreter, not to that
 * interpreter.  So many words behind the beginning of the list the runtime's state has it; 0 where there is no such thing. */
#define ATOLL_MAIN_THREAD_STATE (PY_VERSION_HEX >= 0x030D0000 ? 4 : 0)
typedef struct _PyArg_Parser atoll_arg_parser;
#define atoll_parse_arguments _PyArg_ParseTupleAndKeywordsFast

/* One signal as CPython has it, in _PyRuntime; a handler is an object of the main interpreter's: see tripped.c. */
typedef struct {
    int tripped;
    PyObject *handler;
} atoll_signal_record;

/* Before 3.13 threading takes the thread that imports it first in an interpreter for its main thread: see threading.c. */
#define ATOLL_MAIN_THREAD_IS_WHO_IMPORTS (PY_VERSION_HEX < 0x030D0000)

/* 3.13 began to record who made an interpreter and whether it is ready to be used.  The numbers are
 * CPython's: 0 unknown, 1 runtime, 2 legacy C API, 3 C API, 4 cross-interpreter C API, 5 _interpreters. */
#if PY_VERSION_HEX >= 0x030D0000
PyAPI_FUNC(long) _PyInterpreterState_GetWhence(PyInterpreterState *interp);
PyAPI_FUNC(int) _PyInterpreterState_IsReady(PyInterpreterState *interp);
#define atoll_compat_interp_whence _PyInterpreterState_GetWhence
#define atoll_compat_interp_is_ready _PyInterpreterState_IsReady
#else
static inline long atoll_compat_interp_whence(PyInterpreterState *interp) {
    return interp == PyInterpreterState_Main();
}
static inline int atoll_compat_interp_is_ready(PyInterpreterState *interp) {
    return PyInterpreterState_GetID(interp) >= 0;
}
#endif

/* 3.13 has InterpreterError among its static exceptions; deriving from it lets `except` clauses
 * written for the standard library's modules catch Atoll's errors. */
#if PY_VERSION_HEX >= 0x030D0000
PyAPI_DATA(PyObject *) PyExc_InterpreterError;
PyAPI_DATA(PyObject *) PyExc_InterpreterNotFoundError;
#define ATOLL_BASE_INTERPRETER_ERROR PyExc_InterpreterError
#define ATOLL_BASE_NOT_FOUND_ERROR PyExc_InterpreterNotFoundError
#else
#define ATOLL_BASE_INTERPRETER_ERROR PyExc_Exception
#define ATOLL_BASE_NOT_FOUND_ERROR NULL
#endif

/* 3.12 lets argument parsers keep names made by whichever interpreter called first, and frees them at exit
 * through main's allocator, which aborts when they came from another's.  The process is ending: nothing needs
 * to be freed any more.  Called attached to main, after its exit handlers. */
#if PY_VERSION_HEX < 0x030D0000
static inline void atoll_free_nothing(void *Py_UNUSED(ctx), void *Py_UNUSED(ptr)) {}

static inline void atoll_compat_before_finalize(void) {
    const PyMemAllocatorDomain domains[] = {PYMEM_DOMAIN_MEM, PYMEM_DOMAIN_OBJ};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(domains); i++) {
        PyMemAllocatorEx allocator;
        PyMem_GetAllocator(domains[i], &allocator);
        allocator.free = atoll_free_nothing;
        PyMem_SetAllocator(domains[i], &allocator);
    }
}
#else
static inline void atoll_compat_before_finalize(void) {}
#endif

/* Before 3.14 a thread state counts the C calls that may still be nested; 3.14 looks at the stack itself.  Thread states that
 * are used on top of each other, on one stack, have to share what is left. */
#if PY_VERSION_HEX < 0x030E0000
static inline int atoll_share_c_calls(PyThreadState *inner, const PyThreadState *outer) {
    int before = inner->c_recursion_remaining;
    if (outer->c_recursion_remaining < before) {
        inner->c_recursion_remaining = outer->c_recursion_remaining;
    }
    return before;
}
static inline void atoll_unshare_c_calls(PyThreadState *inner, int before) {
    inner->c_recursion_remaining = before;
}
#else
static inline int atoll_share_c_calls(PyThreadState *inner, const PyThreadState *outer) {
    (void)inner;
    (void)outer;
    return 0;
}
static inline void atoll_unshare_c_calls(PyThreadState *inner, int before) {
    (void)inner;
    (void)before;
}
#endif

/* Before 3.13 an interpreter's first thread state cannot be made again once it was deleted, and it is what
 * PyThreadState_New() makes when there is no other: there always has to be one. */
#define ATOLL_FIRST_THREAD_STATE_ONCE (PY_VERSION_HEX < 0x030D0000)

/* Since 3.14 making an interpreter asks the C library a hundred times and more where this thread's stack ends, which on the main thread
 * it finds out from a file of the system's each time. */
#define ATOLL_CREATION_LOOKS_FOR_STACK (PY_VERSION_HEX >= 0x030E0000)

/* Since 3.14 CPython returns the arenas of an interpreter that ended when nothing is left in them: no other interpreter sees
 * into them.  Before, it never does, every interpreter leaves its interned strings, and some of CPython's own static places may
 * hold objects of whichever interpreter came first: leftovers.c looks. */
#define ATOLL_ARENAS_ARE_PRIVATE (PY_VERSION_HEX >= 0x030E0000)

/* Until 3.14 (PEP 699), a dict has the number of its last change, which an interpreter counts for all of its dicts. */
#define ATOLL_DICTS_HAVE_VERSIONS (PY_VERSION_HEX < 0x030E0000)
#define ATOLL_DICT_VERSION_OFFSET (offsetof(PyDictObject, ma_used) + sizeof(Py_ssize_t))

/* Whether tracemalloc relies on the one GIL of the process; whether it is at work: there is nothing at address 0, and it says
 * so with -2 when it is not. */
#define ATOLL_TRACES_ONE_GIL (PY_VERSION_HEX < 0x030F0000)
#define atoll_is_tracing() (PyTraceMalloc_Untrack(0x41746F6C, 0) != -2)

/* Whether the allocator of raw memory stays what it was set to.  3.12 puts the default one in its place for a moment whenever
 * an interpreter is made, while other threads allocate: what wraps it then misses some of what they do.  (For the same
 * reason debug hooks, as -X dev installs them, see damage where there is none and end the process.) */
#define ATOLL_RAW_ALLOCATOR_STAYS (PY_VERSION_HEX >= 0x030D0000)

/* How those versions divide an arena: into pools, aligned to their size, of blocks of one size, which follow this header.  (Blocks
 * that were never given out begin at next_offset; those that were given back are linked by their first word.)  Of builds
 * without a radix tree of arenas, the pools are smaller: then what is read makes no sense, which is noticed. */
#define ATOLL_POOL_SIZE 16384
#define ATOLL_POOL_CLASSES 32 /* of blocks: 16 bytes, 32, and so on */
typedef struct {
    union {
        void *padding;
        unsigned count; /* of blocks in use */
    } ref;
    char *free;
    void *links[2];
    unsigned arena;
    unsigned size_class;
    unsigned next_offset;
    unsigned last_offset;
} atoll_pool_header;

/* What is larger CPython's allocator of objects has the raw one allocate: its SMALL_REQUEST_THRESHOLD. */
#define ATOLL_SMALL_REQUEST 512

/* The smallest arenas that there are.  CPython takes the stacks of its frames from the same allocator, in pieces of 16 KiB. */
#define ATOLL_SMALLEST_ARENA 262144

/* How builds with a radix tree of arenas map them: below the root are inner nodes, for 2^49 addresses each, and below those
 * leaves, for 2^34; both are allocated when they are needed first.  blocks.c looks whether it is so. */
#define ATOLL_ARENA_SIZE 1048576
#define ATOLL_MAP_INNER_SIZE 262144
#define ATOLL_MAP_INNER_SHIFT 49
#define ATOLL_MAP_LEAF_SIZE 131072
#define ATOLL_MAP_LEAF_SHIFT 34

/* What a key of CPython's for thread-specific data has: the system's number, and whether it is created.  foreign_natives.c looks
 * whether the number is there. */
#define ATOLL_TSS_NUMBER(key) ((key)->_key)
#define ATOLL_TSS_FORGET(key) ((void)((key)->_is_initialized = 0))

/* 3.12 interns its static strings when they are first used, in a table that all interpreters share: see interned.c. */
#define ATOLL_INTERNS_STATIC_STRINGS_LATE (PY_VERSION_HEX < 0x030D0000)

/* Before 3.15 getpwall() and its like rely on one GIL for the list that the C library goes through. */
#define ATOLL_LISTS_NEED_ONE_GIL (PY_VERSION_HEX < 0x030F0000)

/* Before 3.14 sys._current_frames() and _current_exceptions() walk the threads of all interpreters: see frames.c. */
#define ATOLL_FRAMES_OF_ALL (PY_VERSION_HEX < 0x030E0000)

/* What a thread handles, one in the other: tstate->exc_info.  Declared, but not documented. */
typedef _PyErr_StackItem atoll_exception_item;

/* Whether an object is never freed: counting its references has no effect.  Declared, but not documented. */
#define atoll_is_immortal(op) _Py_IsImmortal(op)

/* Ints that are freed are kept for the next ones since 3.14, as floats always were. */
#define ATOLL_KEEPS_FREE_INTS (PY_VERSION_HEX >= 0x030E0000)

/* What computes a function's annotations, which is no part of one before 3.14: borrowed, or NULL. */
#if PY_VERSION_HEX >= 0x030E0000
#define ATOLL_FUNCTION_ANNOTATE(func) ((func)->func_annotate)
#else
#define ATOLL_FUNCTION_ANNOTATE(func) ((PyObject *)NULL)
#endif

/* Whether each reference is counted, or each object listed, somewhere else than in the object. */
#if defined(Py_REF_DEBUG) || defined(Py_TRACE_REFS)
#define ATOLL_COUNTS_ALL_REFERENCES 1
#else
#define ATOLL_COUNTS_ALL_REFERENCES 0
#endif

/* Whether somebody is told of each object that is made: 3.13 and newer. */
static inline int atoll_references_traced(void) {
#if PY_VERSION_HEX >= 0x030D0000
    void *data;
    return PyRefTracer_GetTracer(&data) != NULL;
#else
    return 0;
#endif
}

/* What a weak reference refers to: 1 with a new reference, 0 when it is gone; -1 with an exception when it is no weak
 * reference. */
static inline int atoll_weakref_target(PyObject *ref, PyObject **obj) {
#if PY_VERSION_HEX >= 0x030D0000
    return PyWeakref_GetRef(ref, obj);
#else
    PyObject *there = PyWeakref_GetObject(ref); /* borrowed */
    *obj = there != NULL && there != Py_None ? Py_NewRef(there) : NULL;
    return there == NULL ? -1 : *obj != NULL;
#endif
}

/* Since 3.14 eval(), exec(), dir() and their like fall back to __main__ when no Python frame is running;
 * before that they fail, and src/py/interp/arrived.c helps. */
#define ATOLL_BUILTINS_NEED_FRAME (PY_VERSION_HEX < 0x030E0000)

#include "py/layouts.h"

#endif
