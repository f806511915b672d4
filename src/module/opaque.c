/* Opaque messages: memory of C code that goes through a queue as a pointer (the C API's atoll_queue_put()).
 *
 * Who puts it hands it over, with the function that releases it.  From then on it has a count of those who have it: the message in the queue, who
 * has got it, memoryviews that show it to Python code, in any interpreter.  The last of them calls release(), once, on whatever thread it is,
 * attached to anything or nothing; when a queue is dropped with messages in it that is the last of the queue.  What could not be put stays the
 * caller's.
 *
 * The memory is nobody's, so it outlives the interpreter that the thread was in which has put it.  But release() may be code of a clone, which is
 * unloaded with its interpreter.  Then that interpreter owns the message: at its end what is still in queues is unbound, as items of Python code
 * are, and what somebody has got keeps it from being ended, as any memory that is seen elsewhere (py/interp/export.h).  From when its gate is shut
 * until its clones are gone nothing more is taken from threads that are not inside; and nothing at all once it is past that step.
 *
 * Locks: none; a guard of the owner's gate while the message becomes its own.
 */
#include "module/opaque.h"

#include <stdlib.h>

static void opaque_retain(void *ptr) { atomic_fetch_add(&((atoll_opaque *)ptr)->refs, 1); }

static void opaque_release(void *ptr) {
    atoll_opaque *opaque = ptr;
    if (atomic_fetch_sub(&opaque->refs, 1) != 1) {
        return;
    }
    if (opaque->release != NULL) {
        opaque->release(opaque->data, opaque->size, opaque->context);
    }
    atoll_entry *owner = opaque->owner;
    if (owner != NULL) {
        if (atomic_fetch_sub(&owner->exports, 1) == 1 && atoll_entry_life(owner) != ATOLL_LIFE_OPEN) {
            atoll_interp_sweep_later(); /* also if it is only about to be a zombie */
        }
        atoll_entry_release(owner);
    }
    free(opaque);
}

const atoll_handle_class atoll_opaque_class = {"opaque message", opaque_retain, opaque_release};

/* The owner has one export more, and there is a reference to it. */
static void own(atoll_opaque *opaque, atoll_entry *owner) {
    atoll_entry_retain(owner);
    atomic_fetch_add(&owner->exports, 1);
    opaque->owner = owner;
}

/* It becomes the entry's.  False: that is about to end. */
static bool give_to(atoll_opaque *opaque, atoll_entry *entry) {
    PyThreadState *tstate = atoll_thread_state_attached();
    if (tstate != NULL && PyThreadState_GetInterpreter(tstate) == entry->interp) {
        bool ends =
            atoll_entry_life(entry) >= ATOLL_LIFE_STOPPING; /* who ends it is not attached, or further on */
        if (!ends) {
            own(opaque, entry);
        }
        return !ends;
    }
    if (!atoll_entry_guard(entry)) {
        return false;
    }
    own(opaque, entry);
    atoll_entry_unguard(entry);
    return true;
}

/* False: it is about to end, or has ended. */
static bool find_owner(atoll_opaque *opaque) {
    int64_t id = atoll_loaders_owner((const void *)(uintptr_t)opaque->release);
    if (id < 0) {
        return true;
    }
    atoll_entry *entry = atoll_registry_find(id);
    bool found = entry != NULL && give_to(opaque, entry);
    if (entry != NULL) {
        atoll_entry_release(entry);
    }
    return found;
}

atoll_opaque *atoll_opaque_new(void *data, size_t size, atoll_opaque_release release, void *context,
                               bool *shut) {
    *shut = false;
    atoll_opaque *opaque = calloc(1, sizeof *opaque);
    if (opaque == NULL) {
        return NULL;
    }
    atomic_init(&opaque->refs, 1);
    opaque->data = data;
    opaque->size = size;
    opaque->release = release;
    opaque->context = context;
    if (release != NULL && !find_owner(opaque)) {
        free(opaque);
        *shut = true;
        return NULL;
    }
    return opaque;
}

void atoll_opaque_disarm(atoll_opaque *opaque) { opaque->release = NULL; }
