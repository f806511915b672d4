/* The list of an interpreter's clones (clones.h): what is found in it, and by whom.
 *
 * Who loads something holds the owner's lock and reads the list as it likes.  Code of the clones, on any thread, asks whose an
 * address or a handle is: that takes the set's lock, as adding to the list does.
 *
 * Whoever is given the address of a function asks whether it is a clone's, and whose: for that there is a list of all sets, with a lock
 * of its own, inside of which a set's may be taken.  A set is on it until it is known what becomes of its clones: from then on they
 * are unmapped, and nobody is left who could call code in them, or stay for good.
 *
 * Some files are not to be cloned because the interpreter has them already as they are: modules that declare support for a
 * GIL per interpreter, Atoll itself.  Those that were loaded so are on a list of their own, by path and by identity:
 * the dynamic linker, too, answers with what it has for a path, although the file may have been replaced.
 */
#include "core/clone/clones.h"

#include <stdlib.h>
#include <string.h>

static atoll_mutex sets_lock = ATOLL_MUTEX_INIT;
static atoll_clones *sets;

int atoll_clones_init(atoll_clones *set, int64_t owner, const char *shim_file, const atoll_shim *shim,
                      bool whole) {
    *set = (atoll_clones){.owner = owner, .shim_file = shim_file, .shim = shim, .whole = whole};
    atoll_mutex_init(&set->lock);
    set->natives = atoll_natives_new();
    if (set->natives == NULL) {
        return -1;
    }
    atoll_mutex_lock(&sets_lock);
    set->next = sets;
    sets = set;
    atoll_mutex_unlock(&sets_lock);
    return 0;
}

void atoll_clones_unlist(atoll_clones *set) {
    atoll_mutex_lock(&sets_lock);
    atoll_clones **link = &sets;
    while (*link != NULL && *link != set) {
        link = &(*link)->next;
    }
    if (*link != NULL) {
        *link = set->next;
    }
    atoll_mutex_unlock(&sets_lock);
}

void atoll_clones_keep_only(atoll_clones *set) {
    atoll_mutex_lock(&sets_lock);
    sets = set;
    if (set != NULL) {
        set->next = NULL;
    }
    atoll_mutex_unlock(&sets_lock);
}

void atoll_clones_fork(atoll_fork_moment when) { atoll_mutex_fork(&sets_lock, when); }

void atoll_clone_free(atoll_clone *clone) {
    if (clone->fd >= 0) {
        atoll_file_close(clone->fd);
    }
    free(clone->file);
    free(clone->soname);
    free(clone->symbol);
    free(clone->path);
    free(clone->name);
    free(clone);
}

atoll_clone *atoll_clones_find(const atoll_clones *set, const atoll_file_id *id) {
    for (size_t i = 0; i < set->count; i++) {
        if (atoll_file_same(&set->items[i]->id, id)) {
            return set->items[i];
        }
    }
    return NULL;
}

const atoll_clone *atoll_clones_at(atoll_clones *set, const void *address) {
    const atoll_clone *found = NULL;
    atoll_mutex_lock(&set->lock);
    for (size_t i = 0; i < set->count && found == NULL; i++) {
        bool is_in = (uintptr_t)address >= set->items[i]->low && (uintptr_t)address < set->items[i]->high;
        found = is_in ? set->items[i] : NULL;
    }
    atoll_mutex_unlock(&set->lock);
    return found;
}

int64_t atoll_clones_owner(const void *address) {
    int64_t owner = -1;
    atoll_mutex_lock(&sets_lock);
    for (atoll_clones *set = sets; set != NULL && owner < 0; set = set->next) {
        bool is_in_shim = (uintptr_t)address >= set->shim_low && (uintptr_t)address < set->shim_high;
        owner = is_in_shim || atoll_clones_at(set, address) != NULL ? set->owner : -1;
    }
    atoll_mutex_unlock(&sets_lock);
    return owner;
}

const atoll_clone *atoll_clones_of_handle(atoll_clones *set, const void *handle) {
    const atoll_clone *found = NULL;
    atoll_mutex_lock(&set->lock);
    for (size_t i = 0; i < set->count && found == NULL && handle != NULL; i++) {
        found = set->items[i]->handle == handle ? set->items[i] : NULL;
    }
    atoll_mutex_unlock(&set->lock);
    return found;
}

atoll_clone *atoll_clones_named(const atoll_clones *set, const char *name) {
    bool path = strchr(name, '/') != NULL;
    for (size_t i = 0; i < set->count; i++) {
        const char *has = path ? set->items[i]->file : set->items[i]->soname;
        if (has != NULL && strcmp(has, name) == 0) {
            return set->items[i];
        }
    }
    return NULL;
}

bool atoll_clones_have_globals(const atoll_clones *set) {
    bool have = false;
    for (size_t i = 0; i < set->count && !have; i++) {
        have = set->items[i]->global;
    }
    return have;
}

static void *handle_of(atoll_clones *set, size_t i) {
    atoll_mutex_lock(&set->lock);
    void *handle = i < set->count ? set->items[i]->handle : NULL;
    atoll_mutex_unlock(&set->lock);
    return handle;
}

/* The dynamic linker is asked with no lock held: it may be running a constructor that asks for the list. */
void *atoll_clones_scope(atoll_clones *set, const void *code, const char *symbol) {
    const atoll_clone *clone = atoll_clones_at(set, code);
    void *handle =
        clone != NULL ? clone->handle : handle_of(set, 0); /* called through code that is no clone's */
    for (size_t i = 1; handle != NULL && atoll_dl_symbol(handle, symbol) == NULL; i++) {
        handle = handle_of(set, i);
    }
    return handle;
}

/* ---- files that are loaded as they are ---- */

bool atoll_clones_is_original(const atoll_clones *set, const char *file, const atoll_file_id *id) {
    for (size_t i = 0; i < set->noriginals; i++) {
        const atoll_original *original = &set->originals[i];
        if (strcmp(original->file, file) == 0 || atoll_file_same(&original->id, id)) {
            return true;
        }
    }
    return false;
}

int atoll_clones_add_original(atoll_clones *set, const char *file, const atoll_file_id *id) {
    if (atoll_clones_is_original(set, file, id)) {
        return 0;
    }
    atoll_original *originals = realloc(set->originals, (set->noriginals + 1) * sizeof *originals);
    if (originals == NULL) {
        return -1;
    }
    set->originals = originals;
    char *own = strdup(file);
    if (own == NULL) {
        return -1;
    }
    originals[set->noriginals++] = (atoll_original){own, *id};
    return 0;
}

void atoll_clones_free(atoll_clones *set) {
    atoll_clones_unlist(set);
    for (size_t i = 0; i < set->noriginals; i++) {
        free(set->originals[i].file);
    }
    free(set->originals);
    for (size_t i = 0; i < set->nroots; i++) {
        free(set->roots[i].file);
    }
    free(set->roots);
    pthread_mutex_destroy(&set->lock);
    atoll_natives_release(set->natives);
}
