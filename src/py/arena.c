/* Arenas that are kept for the next interpreter.
 *
 * CPython's object allocator takes memory from the system in arenas of 1 MiB and returns each as soon as
 * nothing in it is used.  An interpreter that ends returns two or three, and the next that is created takes as
 * many; a large list that comes and goes does the same.  Every time the kernel unmaps the pages, maps
 * them and clears them again, which is a third of the time of create().  So a few arenas are kept
 * between the two, by wrapping the process's arena allocator (PyObject_SetArenaAllocator).
 *
 * Ownership: an arena that is kept belongs to nobody, and its first word links it to the next.  What is in it is
 * never read again.  Any interpreter's thread may take and return arenas, also one without a thread state (the end
 * of an interpreter), so `lock` guards the list; it is a leaf.
 */
#include "py/arena.h"

#include "port/port.h"

#include <stdatomic.h>

#define KEEP 8 /* arenas */

typedef struct kept_arena {
    struct kept_arena *next;
} kept_arena;

static atoll_mutex lock = ATOLL_MUTEX_INIT;
static PyObjectArenaAllocator before;
static kept_arena *kept;
static unsigned kept_count;
static size_t arena_size; /* of all that are kept: the size of the first one returned */

static void *take_arena(void *Py_UNUSED(ctx), size_t size) {
    kept_arena *arena = NULL;
    atoll_mutex_lock(&lock);
    if (size == arena_size && kept != NULL) {
        arena = kept;
        kept = arena->next;
        kept_count--;
    }
    atoll_mutex_unlock(&lock);
    return arena != NULL ? arena : before.alloc(before.ctx, size);
}

static void return_arena(void *Py_UNUSED(ctx), void *ptr, size_t size) {
    if (ptr == NULL) {
        return; /* 3.14 and newer also "return" the places of arenas that are not there */
    }
    atoll_mutex_lock(&lock);
    if (arena_size == 0) {
        arena_size = size;
    }
    bool keep = size == arena_size && kept_count < KEEP;
    if (keep) {
        kept_arena *arena = ptr;
        arena->next = kept;
        kept = arena;
        kept_count++;
    }
    atoll_mutex_unlock(&lock);
    if (!keep) {
        before.free(before.ctx, ptr, size);
    }
}

static void after_fork(void) { atoll_mutex_init(&lock); }

void atoll_arena_init(void) {
    static _Atomic(bool) done;
    if (atomic_exchange(&done, true)) {
        return;
    }
    PyObject_GetArenaAllocator(&before);
    PyObject_SetArenaAllocator(&(PyObjectArenaAllocator){NULL, take_arena, return_arena});
    atoll_at_fork_child(after_fork);
}
