/* The pointer memo: which object has which index. */
#ifndef ATOLL_PY_CODEC_MEMO_H
#define ATOLL_PY_CODEC_MEMO_H

#include "py/compat.h" /* first: Python.h wants to be */

typedef struct {
    PyObject *key;
    uint32_t epoch; /* the slot is in use when this is the memo's epoch */
    uint32_t index;
} atoll_memo_slot;

typedef struct {
    atoll_memo_slot *slots;
    PyObject **keys; /* by index */
    uint32_t mask;
    uint32_t epoch;
    uint32_t used;               /* the next index */
    struct atoll_shapes *shapes; /* of dicts (codec/shape.c), or NULL */
} atoll_memo;

#define ATOLL_NOT_FOUND UINT32_MAX

atoll_memo *atoll_memo_new(void);
void atoll_memo_free(atoll_memo *memo);
/* Forgets all; gives back storage beyond a modest size. */
void atoll_memo_reset(atoll_memo *memo);
int atoll_memo_grow(atoll_memo *memo);
/* Enters key unless it is there: 1 when it was not, 0, or -1 when out of memory. */
int atoll_memo_put(atoll_memo *memo, PyObject *key);

static inline uint32_t atoll_memo_hash(const void *ptr) {
    return (uint32_t)(((uint64_t)(uintptr_t)ptr >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 32);
}

/* The slot that holds key, or the free slot where it belongs. */
static inline atoll_memo_slot *atoll_memo_find(atoll_memo *memo, PyObject *key) {
    uint32_t i = atoll_memo_hash(key) & memo->mask;
    for (;;) {
        atoll_memo_slot *slot = &memo->slots[i];
        if (slot->epoch != memo->epoch || slot->key == key) {
            return slot;
        }
        i = (i + 1) & memo->mask;
    }
}

static inline uint32_t atoll_memo_get(atoll_memo *memo, PyObject *key) {
    atoll_memo_slot *slot = atoll_memo_find(memo, key);
    return slot->epoch == memo->epoch ? slot->index : ATOLL_NOT_FOUND;
}

/* Gives key, whose free slot this is, the next index.  There is room. */
static inline void atoll_memo_enter(atoll_memo *memo, atoll_memo_slot *slot, PyObject *key) {
    slot->key = key;
    slot->epoch = memo->epoch;
    slot->index = memo->used;
    memo->keys[memo->used++] = key;
}

#endif
