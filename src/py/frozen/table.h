/* What has been frozen so far: see table.c. */
#ifndef ATOLL_PY_FROZEN_TABLE_H
#define ATOLL_PY_FROZEN_TABLE_H

#include "py/frozen/frozen.h"

/* The frozen objects of an area by what is in them. */
struct atoll_frozen_table {
    uint64_t *slots;
    size_t mask;
    size_t used;
};

/* Looks through objects of this hash for one that is() finds equal to `like`: it, or NULL. */
typedef bool atoll_frozen_match(PyObject *obj, const void *like);
PyObject *atoll_table_find(const atoll_frozen_table *table, uint64_t hash, atoll_frozen_match *is,
                           const void *like);
/* -1 when out of memory. */
int atoll_table_add(atoll_frozen_table *table, uint64_t hash, PyObject *obj);
/* It holds what has been taken back. */
void atoll_table_empty(atoll_frozen_table *table);

/* Which object of the sender's became which: by address. */
typedef struct {
    struct {
        PyObject *obj;
        PyObject *frozen; /* NULL: it is being frozen */
    } *slots;
    size_t mask;
    size_t used;
} atoll_frozen_memo;

/* A pointer to the place for obj's copy; *found: whether obj was there.  NULL when out of memory.  Good until the next call. */
PyObject **atoll_frozen_memo_at(atoll_frozen_memo *memo, PyObject *obj, bool *found);
void atoll_frozen_memo_free(atoll_frozen_memo *memo);

static inline uint64_t atoll_table_mix(uint64_t hash, uint64_t word) {
    hash = (hash ^ word) * UINT64_C(0x9E3779B97F4A7C15);
    return hash ^ hash >> 29;
}

#endif
