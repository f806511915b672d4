/* A block of memory with a reference count: the bytes of a large buffer, copied once by
 * the sender and used in place by the receiver.
 *
 * Ownership: atoll_block_new gives one reference.  Any thread may retain and release.
 * The bytes are written before the block is first handed to another thread;
 * afterwards they belong to whoever the receivers' Python code lets write.
 */
#ifndef ATOLL_CORE_BASE_BLOCK_H
#define ATOLL_CORE_BASE_BLOCK_H

#include "core/base/message.h"

#include <stdatomic.h>

typedef struct {
    _Atomic(uint32_t) refs;
    size_t size;
    uint8_t *data; /* aligned to 64 bytes */
} atoll_block;

/* NULL when out of memory. */
atoll_block *atoll_block_new(size_t size);
void atoll_block_retain(atoll_block *block);
void atoll_block_release(atoll_block *block);

extern const atoll_handle_class atoll_block_class;

#endif
