/* The dynamic linker's functions for clones (shim.c): which answer with the original's file, and open what the interpreter
 * has. */
#include "shim/shim_internal.h"

#include <dlfcn.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A library finds what lies beside it by the path that it was loaded from: the original's. */

EXPORT int atoll_dladdr(const void *address, Dl_info *info);
EXPORT int atoll_dladdr(const void *address, Dl_info *info) {
    int rc = dladdr(address, info);
    const char *path = rc != 0 ? shim->original(shim->owner, address) : NULL;
    if (path != NULL) {
        info->dli_fname = path;
    }
    return rc;
}

#ifdef __GLIBC__ /* where clones are, and so this library is used; others can build it */

/* Copies of link maps with that path, one for each that was asked for; the rest, and their neighbours, are as they are. */
typedef struct link_copy {
    struct link_copy *next;
    const struct link_map *of;
    struct link_map map;
} link_copy;

static pthread_mutex_t copies_lock = PTHREAD_MUTEX_INITIALIZER;
static link_copy *copies;

__attribute__((destructor)) static void free_copies(void) {
    while (copies != NULL) {
        link_copy *next = copies->next;
        free(copies);
        copies = next;
    }
}

/* Without memory, the map itself. */
static struct link_map *with_original(struct link_map *map, const char *path) {
    (void)pthread_mutex_lock(&copies_lock);
    link_copy *copy = copies;
    while (copy != NULL && copy->of != map) {
        copy = copy->next;
    }
    if (copy == NULL && (copy = malloc(sizeof *copy)) != NULL) {
        *copy = (link_copy){.next = copies, .of = map, .map = *map};
        copy->map.l_name = (char *)(uintptr_t)path;
        copies = copy;
    }
    (void)pthread_mutex_unlock(&copies_lock);
    return copy != NULL ? &copy->map : map;
}

EXPORT int atoll_dladdr1(const void *address, Dl_info *info, void **extra, int flags);
EXPORT int atoll_dladdr1(const void *address, Dl_info *info, void **extra, int flags) {
    int rc = dladdr1(address, info, extra, flags);
    const char *path = rc != 0 ? shim->original(shim->owner, address) : NULL;
    if (path != NULL) {
        info->dli_fname = path;
        if (flags == RTLD_DL_LINKMAP) {
            *extra = with_original(*extra, path);
        }
    }
    return rc;
}

EXPORT int atoll_dlinfo(void *handle, int request, void *into);
EXPORT int atoll_dlinfo(void *handle, int request, void *into) {
    int rc = dlinfo(handle, request, into);
    const char *path = rc == 0 && (request == RTLD_DI_LINKMAP || request == RTLD_DI_ORIGIN)
                           ? shim->library_of(shim->owner, handle)
                           : NULL;
    if (path != NULL && request == RTLD_DI_LINKMAP) {
        *(struct link_map **)into = with_original(*(struct link_map **)into, path);
    } else if (path !=
               NULL) { /* a buffer that is long enough, as the caller believes without knowing how long */
        const char *slash = strrchr(path, '/');
        size_t length = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
        memcpy(into, length != 0 ? path : ".", length != 0 ? length : 1);
        ((char *)into)[length != 0 ? length : 1] = '\0';
    }
    return rc;
}

#endif

typedef struct {
    int (*look)(struct dl_phdr_info *info, size_t size, void *arg);
    void *arg;
} phdr_search;

static int look_with_original(struct dl_phdr_info *info, size_t size, void *raw) {
    const phdr_search *search = raw;
    const char *name = info->dlpi_name;
    const char *path = NULL;
    /* Paths of clones look so; others need not be looked for. */
    if (name != NULL && (strstr(name, ".atoll") != NULL || strncmp(name, "/proc/self/fd/", 14) == 0)) {
        for (int i = 0; path == NULL && i < info->dlpi_phnum; i++) {
            const ElfW(Phdr) *header = &info->dlpi_phdr[i];
            path = header->p_type == PT_LOAD
                       ? shim->original(shim->owner, (const void *)(info->dlpi_addr + header->p_vaddr))
                       : NULL;
        }
    }
    if (path == NULL) {
        return search->look(info, size, search->arg);
    }
    struct dl_phdr_info own = {0};
    memcpy(&own, info, size < sizeof own ? size : sizeof own);
    own.dlpi_name = path;
    return search->look(&own, size < sizeof own ? size : sizeof own, search->arg);
}

EXPORT int atoll_dl_iterate_phdr(int (*look)(struct dl_phdr_info *info, size_t size, void *arg), void *arg);
EXPORT int atoll_dl_iterate_phdr(int (*look)(struct dl_phdr_info *info, size_t size, void *arg), void *arg) {
    phdr_search search = {look, arg};
    return dl_iterate_phdr(look_with_original, &search);
}

EXPORT void *atoll_dlopen(const char *file, int mode);
EXPORT void *atoll_dlopen(const char *file, int mode) {
    if (file == NULL || file[0] == '\0') { /* the program */
        return dlopen(file, mode);
    }
    void *handle = shim->library_open(shim->owner, __builtin_return_address(0), file, mode);
    (void)dlerror(); /* of what was tried on the way */
    return handle;
}

/* ---- names that are looked up ----
 *
 * jemalloc starts its thread with what dlsym(RTLD_NEXT, "pthread_create") is: with a name from the list a clone gets what it would have if it
 * imported that.  All else is the dynamic linker's matter, which looks who calls, for RTLD_NEXT and RTLD_DEFAULT; so it is jumped to. */

static void *own(const char *name) {
    static const char *const names[] = {ATOLL_SHIM_SYMBOLS, NULL};
    char prefixed[128];
    size_t i = 0;
    while (names[i] != NULL && strcmp(names[i], name) != 0) {
        i++;
    }
    int length = names[i] != NULL ? snprintf(prefixed, sizeof prefixed, ATOLL_SHIM_PREFIX "%s", name) : 0;
    return length > 0 && (size_t)length < sizeof prefixed ? dlsym(RTLD_DEFAULT, prefixed) : NULL;
}

/* Whether a handle means the process, or has the very same function as that. */
static int is_usual(void *handle, const char *name) {
    void *usual = dlsym(RTLD_DEFAULT, name);
    return usual != NULL && (handle == RTLD_DEFAULT || handle == RTLD_NEXT || dlsym(handle, name) == usual);
}

#if defined(__clang__)
#define JUMP __attribute__((musttail)) return
#define JUMPS
#else
#define JUMP return
#define JUMPS __attribute__((optimize("O2"))) /* where it is one for sure */
#endif

EXPORT void *atoll_dlsym(void *restrict handle, const char *restrict name);
JUMPS EXPORT void *atoll_dlsym(void *restrict handle, const char *restrict name) {
    void *found = own(name);
    if (found != NULL && is_usual(handle, name)) {
        return found;
    }
    JUMP dlsym(handle, name);
}

EXPORT int atoll_dlclose(void *handle);
/* What is no clone is the process's.  Some are made for being there until its end: GLib's types are known to others for ever.  So what the
 * interpreter has not closed when it ends, and its modules' finalizers would close, stays open. */
EXPORT int atoll_dlclose(void *handle) {
    bool stays = shim->library_of(shim->owner, handle) != NULL || shim->is_finalizing(shim->owner);
    return stays ? 0 : dlclose(handle);
}

EXPORT char *atoll_dlerror(void);
EXPORT char *atoll_dlerror(void) {
    char *own = shim->library_error(shim->owner);
    return own != NULL ? own : dlerror();
}
