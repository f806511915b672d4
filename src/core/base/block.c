#include "core/base/block.h"

#include "port/port.h"

#include <stdlib.h>

enum {
    ALIGN = 64,
    LARGE = 4 * 1024 * 1024
}; /* from LARGE on, clearing pages one by one would cost more than copying */

atoll_block *atoll_block_new(size_t size) {
    size_t head = (sizeof(atoll_block) + ALIGN - 1) / ALIGN * ALIGN;
    if (size > SIZE_MAX / 2) {
        return NULL;
    }
    uint8_t *raw = size >= LARGE ? atoll_map_large(head + size)
                                 : aligned_alloc(ALIGN, head + (size + ALIGN - 1) / ALIGN * ALIGN);
    if (raw == NULL) {
        return NULL;
    }
    atoll_block *block = (atoll_block *)raw;
    atomic_init(&block->refs, 1);
    block->size = size;
    block->data = raw + head;
    return block;
}

void atoll_block_retain(atoll_block *block) {
    atomic_fetch_add_explicit(&block->refs, 1, memory_order_relaxed);
}

void atoll_block_release(atoll_block *block) {
    if (atomic_fetch_sub_explicit(&block->refs, 1, memory_order_acq_rel) == 1) {
        free(block);
    }
}

static void retain(void *ptr) { atoll_block_retain(ptr); }
static void release(void *ptr) { atoll_block_release(ptr); }

const atoll_handle_class atoll_block_class = {"block", retain, release};
