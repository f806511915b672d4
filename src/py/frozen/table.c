/* What has been frozen so far.
 *
 * The table of contents has millions of objects, so a slot is one word: where the object lies in the region, in units of 16 bytes, and above
 * that as many bits of its hash as there is room for, which say where the slot belongs when the table grows.  0: free.
 * (What would be 0 itself, an object at the region's beginning, is left out and made again.)
 *
 * The memo has what a list, dict, tuple or set of the sender's has become, so that what occurs twice is walked once, and whether it is being
 * frozen: then it contains itself.  It keeps the sender's objects: code that runs meanwhile might drop one, and another take its address.
 */
#include "py/frozen/table.h"

#include <stdlib.h>

enum { PLACE_BITS = 36, UNIT = 16, FIRST_SLOTS = 64, PAGES_FROM = 4 << 20 };

static const uint64_t place_mask = (UINT64_C(1) << PLACE_BITS) - 1;

/* Slots are looked at in any order: pages of their own, large ones, as soon as that pays. */
static bool has_pages(size_t count) { return count * sizeof(uint64_t) >= PAGES_FROM; }

static uint64_t *new_slots(size_t count) {
    return has_pages(count) ? atoll_map_zeroed(count * sizeof(uint64_t)) : calloc(count, sizeof(uint64_t));
}

static void free_slots(atoll_frozen_table *table) {
    if (table->slots != NULL && has_pages(table->mask + 1)) {
        atoll_unmap(table->slots, (table->mask + 1) * sizeof(uint64_t));
    } else {
        free(table->slots);
    }
}

atoll_frozen_table *atoll_frozen_table_new(void) { return calloc(1, sizeof(atoll_frozen_table)); }

void atoll_frozen_table_free(atoll_frozen_table *table) {
    if (table != NULL) {
        free_slots(table);
        free(table);
    }
}

void atoll_table_empty(atoll_frozen_table *table) {
    free_slots(table);
    *table = (atoll_frozen_table){0};
}

PyObject *atoll_table_find(const atoll_frozen_table *table, uint64_t hash, atoll_frozen_match *is,
                           const void *like) {
    uint64_t bits = hash >> PLACE_BITS;
    for (size_t i = bits & table->mask; table->slots != NULL && table->slots[i] != 0;
         i = (i + 1) & table->mask) {
        if (table->slots[i] >> PLACE_BITS == bits) {
            PyObject *obj = atoll_area_at((size_t)(table->slots[i] & place_mask) * UNIT);
            if (obj != NULL && is(obj, like)) {
                return obj;
            }
        }
    }
    return NULL;
}

static void enter(uint64_t *slots, size_t mask, uint64_t word) {
    size_t i = (size_t)(word >> PLACE_BITS) & mask;
    while (slots[i] != 0) {
        i = (i + 1) & mask;
    }
    slots[i] = word;
}

int atoll_table_add(atoll_frozen_table *table, uint64_t hash, PyObject *obj) {
    if (table->slots == NULL || table->used * 3 >= table->mask * 2) {
        size_t count = table->slots != NULL ? (table->mask + 1) * 2 : FIRST_SLOTS;
        uint64_t *slots = new_slots(count);
        if (slots == NULL) {
            return -1;
        }
        for (size_t i = 0; table->slots != NULL && i <= table->mask; i++) {
            if (table->slots[i] != 0) {
                enter(slots, count - 1, table->slots[i]);
            }
        }
        free_slots(table);
        table->slots = slots;
        table->mask = count - 1;
    }
    uint64_t word = (hash & ~place_mask) | atoll_area_place(obj) / UNIT;
    if (word != 0) {
        enter(table->slots, table->mask, word);
        table->used++;
    }
    return 0;
}

/* ---- the memo ---- */

static size_t memo_hash(const void *obj) {
    return (size_t)(((uint64_t)(uintptr_t)obj >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 20);
}

static int memo_grow(atoll_frozen_memo *memo) {
    size_t count = memo->slots != NULL ? (memo->mask + 1) * 2 : FIRST_SLOTS;
    atoll_frozen_memo grown = {.mask = count - 1, .used = memo->used};
    grown.slots = calloc(count, sizeof *grown.slots);
    if (grown.slots == NULL) {
        return -1;
    }
    for (size_t i = 0; memo->slots != NULL && i <= memo->mask; i++) {
        if (memo->slots[i].obj != NULL) {
            size_t j = memo_hash(memo->slots[i].obj) & grown.mask;
            while (grown.slots[j].obj != NULL) {
                j = (j + 1) & grown.mask;
            }
            grown.slots[j] = memo->slots[i];
        }
    }
    free(memo->slots);
    *memo = grown;
    return 0;
}

PyObject **atoll_frozen_memo_at(atoll_frozen_memo *memo, PyObject *obj, bool *found) {
    if ((memo->slots == NULL || memo->used * 3 >= memo->mask * 2) && memo_grow(memo) < 0) {
        return NULL;
    }
    size_t i = memo_hash(obj) & memo->mask;
    while (memo->slots[i].obj != NULL && memo->slots[i].obj != obj) {
        i = (i + 1) & memo->mask;
    }
    *found = memo->slots[i].obj == obj;
    if (!*found) {
        memo->slots[i].obj = Py_NewRef(obj);
        memo->used++;
    }
    return &memo->slots[i].frozen;
}

void atoll_frozen_memo_free(atoll_frozen_memo *memo) {
    for (size_t i = 0; memo->slots != NULL && i <= memo->mask; i++) {
        Py_XDECREF(memo->slots[i].obj);
    }
    free(memo->slots);
}
