/* Every queue of the process.  See queue.h. */
#include "core/queue/internal.h"

static atoll_lock list_lock;
static atoll_queue *first; /* by id */
static atoll_queue *last;
static int64_t last_id;

void atoll_queue_enlist(atoll_queue *queue) {
    atoll_lock_take(&list_lock);
    queue->id = ++last_id;
    queue->prev = last;
    queue->next = NULL;
    *(last != NULL ? &last->next : &first) = queue;
    last = queue;
    atoll_lock_give(&list_lock);
}

void atoll_queue_delist(atoll_queue *queue) {
    atoll_lock_take(&list_lock);
    *(queue->prev != NULL ? &queue->prev->next : &first) = queue->next;
    *(queue->next != NULL ? &queue->next->prev : &last) = queue->prev;
    atoll_lock_give(&list_lock);
}

/* Under the list's lock: a new reference, unless the last one is just going. */
static bool retain_listed(atoll_queue *queue) {
    uint32_t refs = atomic_load(&queue->refs);
    while (refs != 0) {
        if (atomic_compare_exchange_weak(&queue->refs, &refs, refs + 1)) {
            return true;
        }
    }
    return false;
}

atoll_queue *atoll_queue_after(int64_t above) {
    atoll_lock_take(&list_lock);
    atoll_queue *queue = first;
    while (queue != NULL && (queue->id <= above || !retain_listed(queue))) {
        queue = queue->next;
    }
    atoll_lock_give(&list_lock);
    return queue;
}

void atoll_queue_list_lock(void) { atoll_lock_take(&list_lock); }

void atoll_queue_list_unlock(void) { atoll_lock_give(&list_lock); }

atoll_queue *atoll_queue_list_first(void) { return first; }
