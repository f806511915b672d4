/* Every map of the process.  See map.h. */
#include "core/map/internal.h"

static atoll_lock list_lock;
static atoll_hashmap *first;

void atoll_hashmap_enlist(atoll_hashmap *map) {
    atoll_lock_take(&list_lock);
    map->prev = NULL;
    map->next = first;
    if (first != NULL) {
        first->prev = map;
    }
    first = map;
    atoll_lock_give(&list_lock);
}

void atoll_hashmap_delist(atoll_hashmap *map) {
    atoll_lock_take(&list_lock);
    *(map->prev != NULL ? &map->prev->next : &first) = map->next;
    if (map->next != NULL) {
        map->next->prev = map->prev;
    }
    atoll_lock_give(&list_lock);
}

void atoll_hashmap_list_take(void) { atoll_lock_take(&list_lock); }

void atoll_hashmap_list_give(void) { atoll_lock_give(&list_lock); }

atoll_hashmap *atoll_hashmap_list_first(void) { return first; }
