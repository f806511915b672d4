/* Lists of pieces of memory. */
#ifndef ATOLL_PY_MEMORY_SPAN_H
#define ATOLL_PY_MEMORY_SPAN_H

#include "py/compat.h" /* first: Python.h wants to be */

typedef struct {
    char *start;
    size_t size;
} atoll_span;

/* Adds one to an array (malloc) with room for `*room`; the new count, or -1 when out of memory. */
Py_ssize_t atoll_span_add(atoll_span **spans, Py_ssize_t count, size_t *room, atoll_span span);

#endif
