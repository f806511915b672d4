/* Every sync of the process.  See sync.h. */
#include "core/sync/internal.h"

static atoll_lock list_lock;
static atoll_sync *first;

void atoll_sync_enlist(atoll_sync *sync) {
    atoll_lock_take(&list_lock);
    sync->prev = NULL;
    sync->next = first;
    if (first != NULL) {
        first->prev = sync;
    }
    first = sync;
    atoll_lock_give(&list_lock);
}

void atoll_sync_delist(atoll_sync *sync) {
    atoll_lock_take(&list_lock);
    *(sync->prev != NULL ? &sync->prev->next : &first) = sync->next;
    if (sync->next != NULL) {
        sync->next->prev = sync->prev;
    }
    atoll_lock_give(&list_lock);
}

void atoll_sync_list_take(void) { atoll_lock_take(&list_lock); }

void atoll_sync_list_give(void) { atoll_lock_give(&list_lock); }

atoll_sync *atoll_sync_list_first(void) { return first; }
