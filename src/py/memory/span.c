/* Lists of pieces of memory: see span.h. */
#include "py/memory/span.h"

#include <stdlib.h>

Py_ssize_t atoll_span_add(atoll_span **spans, Py_ssize_t count, size_t *room, atoll_span span) {
    if ((size_t)count == *room) {
        *room = *room * 2 + 8;
        atoll_span *more = realloc(*spans, *room * sizeof *more);
        if (more == NULL) {
            return -1;
        }
        *spans = more;
    }
    (*spans)[count] = span;
    return count + 1;
}
