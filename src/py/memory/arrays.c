/* Memory of numpy's arrays in an interpreter with a limit.
 *
 * numpy takes the memory for the elements of its arrays from malloc, through a handler (NEP 49) that an array remembers: a static struct of
 * four functions, of which each interpreter has its own, as it has its own clone of numpy.  A handler that is set in its place would hold for one
 * context only, and so for one thread.  So the functions in the default one are replaced, in an interpreter that has a limit, by functions that
 * note what they hand out (noted.c) and ask whether it may be had (account.c).  What was handed out before is not noted, and given back as before.
 *
 * Private knowledge of numpy: none.  The places of the two versions and of the handler in its table are those that extension modules are
 * compiled for; the struct is NEP 49's, and says its version.
 *
 * Ownership: what was in the handler before belongs to the interpreter's account, which ends when its clones are gone.  What numpy keeps for
 * later (it has a cache of small blocks) counts as given back.
 * Locks: none, but those of noted.c.
 */
#include "py/memory/arrays.h"

#include "py/memory/account.h"
#include "py/memory/noted.h"
#include "py/memory/owner.h"

#include <stdlib.h>

enum { ABI = 0, FEATURES = 211, DEFAULT_HANDLER = 306 };
enum { FIRST_ABI = 0x01000009, SECOND_ABI = 0x02000000, FIRST_WITH_HANDLERS = 0x0f };

typedef struct {
    void *ctx;
    void *(*malloc)(void *ctx, size_t size);
    void *(*calloc)(void *ctx, size_t count, size_t size);
    void *(*realloc)(void *ctx, void *ptr, size_t size);
    void (*free)(void *ctx, void *ptr, size_t size);
} functions;

typedef struct {
    char name[127];
    uint8_t version;
    functions functions;
} handler;

typedef struct {
    functions before;
    int64_t owner;
} counted;

static void *note(const counted *c, void *ptr, size_t size) {
    if (ptr != NULL) {
        (void)atoll_noted_add(&(atoll_noted){.ptr = ptr, .size = size, .owner = c->owner, .is_small = true});
        if (atomic_load_explicit(&atoll_account_due, memory_order_relaxed)) {
            atoll_account_tell(c->owner);
        }
    }
    return ptr;
}

static void *counted_malloc(void *ctx, size_t size) {
    const counted *c = ctx;
    return atoll_account_allows(c->owner, size) ? note(c, c->before.malloc(c->before.ctx, size), size) : NULL;
}

static void *counted_calloc(void *ctx, size_t count, size_t size) {
    const counted *c = ctx;
    size_t all;
    if (__builtin_mul_overflow(count, size, &all) || !atoll_account_allows(c->owner, all)) {
        return NULL;
    }
    return note(c, c->before.calloc(c->before.ctx, count, size), all);
}

static void *counted_realloc(void *ctx, void *ptr, size_t size) {
    const counted *c = ctx;
    /* Forgotten before: once it is freed, another thread may get this address and note it. */
    atoll_noted before = ptr != NULL ? atoll_noted_find(ptr, true) : (atoll_noted){0};
    void *now = NULL;
    if (size <= before.size || atoll_account_allows(c->owner, size)) {
        now = c->before.realloc(c->before.ctx, ptr, size);
    }
    if (now == NULL && before.ptr != NULL) {
        (void)atoll_noted_add(&before);
    }
    return note(c, now, size);
}

static void counted_free(void *ctx, void *ptr, size_t size) {
    const counted *c = ctx;
    if (ptr != NULL) {
        (void)atoll_noted_find(ptr, true);
    }
    c->before.free(c->before.ctx, ptr, size);
}

/* The handler of a numpy that is known, or NULL. */
static handler *find_handler(void **numpy) {
    unsigned (*abi)(void);
    unsigned (*features)(void);
    memcpy(&abi, &numpy[ABI], sizeof abi);
    if (abi() != FIRST_ABI && abi() != SECOND_ABI) {
        return NULL;
    }
    memcpy(&features, &numpy[FEATURES], sizeof features);
    PyObject *const *place = features() >= FIRST_WITH_HANDLERS ? numpy[DEFAULT_HANDLER] : NULL;
    if (place == NULL || *place == NULL || !PyCapsule_IsValid(*place, "mem_handler")) {
        return NULL;
    }
    handler *found = PyCapsule_GetPointer(*place, "mem_handler");
    return found->version == 1 ? found : NULL;
}

bool atoll_arrays_count(const atoll_entry *entry, void **numpy) {
    handler *found = find_handler(numpy);
    if (found == NULL || found->functions.malloc == counted_malloc) {
        return found != NULL;
    }
    counted *c = malloc(sizeof *c);
    if (c == NULL) {
        return false;
    }
    *c = (counted){.before = found->functions, .owner = atoll_memory_owner(entry->id)};
    if (!atoll_account_keep(entry, c)) {
        free(c);
        return false;
    }
    found->functions = (functions){c, counted_malloc, counted_calloc, counted_realloc, counted_free};
    return true;
}
