/* Starting and stopping a trace.  See trace.h. */
#include "core/trace/trace.h"

#include "core/trace/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static atoll_mutex writing = ATOLL_MUTEX_INIT;
static uint32_t traces; /* that were started; under `writing` */

static void close_file(atoll_trace_all *trace) {
    if (trace->fd >= 0 && atoll_file_is(trace->fd, &trace->file)) {
        atoll_file_close(trace->fd);
    }
    trace->fd = -1;
}

/* No trace is on, and all of the last one is this function's. */
static void clear(atoll_trace_all *trace) {
    while (trace->chunks != NULL) {
        atoll_trace_chunk *chunk = trace->chunks;
        trace->chunks = chunk->next;
        free(chunk);
    }
    while (trace->called != NULL) {
        atoll_trace_called *called = trace->called;
        trace->called = called->next;
        free(called);
    }
    atoll_trace_names_free(&trace->names);
    close_file(trace);
}

/* 0, or an errno code. */
static int start_locked(const char *path, uint64_t most) {
    clear(&atoll_trace_now); /* what a fork has left */
    int fd = atoll_file_open_output(path, &atoll_trace_now.file);
    if (fd < 0) {
        return errno;
    }
    int error = atoll_trace_write_empty(fd);
    if (error == 0 && atoll_trace_names_init(&atoll_trace_now.names) < 0) {
        error = ENOMEM;
    }
    if (error != 0) {
        atoll_file_close(fd);
        return error;
    }
    atoll_trace_now.fd = fd;
    atoll_trace_now.ncalled = 0;
    atoll_trace_now.most = most;
    atomic_store(&atoll_trace_now.dropped, 0);
    (void)atoll_tick_ns(); /* the longer ago, the more exact */
    atoll_trace_now.ns = atoll_clock_ns();
    atoll_trace_now.ticks = atoll_ticks();
    return 0;
}

uint32_t atoll_trace_start(const char *path, uint64_t most, int *error) {
    uint32_t trace = 0;
    atoll_mutex_lock(&writing);
    atoll_mutex_lock(&atoll_trace_lock);
    *error = atomic_load(&atoll_trace_on) != 0 ? EBUSY : start_locked(path, most);
    if (*error == 0) {
        trace = ++traces != 0 ? traces : ++traces;
        atomic_store(&atoll_trace_on, trace);
    }
    atoll_mutex_unlock(&atoll_trace_lock);
    atoll_mutex_unlock(&writing);
    return trace;
}

/* 0, or an errno code, and then the file is an empty trace. */
static int write_file(atoll_trace_all *trace, uint64_t *events) {
    if (!atoll_file_is(trace->fd, &trace->file)) {
        return EBADF; /* the program has closed it: what has its number now is the program's */
    }
    int error = atoll_trace_write(trace, events);
    if (error != 0) {
        (void)atoll_trace_write_empty(trace->fd);
    }
    return error;
}

bool atoll_trace_stop(uint32_t trace, atoll_trace_result *result) {
    *result = (atoll_trace_result){0};
    atoll_mutex_lock(&writing);
    atoll_mutex_lock(&atoll_trace_lock);
    bool is_on = trace != 0 && atomic_load(&atoll_trace_on) == trace;
    if (is_on) {
        atoll_trace_now.end_ns = atoll_clock_ns();
        atoll_trace_now.end_ticks = atoll_ticks();
        atomic_store(&atoll_trace_on, 0);
        atoll_trace_settle_locked();
    }
    atoll_mutex_unlock(&atoll_trace_lock);
    if (is_on) { /* nobody else looks at it: it is off, and `writing` is held */
        result->dropped = atomic_load(&atoll_trace_now.dropped);
        result->error = write_file(&atoll_trace_now, &result->events);
        clear(&atoll_trace_now);
    }
    atoll_mutex_unlock(&writing);
    return is_on;
}

void atoll_trace_call_interp(int64_t interp, const char *name) {
    size_t length = strlen(name);
    atoll_trace_called *called = length != 0 ? malloc(sizeof *called + ATOLL_TRACE_ESCAPED(length)) : NULL;
    if (called == NULL) {
        return;
    }
    called->interp = interp;
    (void)atoll_trace_escape(called->json, name, length);
    atoll_mutex_lock(&atoll_trace_lock);
    bool is_on = atomic_load(&atoll_trace_on) != 0 && atoll_trace_now.ncalled++ < ATOLL_TRACE_NAMES;
    if (is_on) {
        called->next = atoll_trace_now.called;
        atoll_trace_now.called = called;
    }
    atoll_mutex_unlock(&atoll_trace_lock);
    if (!is_on) {
        free(called);
    }
}

void atoll_trace_fork(atoll_fork_moment when) {
    atoll_mutex_fork(&atoll_trace_lock, when);
    if (when != ATOLL_FORK_CHILD) {
        return;
    }
    atoll_mutex_init(&writing);
    atomic_store(&atoll_trace_on, 0);
    atoll_trace_forget_threads();
    close_file(&atoll_trace_now);
    /* Another thread of the parent's may have been about to free the rest: it is lost. */
    atoll_trace_now.chunks = NULL;
    atoll_trace_now.called = NULL;
    atoll_trace_now.names = (atoll_trace_names){0};
}
