/* What is done with every map of the process.  See map.h. */
#include "core/map/internal.h"

void atoll_hashmaps_fork(atoll_fork_moment when) {
    if (when == ATOLL_FORK_BEFORE) {
        atoll_hashmap_list_take();
    }
    for (atoll_hashmap *map = atoll_hashmap_list_first(); map != NULL; map = map->next) {
        for (int i = 0; i < ATOLL_HASHMAP_STRIPES; i++) {
            if (when == ATOLL_FORK_BEFORE) {
                atoll_lock_take(&map->stripes[i].lock);
            } else {
                atoll_lock_give(&map->stripes[i].lock);
            }
        }
    }
    if (when != ATOLL_FORK_BEFORE) {
        atoll_hashmap_list_give();
    }
}
