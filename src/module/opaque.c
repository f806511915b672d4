/* Opaque messages: memory of C code that goes through a queue as a pointer (the C API's atoll_queue_put()).
 *
 * Who puts it hands it over, with the function that releases it.  From then on it has a count of those who have it: the message in the queue, who
 * has got it, memoryviews that show it to Python code, in any interpreter.  The last of them calls release(), once, on whatever thread it is,
 * attached to anything or nothing; when a queue is dropped with messages in it that is the last of the queue.  What could not be put stays the
 * caller's.
 *
 * The memory is nobody's, so it outlives the interpreter that the thread was in which has put it.  But release() may be code of a clone, which is
 * unloaded with its interpreter.  Then that interpreter owns the message: at its end what is still in queues is unbound, as items of Python code
 * are, and what somebody has got keeps it from being ended, as any memory that is seen elsewhere (py/interp/export.h).  When its gate is shut nothing
 * more is taken from threads that are not inside; and nothing at all once it is past that step.
 *
 * Locks: none; a guard of the owner's gate while it is looked for.
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

static bool is_open(const atoll_entry *entry) { return atoll_entry_is_open(entry); }

/* False: it is about to end. */
static bool find_owner(atoll_opaque *opaque) {
    const void *address = (const void *)(uintptr_t)opaque->release;
    PyThreadState *tstate = Py_IsInitialized() ? atoll_thread_state_attached() : NULL;
    atoll_entry *entry =
        tstate != NULL ? atoll_registry_find(PyInterpreterState_GetID(PyThreadState_GetInterpreter(tstate)))
                       : NULL;
    if (entry != NULL) { /* attached: who ends it is not, or further on */
        bool has = atoll_loader_has(entry->loader, address);
        bool ends = has && atoll_entry_life(entry) >= ATOLL_LIFE_STOPPING;
        if (has && !ends) {
            own(opaque, entry);
        }
        atoll_entry_release(entry);
        if (has) {
            return !ends;
        }
    }
    for (int64_t below = INT64_MAX;
         opaque->owner == NULL && (entry = atoll_registry_newest(below, is_open)) != NULL;) {
        below = entry->id;
        if (atoll_entry_guard(entry)) {
            if (atoll_loader_has(entry->loader, address)) {
                own(opaque, entry);
            }
            atoll_entry_unguard(entry);
        }
        atoll_entry_release(entry);
    }
    return true;
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
