/* Everything of one kind in the process, each queue for one: a list in the order of their coming, and its lock.
 *
 * A thing begins with its link, so a link leads to the thing.  Who forks holds the lock.
 */
#ifndef ATOLL_CORE_BASE_LIST_H
#define ATOLL_CORE_BASE_LIST_H

#include "core/base/lock.h"

#include <stddef.h>

typedef struct atoll_link {
    struct atoll_link *prev;
    struct atoll_link *next;
} atoll_link;

typedef struct {
    atoll_lock lock;
    atoll_link *first; /* under the lock, as are the links */
    atoll_link *last;
} atoll_list;

static inline void atoll_list_add_locked(atoll_list *list, atoll_link *link) {
    link->prev = list->last;
    link->next = NULL;
    *(list->last != NULL ? &list->last->next : &list->first) = link;
    list->last = link;
}

static inline void atoll_list_add(atoll_list *list, atoll_link *link) {
    atoll_lock_take(&list->lock);
    atoll_list_add_locked(list, link);
    atoll_lock_give(&list->lock);
}

static inline void atoll_list_remove(atoll_list *list, const atoll_link *link) {
    atoll_lock_take(&list->lock);
    *(link->prev != NULL ? &link->prev->next : &list->first) = link->next;
    *(link->next != NULL ? &link->next->prev : &list->last) = link->prev;
    atoll_lock_give(&list->lock);
}

#endif
