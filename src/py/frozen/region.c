/* Address space for frozen objects.
 *
 * One piece, reserved when the first area is made and never given back, so that whether an object is frozen is one comparison.  It is
 * four times as large as the machine's memory, as that is all that frozen objects can ever take, or less where a limit says so.  It is
 * divided into blocks of 1 MiB; a map, reserved likewise, has the area that each belongs to.
 *
 * Blocks are taken first fit, beginning where the last ones ended.  The map is read without a lock: by who has an object there, so
 * that its area is, and by decoders, which look whether an area is there before they believe anything.
 */
#include "py/frozen/region.h"

enum { LEAST_BLOCKS = 64, MOST_BLOCKS = 1 << 20 };

atoll_frozen_region atoll_frozen;

static _Atomic(atoll_area *) *owners;
static size_t block_count, next_block;

static bool reserve_locked(void) {
    if (owners != NULL) {
        return true;
    }
    size_t wanted = LEAST_BLOCKS;
    while (wanted < MOST_BLOCKS && wanted * ATOLL_BLOCK < 4 * atoll_page_total() * atoll_page_size()) {
        wanted *= 2;
    }
    size_t size;
    char *base = atoll_map_reserve(wanted * ATOLL_BLOCK, LEAST_BLOCKS * ATOLL_BLOCK, &size);
    if (base == NULL) {
        return false;
    }
    size_t map_size = size / ATOLL_BLOCK * sizeof *owners;
    void *map = atoll_map_reserve(map_size, map_size, &map_size);
    if (map == NULL || atoll_map_use(map, map_size) < 0) {
        return false; /* the address space is lost; nothing works here any more */
    }
    owners = map;
    block_count = size / ATOLL_BLOCK;
    atomic_store(&atoll_frozen.base, (uintptr_t)base);
    atomic_store(&atoll_frozen.size, size);
    return true;
}

/* The first of so many free blocks in a row in [from, to), or `to`. */
static size_t find_free(size_t from, size_t to, size_t blocks) {
    size_t start = from;
    for (size_t i = from; i < to; i++) {
        if (atomic_load_explicit(&owners[i], memory_order_relaxed) != NULL) {
            start = i + 1;
        } else if (i + 1 - start == blocks) {
            return start;
        }
    }
    return to;
}

char *atoll_region_take_locked(size_t blocks, atoll_area *owner) {
    if (!reserve_locked() || blocks > block_count) {
        return NULL;
    }
    size_t first = find_free(next_block, block_count, blocks);
    if (first == block_count && (first = find_free(0, block_count, blocks)) == block_count) {
        return NULL;
    }
    char *at = (char *)atomic_load(&atoll_frozen.base) + first * ATOLL_BLOCK;
    if (atoll_map_use(at, blocks * ATOLL_BLOCK) < 0) {
        return NULL;
    }
    next_block = first + blocks;
    for (size_t i = first; i < first + blocks; i++) {
        atomic_store_explicit(&owners[i], owner, memory_order_release);
    }
    return at;
}

bool atoll_region_give_back_locked(char *at, size_t blocks) {
    size_t first = (size_t)((uintptr_t)at - atomic_load(&atoll_frozen.base)) / ATOLL_BLOCK;
    if (atoll_map_empty(at, blocks * ATOLL_BLOCK) < 0) {
        return false;
    }
    for (size_t i = first; i < first + blocks; i++) {
        atomic_store_explicit(&owners[i], NULL, memory_order_release);
    }
    return true;
}

atoll_area *atoll_region_owner(size_t place) {
    return place < atomic_load(&atoll_frozen.size)
               ? atomic_load_explicit(&owners[place / ATOLL_BLOCK], memory_order_acquire)
               : NULL;
}
