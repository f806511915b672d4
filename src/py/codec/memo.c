/* The encoder's memo: object address to index, open addressing with linear probing.
 *
 * Emptying it must cost nothing, since most messages are small: a slot is in use when it carries the memo's
 * epoch, and a reset starts the next epoch.  What is in it is also listed by index, so that the encoder can take and give
 * up references without looking at all slots.  The memo never touches the objects; who
 * owns references is the encoder's business (see codec/internal.h).  Shapes own theirs, so it is emptied attached.
 */
#include "py/codec/internal.h"

enum { FIRST_SLOTS = 256, KEEP_SLOTS = 1 << 16 };

atoll_memo *atoll_memo_new(void) {
    atoll_memo *memo = PyMem_RawCalloc(1, sizeof *memo);
    if (memo == NULL) {
        return NULL;
    }
    memo->slots = PyMem_RawCalloc(FIRST_SLOTS, sizeof *memo->slots);
    memo->keys = PyMem_RawMalloc(FIRST_SLOTS / 2 * sizeof(PyObject *));
    if (memo->slots == NULL || memo->keys == NULL) {
        atoll_memo_free(memo);
        return NULL;
    }
    memo->mask = FIRST_SLOTS - 1;
    memo->epoch = 1;
    return memo;
}

void atoll_memo_free(atoll_memo *memo) {
    if (memo != NULL) {
        atoll_shapes_free(memo->shapes);
        PyMem_RawFree(memo->slots);
        PyMem_RawFree(memo->keys);
        PyMem_RawFree(memo);
    }
}

int atoll_memo_grow(atoll_memo *memo) {
    uint32_t count = memo->mask + 1;
    if (count >= UINT32_C(1) << 31) {
        return -1;
    }
    uint32_t wider = count < 1 << 20 ? count * 4 : count * 2;
    atoll_memo_slot *old = memo->slots;
    PyObject **keys = PyMem_RawRealloc(memo->keys, wider / 2 * sizeof *keys);
    if (keys == NULL) {
        return -1;
    }
    memo->keys = keys;
    atoll_memo_slot *slots = PyMem_RawCalloc(wider, sizeof *slots);
    if (slots == NULL) {
        return -1;
    }
    memo->slots = slots;
    memo->mask = wider - 1;
    for (uint32_t i = 0; i < count; i++) {
        if (old[i].epoch == memo->epoch) {
            *atoll_memo_find(memo, old[i].key) = old[i];
        }
    }
    PyMem_RawFree(old);
    return 0;
}

int atoll_memo_put(atoll_memo *memo, PyObject *key) {
    if (atoll_memo_get(memo, key) != ATOLL_NOT_FOUND) {
        return 0;
    }
    if (memo->used * 2 >= memo->mask && atoll_memo_grow(memo) < 0) {
        return -1;
    }
    atoll_memo_enter(memo, atoll_memo_find(memo, key), key);
    return 1;
}

void atoll_memo_reset(atoll_memo *memo) {
    memo->used = 0;
    if (memo->shapes != NULL) {
        atoll_shapes_free(memo->shapes);
        memo->shapes = NULL;
    }
    if (memo->mask >= KEEP_SLOTS) {
        atoll_memo_slot *slots = PyMem_RawCalloc(FIRST_SLOTS, sizeof *slots);
        PyObject **keys = PyMem_RawMalloc(FIRST_SLOTS / 2 * sizeof *keys);
        if (slots == NULL || keys == NULL) {
            PyMem_RawFree(slots);
            PyMem_RawFree(keys);
        } else {
            PyMem_RawFree(memo->slots);
            PyMem_RawFree(memo->keys);
            memo->slots = slots;
            memo->keys = keys;
            memo->mask = FIRST_SLOTS - 1;
            memo->epoch = 0;
        }
    }
    if (++memo->epoch == 0) {
        memset(memo->slots, 0, ((size_t)memo->mask + 1) * sizeof *memo->slots);
        memo->epoch = 1;
    }
}
