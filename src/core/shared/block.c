/* Blocks: shared.h says what they are. */
#include "core/shared/internal.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64 };

static _Atomic(uint64_t) serials;
static _Atomic(uint64_t) live;
static _Atomic(uint64_t) live_bytes;

_Static_assert(sizeof(atoll_shared) <= ALIGN, "the head of a small block fits in front of it");

static void count_in(atoll_shared *block) {
    atomic_init(&block->refs, 1);
    block->serial = atomic_fetch_add_explicit(&serials, 1, memory_order_relaxed) + 1;
    atomic_fetch_add_explicit(&live, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&live_bytes, block->size, memory_order_relaxed);
}

atoll_shared *atoll_shared_wrap(void *data, size_t size, struct atoll_shared_label *name) {
    atoll_shared *block = calloc(1, sizeof *block);
    if (block != NULL) {
        block->size = size;
        block->data = data;
        block->name = name;
        count_in(block);
    }
    return block;
}

static atoll_shared *new_small(size_t size) {
    size_t whole = ALIGN + (size + ALIGN - 1) / ALIGN * ALIGN;
    uint8_t *raw = aligned_alloc(ALIGN, whole);
    if (raw == NULL) {
        return NULL;
    }
    memset(raw, 0, whole);
    atoll_shared *block = (atoll_shared *)raw;
    block->size = size;
    block->data = raw + ALIGN;
    count_in(block);
    return block;
}

atoll_shared *atoll_shared_new(size_t size) {
    if (size < ATOLL_SHARED_PAGES) {
        return new_small(size);
    }
    void *data = atoll_map_zeroed(size);
    atoll_shared *block = data != NULL ? atoll_shared_wrap(data, size, NULL) : NULL;
    if (block == NULL && data != NULL) {
        atoll_unmap(data, size);
    }
    return block;
}

void atoll_shared_fix(atoll_shared *block, bool guarded) {
    block->fixed = true;
    if (guarded && block->size >= ATOLL_SHARED_PAGES) {
        (void)atoll_map_protect(block->data, block->size);
    }
}

void atoll_shared_retain(atoll_shared *block) {
    atomic_fetch_add_explicit(&block->refs, 1, memory_order_relaxed);
}

void atoll_shared_release(atoll_shared *block) {
    if (atomic_fetch_sub_explicit(&block->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&live_bytes, block->size, memory_order_relaxed);
    if (block->name != NULL) {
        block->name->end(block->name);
    }
    if (block->name != NULL || block->size >= ATOLL_SHARED_PAGES) {
        atoll_unmap(block->data, block->size);
    }
    free(block->name);
    free(block);
}

static void retain(void *ptr) { atoll_shared_retain(ptr); }
static void release(void *ptr) { atoll_shared_release(ptr); }

const atoll_handle_class atoll_shared_class = {"shared memory", retain, release};

atoll_shared_figures atoll_shared_count(void) {
    return (atoll_shared_figures){atomic_load_explicit(&live, memory_order_relaxed),
                                  atomic_load_explicit(&live_bytes, memory_order_relaxed)};
}
