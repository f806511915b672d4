/* Memory of an object that other interpreters see: taken and released in the interpreter that owns the object. */
#ifndef ATOLL_PY_INTERP_EXPORT_H
#define ATOLL_PY_INTERP_EXPORT_H

#include "py/codec/codec.h"
#include "py/state.h"

typedef struct {
    atoll_job job; /* first member: the job is the export */
    _Atomic(uint32_t) refs;
    bool is_bytes;      /* releasing it runs no code */
    atoll_entry *owner; /* a reference */
    Py_buffer buffer;   /* of an object, unless there is an end() */
    void *what;
    void (*end)(void *what, bool alive);
} atoll_export;

/* An export of obj's memory with one reference; NULL with what PyObject_GetBuffer raises, or MemoryError. */
atoll_export *atoll_export_new(atoll_state *state, PyObject *obj);
/* One of something else of this interpreter's: end() is called when it is over, attached to the owner where that is alive (registry.h,
 * atoll_job).  NULL with MemoryError. */
atoll_export *atoll_export_of(atoll_state *state, void *what, void (*end)(void *what, bool alive));
/* Any thread, with or without a thread state. */
void atoll_export_retain(void *ptr);
void atoll_export_release(void *ptr);
extern const atoll_handle_class atoll_export_class;
extern const atoll_handle_class atoll_export_object_class; /* of those with an end() */
/* Hands a job to an interpreter that exists, whose reference the caller has, and sees to it that it is run: any thread, with or without a
 * thread state. */
void atoll_interp_hand_over(atoll_entry *owner, atoll_job *job);
/* Attached to its sender: the bytes objects that a message lends become blocks (core/base/block.h), so that it outlives the
 * sender.  0, or -1 with MemoryError. */
int atoll_export_keep_bytes(atoll_message *msg);

#endif
