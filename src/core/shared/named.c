/* Names of blocks: made, found and removed.  shared.h says who removes them.
 *
 * All blocks with names are in a list, by which one that the process has is found again.  One whose last reference has gone is not given out any
 * more, although it may be in the list for a moment. */
#include "core/shared/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    LONGEST = 254,     /* the system's 255, and a slash */
    PATIENCE = 1000,   /* how many milliseconds a name may lead to memory without a size */
    MAKING = 60 * 1000 /* and to memory whose pages are being reserved: some 5 GiB in a second */
};

static atoll_mutex list_lock = ATOLL_MUTEX_INIT; /* a leaf */
static atoll_shared_label *list;

/* Another reference, unless there is none left. */
static bool retain_live(atoll_shared *block) {
    size_t refs = atomic_load_explicit(&block->refs, memory_order_relaxed);
    while (refs != 0 && !atomic_compare_exchange_weak(&block->refs, &refs, refs + 1)) {
    }
    return refs != 0;
}

/* The block that the process has of the same memory, with a reference; or NULL, and then this one is in the list. */
static atoll_shared *list_find_or_add(atoll_shared *block) {
    atoll_shared_label *entry = block->name;
    atoll_shared *found = NULL;
    atoll_mutex_lock(&list_lock);
    for (atoll_shared_label *at = list; at != NULL && found == NULL; at = at->next) {
        if (at->id.device == entry->id.device && at->id.inode == entry->id.inode &&
            at->block->size == block->size && retain_live(at->block)) {
            found = at->block;
            if (entry->maker != 0) { /* somebody has found it before who has made it came here */
                at->maker = entry->maker;
            }
        }
    }
    if (found == NULL) {
        entry->next = list;
        if (list != NULL) {
            list->prev = entry;
        }
        list = entry;
        entry->listed = true;
    }
    atoll_mutex_unlock(&list_lock);
    return found;
}

/* Whether it was there: who takes it off removes the name. */
static bool list_take(atoll_shared_label *entry) {
    atoll_mutex_lock(&list_lock);
    bool listed = entry->listed;
    if (listed) {
        if (entry->prev != NULL) {
            entry->prev->next = entry->next;
        } else {
            list = entry->next;
        }
        if (entry->next != NULL) {
            entry->next->prev = entry->prev;
        }
        entry->listed = false;
    }
    atoll_mutex_unlock(&list_lock);
    return listed;
}

void atoll_shared_fork(atoll_fork_moment when) { atoll_mutex_fork(&list_lock, when); }

/* The process ends: other threads may still be running, so nothing is freed. */
static void remove_all(void) {
    int process = atoll_thread_main_number();
    atoll_mutex_lock(&list_lock);
    for (const atoll_shared_label *entry = list; entry != NULL; entry = entry->next) {
        if (entry->maker == process) {
            (void)atoll_shm_remove(entry->text, &entry->id);
        }
    }
    atoll_mutex_unlock(&list_lock);
}

static atoll_once at_exit_once = ATOLL_ONCE_INIT;
static void at_exit_init(void) { (void)atexit(remove_all); }

static void end(atoll_shared_label *entry) {
    if (list_take(entry) && entry->maker == atoll_thread_main_number()) {
        (void)atoll_shm_remove(entry->text, &entry->id);
    }
}

int atoll_shared_unlink(atoll_shared *block) {
    (void)list_take(block->name);
    return atoll_shm_remove(block->name->text, &block->name->id);
}

const char *atoll_shared_name(const atoll_shared *block) {
    return block->name != NULL ? block->name->text : NULL;
}

atoll_shm_id atoll_shared_id(const atoll_shared *block) { return block->name->id; }

bool atoll_shared_name_is_good(const char *name, size_t length) {
    return length > 0 && length <= LONGEST && memchr(name, '/', length) == NULL &&
           memchr(name, '\0', length) == NULL && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

int atoll_shared_named(const char *name, atoll_shm_way way, size_t size, atoll_shared **out) {
    size_t length = strlen(name);
    atoll_shared_label *entry = calloc(1, sizeof *entry + length + 1);
    if (entry == NULL) {
        return ENOMEM;
    }
    memcpy(entry->text, name, length + 1);
    atoll_shm named;
    int error = 0;
    for (int waited = 0;; waited++) {
        error = atoll_shm_open(name, way, size, &named);
        if ((error != ENODATA || waited >= PATIENCE) && (error != EAGAIN || waited >= MAKING)) {
            break;
        }
        atoll_sleep(0.001);
    }
    if (error != 0) {
        free(entry);
        return error == EAGAIN ? ETIMEDOUT : error;
    }
    entry->id = named.id;
    entry->end = end;
    *out = atoll_shared_wrap(named.data, named.size, entry);
    if (*out == NULL) {
        if (named.made) {
            (void)atoll_shm_remove(name, &named.id);
        }
        atoll_unmap(named.data, named.size);
        free(entry);
        return ENOMEM;
    }
    if (named.made) {
        atoll_once_run(&at_exit_once, at_exit_init);
        entry->maker = atoll_thread_main_number();
    }
    entry->block = *out;
    atoll_shared *had = list_find_or_add(*out);
    if (had != NULL) {
        atoll_shared_release(*out);
        *out = had;
    }
    return 0;
}
