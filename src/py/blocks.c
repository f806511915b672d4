/* Large blocks of CPython's object allocator, noted with the interpreter that owns them.
 *
 * CPython's allocators for objects and for memory that objects have (PYMEM_DOMAIN_OBJ, PYMEM_DOMAIN_MEM) take what is larger
 * than 512 bytes from the C library.  An interpreter whose extension modules keep objects in static variables leaves such
 * blocks behind when it ends: dicts above all.  With the arenas (arena.c) they are what such an interpreter would leak.
 *
 * So the allocators of these two domains are wrapped, and so is the one for raw memory, through which they get large
 * blocks.  The first two say, in a thread-local flag, that a raw block is going to be an object's; the last notes it then.
 * A raw block that is asked for as such is not noted, because CPython allocates raw what outlives an interpreter.  The
 * main interpreter's blocks are not noted either.  A small block costs one comparison more, a large one of another
 * interpreter some tens of nanoseconds.
 *
 * CPython also has a map of its arenas, a tree whose nodes it allocates raw just after it took an arena.  Those nodes are
 * noted by their size, which is known (MAP_NODES); with other sizes they would be left.
 *
 * In 3.12 only those nodes are noted, because the allocator for raw memory does not stay (compat.h): a block whose end is missed
 * would be freed twice, but a node has no end.
 *
 * Ownership: a block that is noted is still CPython's, which may free it at any time; atoll_blocks_reclaim() takes what is
 * left once the interpreter is gone.
 *
 * Locks: a table has SHARDS parts, each with a lock, a leaf.  A thread state need not be attached.
 */
#include "py/blocks.h"

#include "port/port.h"

#include <stdlib.h>
#include <string.h>

#define SMALL 512 /* CPython's SMALL_REQUEST_THRESHOLD */
#define SHARDS 64
#define FILTER 65536

static const size_t map_nodes[] = {262144, 131072}; /* of a 64-bit CPython: an inner node, a leaf */

typedef struct {
    void *ptr; /* NULL: free */
    int64_t owner : 63;
    uint64_t is_map : 1;
} noted;

typedef struct {
    atoll_mutex lock;
    noted *items; /* open addressing */
    size_t room;  /* a power of two, or 0 */
    size_t count;
} shard;

static shard shards[SHARDS];
static PyMemAllocatorEx raw;
static PyMemAllocatorEx object_domain;
static PyMemAllocatorEx memory_domain;

/* How many noted blocks have each value of some bits of their address' hash.  A block whose value nobody has was not noted,
 * which is so for nearly all that the main interpreter frees; whoever frees a block knows it from whoever got it, so he
 * sees what was counted then. */
static _Atomic(uint16_t) filter[FILTER];

/* Read and written at each raw allocation, so they lie where a thread finds them at once: 16 bytes of the room that the
 * dynamic linker keeps for that. */
#define AT_HAND __attribute__((tls_model("initial-exec")))
static _Thread_local AT_HAND unsigned
    for_object; /* nested: the allocator of one domain may be that of another */
static _Thread_local AT_HAND int64_t map_owner; /* 0: none */

/* ---- the table ---- */

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

/* What cannot be noted for want of memory is left for good if it is left at all. */
static void note(void *ptr, int64_t owner, bool is_map) {
    shard *s = shard_of(ptr);
    atoll_mutex_lock(&s->lock);
    if ((s->count + 1) * 2 <= s->room || grow_locked(s)) {
        s->items[place_of(s, ptr)] = (noted){ptr, owner, is_map};
        s->count++;
        atomic_fetch_add_explicit(filter_of(ptr), 1, memory_order_relaxed);
    }
    atoll_mutex_unlock(&s->lock);
}

static void remove_locked(shard *s, size_t hole) {
    size_t mask = s->room - 1;
    s->count--;
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

/* The owner of a block that was noted and is so no longer; 0: it was not. */
static int64_t forget(void *ptr) {
    if (atomic_load_explicit(filter_of(ptr), memory_order_relaxed) == 0) {
        return 0;
    }
    shard *s = shard_of(ptr);
    int64_t owner = 0;
    atoll_mutex_lock(&s->lock);
    if (s->count != 0) {
        size_t i = place_of(s, ptr);
        if (s->items[i].ptr != NULL) {
            owner = s->items[i].owner;
            remove_locked(s, i);
        }
    }
    atoll_mutex_unlock(&s->lock);
    return owner;
}

void atoll_blocks_reclaim(int64_t owner) {
    for (size_t n = 0; n < SHARDS; n++) {
        shard *s = &shards[n];
        atoll_mutex_lock(&s->lock);
        for (size_t i = 0; i < s->room;) {
            void *ptr = s->items[i].ptr;
            if (ptr != NULL && s->items[i].owner == owner) {
                remove_locked(s, i); /* another one may have moved here */
                raw.free(raw.ctx, ptr);
            } else {
                i++;
            }
        }
        atoll_mutex_unlock(&s->lock);
    }
}

bool atoll_blocks_any_left(int64_t owner) {
    bool any = false;
    for (size_t n = 0; n < SHARDS && !any; n++) {
        shard *s = &shards[n];
        atoll_mutex_lock(&s->lock);
        for (size_t i = 0; i < s->room && !any; i++) {
            any = s->items[i].ptr != NULL && s->items[i].owner == owner && !s->items[i].is_map;
        }
        atoll_mutex_unlock(&s->lock);
    }
    return any;
}

/* ---- raw memory ---- */

/* The interpreter whose blocks are noted, or 0. */
static int64_t current_owner(void) {
    PyThreadState *tstate = atoll_thread_state_attached();
    return tstate != NULL ? PyInterpreterState_GetID(PyThreadState_GetInterpreter(tstate)) : 0;
}

static void *note_if_object(void *ptr) {
    int64_t owner = for_object != 0 && ptr != NULL ? current_owner() : 0;
    if (owner > 0) {
        note(ptr, owner, false);
    }
    return ptr;
}

static void *raw_malloc(void *ctx, size_t size) {
    map_owner = 0;
    return note_if_object(raw.malloc(ctx, size));
}

static void *raw_calloc(void *ctx, size_t n, size_t size) {
    int64_t owner = map_owner;
    map_owner = 0;
    void *ptr = raw.calloc(ctx, n, size);
    if (owner > 0 && ptr != NULL && n == 1 && (size == map_nodes[0] || size == map_nodes[1])) {
        note(ptr, owner, true);
        map_owner = owner; /* a leaf may follow an inner node */
        return ptr;
    }
    return note_if_object(ptr);
}

static void *raw_realloc(void *ctx, void *ptr, size_t size) {
    map_owner = 0;
    /* Forgotten before: once it is freed, another thread may get this address and note it. */
    int64_t owner = ptr != NULL ? forget(ptr) : 0;
    void *now = raw.realloc(ctx, ptr, size);
    if (owner == 0) {
        return ptr == NULL || for_object != 0 ? note_if_object(now) : now;
    }
    note(now != NULL ? now : ptr, owner, false);
    return now;
}

static void raw_free(void *ctx, void *ptr) {
    map_owner = 0;
    if (ptr != NULL) {
        (void)forget(ptr);
    }
    raw.free(ctx, ptr);
}

void atoll_blocks_expect_map(int64_t owner) { map_owner = owner; }

/* ---- objects ---- */

#define WRAP(domain)                                                                                         \
    static void *domain##_malloc(void *ctx, size_t size) {                                                   \
        if (size <= SMALL) {                                                                                 \
            return (domain).malloc(ctx, size);                                                               \
        }                                                                                                    \
        for_object++;                                                                                        \
        void *ptr = (domain).malloc(ctx, size);                                                              \
        for_object--;                                                                                        \
        return ptr;                                                                                          \
    }                                                                                                        \
    static void *domain##_calloc(void *ctx, size_t n, size_t size) {                                         \
        if (n == 0 || size <= SMALL / n) {                                                                   \
            return (domain).calloc(ctx, n, size);                                                            \
        }                                                                                                    \
        for_object++;                                                                                        \
        void *ptr = (domain).calloc(ctx, n, size);                                                           \
        for_object--;                                                                                        \
        return ptr;                                                                                          \
    }                                                                                                        \
    static void *domain##_realloc(void *ctx, void *old, size_t size) {                                       \
        if (size <= SMALL) {                                                                                 \
            return (domain).realloc(ctx, old, size);                                                         \
        }                                                                                                    \
        for_object++;                                                                                        \
        void *ptr = (domain).realloc(ctx, old, size);                                                        \
        for_object--;                                                                                        \
        return ptr;                                                                                          \
    }

WRAP(object_domain)
WRAP(memory_domain)

/* ---- */

static void after_fork(void) {
    for (size_t i = 0; i < SHARDS; i++) {
        atoll_mutex_init(&shards[i].lock);
    }
}

/* The context stays the one of the allocator below: another thread that allocates while CPython's table changes sees
 * functions of both, and each gets what it needs. */
void atoll_blocks_init(void) {
    static _Atomic(bool) done;
    if (atomic_exchange(&done, true)) {
        return;
    }
    after_fork();
    PyMem_GetAllocator(PYMEM_DOMAIN_RAW, &raw);
    PyMemAllocatorEx wrapped = raw;
    wrapped.calloc = raw_calloc;
    if (ATOLL_RAW_ALLOCATOR_STAYS) {
        PyMem_GetAllocator(PYMEM_DOMAIN_OBJ, &object_domain);
        PyMem_GetAllocator(PYMEM_DOMAIN_MEM, &memory_domain);
        wrapped.malloc = raw_malloc;
        wrapped.realloc = raw_realloc;
        wrapped.free = raw_free;
    }
    PyMem_SetAllocator(PYMEM_DOMAIN_RAW, &wrapped);
    if (ATOLL_RAW_ALLOCATOR_STAYS) {
        PyMem_SetAllocator(PYMEM_DOMAIN_OBJ,
                           &(PyMemAllocatorEx){object_domain.ctx, object_domain_malloc, object_domain_calloc,
                                               object_domain_realloc, object_domain.free});
        PyMem_SetAllocator(PYMEM_DOMAIN_MEM,
                           &(PyMemAllocatorEx){memory_domain.ctx, memory_domain_malloc, memory_domain_calloc,
                                               memory_domain_realloc, memory_domain.free});
    }
    atoll_at_fork_child(after_fork);
}
