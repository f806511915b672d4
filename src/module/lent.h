/* Memory of libraries' objects that other interpreters see: Arrow arrays and tensors.
 *
 * What is lent are the structs of the Arrow C data interface, or of DLPack, that an object has given in its own interpreter, its owner.
 * They are kept as they are, and are released there.  What others get are structs of the same kind that point into the same memory, each
 * with a reference of its own, so that a consumer may move them, or parts of them, and release them on any thread.
 *
 *   in the owner's interpreter   references are to the atoll_lent; whoever drops the last one calls the producer's release(), as any
 *                                consumer would
 *   elsewhere                    references are to an export (py/interp/export.h), which has one to the atoll_lent: the last one is
 *                                handed to the owner, and an interpreter of which there are some is closed for its users, but ended
 *                                only when the last is gone
 *
 * When the owner's interpreter has ended all the same (the process ends), nothing of the producer's is called: its code is gone.
 *
 * Thread states: attached, but in release functions, which need none, and while a stream is read.  No locks.  Failure: an exception, and nothing is
 * kept.
 *
 *   lent         references
 *   lent_arrow   Arrow: taken from an object, given to a consumer
 *   lent_dlpack  DLPack, likewise
 *   lent_types   the Python types, and how they cross
 */
#ifndef ATOLL_MODULE_LENT_H
#define ATOLL_MODULE_LENT_H

#include "module/arrow.h"
#include "module/dlpack.h"
#include "module/module.h"

typedef enum { ATOLL_LENT_ARRAY, ATOLL_LENT_STREAM, ATOLL_LENT_TENSOR, ATOLL_LENT_KINDS } atoll_lent_kind;

typedef struct {
    _Atomic(uint32_t) refs;
    atoll_lent_kind kind;
    uint64_t serial; /* no other of the process ever has it */
    struct {         /* ARRAY: one; STREAM: any number, all of the same schema */
        atoll_arrow_schema schema;
        atoll_arrow_array *arrays;
        int64_t count;
    } arrow;
    struct { /* TENSOR */
        atoll_dlpack_managed *plain;
        atoll_dlpack_versioned *versioned; /* one of them is NULL */
    } dl;
} atoll_lent;

/* A reference, in one of the two ways. */
typedef struct {
    atoll_lent *own;
    atoll_export *away;
} atoll_lent_ref;

/* An empty one with one reference; NULL with MemoryError. */
atoll_lent *atoll_lent_new(atoll_lent_kind kind);
/* Any thread.  alive: the owner's code may be called. */
void atoll_lent_drop(atoll_lent *lent, bool alive);
atoll_lent_ref atoll_lent_ref_copy(const atoll_lent_ref *ref);
void atoll_lent_ref_drop(const atoll_lent_ref *ref);
const atoll_lent *atoll_lent_of(const atoll_lent_ref *ref);

/* Takes what obj offers: 1 and *out, 0 when it offers nothing of the sort, or -1 with an exception. */
int atoll_lent_take_arrow(atoll_state *state, PyObject *obj, atoll_lent **out);
int atoll_lent_take_tensor(PyObject *obj, atoll_lent **out);
/* obj.name: 1 and a new reference in *out, 0 where there is none, or -1 with an exception. */
int atoll_lent_method(PyObject *obj, const char *name, PyObject **out);

/* Capsules for a consumer; NULL with an exception. */
PyObject *atoll_lent_schema_capsule(const atoll_lent_ref *ref);
PyObject *atoll_lent_array_capsule(const atoll_lent_ref *ref);
PyObject *atoll_lent_stream_capsule(const atoll_lent_ref *ref);
PyObject *atoll_lent_tensor_capsule(const atoll_lent_ref *ref, PyObject *args, PyObject *kwargs);
/* A tensor's device as __dlpack_device__() has it. */
PyObject *atoll_lent_tensor_device(const atoll_lent_ref *ref);

#endif
