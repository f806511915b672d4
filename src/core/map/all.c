/* What is done with every map of the process.  See map.h. */
#include "core/map/internal.h"

void atoll_hashmaps_fork(atoll_fork_moment when) {
    if (when == ATOLL_FORK_BEFORE) {
        atoll_lock_take(&atoll_hashmaps.lock);
    }
    for (atoll_link *at = atoll_hashmaps.first; at != NULL; at = at->next) {
        atoll_hashmap *map = (atoll_hashmap *)at;
        for (int i = 0; i < ATOLL_HASHMAP_STRIPES; i++) {
            if (when == ATOLL_FORK_BEFORE) {
                atoll_lock_take(&map->stripes[i].lock);
            } else {
                atoll_lock_give(&map->stripes[i].lock);
            }
        }
    }
    if (when != ATOLL_FORK_BEFORE) {
        atoll_lock_give(&atoll_hashmaps.lock);
    }
}
