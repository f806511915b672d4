/* Which interpreters there are in a trace: found by their ids, in the order of their coming.  See trace.h. */
#include "core/trace/internal.h"

#include <stdlib.h>

static uint32_t *slot_of(uint32_t *slots, uint32_t nslots, const atoll_trace_seen *items, uint32_t interp) {
    uint32_t at = (interp * UINT32_C(0x9E3779B1)) % nslots;
    while (slots[at] != 0 && items[slots[at] - 1].interp != interp) {
        at = (at + 1) % nslots;
    }
    return &slots[at];
}

/* 0 or -1. */
static int grow(atoll_trace_rows *rows) {
    uint32_t room = rows->room * 2 + 64;
    atoll_trace_seen *items = realloc(rows->items, room * sizeof *items);
    if (items == NULL) {
        return -1;
    }
    rows->items = items;
    uint32_t *slots = calloc((size_t)room * 2, sizeof *slots);
    if (slots == NULL) {
        return -1;
    }
    rows->room = room;
    for (uint32_t i = 0; i < rows->count; i++) {
        *slot_of(slots, room * 2, items, items[i].interp) = i + 1;
    }
    free(rows->slots);
    rows->slots = slots;
    return 0;
}

uint32_t atoll_trace_rows_find(atoll_trace_rows *rows, uint32_t interp) {
    if (rows->last < rows->count && rows->items[rows->last].interp == interp) {
        return rows->last;
    }
    if (rows->count == rows->room && grow(rows) < 0) {
        return UINT32_MAX;
    }
    uint32_t *slot = slot_of(rows->slots, rows->room * 2, rows->items, interp);
    if (*slot == 0) {
        rows->items[rows->count] = (atoll_trace_seen){.interp = interp};
        *slot = ++rows->count;
    }
    rows->last = *slot - 1;
    return rows->last;
}

void atoll_trace_rows_free(atoll_trace_rows *rows) {
    free(rows->items);
    free(rows->slots);
    *rows = (atoll_trace_rows){0};
}
