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
 * would be freed twice, but a node has no end.  (Once somebody wants a limit the others are, too, but only to be counted.)
 *
 * A block's end is missed as well when somebody takes the wrappers out: whoever replaces allocators for a while and then puts
 * back those from before (tracemalloc, memory profilers) may do so.  So each time that an interpreter is made
 * or ends, blocks are allocated, moved and freed in the usual way, and the wrappers have to see it; and a block that is noted twice
 * has had an end that nobody saw.  Once there is a doubt, nothing is taken back any more, for good: it is lost, as CPython
 * would have it.  Limits are to hold all the same.  So where nothing comes to the wrappers any more, they are put around what is there
 * now; what was freed in between counts until its address is somebody else's.  (Where something comes, they are below somebody who
 * is not to be wrapped by what he leads to.  Not in 3.12, where they may be out for a moment.)
 *
 * ATOLL_DEBUG_BLOCKS=1 fills noted blocks when they are freed, and blocks and arenas when they are taken back, counts what is
 * noted against what is left, and makes each doubt fatal.
 *
 * Ownership: a block that is noted is still CPython's, which may free it at any time; atoll_blocks_end() takes what is
 * left once the interpreter is gone.  What is known of a map of arenas is written with that interpreter's GIL, and read
 * when it is gone.
 *
 * Locks: the list of maps has one, a leaf, as the table of what is noted has.  A thread state need not be attached.
 */
#include "py/memory/blocks.h"

#include "port/port.h"
#include "py/memory/account.h"
#include "py/memory/noted.h"
#include "py/memory/owner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_LEAVES 16
#define CANARY ATOLL_NOTED_CANARY
#define REFUSED (-2)

enum { FREED = 0xDD, TAKEN_BACK = 0xDB }; /* what ATOLL_DEBUG_BLOCKS fills with */

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

static atoll_mutex maps_lock = ATOLL_MUTEX_INIT;
static arena_map *maps;
static _Atomic(const char *) doubt; /* why nothing is taken back any more; NULL: it is */
static bool debugging;
static _Atomic(uint64_t) taken_back;
static PyMemAllocatorEx raw;
static PyMemAllocatorEx object_domain;
static PyMemAllocatorEx memory_domain;

/* Read and written at each raw allocation, so they lie where a thread finds them at once: 16 bytes of the room that the
 * dynamic linker keeps for that. */
#define AT_HAND __attribute__((tls_model("initial-exec")))
static _Thread_local AT_HAND unsigned
    for_object; /* nested: the allocator of one domain may be that of another */
static _Thread_local AT_HAND bool arena_refused; /* a small block is going to be asked for instead */
static _Thread_local AT_HAND int64_t expected;   /* the owner of the map whose next node is; 0: none is */
static _Thread_local bool is_canary;             /* looked at for objects only */

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

/* Where the end of a block may be missed, an address that is noted twice means nothing. */
static void note(void *ptr, size_t size, int64_t owner, bool is_map, bool is_small) {
    const atoll_noted block = {ptr, size, owner, is_map, is_small};
    if (!atoll_noted_add(&block) && ATOLL_RAW_ALLOCATOR_STAYS) {
        atoll_blocks_doubt("a block was freed without its wrapper's knowledge");
    }
}

Py_ssize_t atoll_blocks_left(int64_t owner, atoll_span **blocks) {
    if (!ATOLL_RAW_ALLOCATOR_STAYS) { /* some of them may have been freed */
        *blocks = NULL;
        return 0;
    }
    return atoll_noted_of(owner, blocks);
}

/* ---- the maps of arenas ---- */

/* The interpreter whose blocks are noted, or 0. */
static int64_t current_owner(void) {
    PyThreadState *tstate = atoll_thread_state_attached();
    return tstate != NULL ? atoll_memory_owner(PyInterpreterState_GetID(PyThreadState_GetInterpreter(tstate)))
                          : 0;
}

/* The map of an interpreter that is there, or NULL; made when it is to be. */
static arena_map *map_of(int64_t owner, bool make) {
    atoll_mutex_lock(&maps_lock);
    arena_map *map = maps;
    while (map != NULL && map->owner != owner) {
        map = map->next;
    }
    if (map == NULL && make) {
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
    arena_map *map = map_of(expected, false); /* which may be gone, when nothing has come since */
    if (map != NULL) {
        map->unknown = true;
    }
    expected = 0;
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
    expected = map->owner;
}

void atoll_blocks_expect_map(int64_t owner, const void *arena) {
    if (expected != 0) {
        surprise();
    }
    arena_map *map = owner > 0 ? map_of(owner, true) : NULL;
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
    arena_map *map = map_of(expected, false);
    bool is_inner = map != NULL && map->inner == NULL;
    if (map == NULL || ptr == NULL || current_owner() != map->owner || n != 1 ||
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
            expected = 0;
        }
    }
    note(ptr, size, map->owner, true, false);
    return true;
}

/* Whether the nodes are those of one map.  The interpreter is gone; CPython may have freed them itself. */
static bool is_map(const arena_map *map) {
    if (map == NULL || map->inner == NULL || map->unknown ||
        atoll_noted_find((void *)map->inner, false).owner != map->owner) {
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

/* Whose the next raw block is: 0 when it is not noted, REFUSED when its owner may not have it.  is_small: it comes in the place of one in
 * an arena. */
static int64_t claim(size_t size, bool *is_small) {
    *is_small = arena_refused && size <= ATOLL_SMALL_REQUEST;
    arena_refused = false;
    if (for_object == 0 && !*is_small) {
        return 0;
    }
    int64_t owner = is_canary ? CANARY : current_owner();
    return owner > 0 && !atoll_account_allows(owner, size) ? REFUSED : owner;
}

static void tell_if_due(int64_t owner) {
    if (atomic_load_explicit(&atoll_account_due, memory_order_relaxed)) {
        atoll_account_tell(owner);
    }
}

static void *note_claimed(void *ptr, size_t size, int64_t owner, bool is_small) {
    if (owner > 0 && ptr != NULL) {
        note(ptr, size, owner, false, is_small);
        tell_if_due(owner);
    }
    return ptr;
}

static bool is_usual(void) { return for_object == 0 && !arena_refused; }

static void *raw_malloc(void *ctx, size_t size) {
    if (expected != 0) {
        surprise();
    }
    if (is_usual()) {
        return raw.malloc(ctx, size);
    }
    bool is_small;
    int64_t owner = claim(size, &is_small);
    return owner != REFUSED ? note_claimed(raw.malloc(ctx, size), size, owner, is_small) : NULL;
}

static void *raw_calloc(void *ctx, size_t n, size_t size) {
    if (expected != 0) {
        void *node = raw.calloc(ctx, n, size);
        if (take_node(node, n, size)) {
            return node;
        }
        raw.free(ctx, node);
    }
    if (is_usual()) {
        return raw.calloc(ctx, n, size);
    }
    bool is_small;
    int64_t owner = claim(n * size, &is_small);
    return owner != REFUSED ? note_claimed(raw.calloc(ctx, n, size), n * size, owner, is_small) : NULL;
}

static void *raw_realloc(void *ctx, void *ptr, size_t size) {
    if (expected != 0) {
        surprise();
    }
    /* Forgotten before: once it is freed, another thread may get this address and note it. */
    atoll_noted before = ptr != NULL ? atoll_noted_find(ptr, true) : (atoll_noted){0};
    if (before.ptr == NULL) {
        bool is_small;
        int64_t owner = is_usual() ? 0 : claim(size, &is_small);
        return owner != REFUSED ? note_claimed(raw.realloc(ctx, ptr, size), size, owner, false) : NULL;
    }
    void *now = NULL;
    if (size <= before.size || before.owner == CANARY || atoll_account_allows(before.owner, size)) {
        now = raw.realloc(ctx, ptr, size);
    }
    note(now != NULL ? now : ptr, now != NULL ? size : before.size, before.owner, before.is_map,
         before.is_small);
    tell_if_due(before.owner);
    return now;
}

static void raw_free(void *ctx, void *ptr) {
    if (expected != 0) {
        surprise();
    }
    atoll_noted block = ptr != NULL ? atoll_noted_find(ptr, true) : (atoll_noted){0};
    if (debugging && ATOLL_RAW_ALLOCATOR_STAYS && block.ptr != NULL) {
        memset(ptr, FREED, block.size);
    }
    raw.free(ctx, ptr);
}

void atoll_blocks_arena_refused(void) { arena_refused = true; }

/* ---- taking back ---- */

/* What is asked of CPython comes to the wrappers: all of it, some of it, nothing. */
typedef enum { SEEN, SEEN_IN_PART, UNSEEN } seen;

static bool is_noted(void *block) { return atoll_noted_find(block, false).owner == CANARY; }

static seen see_canary(void) {
    if (!ATOLL_RAW_ALLOCATOR_STAYS) {
        return SEEN; /* nothing is noted whose end could be missed */
    }
    is_canary = true;
    for_object++;
    void *made = PyMem_RawMalloc(1);
    bool begun = made != NULL && is_noted(made);
    void *moved = made != NULL ? PyMem_RawRealloc(made, 2 * ATOLL_MAP_LEAF_SIZE) : NULL;
    bool went_on = moved != NULL && is_noted(moved);
    bool right = (made == NULL || begun) && (moved == NULL || went_on) &&
                 (moved == NULL || moved == made || !is_noted(made));
    void *last = moved != NULL ? moved : made;
    if (right && last != NULL) {
        PyMem_RawFree(last);
        right = !is_noted(last);
    } else {
        if (last != NULL) {
            (void)atoll_noted_find(last, true);
        }
        PyMem_RawFree(last);
    }
    for_object--;
    is_canary = false;
    return right ? SEEN : begun || went_on ? SEEN_IN_PART : UNSEEN;
}

static void release(const atoll_noted *block) {
    if (debugging) {
        memset(block->ptr, TAKEN_BACK, block->size);
    }
    raw.free(raw.ctx, block->ptr);
}

void atoll_blocks_end(int64_t owner, bool take_back) {
    arena_map *map = take_map(owner);
    take_back = take_back && atomic_load(&doubt) == NULL;
    uint64_t freed =
        atoll_noted_end(owner, take_back && is_map(map), take_back && ATOLL_RAW_ALLOCATOR_STAYS, release);
    atomic_fetch_add(&taken_back, freed);
    free(map);
    if (debugging && !atoll_noted_is_consistent()) {
        atoll_blocks_doubt("the table of blocks does not have what was noted");
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

void atoll_blocks_fork(atoll_fork_moment when) {
    atoll_noted_fork(when);
    atoll_mutex_fork(&maps_lock, when);
}

static _Atomic(bool) is_wrapped;
static _Atomic(bool) notes_all; /* not only nodes */

void atoll_blocks_forget(void) {
    PyMemAllocatorEx now;
    PyMem_GetAllocator(PYMEM_DOMAIN_RAW, &now);
    atomic_store(&is_wrapped, now.calloc == raw_calloc);
    atomic_store(&notes_all, now.malloc == raw_malloc);
}

/* Around what is there now, the context of which stays: another thread that allocates while CPython's table changes sees functions of both, and
 * each gets what it needs. */
static void wrap_raw(bool all) {
    PyMemAllocatorEx wrapped = raw;
    wrapped.calloc = raw_calloc;
    if (all) {
        wrapped.malloc = raw_malloc;
        wrapped.realloc = raw_realloc;
        wrapped.free = raw_free;
    }
    atomic_thread_fence(memory_order_release); /* threads without a GIL allocate meanwhile */
    PyMem_SetAllocator(PYMEM_DOMAIN_RAW, &wrapped);
}

static void wrap_objects(void) {
    PyMemAllocatorEx now;
    PyMem_GetAllocator(PYMEM_DOMAIN_OBJ, &now);
    if (now.malloc != object_domain_malloc) {
        object_domain = now;
    }
    PyMem_GetAllocator(PYMEM_DOMAIN_MEM, &now);
    if (now.malloc != memory_domain_malloc) {
        memory_domain = now;
    }
    atomic_thread_fence(memory_order_release); /* as above */
    PyMem_SetAllocator(PYMEM_DOMAIN_OBJ,
                       &(PyMemAllocatorEx){object_domain.ctx, object_domain_malloc, object_domain_calloc,
                                           object_domain_realloc, object_domain.free});
    PyMem_SetAllocator(PYMEM_DOMAIN_MEM,
                       &(PyMemAllocatorEx){memory_domain.ctx, memory_domain_malloc, memory_domain_calloc,
                                           memory_domain_realloc, memory_domain.free});
}

void atoll_blocks_note_all(void) {
    if (!atomic_exchange(&notes_all, true)) {
        wrap_raw(true);
        wrap_objects();
    }
}

static void wrap_again(void) {
    PyMemAllocatorEx now;
    atoll_mutex_lock(&maps_lock); /* for nothing but this; who allocates does so below the wrappers */
    PyMem_GetAllocator(PYMEM_DOMAIN_RAW, &now);
    if (now.malloc != raw_malloc) {
        raw = now;
        wrap_raw(true);
        wrap_objects();
    }
    atoll_mutex_unlock(&maps_lock);
}

void atoll_blocks_check(void) {
    seen canary = atomic_load(&is_wrapped) ? see_canary() : SEEN;
    if (canary != SEEN) {
        atoll_blocks_doubt("the wrappers of CPython's allocators have been taken out");
    }
    if (canary == UNSEEN) {
        wrap_again();
    }
}

bool atoll_blocks_notes_all(void) { return atomic_load(&notes_all); }

void atoll_blocks_init(void) {
    if (atomic_exchange(&is_wrapped, true)) {
        return;
    }
    atoll_noted_init();
    const char *debug = getenv("ATOLL_DEBUG_BLOCKS");
    debugging = debug != NULL && debug[0] != '\0' && strcmp(debug, "0") != 0;
    PyMem_GetAllocator(PYMEM_DOMAIN_RAW, &raw);
    wrap_raw(false);
    if (ATOLL_RAW_ALLOCATOR_STAYS) {
        atoll_blocks_note_all();
    }
}
