/* Whether an interpreter's memory can be taken back after its end.
 *
 * Since 3.14, CPython returns the arenas of an interpreter itself when nothing is left in them.  What is left then was kept by
 * somebody, or lost.  3.12 and 3.13 return nothing: names in code are interned for good there and never freed, not even with
 * their interpreter, some 1,500 of them in every one, and in an arena with a single string in it everything stays.  That is the
 * 1.7 MiB that an interpreter leaks.  Nobody knows of the strings: the table of interned strings is the interpreter's own,
 * and with it all its objects are gone.
 *
 * Memory is taken back only where it follows that nobody knows of anything in it.  Who could?
 *
 *   Python          The state of the interpreter is gone.  The runtime's, and CPython's static data, have places that all interpreters
 *                   see, and on 3.12 and 3.13 the interpreter that comes first puts an object of its own into some: the names of an
 *                   argument parser's keywords, the encoded form of a static string.
 *   its clones      They are unloaded, with all that they had in static memory.  What they had from malloc() is lost, and nobody
 *                   leads there.
 *   extension modules and libraries that stay mapped, because they were not cloned.  They may have put a pointer anywhere, a
 *                   table of C++ above all, where nobody finds it.  So when one may have been given a pointer, nothing is taken back
 *                   (ATOLL_KEEPERS_LOADED).  None is: of the standard library's own modules, which keep what they have in their
 *                   interpreter's state, and of the libraries that core/clone/names.c knows to keep nothing.
 *
 * That leaves static data.  So no word in the writable data of the program and of any library that is loaded, read as a pointer,
 * may lead into an arena or a large block of the interpreter, but for constants that are as they were in the library's file (the
 * heap of a program that is not position-independent lies low, where tables of ciphers seem to lead), and for one number that
 * comes by every address there: 3.12 and 3.13 count the changes of main's dicts in steps of 256 and 4,096.  And on 3.12 and 3.13, as long as there were no clones,
 * every small block that is left has to be an immortal string, which refers to nothing, and no large one may be left: an object
 * that is kept in one of CPython's places is something else or is left with something else that leads to it (a tuple of
 * names).  (3.12 cannot tell of the large ones, blocks.c.  What is kept for good is small, or, as a class is, made of small
 * parts as well.)  An interpreter that had clones leaves more, and then there is no telling one object from another.
 *
 * Whatever is not understood, or only looks like a pointer, keeps all of it: it is then lost, as CPython would have it.
 * The first interpreters of a process often are.
 *
 * What is read belongs to an interpreter that is gone, so nobody changes it; the static data that is searched is
 * changed by other threads meanwhile, but nobody can come by a pointer that is nowhere.
 *
 * Reading an arena takes about 50 us.
 */
#include "py/memory/leftovers.h"

#include "port/port.h"
#include "py/memory/account.h"
#include "py/memory/arena.h"
#include "py/memory/blocks.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

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

/* ---- the number of changes of main's dicts ---- */

static _Atomic(const uintptr_t *) dict_changes;

/* As of the last change of this dict, which nobody watches. */
static uintptr_t changes_at(PyObject *dict) {
    uintptr_t number;
    memcpy(&number, (const char *)dict + ATOLL_DICT_VERSION_OFFSET, sizeof number);
    return number;
}

/* It is the word of CPython's state that is the number of a change, and again that of the next one. */
void atoll_leftovers_init(void) {
    if (!ATOLL_DICTS_HAVE_VERSIONS || atomic_load(&dict_changes) != NULL) {
        return;
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *dict = PyDict_New();
    bool changed = dict != NULL && PyDict_SetItem(dict, Py_None, Py_True) == 0;
    const uintptr_t *end;
    const uintptr_t *word = atoll_data_words(atoll_runtime, atoll_dl_symbol_size(atoll_runtime), &end);
    for (; changed && word < end; word++) {
        if (*word == changes_at(dict) && PyDict_SetItem(dict, Py_None, Py_False) == 0 &&
            *word == changes_at(dict)) {
            atomic_store(&dict_changes, word);
            break;
        }
    }
    Py_XDECREF(dict);
    PyErr_Clear();
    PyErr_SetRaisedException(exc);
}

/* ---- static data ---- */

enum { MIB = 20, MIBS = 1 << 16 };

typedef struct {
    atoll_span *spans; /* by address */
    size_t count;
    const uintptr_t *number; /* a word that is none */
    uintptr_t lowest; /* where the first begins, and how much lies between that and the last one's end */
    size_t width;
    uint8_t near[MIBS / 8]; /* one bit for each MiB of addresses, as far as they differ, that has some */
} targets;

static int by_address(const void *one, const void *other) {
    const char *a = ((const atoll_span *)one)->start, *b = ((const atoll_span *)other)->start;
    return (a > b) - (a < b);
}

static void prepare(targets *t) {
    qsort(t->spans, t->count, sizeof *t->spans, by_address);
    const atoll_span *last_one = &t->spans[t->count - 1];
    t->lowest = (uintptr_t)t->spans[0].start;
    t->width = (uintptr_t)last_one->start + last_one->size - t->lowest;
    for (size_t i = 0; i < t->count; i++) {
        uintptr_t first = (uintptr_t)t->spans[i].start >> MIB;
        uintptr_t last = ((uintptr_t)t->spans[i].start + t->spans[i].size - 1) >> MIB;
        for (uintptr_t mib = first; mib <= last; mib++) {
            t->near[mib % MIBS / 8] |= (uint8_t)(1U << mib % 8);
        }
    }
}

static bool is_in_one(const targets *t, uintptr_t value) {
    size_t low = 0, high = t->count;
    while (low < high) { /* the first that begins behind it */
        size_t middle = low + (high - low) / 2;
        if ((uintptr_t)t->spans[middle].start <= value) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low > 0 && value - (uintptr_t)t->spans[low - 1].start < t->spans[low - 1].size;
}

static const uintptr_t *leads_there(const void *start, size_t size, void *context) {
    const targets *t = context;
    const uintptr_t *end;
    uintptr_t value = 0;
    for (const uintptr_t *word = atoll_data_words(start, size, &end); word < end; word++) {
        word = atoll_data_next(word, end, t->lowest, t->width, &value);
        uintptr_t mib = value >> MIB;
        if (word < end && word != t->number && value % sizeof value == 0 &&
            (t->near[mib % MIBS / 8] & (1U << mib % 8)) != 0 && is_in_one(t, value)) {
            return word;
        }
    }
    return NULL;
}

/* ---- */

static bool nobody_knows(int64_t owner, bool only_strings) {
    atoll_span *arenas, *blocks;
    Py_ssize_t narenas = atoll_arenas_left(owner, &arenas);
    Py_ssize_t nblocks = atoll_blocks_left(owner, &blocks);
    bool unknown = narenas >= 0 && nblocks >= 0 && !(only_strings && nblocks != 0);
    for (Py_ssize_t i = 0; i < narenas && unknown && only_strings; i++) {
        unknown = only_strings_in_arena(&arenas[i]);
    }
    if (unknown && narenas + nblocks != 0) {
        targets t = {.count = (size_t)(narenas + nblocks), .number = atomic_load(&dict_changes)};
        t.spans = malloc(t.count * sizeof *t.spans);
        unknown = t.spans != NULL;
        if (unknown) {
            for (Py_ssize_t i = 0; i < narenas;
                 i++) { /* what leads to the first pool's header is another mapping's end */
                t.spans[i] = (atoll_span){arenas[i].start + sizeof(atoll_pool_header),
                                          arenas[i].size - sizeof(atoll_pool_header)};
            }
            for (Py_ssize_t i = 0; i < nblocks; i++) {
                t.spans[narenas + i] = blocks[i];
            }
            prepare(&t);
            unknown = !atoll_dl_any_data(NULL, leads_there, &t);
        }
        free(t.spans);
    }
    free(blocks);
    free(arenas);
    return unknown;
}

void atoll_leftovers_free(int64_t owner, atoll_keepers keepers) {
    atoll_blocks_check();
    if (!atoll_arenas_seen()) {
        atoll_blocks_doubt("the allocator of arenas has been replaced");
    }
    bool only_strings = !ATOLL_ARENAS_ARE_PRIVATE && keepers == ATOLL_KEEPERS_NONE;
    bool take_back = keepers != ATOLL_KEEPERS_LOADED && atoll_blocks_doubted() == NULL &&
                     nobody_knows(owner, only_strings);
    atoll_blocks_end(owner, take_back);
    if (take_back) {
        atoll_arenas_reclaim(owner);
    }
    atoll_account_end(owner);
}
