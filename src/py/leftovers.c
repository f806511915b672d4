/* Whether an interpreter's memory can be taken back after its end.
 *
 * Since 3.14, CPython returns the arenas of an interpreter itself when nothing is left in them.  What is left then was kept by
 * extension modules, and when those were clones, which are unloaded, nobody knows of it.
 *
 * 3.12 and 3.13 return nothing: names in code are interned for good there and never freed, not even with their interpreter,
 * some 1,500 of them in every one, and in an arena with a single string in it everything stays.  That is the 1.7 MiB that an
 * interpreter leaks.  Nobody knows of the strings: the table of interned strings is the interpreter's own, and with it all
 * its objects are gone.  But those versions also have a few static places, seen by all interpreters, where the
 * interpreter that comes first puts an object of its own: the names of an argument parser's keywords, the encoded form of a
 * static string.  (What static types have that changes, their dicts above all, is each interpreter's own there, too.)  So
 * nothing is taken for granted; memory is taken back when
 *
 *   1. every small block that is left is an immortal string, which refers to nothing, and no large one is
 *      left: an object that is kept in any of those places, or by an extension module, is something else or is left with
 *      something else that leads to it (a tuple of names).  (3.12 cannot tell of the large ones, blocks.c.  What is kept for
 *      good is small, or, as a class is, made of small parts as well);
 *   2. no word in the writable data of the program and of any library that is loaded, read as a pointer, leads
 *      into one of the arenas: that would be a string that somebody keeps in a static variable.
 *
 * An interpreter that had clones leaves more: what they kept in their static variables, which are gone.  Then there is no
 * telling one object from another, and the second condition alone has to do: what all interpreters see begins in static data.
 *
 * Whatever is not understood, or only looks like a pointer, keeps all of it: it is then lost, as CPython would have it.
 * The first interpreters of a process often are.
 *
 * What is read belongs to an interpreter that is gone, so nobody changes it; the static data that is searched is
 * changed by other threads meanwhile, but nobody can come by a pointer that is nowhere.
 *
 * Reading an arena takes about 50 us, searching the data of CPython alone 400 us.
 */
#include "py/leftovers.h"

#include "port/port.h"
#include "py/arena.h"
#include "py/blocks.h"

#include <stdlib.h>

enum { UNIT = 16, MOST_BLOCKS = ATOLL_POOL_SIZE / UNIT };

/* That it was interned is no longer to be seen in 3.13, only that it is immortal. */
static bool is_immortal_string(const void *block) {
    PyObject *op = (PyObject *)block;
    return Py_IS_TYPE(op, &PyUnicode_Type) && atoll_is_immortal(op);
}

/* Whether all blocks in use of a pool are immortal strings; false as well when the header makes no sense. */
static bool only_strings_in_pool(const char *pool) {
    const atoll_pool_header *header = (const atoll_pool_header *)pool;
    if (header->ref.count == 0) {
        return true;
    }
    size_t size = ((size_t)header->size_class + 1) * UNIT;
    if (header->size_class >= ATOLL_POOL_CLASSES || header->next_offset > ATOLL_POOL_SIZE ||
        header->next_offset < sizeof *header) {
        return false;
    }
    size_t given_out = (header->next_offset - sizeof *header) / size;
    bool is_free[MOST_BLOCKS] = {false};
    size_t free_blocks = 0;
    for (const char *block = header->free; block != NULL; block = *(const char *const *)block) {
        size_t offset = (size_t)(block - pool) - sizeof *header;
        if (offset % size != 0 || offset / size >= given_out || is_free[offset / size]) {
            return false;
        }
        is_free[offset / size] = true;
        free_blocks++;
    }
    if (given_out - free_blocks != header->ref.count) {
        return false;
    }
    for (size_t i = 0; i < given_out; i++) {
        if (!is_free[i] &&
            (size < sizeof(PyASCIIObject) || !is_immortal_string(pool + sizeof *header + i * size))) {
            return false;
        }
    }
    return true;
}

static bool only_strings_in_arena(const atoll_span *arena) {
    uintptr_t first = ((uintptr_t)arena->start + ATOLL_POOL_SIZE - 1) & ~(uintptr_t)(ATOLL_POOL_SIZE - 1);
    const char *end = arena->start + arena->size;
    for (const char *pool = (const char *)first; pool + ATOLL_POOL_SIZE <= end; pool += ATOLL_POOL_SIZE) {
        if (!only_strings_in_pool(pool)) {
            return false;
        }
    }
    return true;
}

typedef struct {
    const atoll_span *arenas;
    Py_ssize_t count;
    uintptr_t low, high; /* around all of them */
} targets;

/* Other threads write what is read here: words are read whole. */
static bool leads_there(const void *start, size_t size, void *context) {
    const targets *t = context;
    const volatile uintptr_t *word =
        (const volatile uintptr_t *)(((uintptr_t)start + sizeof *word - 1) & ~(sizeof *word - 1));
    const volatile uintptr_t *end = (const volatile uintptr_t *)((uintptr_t)start + size - sizeof *word);
    for (; word <= end; word++) {
        uintptr_t value = *word;
        if (value < t->low || value >= t->high) {
            continue;
        }
        for (Py_ssize_t i = 0; i < t->count; i++) {
            if (value - (uintptr_t)t->arenas[i].start < t->arenas[i].size) {
                return true;
            }
        }
    }
    return false;
}

static bool nobody_knows(int64_t owner, bool only_strings) {
    atoll_span *arenas;
    Py_ssize_t count = atoll_arenas_left(owner, &arenas);
    bool unknown = count >= 0 && !(only_strings && atoll_blocks_any_left(owner));
    targets t = {arenas, count, UINTPTR_MAX, 0};
    for (Py_ssize_t i = 0; i < count && unknown; i++) {
        unknown = !only_strings || only_strings_in_arena(&arenas[i]);
        uintptr_t start = (uintptr_t)arenas[i].start;
        t.low = start < t.low ? start : t.low;
        t.high = start + arenas[i].size > t.high ? start + arenas[i].size : t.high;
    }
    unknown = unknown && (count == 0 || !atoll_dl_any_data(leads_there, &t));
    free(arenas);
    return unknown;
}

void atoll_leftovers_free(int64_t owner, atoll_keepers keepers) {
    if (ATOLL_ARENAS_ARE_PRIVATE ? keepers != ATOLL_KEEPERS_LOADED
                                 : nobody_knows(owner, keepers != ATOLL_KEEPERS_UNLOADED)) {
        atoll_blocks_reclaim(owner);
        atoll_arenas_reclaim(owner);
    }
}
