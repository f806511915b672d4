/* The structs of DLPack (version 1), an agreement between libraries that hand tensors to one another; their layout never changes within a
 * major version.  The names are ours, the members are in its order. */
#ifndef ATOLL_MODULE_DLPACK_H
#define ATOLL_MODULE_DLPACK_H

#include "py/compat.h" /* first: Python.h wants to be */

#include <stdbool.h>
#include <stdint.h>

enum { ATOLL_DLPACK_MAJOR = 1, ATOLL_DLPACK_MINOR = 0 };
enum { ATOLL_DLPACK_CPU = 1 };
enum {
    ATOLL_DLPACK_INT = 0,
    ATOLL_DLPACK_UINT = 1,
    ATOLL_DLPACK_FLOAT = 2,
    ATOLL_DLPACK_COMPLEX = 5,
    ATOLL_DLPACK_BOOL = 6
};
enum { ATOLL_DLPACK_READ_ONLY = 1, ATOLL_DLPACK_COPIED = 2 };

#define ATOLL_DLPACK_NAME "dltensor"
#define ATOLL_DLPACK_VERSIONED_NAME "dltensor_versioned"

typedef struct {
    int32_t type, id;
} atoll_dlpack_device;

typedef struct {
    uint8_t code, bits;
    uint16_t lanes;
} atoll_dlpack_type;

typedef struct {
    void *data;
    atoll_dlpack_device device;
    int32_t ndim;
    atoll_dlpack_type dtype;
    int64_t *shape;
    int64_t *strides; /* in elements; NULL: one after the other */
    uint64_t byte_offset;
} atoll_dlpack_tensor;

typedef struct atoll_dlpack_managed {
    atoll_dlpack_tensor tensor;
    void *manager;
    void (*deleter)(struct atoll_dlpack_managed *);
} atoll_dlpack_managed;

typedef struct atoll_dlpack_versioned {
    struct {
        uint32_t major, minor;
    } version;
    void *manager;
    void (*deleter)(struct atoll_dlpack_versioned *);
    uint64_t flags;
    atoll_dlpack_tensor tensor;
} atoll_dlpack_versioned;

/* What a consumer says to __dlpack__(). */
typedef struct {
    PyObject *stream; /* borrowed */
    bool versioned;   /* it knows version 1 */
    bool copy;        /* it wants one */
} atoll_dlpack_wish;

/* 0, or -1 with an exception: BufferError for another device than the one that is given. */
int atoll_dlpack_parse(PyObject *args, PyObject *kwargs, atoll_dlpack_device own, atoll_dlpack_wish *wish);
/* BufferError: the stream is another one than None, and the memory not on an accelerator.  -1. */
int atoll_dlpack_no_stream(void);

/* What a consumer gets; its owner's struct begins with it.  Whoever has consumed the capsule calls the deleter when it has done with it, on
 * whatever thread and with or without a thread state; a capsule that nobody has consumed (it is still named as it was) does so when it is
 * freed. */
typedef struct atoll_dlpack_given {
    union {
        atoll_dlpack_managed plain;
        atoll_dlpack_versioned versioned;
    } dl; /* first: the deleter gets it */
    void (*end)(struct atoll_dlpack_given *given);
} atoll_dlpack_given;

/* A capsule of what is given, in the version that the consumer knows.  NULL with an exception, and then it has been ended: BufferError for
 * read-only memory (flags) where the version cannot say so. */
PyObject *atoll_dlpack_capsule(atoll_dlpack_given *given, const atoll_dlpack_tensor *tensor, uint64_t flags,
                               bool versioned);

#endif
