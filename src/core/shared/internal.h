/* What the files of the room share. */
#ifndef ATOLL_CORE_SHARED_INTERNAL_H
#define ATOLL_CORE_SHARED_INTERNAL_H

#include "core/shared/shared.h"

/* The name of a block, and the system's identity of what it was when it was made or found. */
typedef struct atoll_shared_label {
    struct atoll_shared_label *prev; /* the list of all blocks with names */
    struct atoll_shared_label *next;
    atoll_shared *block; /* whose it is */
    atoll_shm_id id;
    int maker;                                     /* the process that removes it, or 0 */
    void (*end)(struct atoll_shared_label *entry); /* the block's last reference goes */
    bool listed;
    char text[];
} atoll_shared_label;

/* A block of these pages; takes over both.  NULL when out of memory, and then takes nothing. */
atoll_shared *atoll_shared_wrap(void *data, size_t size, struct atoll_shared_label *name);
#endif
