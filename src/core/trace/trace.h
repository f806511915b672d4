/* What happens when, for a picture of it: events of all threads, written as a file that Perfetto and chrome://tracing open.
 *
 * An event is a stretch of time on one thread in one interpreter: it is noted when it has ended.  At most one trace is on at a time, for
 * the whole process.  While none is, the places that note events look at one word and do nothing more.
 *
 * Buffers.  A thread notes its events in chunks of its own, without a lock: so many words are written, and one atomic exchange says that it
 * is at it.  A chunk is taken from the trace's budget, under its lock; when that is used up, events are dropped and counted: those that
 * came first are kept.  Names are kept once: they are found in a table without a lock, and added under it.
 *
 *   thread's     `busy` = 1, look whether the trace is on, write, `busy` = 0
 *   who stops    it is off; wait until no thread is `busy`; then all chunks and names are its own
 *
 * So a thread that sees the trace on has its chunk and the names for as long as it is busy, which is some dozens of instructions.  Nothing
 * is called meanwhile.
 *
 * Ownership.  Chunks and names belong to the trace and are freed when it is written.  A thread's record belongs to the thread, is in a list
 * while the thread lives, and goes with it.
 *
 * The file is opened, locked (flock) and made an empty trace before anything is noted, and written when the trace stops: in every case but
 * that the process is killed in the midst of that, it is valid JSON.  When it cannot be written, it is an empty trace again.  Where the program has closed its descriptor, whatever
 * has that number is left alone.
 *
 * Time.  Ticks of the processor (port.h), of which the trace's beginning and end say how long one is; the file has microseconds
 * since the beginning, and that in nanoseconds on the monotonic clock.  What began before the trace is left out.
 *
 * Locks: that of the trace, for its state, chunks, names and the list of threads; a leaf.  `writing` around all of starting and stopping,
 * taken before it; a fork does not wait for that.  Any function may be called by any thread, with a GIL or without.
 *
 * Fork: in the child no trace is on, the file is closed there and stays the parent's.
 *
 * Failure: an event that finds no memory is dropped, and counted.
 *
 * names <- record, rows <- write <- trace
 */
#ifndef ATOLL_CORE_TRACE_H
#define ATOLL_CORE_TRACE_H

#include "core/base/base.h"

#include <stddef.h>

/* What is noted; its number in brackets. */
typedef enum {
    ATOLL_TRACE_CALL,      /* a call runs here [the interpreter that called] */
    ATOLL_TRACE_CALLING,   /* a call into another interpreter, all of it [that interpreter] */
    ATOLL_TRACE_EXEC,      /* likewise, of a script */
    ATOLL_TRACE_EXECUTING, /* likewise */
    ATOLL_TRACE_SUBMIT,    /* a task is sent to a pool [where its arrow begins: see atoll_trace_arrow()] */
    ATOLL_TRACE_TASK,      /* a worker runs it [where its arrow ends] */
    ATOLL_TRACE_INIT,      /* a worker's initializer */
    ATOLL_TRACE_ENCODE,    /* [bytes] */
    ATOLL_TRACE_DECODE,    /* [bytes] */
    ATOLL_TRACE_WAIT,      /* for something of Atoll's [its id] */
    ATOLL_TRACE_GIL,       /* until a GIL was to be had */
    ATOLL_TRACE_IMPORT,    /* of a module */
    ATOLL_TRACE_CLONE,     /* of an extension module or library [bytes that it does not share] */
    ATOLL_TRACE_GC,        /* [generation] */
    ATOLL_TRACE_CREATE,    /* this interpreter is made */
    ATOLL_TRACE_CREATING,  /* another one is [it] */
    ATOLL_TRACE_CLOSE,     /* this one ends */
    ATOLL_TRACE_CLOSING,   /* another one is closed [it] */
    ATOLL_TRACE_KINDS
} atoll_trace_kind;

enum {
    ATOLL_TRACE_TEXT = 200, /* bytes of an event's name that are kept */
    ATOLL_TRACE_NAMES =
        16384, /* so many names are kept; an event with another one is called what its kind is */
};

/* Which trace is on; 0: none. */
extern _Atomic(uint32_t) atoll_trace_on;

/* Something begins: now, or 0 when that is not to be noted. */
static inline uint64_t atoll_trace_begin(void) {
    return __builtin_expect(atomic_load_explicit(&atoll_trace_on, memory_order_relaxed) != 0, 0)
               ? atoll_ticks()
               : 0;
}

/* It has ended.  text: its name, of so many bytes, of which UTF-8 is kept; NULL: as its kind is called.  interp: the interpreter's id.
 * began may be from before the trace, which leaves it out, but not 0. */
void atoll_trace_add(uint64_t began, atoll_trace_kind kind, const char *text, size_t length, int64_t interp,
                     uint64_t number);

/* The same for what atoll_trace_begin() said, without a name. */
static inline void atoll_trace_end(uint64_t began, atoll_trace_kind kind, int64_t interp, uint64_t number) {
    if (__builtin_expect(began != 0, 0)) {
        atoll_trace_add(began, kind, NULL, 0, interp, number);
    }
}

/* For what is timed anyway: when a trace is on. */
static inline bool atoll_trace_wants(void) {
    return __builtin_expect(atomic_load_explicit(&atoll_trace_on, memory_order_relaxed) != 0, 0);
}

/* A number for an arrow from one event to another, which no other has. */
uint64_t atoll_trace_arrow(void);

/* What an interpreter is called in the trace that is on, if one is; the last name counts.  An empty one is none. */
void atoll_trace_call_interp(int64_t interp, const char *name);

/* Starts a trace of at most so many events: its number.  0 with *error, an errno code: EBUSY when there is one, EWOULDBLOCK when another
 * process, or a trace of a file of that name, is writing the file, EISDIR and EINVAL for what is no regular file. */
uint32_t atoll_trace_start(const char *path, uint64_t most, int *error);
typedef struct {
    uint64_t events;
    uint64_t dropped;
    int error; /* an errno code: the file is an empty trace */
} atoll_trace_result;
/* Stops and writes it; waits for who does so.  False: it is not on (any more). */
bool atoll_trace_stop(uint32_t trace, atoll_trace_result *result);

void atoll_trace_fork(atoll_fork_moment when);

#endif
