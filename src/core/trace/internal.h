/* What the files of core/trace share. */
#ifndef ATOLL_CORE_TRACE_INTERNAL_H
#define ATOLL_CORE_TRACE_INTERNAL_H

#include "core/trace/trace.h"

typedef struct {
    uint64_t began; /* ticks */
    uint64_t ended;
    uint64_t number;
    uint32_t interp; /* its id; where it is written, which of those that are seen */
    uint32_t what;   /* atoll_trace_kind in the high 8 bits, then the name's number, 0: none */
} atoll_trace_event;

enum { ATOLL_TRACE_NAME_BITS = 24 };

typedef struct atoll_trace_chunk {
    struct atoll_trace_chunk *next; /* of the trace, newest first */
    uint64_t thread;                /* a number of its own */
    int system_thread;              /* the system's */
    bool is_main;
    char name[16];
    uint32_t turn; /* of the thread's chunks */
    uint32_t room;
    uint32_t count;
    atoll_trace_event events[];
} atoll_trace_chunk;

/* A name, as it is in the file; never changed. */
typedef struct {
    uint64_t hash;
    uint32_t number;
    uint32_t length;
    const char *json; /* escaped; behind the text */
    char text[];
} atoll_trace_name;

typedef struct {
    _Atomic(atoll_trace_name *) *slots; /* by their hash, or the next free one */
    atoll_trace_name **all;             /* by their number, from 1 on */
    uint32_t count;
} atoll_trace_names;

/* An interpreter's name, the latest first. */
typedef struct atoll_trace_called {
    struct atoll_trace_called *next;
    int64_t interp;
    char json[]; /* escaped */
} atoll_trace_called;

/* All of a trace. */
typedef struct {
    int fd;
    atoll_file_id file; /* which the descriptor is of, unless the program has closed it */
    uint64_t most;      /* events that there is room for yet */
    _Atomic(uint64_t) dropped;
    uint64_t ticks; /* when the clock said: */
    uint64_t ns;
    uint64_t end_ticks;
    uint64_t end_ns;
    atoll_trace_chunk *chunks;
    atoll_trace_names names;
    atoll_trace_called *called;
    uint32_t ncalled;
} atoll_trace_all;

/* record.c: the trace that is on, or was, and its lock. */
extern atoll_trace_all atoll_trace_now;
extern atoll_mutex atoll_trace_lock;
/* Waits until no thread notes anything in a trace that is off, with the lock held. */
void atoll_trace_settle_locked(void);
/* A forked child: other threads are gone. */
void atoll_trace_forget_threads(void);

/* names.c.  0 or -1: out of memory. */
int atoll_trace_names_init(atoll_trace_names *names);
void atoll_trace_names_free(atoll_trace_names *names);
/* NULL: it is not there. */
const atoll_trace_name *atoll_trace_names_find(const atoll_trace_names *names, const char *text,
                                               size_t length, uint64_t hash);
/* With the trace's lock held.  False: there is no room for it, or no memory. */
bool atoll_trace_names_add_locked(atoll_trace_names *names, const char *text, size_t length, uint64_t hash);
/* The text as it stands between the quotes of JSON; at most ATOLL_TRACE_ESCAPED(length) bytes, with a 0 at the end.  What is no UTF-8 becomes
 * U+FFFD.  How many bytes. */
#define ATOLL_TRACE_ESCAPED(length) ((length) * 6 + 1)
size_t atoll_trace_escape(char *out, const char *text, size_t length);

/* rows.c: the interpreters that a trace has seen, by their numbers. */
typedef struct {
    uint32_t interp;
    uint32_t
        row; /* of the thread that is written now, where it has one: a number for each thread in each interpreter */
    uint64_t thread; /* of which thread that is */
} atoll_trace_seen;

typedef struct {
    atoll_trace_seen *items;
    uint32_t count;
    uint32_t room;
    uint32_t *slots; /* by the interpreter's id: its place in items, plus 1; twice as many as there is room */
    uint32_t last;   /* that was found */
} atoll_trace_rows;

/* Its place; UINT32_MAX: out of memory. */
uint32_t atoll_trace_rows_find(atoll_trace_rows *rows, uint32_t interp);
void atoll_trace_rows_free(atoll_trace_rows *rows);

/* write.c: the whole file; frees nothing.  0, or an errno code. */
int atoll_trace_write(atoll_trace_all *trace, uint64_t *events);
/* The file of a trace without events. */
int atoll_trace_write_empty(int fd);

#endif
