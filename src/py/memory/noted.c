/* Which blocks are noted, and with whom: a table that any thread looks into.
 *
 * It has SHARDS parts, by the block's address, each with a lock.  Most blocks are not noted, and that is seen without a lock: a filter has, for
 * some bits of the address' hash, how many noted blocks have these.  Whoever frees a block knows it from whoever got it, so he sees
 * what was counted then.
 *
 * What is noted is counted for its owner (account.c), in the same step.
 *
 * Locks: one for each part, a leaf but for accounts, which have none.  All of them are held while the process is forked.
 */
#include "py/memory/noted.h"

#include "py/memory/account.h"

#include <stdatomic.h>
#include <stdlib.h>

#define SHARDS 64
#define FILTER 65536

typedef atoll_noted noted;

typedef struct {
    atoll_mutex lock;
    noted *items; /* open addressing */
    size_t room;  /* a power of two, or 0 */
    size_t count;
} shard;

static shard shards[SHARDS];
static _Atomic(uint64_t) notes, ends; /* so many were noted, and are so no longer */
static _Atomic(uint16_t) filter[FILTER];

static uint64_t mix(const void *ptr) {
    return ((uint64_t)(uintptr_t)ptr >> 4) * UINT64_C(0x9E3779B97F4A7C15);
}

static _Atomic(uint16_t) *filter_of(const void *ptr) { return &filter[(mix(ptr) >> 30) % FILTER]; }

static shard *shard_of(const void *ptr) { return &shards[mix(ptr) >> 58]; }

static size_t place_of(const shard *s, const void *ptr) {
    size_t i = (size_t)(mix(ptr) >> 20) & (s->room - 1);
    while (s->items[i].ptr != NULL && s->items[i].ptr != ptr) {
        i = (i + 1) & (s->room - 1);
    }
    return i;
}

static bool grow_locked(shard *s) {
    shard larger = {.room = s->room != 0 ? s->room * 2 : 64};
    larger.items = calloc(larger.room, sizeof *larger.items);
    if (larger.items == NULL) {
        return false;
    }
    for (size_t i = 0; i < s->room; i++) {
        if (s->items[i].ptr != NULL) {
            larger.items[place_of(&larger, s->items[i].ptr)] = s->items[i];
        }
    }
    free(s->items);
    s->items = larger.items;
    s->room = larger.room;
    return true;
}

static void count(const noted *block, bool is_there) {
    if (block->owner != ATOLL_NOTED_CANARY) {
        atoll_account_add(block->owner, ATOLL_IN_BLOCKS,
                          is_there ? (int64_t)block->size : -(int64_t)block->size);
    }
}

bool atoll_noted_add(const noted *block) {
    shard *s = shard_of(block->ptr);
    bool twice = false;
    atoll_mutex_lock(&s->lock);
    if ((s->count + 1) * 2 <= s->room || grow_locked(s)) {
        noted *place = &s->items[place_of(s, block->ptr)];
        bool is_there = place->ptr != NULL;
        twice = is_there && !place->is_small;
        if (is_there) {
            count(place, false);
        } else {
            s->count++;
            atomic_fetch_add_explicit(&notes, 1, memory_order_relaxed);
            atomic_fetch_add_explicit(filter_of(block->ptr), 1, memory_order_relaxed);
        }
        *place = *block;
        count(block, true);
    }
    atoll_mutex_unlock(&s->lock);
    return !twice;
}

static void remove_locked(shard *s, size_t hole) {
    size_t mask = s->room - 1;
    s->count--;
    count(&s->items[hole], false);
    atomic_fetch_add_explicit(&ends, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(filter_of(s->items[hole].ptr), 1, memory_order_relaxed);
    for (size_t i = (hole + 1) & mask; s->items[i].ptr != NULL; i = (i + 1) & mask) {
        size_t home = (size_t)(mix(s->items[i].ptr) >> 20) & mask;
        if (((i - home) & mask) >= ((i - hole) & mask)) { /* it may move back */
            s->items[hole] = s->items[i];
            hole = i;
        }
    }
    s->items[hole].ptr = NULL;
}

noted atoll_noted_find(void *ptr, bool and_forget) {
    noted found = {0};
    if (atomic_load_explicit(filter_of(ptr), memory_order_relaxed) == 0) {
        return found;
    }
    shard *s = shard_of(ptr);
    atoll_mutex_lock(&s->lock);
    if (s->count != 0) {
        size_t i = place_of(s, ptr);
        if (s->items[i].ptr != NULL) {
            found = s->items[i];
            if (and_forget) {
                remove_locked(s, i);
            }
        }
    }
    atoll_mutex_unlock(&s->lock);
    return found;
}

uint64_t atoll_noted_end(int64_t owner, bool free_nodes, bool free_others,
                         void (*release)(const noted *block)) {
    uint64_t freed = 0;
    for (size_t n = 0; n < SHARDS; n++) {
        shard *s = &shards[n];
        atoll_mutex_lock(&s->lock);
        for (size_t i = 0; i < s->room;) {
            noted block = s->items[i];
            if (block.ptr == NULL || block.owner != owner) {
                i++;
                continue;
            }
            remove_locked(s, i); /* another one may have moved here */
            if (block.is_map ? free_nodes : free_others && !block.is_small) {
                freed++;
                release(&block);
            }
        }
        atoll_mutex_unlock(&s->lock);
    }
    return freed;
}

bool atoll_noted_is_consistent(void) {
    uint64_t left = 0;
    for (size_t n = 0; n < SHARDS; n++) {
        atoll_mutex_lock(&shards[n].lock);
    }
    for (size_t n = 0; n < SHARDS; n++) {
        size_t found = 0;
        for (size_t i = 0; i < shards[n].room; i++) {
            found += shards[n].items[i].ptr != NULL;
        }
        left += found == shards[n].count ? found : UINT32_MAX;
    }
    bool right = left == atomic_load(&notes) - atomic_load(&ends);
    for (size_t n = SHARDS; n-- > 0;) {
        atoll_mutex_unlock(&shards[n].lock);
    }
    return right;
}

Py_ssize_t atoll_noted_of(int64_t owner, atoll_span **blocks) {
    Py_ssize_t count = 0;
    size_t room = 0;
    *blocks = NULL;
    for (size_t n = 0; n < SHARDS && count >= 0; n++) {
        shard *s = &shards[n];
        atoll_mutex_lock(&s->lock);
        for (size_t i = 0; i < s->room && count >= 0; i++) {
            const noted *block = &s->items[i];
            if (block->ptr != NULL && block->owner == owner && !block->is_map && !block->is_small) {
                /* What the C library has of its own may lead to the last word, where the next block's header begins. */
                count = atoll_span_add(blocks, count, &room,
                                       (atoll_span){block->ptr, block->size - sizeof(void *)});
            }
        }
        atoll_mutex_unlock(&s->lock);
    }
    return count;
}

static atoll_once once = ATOLL_ONCE_INIT;

static void init_shards(void) {
    for (size_t i = 0; i < SHARDS; i++) {
        atoll_mutex_init(&shards[i].lock);
    }
}

void atoll_noted_init(void) { atoll_once_run(&once, init_shards); }

void atoll_noted_fork(atoll_fork_moment when) {
    atoll_noted_init();
    for (size_t i = 0; i < SHARDS; i++) {
        atoll_mutex_fork(&shards[i].lock, when);
    }
}
