/* Frozen objects, field by field: see build.c and text.c. */
#ifndef ATOLL_PY_FROZEN_BUILD_H
#define ATOLL_PY_FROZEN_BUILD_H

#include "py/frozen/area.h"
#include "py/frozen/table.h"

/* Where they are made, and what has been made there. */
typedef struct {
    atoll_area *area;
    atoll_frozen_table *table;
} atoll_builder;

/* All return what is equal and there already, or a new object, or NULL with MemoryError. */
PyObject *atoll_build_str(const atoll_builder *to, PyObject *str);
PyObject *atoll_build_bytes(const atoll_builder *to, const char *data, Py_ssize_t size);
PyObject *atoll_build_int(const atoll_builder *to, PyObject *number);
/* Of a NaN, which equals nothing, there is a new object each time. */
PyObject *atoll_build_float(const atoll_builder *to, PyObject *number);
PyObject *atoll_build_complex(const atoll_builder *to, PyObject *number);
/* Of frozen parts: a range's are start, stop, step and length. */
PyObject *atoll_build_tuple(const atoll_builder *to, PyObject *const *items, size_t n);
PyObject *atoll_build_range(const atoll_builder *to, PyObject *const parts[4]);
/* Of frozen parts that are all different: `parts` are members, or keys and values in turn. */
PyObject *atoll_build_frozenset(const atoll_builder *to, PyObject *const *parts, size_t n);
PyObject *atoll_build_mapping(const atoll_builder *to, PyObject *const *parts, size_t n);

/* For text.c: an object of this type, whose other fields are zero; NULL with MemoryError. */
PyObject *atoll_build_object(const atoll_builder *to, PyTypeObject *type, size_t size, size_t slack);
/* Enters a new object, which it returns; NULL with MemoryError. */
PyObject *atoll_build_enter(const atoll_builder *to, uint64_t hash, PyObject *obj);

#endif
