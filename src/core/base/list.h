/* Everything of one kind in the process, each queue for one: a list in the order of their coming, and its lock.
 *
 * A thing begins with its link, so a link leads to the thing.  Who forks holds the lock.
 */
#ifndef ATOLL_CORE_BASE_LIST_H
#define ATOLL_CORE_BASE_LIST_H

#include "core/base/lock.h"

#include <stdbool.h>
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

/* What is to be destroyed of one kind, by one thread. */
typedef struct {
    bool is_destroying;
    atoll_link *first; /* by `next`: they are on no list any more */
} atoll_doomed;

/* The last reference to a thing is gone: takes it off its list, and destroys it.  What it holds may be the last reference to another one of its
 * kind, and so on: a thread that is destroying one only notes the others, for chains of any length take no more stack than one. */
static inline void atoll_list_destroy(atoll_list *list, atoll_link *link, atoll_doomed *doomed,
                                      void (*destroy)(atoll_link *thing)) {
    atoll_list_remove(list, link);
    link->next = doomed->first;
    doomed->first = link;
    if (doomed->is_destroying) {
        return;
    }
    doomed->is_destroying = true;
    while (doomed->first != NULL) {
        atoll_link *next = doomed->first;
        doomed->first = next->next;
        destroy(next);
    }
    doomed->is_destroying = false;
}

#endif
