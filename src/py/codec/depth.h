/* How deep encoders and decoders may go. */
#ifndef ATOLL_PY_CODEC_DEPTH_H
#define ATOLL_PY_CODEC_DEPTH_H

#include "py/compat.h" /* first: Python.h wants to be */

#include "port/port.h"

/* How deep an encoder or decoder is.  The limits: CPython's count, of this interpreter's C calls (which costs as much as a
 * small container: the outermost levels go without), and the bytes of stack that are left, which it shares with
 * whatever runs, or waits, on the same thread in whichever interpreter. */
typedef struct {
    unsigned levels;
    bool known;          /* from the first time that there was a second level on */
    atoll_stack_end end; /* once it is known */
} atoll_depth;

enum { ATOLL_FREE_LEVELS = 8 };

static inline int atoll_enter(atoll_depth *depth, const char *where) {
    if (depth->levels != 0 && !depth->known) {
        depth->end = atoll_thread_stack_end();
        depth->known = true;
    }
    if (depth->levels != 0 && __builtin_expect(atoll_stack_is_short(&depth->end), 0)) {
        PyErr_Format(PyExc_RecursionError, "the stack is used up%s", where);
        return -1;
    }
    if (++depth->levels > ATOLL_FREE_LEVELS && Py_EnterRecursiveCall(where)) {
        --depth->levels;
        return -1;
    }
    return 0;
}

static inline void atoll_leave(atoll_depth *depth) {
    if (depth->levels-- > ATOLL_FREE_LEVELS) {
        Py_LeaveRecursiveCall();
    }
}

#endif
