/* Runs: what is running in an interpreter because somebody called it, and interrupting that.  See runs.c. */
#ifndef ATOLL_PY_INTERP_RUNS_H
#define ATOLL_PY_INTERP_RUNS_H

#include "py/interp/interruption.h"

typedef enum {
    ATOLL_IN_TIME,
    ATOLL_LATE,
    ATOLL_SPENT /* its interpreter has had all the processor time that it may have */
} atoll_lateness;

typedef struct atoll_run {
    struct atoll_run *next; /* the entry's list, under its lock of runs */
    struct atoll_run *prev;
    struct atoll_run *outer; /* the run of this thread that this one was begun in */
    struct atoll_run *inner; /* under the lock of this one's entry: what was begun in it */
    atoll_entry *entry;
    atoll_entry
        *ending;       /* under the lock of this one's entry: what its thread winds down meanwhile, or NULL */
    uint64_t serial;   /* among the entry's, never given twice */
    const void *about; /* who runs it, for those who look for it; may be NULL */
    uint64_t turn;     /* of `about` */
    PyThreadState *tstate; /* in which it runs; only those attached to the entry's interpreter look */
    unsigned long ident;   /* of its thread, as CPython has it, */
    int thread;            /* and the system */
    bool listed;
    bool marked;    /* CPython's mark is ours to take away */
    bool deaf;      /* of its thread: nothing is raised now */
    bool keeping;   /* of its thread: what is raised is not taken, so that it is raised again */
    bool kept;      /* something was */
    bool repeated;  /* after its end: what it is to fail with was raised before */
    bool no_memory; /* of its thread: it was a MemoryError that was described last, or came from one */
    double
        patience; /* of its thread: until then nothing is raised while keeping, or when it could not be had */
    uint8_t tries;                        /* of its thread: how often what is to be raised could not be had */
    bool knocked;                         /* an asynchronous exception may be on its way */
    bool spent;                           /* what it is late for, under the entry's lock of runs */
    uint64_t cpu_began;                   /* of its thread, ns of processor time; 0: that is not measured */
    _Atomic(uint64_t) cpu_elsewhere;      /* in runs that were begun in it */
    uint8_t lateness;                     /* an atoll_lateness, under the entry's lock of runs */
    _Atomic(atoll_interruption *) wanted; /* a reference: what is to be raised */
    _Atomic(uint64_t) knock;              /* when it was last asked to look */
    uint64_t heard;           /* of its thread: the last knock for a run further out that it has raised for */
    uint32_t raised;          /* of its thread: how often something was */
    atoll_interruption *last; /* what was, last: a reference */
    PyObject *exc; /* the exception that was, with `doubtful` or still to be released; of its interpreter */
    _Atomic(bool) doubtful; /* CPython may have dropped it */
    uint32_t put_off;       /* of its thread: how often what is due was, because of a bad moment */
    const void *bad_frame;  /* and where it was the last time, */
    int bad_place;          /* the frame's instruction: neither is used but to compare it */
    double import_patience; /* with the GIL: until then an import is not interrupted; 0: none was found, */
    _Atomic(double)
        import_next; /* and until then it is not looked at again; also without the GIL, of its thread */
    _Atomic(double) deadline;     /* written under the entry's lock of runs: when it is to be interrupted */
    double look;                  /* under the list's lock: when it is to be looked at */
    uint32_t looks;               /* how often it was, since it was interrupted */
    bool watched;                 /* it is on the list, under the entry's lock of runs */
    struct atoll_run *watch_next; /* under the list's lock */
    struct atoll_run *watch_prev;
} atoll_run;

/* ---- for who runs something: attached to the entry's interpreter ---- */

/* Marks the interpreter as running; the struct stays where it is until the end. */
void atoll_run_begin(atoll_run *run, atoll_entry *entry, const void *about, uint64_t turn);
/* Nothing interrupts it any more.  True: it is to fail, by an interrupt that found no code to be raised in, or that CPython has dropped; the
 * exception is set, in place of another one.  What is late fails anyway, and sets nothing. */
bool atoll_run_end(atoll_run *run);
/* The thread winds down an interpreter, of which it has a reference and whose gate is shut; what it wound down before.  To be ended with that, by the
 * same run, before the interpreter may be freed. */
atoll_entry *atoll_run_begin_wind_down(atoll_entry *entry);
void atoll_run_end_wind_down(atoll_entry *entry, atoll_entry *before);
/* The innermost run of this thread, or NULL. */
atoll_run *atoll_run_innermost(void);
/* Nothing is to be raised, because it would be lost: it is put off. */
void atoll_run_set_deaf(atoll_run *run, bool deaf);
/* Sets the exception that was raised last once more. */
void atoll_run_raise_again(const atoll_run *run);
/* From here on what is raised is raised again, until the next call, for code that catches everything; not at once. */
void atoll_run_begin_keeping(atoll_run *run);
/* Whether anything was: then it is set, and the run will not fail with it at its end.  The run is deaf from now on. */
bool atoll_run_end_keeping(atoll_run *run);

/* ---- on any thread ---- */

/* Whether the innermost run of this thread is one of the entry's and is to raise something, or the thread itself is to end. */
bool atoll_run_is_asked(const atoll_entry *entry);
/* Attached, where a call into C may fail: raises it.  0, or -1 with the exception. */
int atoll_run_check(void);

/* ---- for who interrupts: see interrupt.h ---- */

/* Marks each run of the entry's for which match() holds, under the lock of its runs.  How many will raise something. */
int atoll_runs_mark(atoll_entry *entry, atoll_interruption *interruption,
                    bool (*match)(const atoll_run *run, void *arg), void *arg);
/* Asks the threads of all that are marked to look. */
void atoll_runs_knock(atoll_entry *entry);
/* The same for an interpreter whose gate is shut, by who keeps it from ending. */
void atoll_runs_knock_kept(atoll_entry *entry);
/* The same for one run, if it is marked, and what it has called: false when it has ended or is not. */
bool atoll_runs_knock_one(atoll_entry *entry, uint64_t serial);
/* Whether its thread is still to look. */
bool atoll_runs_is_wanted(atoll_entry *entry, uint64_t serial);

/* A run whose time has come to be looked at, by which it is told from others that come after it. */
typedef struct {
    atoll_entry *entry; /* a reference */
    uint64_t serial;
    int thread;
    bool is_late;   /* its deadline is over */
    uint32_t looks; /* how often it has been looked at since it was interrupted */
} atoll_due;
/* Attached, by its thread: the run is to be interrupted then. */
void atoll_run_set_deadline(atoll_run *run, double deadline);
/* True: *due is to be dealt with, and is looked at again, the first time `soon` and else `again` seconds later.  False: nothing
 * before *next. */
bool atoll_runs_due(double now, double soon, double again, atoll_due *due, double *next);
/* What changes when a run is to be looked at earlier. */
extern _Atomic(uint32_t) atoll_runs_word;
/* Its time is over: marks it as late.  False: it has ended. */
bool atoll_runs_mark_late(const atoll_due *due);

/* The thread ends, inside of runs perhaps: nobody interrupts them any more, or another thread that has its number. */
void atoll_runs_thread_ends(void);

void atoll_runs_fork(atoll_fork_moment when);
/* In a forked child: runs are over, or go on without being known. */
void atoll_runs_forget(void);

#endif
