/* A message: encoded bytes and the shared things they refer to.
 *
 * The bytes never hold a pointer, because a decoder must be able to read hostile
 * bytes.  What is shared rather than copied (an interpreter, a queue, a view of
 * memory) travels beside them as a handle: a pointer with its class.  The bytes
 * name a handle by its index.
 *
 * Ownership: a message owns one reference to each of its handles.  Clearing
 * a message releases them; this needs no thread state and no lock, so a message
 * may be cleared by any thread, also when its sender's interpreter is gone.
 */
#ifndef ATOLL_CORE_BASE_MESSAGE_H
#define ATOLL_CORE_BASE_MESSAGE_H

#include "core/base/buffer.h"

typedef struct atoll_handle_class {
    const char *name;
    void (*retain)(void *ptr);  /* any thread, no thread state needed */
    void (*release)(void *ptr); /* likewise */
} atoll_handle_class;

typedef struct {
    const atoll_handle_class *cls;
    void *ptr;
} atoll_handle;

typedef struct {
    atoll_buffer body;
    atoll_handle *handles;
    uint32_t nhandles;
    uint32_t handles_cap;
} atoll_message;

#define ATOLL_NO_HANDLE UINT32_MAX

/* Takes over the caller's reference to ptr (also on failure, when it is released).
 * The handle's index, or ATOLL_NO_HANDLE when out of memory. */
uint32_t atoll_message_attach(atoll_message *msg, const atoll_handle_class *cls, void *ptr);

/* A borrowed pointer to handle `index` when it is of class cls, else NULL. */
void *atoll_message_handle(const atoll_message *msg, uint32_t index, const atoll_handle_class *cls);

/* Undoes what was appended since the body had `len` bytes and there were `nhandles` handles.
 * Storage is kept. */
void atoll_message_rewind(atoll_message *msg, size_t len, uint32_t nhandles);

/* Releases all handles and empties the body, keeping at most `keep` bytes of storage. */
void atoll_message_reset(atoll_message *msg, size_t keep);
/* The same, keeping nothing. */
void atoll_message_clear(atoll_message *msg);

#endif
