/* Memory of C code that is sent through a queue as it is: see opaque.c. */
#ifndef ATOLL_MODULE_OPAQUE_H
#define ATOLL_MODULE_OPAQUE_H

#include "module/module.h"

typedef void (*atoll_opaque_release)(void *data, size_t size, void *context);

typedef struct {
    _Atomic(uint32_t) refs;
    void *data;
    size_t size;
    atoll_opaque_release release; /* NULL: nothing is to be done */
    void *context;
    atoll_entry *owner; /* a reference, and one of its exports: a clone of its has release().  Or NULL */
} atoll_opaque;

extern const atoll_handle_class atoll_opaque_class;

/* One with one reference.  NULL: *shut says that the interpreter whose clone has release() is about to end, else there is no memory.  No thread
 * state needed. */
atoll_opaque *atoll_opaque_new(void *data, size_t size, atoll_opaque_release release, void *context,
                               bool *shut);
/* What was not sent: it stays the caller's.  Before its only reference goes. */
void atoll_opaque_disarm(atoll_opaque *opaque);

/* sharedview.c.  A message that holds one, as a memoryview; the message says whether that failed.  And what a message holds that has a memoryview,
 * or bytes that are lent: false when the elements do not lie one after the other.  *opaque: it is this one, whole, or NULL.  No thread state
 * needed. */
void atoll_sharedview_put(atoll_message *msg, atoll_opaque *opaque);
bool atoll_sharedview_peek(const atoll_message *msg, uint8_t hook, atoll_reader *rd, void **data,
                           size_t *size, bool *readonly, atoll_opaque **opaque);

#endif
