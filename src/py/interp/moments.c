/* Where in running code an exception is raised by who interrupts it, and what became of one.
 *
 * Bad moments.  CPython runs pending calls between two instructions: when a function begins, at the end of a loop's turn, and after each
 * call.  So code may be interrupted when it has just been given something, and is about to enter the block that gives it back:
 *
 *   lock.acquire()          the call is over;
 *   try: ...                an exception that is raised before this line leaves the lock locked for good
 *
 * In a `with` statement it is the same from 3.14 on, where entering is a call; and in Python code that is called by one, as that of
 * threading.Condition, which gives its lock back and takes it again while it waits, too.  importlib, written in Python, has locks for each module, and a module whose lock is not given back cannot be imported
 * by any other thread.  asyncio's loop, written in Python as well, has taken a callback off its list, or is about to put one there: what
 * is raised in one of its own functions loses that callback, and whoever waits for it waits for ever, also the tasks that asyncio.run()
 * cancels at its end.  (In its coroutines it is raised: there it is their task that fails.)  What is raised in a destructor is dropped, or
 * in what that calls: a task of asyncio's that nobody has asked for its exception has that logged.
 * Semaphores, queues and the like are written in Python, too, and are what __enter__ and __exit__ call: what is raised in a function of a
 * semaphore's loses a place for good, in one of an ExitStack what it was about to note, in one of a queue an item.  And who has waited there may
 * just have been chosen to go on, so that nobody else was.  Another thread that sleeps in a condition is interrupted there all the same: it is
 * seen nowhere else.
 * In all these places an interruption is put off: it is raised at the next moment that is better.  None of this holds inside of a call in C: what waits there, in a system call or for something of Atoll's, has not
 * been given anything.
 *
 * A thread that threading starts tells who has started it that it runs: when something is raised in it before, that one waits for ever.  What is
 * raised in Thread.start() itself, where that has a handler, becomes a KeyError when the thread runs already.  This is only asked of daemons of an
 * interpreter that ends (stragglers.c).
 *
 * Dropped ones.  Much of CPython that calls Python code has nobody to raise in: destructors, callbacks of weak references and of the
 * garbage collector, what ctypes, sqlite3 and others call.  An exception is printed there, or just cleared, and what runs goes on as if it
 * had not been interrupted.  That is told from code that has caught it by what is left of the exception: nobody has it any more,
 * and the outermost frame of its traceback is the one that it got to.  Where that had a handler at that place, the code has caught it.
 * Where it had none, who has called that frame has dropped it.  When in doubt it was caught: handlers of `finally` and `with` count as
 * well, and frames that C code makes up (Cython's) are not believed.
 *
 * Handlers are found by CPython's table of exceptions: bytes, in which each row is four numbers (where a range begins, its length, where
 * the handler is, depth), in units of two bytes of code; of a number's bytes each has six bits, highest first, and one that says that
 * more follow.  A handler that somebody has written begins with PUSH_EXC_INFO.  Others end comprehensions, generators and handlers: they
 * tidy up and raise it once more.
 *
 * No locks.
 */
#include "py/interp/moments.h"

#include <opcode.h>

enum { UNIT = 2 };            /* bytes of code */
enum { MOST_HANDLERS = 100 }; /* inside of each other */
enum {
    NEAR = 12
}; /* units from a call to the block that it belongs to: the call's own, to store what it returns, a NOP */

/* The next number, or -1 at the end. */
static long next_number(const unsigned char **at, const unsigned char *end) {
    long number = 0;
    bool more = true;
    while (more) {
        if (*at == end) {
            return -1;
        }
        more = (**at & 64) != 0;
        number = number << 6 | (**at & 63);
        ++*at;
    }
    return number;
}

/* A row of the table, in units. */
typedef struct {
    long begin;
    long length;
    long target;
} row;

/* False: there are no more. */
static bool next_row(const unsigned char **at, const unsigned char *end, row *r) {
    r->begin = next_number(at, end);
    r->length = next_number(at, end);
    r->target = next_number(at, end);
    return next_number(at, end) >= 0;
}

/* Whether a block of a handler's is begun near behind an instruction. */
static bool is_block_near(const PyCodeObject *code, long unit) {
    const unsigned char *at = (const unsigned char *)PyBytes_AS_STRING(code->co_exceptiontable);
    const unsigned char *end = at + PyBytes_GET_SIZE(code->co_exceptiontable);
    for (row r; next_row(&at, end, &r);) {
        if (unit < r.begin && r.begin <= unit + NEAR) {
            return true;
        }
    }
    return false;
}

/* Where what is raised by an instruction goes to, or -1. */
static long target_of(const PyCodeObject *code, long unit) {
    const unsigned char *at = (const unsigned char *)PyBytes_AS_STRING(code->co_exceptiontable);
    const unsigned char *end = at + PyBytes_GET_SIZE(code->co_exceptiontable);
    for (row r; next_row(&at, end, &r);) {
        if (r.begin <= unit && unit < r.begin + r.length) {
            return r.target;
        }
    }
    return -1;
}

/* The instructions as they were compiled, with what is cached among them as zeros; a new reference, or NULL. */
static PyObject *units_of(PyCodeObject *code) {
    PyObject *units = PyCode_GetCode(code);
    PyErr_Clear();
    return units;
}

/* -1: behind the end. */
static int opcode_at(PyObject *units, long unit) {
    bool inside = unit >= 0 && unit * UNIT < PyBytes_GET_SIZE(units);
    return inside ? (unsigned char)PyBytes_AS_STRING(units)[unit * UNIT] : -1;
}

static bool is_call_at(PyCodeObject *code, long unit) {
    PyObject *units = units_of(code);
    int opcode = units != NULL ? opcode_at(units, unit) : -1;
    Py_XDECREF(units);
#ifdef CALL_KW /* from 3.13 on */
    if (opcode == CALL_KW) {
        return true;
    }
#endif
    return opcode == CALL || opcode == CALL_FUNCTION_EX;
}

/* Whether what is raised by an instruction is seen by a handler that somebody has written; true when it cannot be told. */
static bool is_handled(PyCodeObject *code, long unit) {
    PyObject *units = units_of(code);
    if (units == NULL) {
        return true;
    }
    bool handled = false;
    long size = PyBytes_GET_SIZE(units) / UNIT;
    long target;
    for (int i = 0; !handled && i < MOST_HANDLERS && (target = target_of(code, unit)) >= 0; i++) {
        handled = opcode_at(units, target) == PUSH_EXC_INFO;
        unit = target; /* else it tidies up, and raises it once more */
        while (unit < size && opcode_at(units, unit) != RERAISE) {
            unit++;
        }
        handled |= unit == size;
    }
    Py_DECREF(units);
    return handled;
}

/* Whether the frame's module has a name that begins like that, with the 0 or without.  Keeps no exception. */
static bool is_of_module(PyFrameObject *frame, const char *begin, size_t len) {
    PyObject *globals = PyFrame_GetGlobals(frame);
    PyObject *name = PyDict_GetItemString(globals, "__name__"); /* borrowed */
    const char *text = name != NULL && PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : NULL;
    bool is_of = text != NULL && strncmp(text, begin, len) == 0;
    Py_DECREF(globals);
    PyErr_Clear();
    return is_of;
}

/* Whether code belongs to a module of asyncio's, and is no coroutine.  Keeps no exception. */
static bool is_loop(PyFrameObject *frame, const PyCodeObject *code) {
    static const char package[] = "asyncio.";
    return (code->co_flags & (CO_COROUTINE | CO_GENERATOR | CO_ASYNC_GENERATOR)) == 0 &&
           is_of_module(frame, package, sizeof package - 1);
}

static bool is_importlib(PyFrameObject *Py_UNUSED(frame), const PyCodeObject *code) {
    return PyUnicode_CompareWithASCIIString(code->co_filename, "<frozen importlib._bootstrap>") == 0;
}

/* Modules of the standard library that give things and take them back. */
static bool is_of_locks(PyFrameObject *frame) {
    static const char *const names[] = {"threading", "queue", "contextlib", "logging"};
    static const char futures[] = "concurrent.futures.";
    bool is_of = is_of_module(frame, futures, sizeof futures - 1);
    for (size_t i = 0; !is_of && i < Py_ARRAY_LENGTH(names); i++) {
        is_of = is_of_module(frame, names[i], strlen(names[i]) + 1);
    }
    return is_of;
}

/* What enters and leaves blocks, and what a condition gives its lock back with and takes it again, by its name; importlib, which holds locks
 * in many ways; asyncio's loops; what others hold locks by. */
static bool is_delicate(PyFrameObject *frame, const PyCodeObject *code) {
    static const char *const names[] = {"__enter__", "__exit__", "_release_save", "_acquire_restore"};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        if (PyUnicode_CompareWithASCIIString(code->co_name, names[i]) == 0) {
            return true;
        }
    }
    return is_importlib(frame, code) || is_loop(frame, code) || is_of_locks(frame);
}

/* Whether a frame, a reference to which is taken over, or one that it was called from is of a kind.  NULL: no.  Keeps no exception. */
static bool is_inside(PyFrameObject *frame, bool (*is_kind)(PyFrameObject *frame, const PyCodeObject *code)) {
    bool found = false;
    while (frame != NULL) {
        PyCodeObject *code = PyFrame_GetCode(frame);
        found = is_kind(frame, code);
        Py_DECREF(code);
        PyFrameObject *outer = found ? NULL : PyFrame_GetBack(frame);
        Py_DECREF(frame);
        frame = outer;
    }
    PyErr_Clear(); /* no memory for a frame */
    return found;
}

/* A destructor, as far as that can be seen. */
static bool is_destructor(PyFrameObject *frame, const PyCodeObject *code) {
    return PyUnicode_CompareWithASCIIString(code->co_name, "__del__") == 0 ||
           (PyUnicode_CompareWithASCIIString(code->co_name, "call_exception_handler") == 0 &&
            is_loop(frame, code));
}

static bool is_called(const PyCodeObject *code, const char *qualname) {
    return PyUnicode_CompareWithASCIIString(code->co_qualname, qualname) == 0;
}

bool atoll_moment_is_start(PyFrameObject *innermost, bool one_starts) {
    PyFrameObject *frame = (PyFrameObject *)Py_NewRef(innermost);
    bool is_start = false, waits = false;
    while (frame != NULL && is_of_module(frame, "threading", sizeof "threading")) {
        PyCodeObject *code = PyFrame_GetCode(frame);
        bool starts = is_called(code, "Thread.start");
        bool ends = starts || PyUnicode_CompareWithASCIIString(code->co_name, "run") == 0;
        is_start = (starts && (one_starts || !waits)) || is_called(code, "Thread._bootstrap") ||
                   is_called(code, "Thread._bootstrap_inner");
        waits |= is_called(code, "Condition.wait");
        Py_DECREF(code);
        PyFrameObject *outer = is_start || ends ? NULL : PyFrame_GetBack(frame);
        Py_SETREF(frame, outer);
    }
    Py_XDECREF(frame);
    PyErr_Clear(); /* no memory for a frame */
    return is_start;
}

/* A condition's wait that has begun: it ends well whatever is raised. */
static bool is_wait(const PyCodeObject *code, long unit) {
    return is_called(code, "Condition.wait") && target_of(code, unit) >= 0;
}

bool atoll_moment_is_bad(PyFrameObject *frame) {
    bool is_others = frame != NULL;                /* who sleeps there is seen nowhere else */
    frame = is_others ? frame : PyEval_GetFrame(); /* borrowed */
    if (frame == NULL) {
        return false;
    }
    PyCodeObject *code = PyFrame_GetCode(frame);
    long unit = PyFrame_GetLasti(frame) / UNIT;
    bool bad = (is_delicate(frame, code) && !(is_others && is_wait(code, unit))) ||
               (is_block_near(code, unit) && is_call_at(code, unit));
    Py_DECREF(code);
    return bad || is_inside((PyFrameObject *)Py_NewRef(frame), is_destructor);
}

bool atoll_moment_is_import(PyThreadState *tstate) {
    return is_inside(PyThreadState_GetFrame(tstate), is_importlib);
}

atoll_fate atoll_moment_fate(PyObject *exc) {
    if (Py_REFCNT(exc) != 1) {
        return ATOLL_FATE_OPEN;
    }
    const PyTracebackObject *reached = (PyTracebackObject *)((PyBaseExceptionObject *)exc)->traceback;
    if (reached == NULL || !PyTraceBack_Check(reached)) {
        return ATOLL_FATE_CAUGHT;
    }
    PyCodeObject *code = PyFrame_GetCode(reached->tb_frame);
    bool is_function = (code->co_flags & CO_OPTIMIZED) != 0; /* no frame that was made up */
    bool handled = !is_function || is_handled(code, reached->tb_lasti / UNIT);
    Py_DECREF(code);
    return handled ? ATOLL_FATE_CAUGHT : ATOLL_FATE_DROPPED;
}
