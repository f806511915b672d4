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

/* What max_version and dl_device of a __dlpack__() ask for.  0, or -1 with an exception: BufferError for another device. */
int atoll_dlpack_arguments(PyObject *max_version, PyObject *device, int type, int id, bool *versioned);

#endif
