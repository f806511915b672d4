/* The structs of the Arrow C data and stream interfaces, whose layout never changes.  The names are ours, the members are in its order. */
#ifndef ATOLL_MODULE_ARROW_H
#define ATOLL_MODULE_ARROW_H

#include <stdint.h>

typedef struct atoll_arrow_schema {
    const char *format, *name, *metadata;
    int64_t flags, n_children;
    struct atoll_arrow_schema **children, *dictionary;
    void (*release)(struct atoll_arrow_schema *); /* NULL: it is released, or was moved */
    void *private_data;
} atoll_arrow_schema;

typedef struct atoll_arrow_array {
    int64_t length, null_count, offset, n_buffers, n_children;
    const void **buffers;
    struct atoll_arrow_array **children, *dictionary;
    void (*release)(struct atoll_arrow_array *);
    void *private_data;
} atoll_arrow_array;

typedef struct atoll_arrow_stream {
    int (*get_schema)(struct atoll_arrow_stream *, atoll_arrow_schema *out); /* 0 or an errno code */
    int (*get_next)(struct atoll_arrow_stream *, atoll_arrow_array *out);    /* released: there is no more */
    const char *(*get_last_error)(struct atoll_arrow_stream *);
    void (*release)(struct atoll_arrow_stream *);
    void *private_data;
} atoll_arrow_stream;

#endif
