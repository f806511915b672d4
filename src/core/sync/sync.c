/* What all kinds have: being made, counted and freed, and the threads' numbers.  See sync.h. */
#include "core/sync/internal.h"

#include <stdlib.h>

enum { CACHE_LINE = 64 };

atoll_list atoll_syncs;
static _Atomic(uint64_t) serials;

atoll_sync *atoll_sync_new(atoll_sync_kind kind, int64_t value) {
    size_t size = (sizeof(atoll_sync) + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    atoll_sync *sync = aligned_alloc(CACHE_LINE, size);
    if (sync == NULL) {
        return NULL;
    }
    memset(sync, 0, size);
    sync->kind = kind;
    atomic_init(&sync->refs, 1);
    atomic_init(&sync->value, value);
    sync->limit = value;
    sync->serial = atomic_fetch_add_explicit(&serials, 1, memory_order_relaxed) + 1;
    atoll_spin_init(&sync->spin);
    atoll_list_add(&atoll_syncs, &sync->link);
    return sync;
}

atoll_sync *atoll_sync_condition_new(atoll_sync *lock) {
    atoll_sync *condition = atoll_sync_new(ATOLL_SYNC_CONDITION, 0);
    if (condition != NULL) {
        atoll_sync_retain(lock);
        condition->lock = lock;
    }
    return condition;
}

void atoll_sync_retain(atoll_sync *sync) { atomic_fetch_add_explicit(&sync->refs, 1, memory_order_relaxed); }

static _Thread_local atoll_doomed doomed;

static void destroy(atoll_link *link) {
    atoll_sync *sync = (atoll_sync *)link;
    if (sync->lock != NULL) {
        atoll_sync_release(sync->lock);
    }
    atoll_message_clear(&sync->action);
    free(sync);
}

void atoll_sync_release(atoll_sync *sync) {
    if (atomic_fetch_sub_explicit(&sync->refs, 1, memory_order_acq_rel) == 1) {
        atoll_list_destroy(&atoll_syncs, &sync->link, &doomed, destroy);
    }
}

static void handle_retain(void *ptr) { atoll_sync_retain(ptr); }
static void handle_release(void *ptr) { atoll_sync_release(ptr); }

const atoll_handle_class atoll_sync_class = {"lock", handle_retain, handle_release};

atoll_sync_kind atoll_sync_kind_of(const atoll_sync *sync) { return sync->kind; }

int64_t atoll_sync_limit(const atoll_sync *sync) { return sync->limit; }

uint64_t atoll_sync_serial(const atoll_sync *sync) { return sync->serial; }

uint64_t atoll_sync_thread(void) {
    static _Atomic(uint64_t) last;
    static _Thread_local __attribute__((tls_model("initial-exec"))) uint64_t own;
    if (own == 0) {
        own = atomic_fetch_add_explicit(&last, 1, memory_order_relaxed) + 1;
    }
    return own;
}
