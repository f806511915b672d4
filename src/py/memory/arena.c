/* Arenas of CPython's object allocator: kept for the next interpreter, and taken back from those that are gone.
 *
 * CPython's object allocator takes memory from the system in arenas of 1 MiB and returns each as soon as nothing in it is
 * used.  An interpreter that ends returns two or three, and the next that is created takes as many; a large list that comes and
 * goes does the same.  Every time the kernel unmaps the pages, maps them and clears them again, which is a third of the
 * time of create().  So a few arenas are kept between the two, by wrapping the process's arena allocator
 * (PyObject_SetArenaAllocator).
 *
 * CPython returns the arenas of an interpreter that ends only when every object in them is gone (3.14 and newer), because
 * extension modules might still use what is left.  An extension that keeps objects in static variables never lets go of
 * them.  Once its clone is unloaded nobody can use them any more, and the arenas can be taken back: so each arena that is in
 * use is noted with the interpreter that is attached while it is taken.  That is its owner: CPython takes arenas for
 * the interpreter that runs.  3.12 and 3.13 return no arena of an interpreter that ends; leftovers.c says when they can be
 * taken back.
 *
 * Ownership: an arena that is kept belongs to nobody, and its first word links it to the next.  What is in it is never
 * read again.  Any interpreter's thread may take and return arenas, also one without a thread state (the end of an
 * interpreter), so `lock` guards the lists; it is a leaf.
 */
#include "py/memory/arena.h"

#include "port/port.h"
#include "py/memory/account.h"
#include "py/memory/blocks.h"
#include "py/memory/owner.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define KEEP 16 /* arenas */
#define CHAINS 1024

typedef struct kept_arena {
    struct kept_arena *next;
} kept_arena;

/* An arena in use. */
typedef struct used_arena {
    struct used_arena *next;
    void *ptr;
    size_t size;
    int64_t owner; /* of an interpreter's (restart.h) */
} used_arena;

static atoll_mutex lock = ATOLL_MUTEX_INIT;
static PyObjectArenaAllocator before;
static kept_arena *kept;
static unsigned kept_count;
static size_t arena_size; /* of all that are kept: the size of the first arena returned */
static used_arena *used[CHAINS];

static used_arena **chain_of(const void *ptr) { return &used[((uintptr_t)ptr >> 20) % CHAINS]; }

static int64_t current_interpreter(void) {
    PyThreadState *tstate = atoll_thread_state_attached();
    return tstate != NULL ? atoll_memory_owner(PyInterpreterState_GetID(PyThreadState_GetInterpreter(tstate)))
                          : -1;
}

/* One that cannot be noted, for want of memory, is never taken back. */
static void note_locked(void *ptr, size_t size, int64_t owner) {
    used_arena *arena = malloc(sizeof *arena);
    if (arena != NULL) {
        used_arena **chain = chain_of(ptr);
        *arena = (used_arena){*chain, ptr, size, owner};
        *chain = arena;
    }
}

/* Its owner, or -1. */
static int64_t forget_locked(void *ptr) {
    for (used_arena **link = chain_of(ptr); *link != NULL; link = &(*link)->next) {
        if ((*link)->ptr == ptr) {
            used_arena *arena = *link;
            *link = arena->next;
            int64_t owner = arena->owner;
            free(arena);
            return owner;
        }
    }
    return -1;
}

static void count(int64_t owner, int64_t bytes) {
    if (owner >= 0) {
        atoll_account_add(owner, ATOLL_IN_ARENAS, bytes);
    }
}

/* Whether it is kept; else the caller gives it to the system. */
static bool keep_locked(void *ptr, size_t size) {
    if (arena_size == 0 && size >= ATOLL_SMALLEST_ARENA) {
        arena_size = size;
    }
    if (size != arena_size || kept_count >= KEEP) {
        return false;
    }
    kept_arena *arena = ptr;
    arena->next = kept;
    kept = arena;
    kept_count++;
    return true;
}

/* What is left of an arena's last use must not look like pools of the next. */
static void forget_pools(char *start, size_t size) {
    for (size_t i = 0; i + sizeof(atoll_pool_header) <= size; i += ATOLL_POOL_SIZE) {
        char *pool =
            (char *)(((uintptr_t)(start + i) + ATOLL_POOL_SIZE - 1) & ~(uintptr_t)(ATOLL_POOL_SIZE - 1));
        if (pool + sizeof(atoll_pool_header) <= start + size) {
            memset(pool, 0, sizeof(atoll_pool_header));
        }
    }
}

static void (*on_take)(void);

/* A piece of the stacks of frames is refused as a small block is; without an arena CPython takes small blocks from elsewhere. */
static bool may_take(int64_t owner, size_t size) {
    if (size < ATOLL_SMALLEST_ARENA) {
        return atoll_account_allows(owner, size);
    }
    if (atoll_account_has_room(owner, size)) {
        return true;
    }
    atoll_blocks_arena_refused();
    return false;
}

static void *take_arena(void *Py_UNUSED(ctx), size_t size) {
    int64_t owner = current_interpreter();
    if (owner > 0 && !may_take(owner, size)) {
        return NULL;
    }
    on_take();
    kept_arena *arena = NULL;
    atoll_mutex_lock(&lock);
    if (size == arena_size && kept != NULL) {
        arena = kept;
        kept = arena->next;
        kept_count--;
    }
    atoll_mutex_unlock(&lock);
    void *ptr = arena != NULL ? arena : before.alloc(before.ctx, size);
    if (ptr != NULL) {
        if (arena != NULL && !ATOLL_ARENAS_ARE_PRIVATE) {
            forget_pools(ptr, size);
        }
        atoll_mutex_lock(&lock);
        note_locked(ptr, size, owner);
        atoll_mutex_unlock(&lock);
        count(owner, (int64_t)size);
        if (atomic_load_explicit(&atoll_account_due, memory_order_relaxed)) {
            atoll_account_tell(owner);
        }
        if (size == ATOLL_ARENA_SIZE) { /* the stacks of frames are on no map */
            atoll_blocks_expect_map(owner, ptr);
        }
    }
    return ptr;
}

static void return_arena(void *Py_UNUSED(ctx), void *ptr, size_t size) {
    if (ptr == NULL) {
        return; /* 3.14 and newer also "return" the places of arenas that are not there */
    }
    atoll_mutex_lock(&lock);
    int64_t owner = forget_locked(ptr);
    bool keep = keep_locked(ptr, size);
    atoll_mutex_unlock(&lock);
    count(owner, -(int64_t)size);
    if (!keep) {
        before.free(before.ctx, ptr, size);
    }
}

Py_ssize_t atoll_arenas_left(int64_t owner, atoll_span **arenas) {
    Py_ssize_t count = 0;
    size_t room = 0;
    *arenas = NULL;
    atoll_mutex_lock(&lock);
    for (size_t i = 0; i < CHAINS && count >= 0; i++) {
        for (const used_arena *arena = used[i]; arena != NULL; arena = arena->next) {
            if (arena->owner == owner && count >= 0) {
                count = atoll_span_add(arenas, count, &room, (atoll_span){arena->ptr, arena->size});
            }
        }
    }
    atoll_mutex_unlock(&lock);
    return count;
}

bool atoll_arenas_seen(void) {
    PyObjectArenaAllocator now;
    PyObject_GetArenaAllocator(&now);
    return now.alloc == take_arena && now.free == return_arena;
}

void atoll_arenas_reclaim(int64_t owner) {
    used_arena *surplus = NULL;
    atoll_mutex_lock(&lock);
    for (size_t i = 0; i < CHAINS; i++) {
        for (used_arena **link = &used[i]; *link != NULL;) {
            used_arena *arena = *link;
            if (arena->owner != owner) {
                link = &arena->next;
                continue;
            }
            *link = arena->next;
            if (atoll_blocks_debugging()) {
                memset(arena->ptr, 0xDB, arena->size);
            }
            if (keep_locked(arena->ptr, arena->size)) {
                free(arena);
            } else {
                arena->next = surplus;
                surplus = arena;
            }
        }
    }
    atoll_mutex_unlock(&lock);
    while (surplus != NULL) {
        used_arena *next = surplus->next;
        before.free(before.ctx, surplus->ptr, surplus->size);
        free(surplus);
        surplus = next;
    }
}

void atoll_arenas_fork(atoll_fork_moment when) { atoll_mutex_fork(&lock, when); }

static _Atomic(bool) is_installed;

void atoll_arenas_forget(void) {
    PyObjectArenaAllocator now;
    PyObject_GetArenaAllocator(&now);
    atomic_store(&is_installed, now.alloc == take_arena);
}

void atoll_arena_init(void (*taken)(void)) {
    if (atomic_exchange(&is_installed, true)) {
        return;
    }
    on_take = taken;
    PyObject_GetArenaAllocator(&before);
    PyObject_SetArenaAllocator(&(PyObjectArenaAllocator){NULL, take_arena, return_arena});
}
