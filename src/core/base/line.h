/* The line of the calls that are submitted to one interpreter: what its entry holds of it.  core/pool/line.h says what it does. */
#ifndef ATOLL_CORE_BASE_LINE_H
#define ATOLL_CORE_BASE_LINE_H

#include "core/base/lock.h"
#include "core/base/wait.h"

struct atoll_task;

typedef struct {
    atoll_lock lock;
    unsigned shut; /* by how many */
    struct atoll_task *first;
    struct atoll_task *last;
    _Atomic(uint32_t) length;
    atoll_waiters waiters; /* for it to be empty */
} atoll_line;

#endif
