/* How memory is laid out as an array: format, shape and strides.  What a memoryview that has crossed and a SharedArray have in common. */
#ifndef ATOLL_MODULE_GEOMETRY_H
#define ATOLL_MODULE_GEOMETRY_H

#include "py/compat.h" /* first: Python.h wants to be */

#include "core/base/base.h"

enum { ATOLL_GEOMETRY_NEAR = 3, ATOLL_FORMAT_NEAR = 8 };

/* Not to be moved: it may point into itself. */
typedef struct {
    char *data;     /* of the element with all indices 0 */
    Py_ssize_t len; /* bytes of all elements */
    Py_ssize_t itemsize;
    bool readonly;
    int ndim;
    char *format;
    Py_ssize_t *shape;
    Py_ssize_t *strides;
    Py_ssize_t near[2 * ATOLL_GEOMETRY_NEAR]; /* both, where they fit */
    char text[ATOLL_FORMAT_NEAR];
} atoll_geometry;

/* Room for this many dimensions and this format, which is copied.  0, or -1 with MemoryError; clear it in either case. */
int atoll_geometry_init(atoll_geometry *g, int ndim, const char *format, size_t format_len);
void atoll_geometry_clear(atoll_geometry *g);
/* The strides of elements that lie one after the other, the last index fastest, for its shape; and len.  -1 when that is more than a
 * Py_ssize_t holds. */
int atoll_geometry_pack(atoll_geometry *g);

/* What getbuffer() of its owner does.  */
int atoll_geometry_getbuffer(const atoll_geometry *g, PyObject *owner, Py_buffer *b, int flags);
/* All of it as a buffer that nobody has to release. */
Py_buffer atoll_geometry_buffer(const atoll_geometry *g);

/* Appends a layout and where it begins.  The message says whether that failed. */
void atoll_geometry_put(atoll_buffer *body, const Py_buffer *b, int64_t offset);
/* The same again; data is not set.  0, or -1 with an exception: ValueError for what is malformed. */
int atoll_geometry_get(atoll_reader *rd, atoll_geometry *g, int64_t *offset);
/* The same without Python, of elements that lie one after the other: where they begin, and their bytes.  False: they do not, or it is malformed. */
bool atoll_geometry_peek(atoll_reader *rd, int64_t *offset, size_t *size, bool *readonly);
/* Whether every element lies between low and high, where the first is at offset, and len is its size. */
bool atoll_geometry_fits(const atoll_geometry *g, int64_t offset, int64_t low, int64_t high);

/* Where the memory of a buffer begins and ends, from its buf on: low may be negative. */
void atoll_geometry_extent(const Py_buffer *b, int64_t *low, int64_t *high);

/* Copies a buffer to memory where its elements lie one after the other, the last index fastest.  Of much, others may run meanwhile.
 * 0, or -1 with an exception. */
int atoll_geometry_copy(char *to, const Py_buffer *from);

/* Formats with 'O' would hand object pointers to another interpreter. */
bool atoll_geometry_has_pointers(const char *format);

#endif
