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
    atoll_lock_take(&list_lock);
    for (atoll_queue *queue = first; queue != NULL; queue = queue->next) {
        if (atoll_queue_live(queue) != 0) {
            atoll_queue_unbind(queue, sender, &dead);
        }
    }
    atoll_lock_give(&list_lock);
    while (dead != NULL) {
        atoll_box *next = dead->next;
        atoll_box_free(dead); /* may release the last reference to a queue */
        dead = next;
    }
}

/* ---- fork: no queue is between two states when it is copied ---- */

static void lock_everything(void) {
    atoll_lock_take(&list_lock);
    for (atoll_queue *queue = first; queue != NULL; queue = queue->next) {
        atoll_queue_lock_all(queue);
    }
}

static void unlock_everything(bool forked) {
    for (atoll_queue *queue = first; queue != NULL; queue = queue->next) {
        atoll_queue_unlock_all(queue, forked);
    }
    atoll_lock_give(&list_lock);
}

static void in_parent(void) { unlock_everything(false); }

static void in_child(void) { unlock_everything(true); }

void atoll_queues_init(void) {
    static _Atomic(bool) done;
    if (!atomic_exchange(&done, true)) {
        atoll_at_fork(lock_everything, in_parent, in_child);
    }
}
