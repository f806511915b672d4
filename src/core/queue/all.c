/* What is done with every queue of the process.  See queue.h. */
#include "core/queue/internal.h"

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
    atoll_queue *found = NULL;
    atoll_lock_take(&atoll_queues.lock);
    for (atoll_link *at = atoll_queues.first; at != NULL && found == NULL; at = at->next) {
        atoll_queue *queue = (atoll_queue *)at;
        found = queue->id > above && retain_listed(queue) ? queue : NULL;
    }
    atoll_lock_give(&atoll_queues.lock);
    return found;
}

atoll_queue *atoll_queue_find(int64_t id) {
    atoll_queue *queue = id > 0 ? atoll_queue_after(id - 1) : NULL;
    if (queue != NULL && queue->id != id) {
        atoll_queue_release(queue);
        queue = NULL;
    }
    return queue;
}

void atoll_queues_unbind(int64_t sender) {
    atoll_box *dead = NULL;
    atoll_lock_take(&atoll_queues.lock);
    for (atoll_link *at = atoll_queues.first; at != NULL; at = at->next) {
        atoll_queue *queue = (atoll_queue *)at;
        if (atoll_queue_live(queue) != 0) {
            atoll_queue_unbind(queue, sender, &dead);
        }
    }
    atoll_lock_give(&atoll_queues.lock);
    while (dead != NULL) {
        atoll_box *next = dead->next;
        atoll_box_free(dead); /* may release the last reference to a queue */
        dead = next;
    }
}

/* ---- fork: no queue is between two states when it is copied ---- */

static void lock_everything(void) {
    atoll_lock_take(&atoll_queues.lock);
    for (atoll_link *at = atoll_queues.first; at != NULL; at = at->next) {
        atoll_queue_lock_all((atoll_queue *)at);
    }
}

static void unlock_everything(bool forked) {
    for (atoll_link *at = atoll_queues.first; at != NULL; at = at->next) {
        atoll_queue_unlock_all((atoll_queue *)at, forked);
    }
    atoll_lock_give(&atoll_queues.lock);
}

static void in_parent(void) { unlock_everything(false); }

static void in_child(void) { unlock_everything(true); }

void atoll_queues_init(void) {
    static _Atomic(bool) done;
    if (!atomic_exchange(&done, true)) {
        atoll_at_fork(lock_everything, in_parent, in_child);
    }
}
