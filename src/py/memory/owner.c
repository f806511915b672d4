/* Whose memory it is: see owner.h.  Memory of an interpreter outlives it, and may outlive its Python. */
#include "py/memory/owner.h"

#include <stdatomic.h>

#define IDS_OF_ONE (INT64_C(1) << 40)

static _Atomic(int64_t) past; /* ids that may have been used by Pythons that have ended */

int64_t atoll_memory_owner(int64_t id) {
    return id > 0 ? id + atomic_load_explicit(&past, memory_order_relaxed) : id;
}

int64_t atoll_memory_id(int64_t owner) {
    return owner > 0 ? owner - atomic_load_explicit(&past, memory_order_relaxed) : owner;
}

void atoll_memory_restart(void) { atomic_fetch_add(&past, IDS_OF_ONE); }
