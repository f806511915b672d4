/* The file of a trace: Chrome's trace event format, as an object with a list.  See trace.h.
 *
 * Each interpreter is a process there, and each thread in it a thread, numbered from 1 on: the numbers 0 that the main interpreter has
 * mean something else to those who read it.  A stretch of time is one event with its duration ("X"); those of one row are inside of each
 * other or apart, and are written in the order of their beginning, the outer one first.  Times are cut to nanoseconds, beginning and end
 * alike, so that this stays so, and count from the beginning of the trace: readers have them as floating-point numbers, in which those of
 * a clock that has run for months are less exact.
 */
#include "core/trace/internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *category;
    const char *name;  /* of an event that has none of its own */
    const char *label; /* of its number; NULL: it is not shown */
    char arrow;        /* 's': one begins here, 'f': ends; 0: none.  Then the number is the arrow's. */
} kind;

static const kind kinds[ATOLL_TRACE_KINDS] = {
    [ATOLL_TRACE_CALL] = {"call", "call", "from", 0},
    [ATOLL_TRACE_CALLING] = {"calling", "call", "to", 0},
    [ATOLL_TRACE_EXEC] = {"call", "exec", "from", 0},
    [ATOLL_TRACE_EXECUTING] = {"calling", "exec", "to", 0},
    [ATOLL_TRACE_SUBMIT] = {"submit", "submit", NULL, 's'},
    [ATOLL_TRACE_TASK] = {"task", "task", NULL, 'f'},
    [ATOLL_TRACE_INIT] = {"task", "initializer", NULL, 0},
    [ATOLL_TRACE_ENCODE] = {"codec", "encode", "bytes", 0},
    [ATOLL_TRACE_DECODE] = {"codec", "decode", "bytes", 0},
    [ATOLL_TRACE_WAIT] = {"wait", "wait", "id", 0},
    [ATOLL_TRACE_GIL] = {"gil", "GIL", NULL, 0},
    [ATOLL_TRACE_IMPORT] = {"import", "import", NULL, 0},
    [ATOLL_TRACE_CLONE] = {"clone", "clone", "bytes", 0},
    [ATOLL_TRACE_GC] = {"gc", "GC", "generation", 0},
    [ATOLL_TRACE_CREATE] = {"interpreter", "create", NULL, 0},
    [ATOLL_TRACE_CREATING] = {"calling", "create", "to", 0},
    [ATOLL_TRACE_CLOSING] = {"calling", "close", "to", 0},
    [ATOLL_TRACE_CLOSE] = {"interpreter", "close", NULL, 0},
};

static const char empty[] = "{\"traceEvents\":[]}\n";

/* ---- bytes ---- */

typedef struct {
    int fd;
    int error; /* an errno code: nothing more is written */
    uint64_t at;
    size_t used;
    bool first; /* no event was written */
    char bytes[1 << 16];
} output;

enum { LONGEST = 4096 }; /* of what is written at once */

static void flush(output *out) {
    if (out->error == 0 && out->used > 0 && atoll_file_write(out->fd, out->bytes, out->used, out->at) < 0) {
        out->error = errno;
    }
    out->at += out->used;
    out->used = 0;
}

__attribute__((format(printf, 2, 3))) static void put(output *out, const char *format, ...) {
    if (sizeof out->bytes - out->used < LONGEST) {
        flush(out);
    }
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(out->bytes + out->used, sizeof out->bytes - out->used, format, arguments);
    va_end(arguments);
    out->used += n > 0 ? (size_t)n : 0;
}

/* Between two events. */
static void next(output *out) {
    put(out, out->first ? "\n" : ",\n");
    out->first = false;
}

int atoll_trace_write_empty(int fd) {
    return atoll_file_cut(fd, 0) == 0 && atoll_file_write(fd, empty, sizeof empty - 1, 0) == 0 ? 0 : errno;
}

/* ---- events ---- */

typedef struct {
    output *out;
    const atoll_trace_all *trace;
    double tick; /* ns */
    atoll_trace_rows rows;
    uint32_t nrows;
    uint64_t events;
} writing;

/* Nanoseconds since the trace began. */
static uint64_t time_of(const writing *w, uint64_t ticks) {
    return (uint64_t)((double)(ticks - w->trace->ticks) * w->tick);
}

static void put_time(output *out, const char *label, uint64_t ns) {
    put(out, ",\"%s\":%llu.%03u", label, (unsigned long long)(ns / 1000), (unsigned)(ns % 1000));
}

static void put_row(output *out, const char *what, uint32_t process, uint32_t row) {
    next(out);
    put(out, "{\"ph\":\"M\",\"name\":\"%s\",\"pid\":%u,\"tid\":%u,\"args\":", what, process, row);
}

/* A row for this thread in that interpreter: its name. */
static void begin_row(writing *w, const atoll_trace_chunk *chunk, uint32_t seen) {
    atoll_trace_seen *item = &w->rows.items[seen];
    item->thread = chunk->thread;
    item->row = ++w->nrows;
    char name[ATOLL_TRACE_ESCAPED(sizeof chunk->name)];
    (void)atoll_trace_escape(name, chunk->name, strnlen(chunk->name, sizeof chunk->name));
    put_row(w->out, "thread_name", seen + 1, item->row);
    put(w->out, "{\"name\":\"%s (%d)\"}}", chunk->is_main ? "main thread" : name, chunk->system_thread);
    put_row(w->out, "thread_sort_index", seen + 1, item->row);
    put(w->out, "{\"sort_index\":%llu}}", (unsigned long long)chunk->thread);
}

static void put_event(writing *w, const atoll_trace_chunk *chunk, const atoll_trace_event *event) {
    uint32_t seen = event->interp; /* by now */
    const kind *k = &kinds[event->what >> ATOLL_TRACE_NAME_BITS];
    uint32_t number = event->what & ((UINT32_C(1) << ATOLL_TRACE_NAME_BITS) - 1);
    if (w->rows.items[seen].thread != chunk->thread) {
        begin_row(w, chunk, seen);
    }
    uint32_t row = w->rows.items[seen].row;
    uint64_t began = time_of(w, event->began);
    uint64_t ended = time_of(w, event->ended > event->began ? event->ended : event->began);
    output *out = w->out;
    next(out);
    put(out, "{\"ph\":\"X\",\"cat\":\"%s\",\"name\":\"%s\",\"pid\":%u,\"tid\":%u", k->category,
        number != 0 ? w->trace->names.all[number]->json : k->name, seen + 1, row);
    put_time(out, "ts", began);
    put_time(out, "dur", ended - began);
    if (k->label != NULL) {
        put(out, ",\"args\":{\"%s\":%llu}", k->label, (unsigned long long)event->number);
    }
    put(out, "}");
    if (k->arrow != 0 && event->number != 0) {
        next(out);
        put(out, "{\"ph\":\"%c\",%s\"cat\":\"arrow\",\"name\":\"task\",\"id\":%llu,\"pid\":%u,\"tid\":%u",
            k->arrow, k->arrow == 'f' ? "\"bp\":\"e\"," : "", (unsigned long long)event->number, seen + 1,
            row);
        put_time(out, "ts", began);
        put(out, "}");
    }
    w->events++;
}

/* ---- the order of events ---- */

typedef struct {
    const atoll_trace_chunk *chunk;
    const atoll_trace_event *event;
    uint32_t turn; /* among those of the thread: what is inside ends, and so is noted, first */
} place;

static int by_time(const void *one, const void *other) {
    const place *a = one;
    const place *b = other;
    if (a->event->began != b->event->began) {
        return a->event->began < b->event->began ? -1 : 1;
    }
    if (a->event->ended != b->event->ended) {
        return a->event->ended > b->event->ended ? -1 : 1;
    }
    return a->turn > b->turn ? -1 : a->turn < b->turn;
}

static int by_thread(const void *one, const void *other) {
    const atoll_trace_chunk *a = *(const atoll_trace_chunk *const *)one;
    const atoll_trace_chunk *b = *(const atoll_trace_chunk *const *)other;
    if (a->thread != b->thread) {
        return a->thread < b->thread ? -1 : 1;
    }
    return a->turn < b->turn ? -1 : a->turn > b->turn;
}

/* The events of so many chunks, which are one thread's. */
static int put_thread(writing *w, atoll_trace_chunk *const *chunks, size_t nchunks) {
    size_t count = 0;
    for (size_t i = 0; i < nchunks; i++) {
        count += chunks[i]->count;
    }
    place *places = malloc((count + 1) * sizeof *places);
    if (places == NULL) {
        return ENOMEM;
    }
    size_t n = 0;
    for (size_t i = 0; i < nchunks; i++) {
        for (uint32_t j = 0; j < chunks[i]->count; j++, n++) {
            places[n] = (place){chunks[i], &chunks[i]->events[j], (uint32_t)n};
        }
    }
    qsort(places, count, sizeof *places, by_time);
    for (size_t i = 0; i < count; i++) {
        put_event(w, chunks[nchunks - 1], places[i].event);
    }
    free(places);
    return 0;
}

/* All chunks by their threads; NULL: out of memory. */
static atoll_trace_chunk **sort_chunks(const atoll_trace_all *trace, size_t *count) {
    *count = 0;
    for (atoll_trace_chunk *chunk = trace->chunks; chunk != NULL; chunk = chunk->next) {
        ++*count;
    }
    atoll_trace_chunk **chunks = malloc((*count + 1) * sizeof(atoll_trace_chunk *));
    size_t n = 0;
    for (atoll_trace_chunk *chunk = trace->chunks; chunks != NULL && chunk != NULL; chunk = chunk->next) {
        chunks[n++] = chunk;
    }
    if (chunks != NULL) {
        qsort(chunks, n, sizeof(atoll_trace_chunk *), by_thread);
    }
    return chunks;
}

/* ---- all of it ---- */

/* Events have the places of their interpreters from here on. */
static int find_interps(writing *w, atoll_trace_chunk *const *chunks, size_t nchunks) {
    for (size_t i = 0; i < nchunks; i++) {
        for (uint32_t j = 0; j < chunks[i]->count; j++) {
            atoll_trace_event *event = &chunks[i]->events[j];
            event->interp = atoll_trace_rows_find(&w->rows, event->interp);
            if (event->interp == UINT32_MAX) {
                return ENOMEM;
            }
        }
    }
    return 0;
}

static const char *name_of(const atoll_trace_all *trace, uint32_t interp) {
    const atoll_trace_called *called = trace->called;
    while (called != NULL && (uint32_t)called->interp != interp) {
        called = called->next;
    }
    return called != NULL ? called->json : "";
}

static void put_interps(writing *w) {
    for (uint32_t seen = 0; seen < w->rows.count; seen++) {
        uint32_t interp = w->rows.items[seen].interp;
        const char *name = name_of(w->trace, interp);
        put_row(w->out, "process_name", seen + 1, 0);
        put(w->out,
            name[0] != '\0' ? "{\"name\":\"interpreter %u: %s\"}}" : "{\"name\":\"interpreter %u%s\"}}",
            interp, name);
        put_row(w->out, "process_sort_index", seen + 1, 0);
        put(w->out, "{\"sort_index\":%u}}", interp);
    }
}

static int put_all(writing *w) {
    size_t nchunks;
    atoll_trace_chunk **chunks = sort_chunks(w->trace, &nchunks);
    int error = chunks != NULL ? find_interps(w, chunks, nchunks) : ENOMEM;
    if (error == 0) {
        put_interps(w);
    }
    for (size_t from = 0, to; error == 0 && from < nchunks; from = to) {
        for (to = from + 1; to < nchunks && chunks[to]->thread == chunks[from]->thread;) {
            to++;
        }
        error = put_thread(w, chunks + from, to - from);
    }
    free(chunks);
    return error;
}

int atoll_trace_write(atoll_trace_all *trace, uint64_t *events) {
    writing w = {.trace = trace, .tick = atoll_tick_ns(), .out = malloc(sizeof(output))};
    *events = 0;
    if (w.out == NULL) {
        return ENOMEM;
    }
    if (trace->end_ticks > trace->ticks && trace->end_ns > trace->ns) {
        w.tick = (double)(trace->end_ns - trace->ns) / (double)(trace->end_ticks - trace->ticks);
    }
    output *out = w.out;
    out->fd = trace->fd;
    out->error = 0;
    out->at = 0;
    out->used = 0;
    out->first = true;
    put(out,
        "{\"displayTimeUnit\":\"ns\",\"otherData\":{\"producer\":\"atoll\",\"pid\":%d,\"began_ns\":%llu,"
        "\"dropped\":%llu},",
        atoll_thread_main_number(), (unsigned long long)trace->ns,
        (unsigned long long)atomic_load(&trace->dropped));
    put(out, "\"traceEvents\":[");
    int error = put_all(&w);
    put(out, "\n]}\n");
    flush(out);
    error = error != 0 ? error : out->error;
    atoll_trace_rows_free(&w.rows);
    free(out);
    *events = error == 0 ? w.events : 0;
    return error;
}
