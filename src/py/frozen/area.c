/* Areas: memory for frozen objects that is filled and given back as one, and who has seen it.
 *
 * An area is a list of chunks, each a few blocks of the region in a row; objects are taken from the last one, in order, and none is given back
 * alone.  Chunks grow with the area.  Only the thread that freezes takes, with its GIL, so that needs no lock.
 *
 * Who has seen an area is kept as interpreters' ids: an interpreter sees it when it freezes something in it, or decodes something of it, and never
 * unsees it, as nobody knows what its code has kept.  Ids are not used twice in one Python.  An area without anybody is given
 * back at once, by whoever was the last.  One that stays (the main interpreter has seen it) needs no counting any more, so what is sent of it
 * needs no handle.
 *
 * The struct outlives the memory only within a function.
 */
#include "py/frozen/area.h"

#include "py/frozen/region.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 16, MOST_GROWTH = 64 /* blocks */ };

typedef struct {
    char *at;
    size_t blocks;
    size_t used;
} chunk;

struct atoll_area {
    atoll_area *prev, *next; /* of all areas, under the lock */
    uint64_t serial;
    uint32_t refs; /* under the lock */
    _Atomic(bool) stays;
    _Atomic(bool) has_proxies;
    int64_t *seers; /* under the lock */
    size_t seer_count, seer_room;
    chunk *chunks;
    size_t chunk_count, chunk_room;
    size_t blocks;
    _Atomic(size_t) bytes;
    bool is_left_out; /* of what all areas take */
};

static atoll_mutex lock = ATOLL_MUTEX_INIT;
static atoll_area *all;
static uint64_t last_serial;
static _Atomic(size_t) all_bytes;

/* ---- life ---- */

atoll_area *atoll_area_new(void) {
    atoll_area *area = calloc(1, sizeof *area);
    if (area != NULL) {
        area->refs = 1;
        atoll_mutex_lock(&lock);
        area->serial = ++last_serial;
        area->next = all;
        if (all != NULL) {
            all->prev = area;
        }
        all = area;
        atoll_mutex_unlock(&lock);
    }
    return area;
}

/* Nobody has anything of it. */
static void free_locked(atoll_area *area) {
    while (area->chunk_count > 0) {
        chunk *last = &area->chunks[area->chunk_count - 1];
        if (!atoll_region_give_back_locked(last->at, last->blocks)) {
            atomic_store(&area->stays, true); /* the system does not take it */
            return;
        }
        area->chunk_count--;
    }
    atomic_fetch_sub(&all_bytes, atomic_load(&area->bytes));
    if (area->prev != NULL) {
        area->prev->next = area->next;
    } else {
        all = area->next;
    }
    if (area->next != NULL) {
        area->next->prev = area->prev;
    }
    free(area->seers);
    free(area->chunks);
    free(area);
}

static void free_if_unseen_locked(atoll_area *area) {
    if (area->refs == 0 && area->seer_count == 0 && !atomic_load(&area->stays)) {
        free_locked(area);
    }
}

void atoll_area_retain(atoll_area *area) {
    atoll_mutex_lock(&lock);
    area->refs++;
    atoll_mutex_unlock(&lock);
}

void atoll_area_release(atoll_area *area) {
    atoll_mutex_lock(&lock);
    area->refs--;
    free_if_unseen_locked(area);
    atoll_mutex_unlock(&lock);
}

static void retain_handle(void *ptr) { atoll_area_retain(ptr); }
static void release_handle(void *ptr) { atoll_area_release(ptr); }

const atoll_handle_class atoll_area_class = {"frozen area", retain_handle, release_handle};

void atoll_area_keep(atoll_area *area) { atomic_store(&area->stays, true); }

bool atoll_area_stays(const atoll_area *area) { return atomic_load(&area->stays); }

uint64_t atoll_area_serial(const atoll_area *area) { return area->serial; }

size_t atoll_area_bytes(const atoll_area *area) { return atomic_load(&area->bytes); }

bool atoll_area_has_proxies(const atoll_area *area) { return atomic_load(&area->has_proxies); }

void atoll_area_note_proxy(atoll_area *area) { atomic_store(&area->has_proxies, true); }

size_t atoll_areas_bytes(void) { return atomic_load(&all_bytes); }

bool atoll_area_is_there(uint64_t serial) {
    atoll_mutex_lock(&lock);
    const atoll_area *area = all;
    while (area != NULL && area->serial != serial) {
        area = area->next;
    }
    atoll_mutex_unlock(&lock);
    return area != NULL;
}

static bool has_seen_locked(const atoll_area *area, int64_t interp_id) {
    for (size_t i = 0; i < area->seer_count; i++) {
        if (area->seers[i] == interp_id) {
            return true;
        }
    }
    return false;
}

int atoll_area_seen(atoll_area *area, int64_t interp_id) {
    if (atoll_area_stays(area)) {
        return 0;
    }
    bool stays = PyInterpreterState_Get() == PyInterpreterState_Main();
    int rc = 0;
    atoll_mutex_lock(&lock);
    if (stays) {
        atomic_store(&area->stays, true);
    } else if (!has_seen_locked(area, interp_id)) {
        if (area->seer_count == area->seer_room) {
            size_t room = area->seer_room != 0 ? area->seer_room * 2 : 4;
            int64_t *grown = realloc(area->seers, room * sizeof *grown);
            rc = grown != NULL ? 0 : -1;
            if (grown != NULL) {
                area->seers = grown;
                area->seer_room = room;
            }
        }
        if (rc == 0) {
            area->seers[area->seer_count++] = interp_id;
        }
    }
    atoll_mutex_unlock(&lock);
    if (rc < 0) {
        PyErr_NoMemory();
    }
    return rc;
}

void atoll_areas_ended(int64_t interp_id, bool clean) {
    atoll_mutex_lock(&lock);
    atoll_area *next;
    for (atoll_area *area = all; area != NULL; area = next) {
        next = area->next;
        for (size_t i = 0; i < area->seer_count; i++) {
            if (area->seers[i] == interp_id) {
                area->seers[i] = area->seers[--area->seer_count];
                if (!clean) {
                    atomic_store(&area->stays, true);
                }
                free_if_unseen_locked(area);
                break;
            }
        }
    }
    atoll_mutex_unlock(&lock);
}

void atoll_areas_fork(atoll_fork_moment when) { atoll_mutex_fork(&lock, when); }

void atoll_areas_forget(void) {
    atoll_mutex_lock(&lock);
    for (atoll_area *area = all; area != NULL; area = area->next) {
        area->seer_count = 0;
        atomic_store(&area->stays, true);
    }
    atoll_mutex_unlock(&lock);
}

/* ---- places ---- */

size_t atoll_area_place(const void *obj) {
    return (size_t)((uintptr_t)obj - atomic_load(&atoll_frozen.base));
}

atoll_area *atoll_area_of(const void *obj) { return atoll_region_owner(atoll_area_place(obj)); }

PyObject *atoll_area_at(size_t place) {
    return place % ALIGNMENT == 0 && atoll_region_owner(place) != NULL
               ? (PyObject *)(atomic_load(&atoll_frozen.base) + place)
               : NULL;
}

/* ---- filling ---- */

void atoll_area_leave_out(atoll_area *area) { area->is_left_out = true; }

/* Counts what was taken, or given back. */
static void count(atoll_area *area, size_t more, size_t less) {
    atomic_fetch_add_explicit(&area->bytes, more - less, memory_order_relaxed);
    if (!area->is_left_out) {
        atomic_fetch_add_explicit(&all_bytes, more - less, memory_order_relaxed);
    }
}

static bool add_chunk(atoll_area *area, size_t least) {
    if (area->chunk_count == area->chunk_room) {
        size_t room = area->chunk_room != 0 ? area->chunk_room * 2 : 4;
        chunk *grown = realloc(area->chunks, room * sizeof *grown);
        if (grown == NULL) {
            return false;
        }
        area->chunks = grown;
        area->chunk_room = room;
    }
    size_t blocks = (least + ATOLL_BLOCK - 1) / ATOLL_BLOCK;
    size_t growth = area->blocks < MOST_GROWTH ? area->blocks : MOST_GROWTH;
    atoll_mutex_lock(&lock);
    char *at = NULL;
    if (growth > blocks) {
        at = atoll_region_take_locked(growth, area);
        blocks = at != NULL ? growth : blocks;
    }
    if (at == NULL) {
        at = atoll_region_take_locked(blocks, area);
    }
    atoll_mutex_unlock(&lock);
    if (at == NULL) {
        return false;
    }
    area->chunks[area->chunk_count++] = (chunk){.at = at, .blocks = blocks};
    area->blocks += blocks;
    return true;
}

void *atoll_area_take(atoll_area *area, size_t size, size_t slack) {
    if (size > (size_t)PY_SSIZE_T_MAX / 2 || slack > (size_t)PY_SSIZE_T_MAX / 2) {
        return PyErr_NoMemory();
    }
    size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    chunk *last = area->chunk_count != 0 ? &area->chunks[area->chunk_count - 1] : NULL;
    if (last == NULL || last->blocks * ATOLL_BLOCK - last->used < size + slack) {
        if (!add_chunk(area, size + slack)) {
            return PyErr_NoMemory();
        }
        last = &area->chunks[area->chunk_count - 1];
    }
    void *at = last->at + last->used;
    last->used += size;
    count(area, size, 0);
    return at;
}

atoll_area_mark atoll_area_now(const atoll_area *area) {
    return (atoll_area_mark){
        .chunks = area->chunk_count,
        .used = area->chunk_count != 0 ? area->chunks[area->chunk_count - 1].used : 0,
        .bytes = atoll_area_bytes(area),
    };
}

void atoll_area_rewind(atoll_area *area, const atoll_area_mark *mark) {
    size_t more = atoll_area_bytes(area) - mark->bytes;
    atoll_mutex_lock(&lock);
    while (area->chunk_count > mark->chunks) {
        chunk *last = &area->chunks[area->chunk_count - 1];
        if (!atoll_region_give_back_locked(last->at, last->blocks)) {
            break; /* it is filled on from here */
        }
        area->blocks -= last->blocks;
        area->chunk_count--;
    }
    atoll_mutex_unlock(&lock);
    if (area->chunk_count == mark->chunks && mark->chunks != 0) {
        chunk *last = &area->chunks[mark->chunks - 1];
        memset(last->at + mark->used, 0, last->used - mark->used);
        last->used = mark->used;
    }
    count(area, 0, more);
}

bool atoll_frozen_is_guarded(void) {
    static _Atomic(int) asked; /* 1: no, 2: yes */
    int answer = atomic_load(&asked);
    if (answer == 0) {
        const char *value = getenv("ATOLL_DEBUG_FROZEN");
        answer = value != NULL && *value != '\0' && strcmp(value, "0") != 0 ? 2 : 1;
        atomic_store(&asked, answer);
    }
    return answer == 2;
}

/* padded: the next object begins on a page of its own; else the last page is left as it is. */
static void seal(atoll_area *area, const atoll_area_mark *mark, bool padded) {
    if (!atoll_frozen_is_guarded()) {
        return;
    }
    size_t page = atoll_page_size();
    for (size_t i = mark->chunks != 0 ? mark->chunks - 1 : 0; i < area->chunk_count; i++) {
        chunk *one = &area->chunks[i];
        size_t from = i + 1 == mark->chunks ? mark->used / page * page : 0;
        size_t to = (padded ? one->used + page - 1 : one->used) / page * page;
        if (to > from && atoll_map_protect(one->at + from, to - from) == 0 && padded) {
            one->used = to;
        }
    }
}

void atoll_area_seal(atoll_area *area, const atoll_area_mark *mark) { seal(area, mark, true); }

void atoll_area_seal_pages(atoll_area *area, const atoll_area_mark *mark) { seal(area, mark, false); }
