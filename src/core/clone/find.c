/* Where a library is that a file needs (clones.h): under its name among those that are loaded, then where the dynamic linker would
 * look on behalf of that file.  But what is loaded may be another interpreter's, of another package or version: where the file finds one
 * that comes with its own package, that is meant.
 *
 * A path is NULL where there is none; errno says why: ENOENT, it is nowhere, or else (atoll_file_is_lack()) what kept it from being
 * looked for.  What cannot be looked for now may be there, so nothing follows from it.
 */
#include "core/clone/clones.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Leaves errno alone, which older C libraries do not. */
static void free_only(void *memory) {
    int before = errno;
    free(memory);
    errno = before;
}

char *atoll_clone_search_path(const char *list, const char *file) {
    char *all = strdup("");
    list = list != NULL && list[0] != '\0' ? list : NULL; /* no list, other than one of an empty part */
    while (list != NULL && all != NULL) {
        size_t length = strcspn(list, ":");
        char *part = atoll_dl_expand(list, length, file);
        char *more = NULL;
        if (part == NULL) {
            free(all);
            return NULL;
        }
        if (strchr(part, ':') == NULL) {
            const char *directory = part[0] != '\0' ? part : "."; /* no name is the current one */
            if (asprintf(&more, "%s%s%s", all, all[0] != '\0' ? ":" : "", directory) < 0) {
                more = NULL;
            }
            free(all);
            all = more;
        }
        free(part);
        list = list[length] != '\0' ? list + length + 1 : NULL;
    }
    return all;
}

/* In those directories of a list that cannot be in a list once `$ORIGIN` is replaced. */
static char *find_in_odd_directories(const char *list, const char *file, const char *name) {
    char *found = NULL;
    errno = ENOENT;
    while (list != NULL && found == NULL && errno == ENOENT) {
        size_t length = strcspn(list, ":");
        char *directory = atoll_dl_expand(list, length, file);
        char *path = NULL;
        errno = ENOENT;
        if (directory == NULL ||
            (strchr(directory, ':') != NULL && asprintf(&path, "%s/%s", directory, name) < 0)) {
            path = NULL;
            errno = ENOMEM;
        }
        if (path != NULL) {
            found = atoll_dl_find(path, NULL, NULL);
            free_only(path);
        }
        free_only(directory);
        list = list[length] != '\0' ? list + length + 1 : NULL;
    }
    return found;
}

char *atoll_clone_find_loaded(const char *name) {
    void *handle = atoll_dl_loaded(name);
    char *path = NULL;
    errno = ENOENT;
    if (handle != NULL) {
        path = atoll_dl_file(handle);
        int failed = errno;
        atoll_dl_close(handle);
        errno = failed;
    }
    return path;
}

/* The lists of DT_RPATH that are good for what the node needs, in their order: its own, and those of who needs it.  malloc; "": none;
 * NULL: out of memory. */
static char *rpath_of(const atoll_clone_plan *plan, long node) {
    char *all = strdup("");
    for (; all != NULL && node >= 0; node = plan->nodes[node].loader) {
        const atoll_elf *elf = &plan->nodes[node].elf;
        if (elf->rpath == NULL || elf->runpath != NULL) {
            continue;
        }
        char *own = atoll_clone_search_path(elf->rpath, elf->path);
        char *more = NULL;
        if (own == NULL ||
            asprintf(&more, "%s%s%s", all, all[0] != '\0' && own[0] != '\0' ? ":" : "", own) < 0) {
            more = NULL;
        }
        free(own);
        free(all);
        all = more;
    }
    return all;
}

/* Where a library of this name is that the node asks for, whatever is loaded. */
static char *search_library(const atoll_clone_plan *plan, long node, const char *name) {
    const atoll_elf *elf = &plan->nodes[node].elf;
    if (strchr(name, '/') != NULL) {
        char *path = atoll_dl_expand(name, strlen(name), elf->path);
        errno = ENOMEM;
        char *found = path != NULL ? atoll_dl_find(path, NULL, NULL) : NULL;
        free_only(path);
        return found;
    }
    char *found = find_in_odd_directories(elf->runpath != NULL ? elf->runpath : elf->rpath, elf->path, name);
    if (found != NULL || errno != ENOENT) {
        return found;
    }
    bool has_runpath = elf->runpath != NULL;
    char *list = has_runpath ? atoll_clone_search_path(elf->runpath, elf->path) : rpath_of(plan, node);
    errno = ENOMEM;
    if (list != NULL) {
        const char *parts = list[0] != '\0' ? list : NULL;
        found = atoll_dl_find(name, has_runpath ? NULL : parts, has_runpath ? parts : NULL);
        free_only(list);
    }
    return found;
}

/* Whether the node may have a library of this name for itself: one that is for the process is there once, and what needs no clone finds
 * what is loaded. */
static bool may_have_own(const atoll_clone_plan *plan, long node, const char *name) {
    const atoll_clone_node *n = &plan->nodes[node];
    return (!n->library || n->packaged || n->strong) && !atoll_name_is_process_wide(name);
}

char *atoll_clone_find_needed(const atoll_clone_plan *plan, long node, const char *name) {
    errno = ENOENT;
    char *found = strchr(name, '/') == NULL ? atoll_clone_find_loaded(name) : NULL;
    if (found == NULL) {
        return errno != ENOENT ? NULL : search_library(plan, node, name);
    }
    if (!may_have_own(plan, node, name)) {
        return found;
    }
    char *own = search_library(plan, node, name);
    if (own != NULL ? atoll_clones_is_packaged(plan->set, own) : errno != ENOENT) {
        free_only(found);
        return own;
    }
    free(own);
    return found;
}

char *atoll_clone_find_library(const char *file, const char *name) {
    atoll_clone_node node = {.loader = -1};
    atoll_clone_plan plan = {.nodes = &node, .count = 1};
    atoll_elf_error error;
    if (file == NULL || atoll_elf_open(&node.elf, file, &error) != 0) {
        return atoll_dl_find(name, NULL, NULL);
    }
    char *found = search_library(&plan, 0, name);
    int failed = errno;
    atoll_elf_close(&node.elf);
    errno = failed;
    return found;
}
