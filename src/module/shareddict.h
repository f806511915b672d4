/* What the files of SharedDict share. */
#ifndef ATOLL_MODULE_SHAREDDICT_H
#define ATOLL_MODULE_SHAREDDICT_H

#include "core/map/map.h"
#include "module/things.h"

static inline atoll_hashmap *atoll_shareddict_map(PyObject *self) { return ((atoll_thing *)self)->what; }

/* NULL with an exception when its module was cleared: then it has no map. */
static inline atoll_state *atoll_shareddict_state(PyObject *self) {
    return atoll_state_live(((atoll_thing *)self)->state);
}

/* A key as the core has it. */
typedef struct {
    atoll_hashmap_key key;
    atoll_buffer bytes;
    uint8_t few[104]; /* of a short str: no memory is asked for */
} atoll_shareddict_key;

/* 0, or -1 with NotShareableError for what is no key ("key[1]: ..."), MemoryError. */
int atoll_shareddict_key_init(atoll_state *state, atoll_shareddict_key *key, PyObject *obj);
void atoll_shareddict_key_clear(atoll_shareddict_key *key);
/* An object that is equal to the one that has been the key: a new reference. */
PyObject *atoll_shareddict_key_object(const uint8_t *bytes, size_t len);

/* Seconds above 0, or None for ever.  0, or -1 with an exception. */
int atoll_shareddict_ttl_of(PyObject *obj, double *ttl);
/* A value to be stored.  0, or -1 with an exception. */
int atoll_shareddict_value_of(atoll_state *state, PyObject *obj, atoll_hashmap_value *value);
/* The object of a value, whose reference it takes over. */
PyObject *atoll_shareddict_object_of(atoll_state *state, const atoll_hashmap_value *value);
/* For what the core said to a put.  -1. */
int atoll_shareddict_raise(PyObject *self, atoll_hashmap_result result);
/* When what is stored now expires, where nothing else is said: `otherwise` where the dict has no ttl. */
double atoll_shareddict_expiry(const atoll_hashmap *map, double otherwise);

/* shareddict_ops.c, for the type */
extern PyMethodDef atoll_shareddict_methods[];
PyObject *atoll_shareddict_subscript(PyObject *self, PyObject *name);
int atoll_shareddict_assign(PyObject *self, PyObject *name, PyObject *obj);
int atoll_shareddict_contains(PyObject *self, PyObject *name);
Py_ssize_t atoll_shareddict_length(PyObject *self);
PyObject *atoll_shareddict_iter(PyObject *self);

#endif
