/* What is done with every queue of the process.  See queue.h. */
#include "core/queue/internal.h"

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
    atoll_queue_list_lock();
    for (atoll_queue *queue = atoll_queue_list_first(); queue != NULL; queue = queue->next) {
        if (atoll_queue_live(queue) != 0) {
            atoll_queue_unbind(queue, sender, &dead);
        }
    }
    atoll_queue_list_unlock();
    while (dead != NULL) {
        atoll_box *next = dead->next;
        atoll_box_free(dead); /* may release the last reference to a queue */
        dead = next;
    }
}

/* ---- fork: no queue is between two states when it is copied ---- */

static void lock_everything(void) {
    atoll_queue_list_lock();
    for (atoll_queue *queue = atoll_queue_list_first(); queue != NULL; queue = queue->next) {
        atoll_queue_lock_all(queue);
    }
}

static void unlock_everything(bool forked) {
    for (atoll_queue *queue = atoll_queue_list_first(); queue != NULL; queue = queue->next) {
        atoll_queue_unlock_all(queue, forked);
    }
    atoll_queue_list_unlock();
}

static void in_parent(void) { unlock_everything(false); }

static void in_child(void) { unlock_everything(true); }

void atoll_queues_init(void) {
    static _Atomic(bool) done;
    if (!atomic_exchange(&done, true)) {
        atoll_at_fork(lock_everything, in_parent, in_child);
    }
}
