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
 * CPython also has a map of its arenas, a tree whose nodes it allocates raw just after it took an arena: an inner node, and
 * leaves, one for each 16 GiB of addresses in which the interpreter has an arena.  So which arena makes it allocate which
 * nodes is known before (expected), and nothing else is taken for one.  When what was expected does not come, or the inner
 * node does not lead to the leaves in the end, CPython's map is another one than is thought, and the nodes are left.
 *
 * In 3.12 only those nodes are noted, because the allocator for raw memory does not stay (compat.h): a block whose end is missed
 * would be freed twice, but a node has no end.
 *
 * A block's end is missed as well when somebody takes the wrappers out: whoever replaces allocators for a while and then puts
 * back those from before (tracemalloc, memory profilers) may do so.  So each time that an interpreter is made
 * or ends, blocks are allocated, moved and freed in the usual way, and the wrappers have to see it; and a block that is noted twice
 * has had an end that nobody saw.  Once there is a doubt, nothing is taken back any more, for good: it is lost, as CPython
 * would have it.
 *
 * ATOLL_DEBUG_BLOCKS=1 fills noted blocks when they are freed, and blocks and arenas when they are taken back, counts what is
 * noted against what is left, and makes each doubt fatal.
 *
 * Ownership: a block that is noted is still CPython's, which may free it at any time; atoll_blocks_reclaim() takes what is
 * left once the interpreter is gone.  What is known of a map of arenas is written with that interpreter's GIL, and read
 * when it is gone.
 *
 * Locks: a table has SHARDS parts, each with a lock, a leaf; the list of maps has another.  A thread state need not be
 * attached.
 */
#include "py/memory/blocks.h"

#include "port/port.h"
#include "py/memory/owner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHARDS 64
#define FILTER 65536
#define MOST_LEAVES 16
#define CANARY                                                                                               \
    (INT64_MAX / 2) /* the owner of blocks that only show whether the wrappers are there: 63 bits */

enum { FREED = 0xDD, TAKEN_BACK = 0xDB }; /* what ATOLL_DEBUG_BLOCKS fills with */

typedef struct {
    void *ptr; /* NULL: free */
    size_t size;
    int64_t owner : 63;
    uint64_t is_map : 1;
} noted;

/* The map of an interpreter's arenas, as far as it was seen. */
typedef struct arena_map {
    struct arena_map *next;
    int64_t owner;
    void **inner;
    struct {
        uintptr_t region; /* the addresses it is for: their upper bits */
        void *node;       /* NULL: it is expected */
    } leaves[MOST_LEAVES];
    unsigned count;
    bool unknown; /* it is not what it was thought to be */
} arena_map;

typedef struct {
    atoll_mutex lock;
    noted *items; /* open addressing */
    size_t room;  /* a power of two, or 0 */
    size_t count;
} shard;

static shard shards[SHARDS];
static atoll_mutex maps_lock = ATOLL_MUTEX_INIT;
static arena_map *maps;
static _Atomic(const char *) doubt; /* why nothing is taken back any more; NULL: it is */
static bool debugging;
static _Atomic(uint64_t) notes, ends; /* so many were noted, and are so no longer */
static _Atomic(uint64_t) taken_back;
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
static _Thread_local AT_HAND arena_map *expected; /* whose next node is; NULL: none is */
static _Thread_local bool is_canary;              /* looked at for objects only */

bool atoll_blocks_debugging(void) { return debugging; }

void atoll_blocks_doubt(const char *why) {
    const char *none = NULL;
    (void)atomic_compare_exchange_strong(&doubt, &none, why);
    if (debugging) {
        (void)fprintf(stderr, "ATOLL_DEBUG_BLOCKS: %s\n", why);
        abort();
    }
}

const char *atoll_blocks_doubted(void) { return atomic_load(&doubt); }

uint64_t atoll_blocks_taken_back(void) { return atomic_load(&taken_back); }

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
static void note(void *ptr, size_t size, int64_t owner, bool is_map) {
    shard *s = shard_of(ptr);
    bool twice = false;
    atoll_mutex_lock(&s->lock);
    if ((s->count + 1) * 2 <= s->room || grow_locked(s)) {
        noted *place = &s->items[place_of(s, ptr)];
        twice = place->ptr != NULL;
        *place = (noted){ptr, size, owner, is_map};
        if (!twice) {
            s->count++;
            atomic_fetch_add_explicit(&notes, 1, memory_order_relaxed);
            atomic_fetch_add_explicit(filter_of(ptr), 1, memory_order_relaxed);
        }
    }
    atoll_mutex_unlock(&s->lock);
    if (twice) {
        atoll_blocks_doubt("a block was freed without its wrapper's knowledge");
    }
}

static void remove_locked(shard *s, size_t hole) {
    size_t mask = s->room - 1;
    s->count--;
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

/* Looks a block up: what is noted of it, with ptr NULL when nothing is; no longer noted when it is to be forgotten. */
static noted look_up(void *ptr, bool and_forget) {
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

/* The end of all blocks of an interpreter: nodes of the map and others are freed, or left. */
static void end_all(int64_t owner, bool free_nodes, bool free_others) {
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
            if (block.is_map ? !free_nodes : !free_others) {
                continue;
            }
            atomic_fetch_add_explicit(&taken_back, 1, memory_order_relaxed);
            if (debugging) {
                memset(block.ptr, TAKEN_BACK, block.size);
            }
            raw.free(raw.ctx, block.ptr);
        }
        atoll_mutex_unlock(&s->lock);
    }
}

static void check_counts(void) {
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
    if (!right) {
        atoll_blocks_doubt("the table of blocks does not have what was noted");
    }
}

Py_ssize_t atoll_blocks_left(int64_t owner, atoll_span **blocks) {
    Py_ssize_t count = 0;
    size_t room = 0;
    *blocks = NULL;
    for (size_t n = 0; n < SHARDS && count >= 0; n++) {
        shard *s = &shards[n];
        atoll_mutex_lock(&s->lock);
        for (size_t i = 0; i < s->room && count >= 0; i++) {
            const noted *block = &s->items[i];
            if (block->ptr != NULL && block->owner == owner && !block->is_map) {
                /* What the C library has of its own may lead to the last word, where the next block's header begins. */
                count = atoll_span_add(blocks, count, &room,
                                       (atoll_span){block->ptr, block->size - sizeof(void *)});
            }
        }
        atoll_mutex_unlock(&s->lock);
    }
    return count;
}

/* ---- the maps of arenas ---- */

/* The interpreter whose blocks are noted, or 0. */
static int64_t current_owner(void) {
    PyThreadState *tstate = atoll_thread_state_attached();
    return tstate != NULL ? atoll_memory_owner(PyInterpreterState_GetID(PyThreadState_GetInterpreter(tstate)))
                          : 0;
}

static arena_map *map_of(int64_t owner) {
    atoll_mutex_lock(&maps_lock);
    arena_map *map = maps;
    while (map != NULL && map->owner != owner) {
        map = map->next;
    }
    if (map == NULL) {
        map = calloc(1, sizeof *map);
        if (map != NULL) {
            map->owner = owner;
            map->next = maps;
            maps = map;
        }
    }
    atoll_mutex_unlock(&maps_lock);
    return map;
}

static arena_map *take_map(int64_t owner) {
    atoll_mutex_lock(&maps_lock);
    arena_map **link = &maps;
    while (*link != NULL && (*link)->owner != owner) {
        link = &(*link)->next;
    }
    arena_map *map = *link;
    if (map != NULL) {
        *link = map->next;
    }
    atoll_mutex_unlock(&maps_lock);
    return map;
}

/* What was expected did not come. */
static void surprise(void) {
    expected->unknown = true;
    expected = NULL;
}

static void expect_leaf(arena_map *map, uintptr_t address) {
    uintptr_t region = address >> ATOLL_MAP_LEAF_SHIFT;
    for (unsigned i = 0; i < map->count; i++) {
        if (map->leaves[i].region == region) {
            return;
        }
    }
    if (map->count == MOST_LEAVES || address >> ATOLL_MAP_INNER_SHIFT != 0) { /* more than can be noted */
        map->unknown = true;
        return;
    }
    map->leaves[map->count].region = region;
    map->leaves[map->count].node = NULL;
    map->count++;
    expected = map;
}

void atoll_blocks_expect_map(int64_t owner, const void *arena) {
    if (expected != NULL) {
        surprise();
    }
    arena_map *map = owner > 0 ? map_of(owner) : NULL;
    if (map != NULL && !map->unknown) {
        uintptr_t start = (uintptr_t)arena;
        expect_leaf(map, start);
        if (start % ATOLL_ARENA_SIZE != 0) {
            expect_leaf(map, start + ATOLL_ARENA_SIZE);
        }
    }
}

/* Takes a block that was just allocated for the node that is expected.  false: it is none. */
static bool take_node(void *ptr, size_t n, size_t size) {
    arena_map *map = expected;
    bool is_inner = map->inner == NULL;
    if (ptr == NULL || current_owner() != map->owner || n != 1 ||
        size != (is_inner ? ATOLL_MAP_INNER_SIZE : ATOLL_MAP_LEAF_SIZE)) {
        surprise();
        return false;
    }
    unsigned next = 0;
    while (map->leaves[next].node != NULL) {
        next++;
    }
    if (is_inner) {
        map->inner = ptr;
    } else {
        map->leaves[next].node = ptr;
        if (next + 1 == map->count) {
            expected = NULL;
        }
    }
    note(ptr, size, map->owner, true);
    return true;
}

/* Whether the nodes are those of one map.  The interpreter is gone; CPython may have freed them itself. */
static bool is_map(const arena_map *map) {
    if (map == NULL || map->inner == NULL || map->unknown ||
        look_up((void *)map->inner, false).owner != map->owner) {
        return false;
    }
    for (unsigned i = 0; i < map->count; i++) {
        const void *node = map->inner[map->leaves[i].region % (ATOLL_MAP_INNER_SIZE / sizeof(void *))];
        if (node == NULL || node != map->leaves[i].node) {
            return false;
        }
    }
    return true;
}

/* ---- raw memory ---- */

static void *note_if_object(void *ptr, size_t size) {
    int64_t owner = for_object == 0 || ptr == NULL ? 0 : is_canary ? CANARY : current_owner();
    if (owner > 0) {
        note(ptr, size, owner, false);
    }
    return ptr;
}

static void *raw_malloc(void *ctx, size_t size) {
    if (expected != NULL) {
        surprise();
    }
    return note_if_object(raw.malloc(ctx, size), size);
}

static void *raw_calloc(void *ctx, size_t n, size_t size) {
    void *ptr = raw.calloc(ctx, n, size);
    if (expected != NULL && take_node(ptr, n, size)) {
        return ptr;
    }
    return note_if_object(ptr, n * size);
}

static void *raw_realloc(void *ctx, void *ptr, size_t size) {
    if (expected != NULL) {
        surprise();
    }
    /* Forgotten before: once it is freed, another thread may get this address and note it. */
    noted before = ptr != NULL ? look_up(ptr, true) : (noted){0};
    void *now = raw.realloc(ctx, ptr, size);
    if (before.ptr == NULL) {
        return ptr == NULL || for_object != 0 ? note_if_object(now, size) : now;
    }
    note(now != NULL ? now : ptr, now != NULL ? size : before.size, before.owner, before.is_map);
    return now;
}

static void raw_free(void *ctx, void *ptr) {
    if (expected != NULL) {
        surprise();
    }
    noted block = ptr != NULL ? look_up(ptr, true) : (noted){0};
    if (debugging && block.ptr != NULL) {
        memset(ptr, FREED, block.size);
    }
    raw.free(ctx, ptr);
}

/* ---- taking back ---- */

/* Whether what is asked of CPython comes to the wrappers. */
static bool see_everything(void) {
    if (!ATOLL_RAW_ALLOCATOR_STAYS) {
        return true; /* nothing is noted whose end could be missed */
    }
    is_canary = true;
    for_object++;
    void *made = PyMem_RawMalloc(1);
    bool seen = made == NULL || look_up(made, false).owner == CANARY;
    void *moved = made != NULL ? PyMem_RawRealloc(made, 2 * ATOLL_MAP_LEAF_SIZE) : NULL;
    seen = seen && (moved == NULL || look_up(moved, false).owner == CANARY) &&
           (moved == NULL || moved == made || look_up(made, false).owner != CANARY);
    void *last = moved != NULL ? moved : made;
    if (seen && last != NULL) {
        PyMem_RawFree(last);
        seen = look_up(last, false).owner != CANARY;
    } else {
        if (last != NULL) {
            (void)look_up(last, true);
        }
        PyMem_RawFree(last);
    }
    for_object--;
    is_canary = false;
    return seen;
}

void atoll_blocks_check(void) {
    if (atomic_load(&doubt) == NULL && !see_everything()) {
        atoll_blocks_doubt("the wrappers of CPython's allocators have been taken out");
    }
}

void atoll_blocks_end(int64_t owner, bool take_back) {
    arena_map *map = take_map(owner);
    take_back = take_back && atomic_load(&doubt) == NULL;
    end_all(owner, take_back && is_map(map), take_back);
    free(map);
    if (debugging) {
        check_counts();
    }
}

/* ---- objects ---- */

#define WRAP(domain)                                                                                         \
    static void *domain##_malloc(void *ctx, size_t size) {                                                   \
        if (size <= ATOLL_SMALL_REQUEST) {                                                                   \
            return (domain).malloc(ctx, size);                                                               \
        }                                                                                                    \
        for_object++;                                                                                        \
        void *ptr = (domain).malloc(ctx, size);                                                              \
        for_object--;                                                                                        \
        return ptr;                                                                                          \
    }                                                                                                        \
    static void *domain##_calloc(void *ctx, size_t n, size_t size) {                                         \
        if (n == 0 || size <= ATOLL_SMALL_REQUEST / n) {                                                     \
            return (domain).calloc(ctx, n, size);                                                            \
        }                                                                                                    \
        for_object++;                                                                                        \
        void *ptr = (domain).calloc(ctx, n, size);                                                           \
        for_object--;                                                                                        \
        return ptr;                                                                                          \
    }                                                                                                        \
    static void *domain##_realloc(void *ctx, void *old, size_t size) {                                       \
        if (size <= ATOLL_SMALL_REQUEST) {                                                                   \
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

static atoll_once shards_once = ATOLL_ONCE_INIT;

static void init_shards(void) {
    for (size_t i = 0; i < SHARDS; i++) {
        atoll_mutex_init(&shards[i].lock);
    }
    atoll_mutex_init(&maps_lock);
}

void atoll_blocks_fork(atoll_fork_moment when) {
    atoll_once_run(&shards_once, init_shards);
    for (size_t i = 0; i < SHARDS; i++) {
        atoll_mutex_fork(&shards[i].lock, when);
    }
    atoll_mutex_fork(&maps_lock, when);
}

static _Atomic(bool) is_wrapped;

void atoll_blocks_forget(void) {
    PyMemAllocatorEx now;
    PyMem_GetAllocator(PYMEM_DOMAIN_RAW, &now);
    atomic_store(&is_wrapped, now.calloc == raw_calloc);
}

/* The context stays the one of the allocator below: another thread that allocates while CPython's table changes sees
 * functions of both, and each gets what it needs. */
void atoll_blocks_init(void) {
    if (atomic_exchange(&is_wrapped, true)) {
        return;
    }
    atoll_once_run(&shards_once, init_shards);
    const char *debug = getenv("ATOLL_DEBUG_BLOCKS");
    debugging = debug != NULL && debug[0] != '\0' && strcmp(debug, "0") != 0;
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
}
