/* Planning: which files are cloned for an extension (clones.h).
 *
 * A library is found where the dynamic linker would find it: under its name among those that are loaded already, then
 * in the directories of the file that needs it.  What is found is needed by its path from then on, so that the clone,
 * which lies elsewhere, needs the same file.
 *
 * That a library needs no clone is a fact about the file and those that it needs.  It is remembered by path and
 * file identity, so that a large library is read once in a process and not once for each extension that needs it.
 */
#include "core/clones.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OUT_OF_MEMORY = -1, PLAIN = -2, FAILED = -3 }; /* instead of a node's place */

/* ---- what is known of files ---- */

typedef struct plain_file {
    struct plain_file *next;
    atoll_file_id id;
    bool calls_back;
} plain_file;

static atoll_mutex plain_lock = ATOLL_MUTEX_INIT;
static plain_file *plain_files;

static const plain_file *find_plain(const atoll_file_id *id) {
    atoll_mutex_lock(&plain_lock);
    const plain_file *known = plain_files;
    while (known != NULL && !atoll_file_same(&known->id, id)) {
        known = known->next;
    }
    atoll_mutex_unlock(&plain_lock);
    return known; /* never freed */
}

static void remember_plain(const atoll_file_id *id, bool calls_back) {
    plain_file *known = malloc(sizeof *known);
    if (known != NULL) {
        *known = (plain_file){.id = *id, .calls_back = calls_back};
        atoll_mutex_lock(&plain_lock);
        known->next = plain_files;
        plain_files = known;
        atoll_mutex_unlock(&plain_lock);
    }
}

/* ---- paths ---- */

/* The length of `$ORIGIN` or `${ORIGIN}` at the start of text, or 0.  Without braces the name ends where no more of a name
 * can follow. */
static size_t origin_length(const char *text) {
    static const char with[] = "${ORIGIN}", without[] = "$ORIGIN";
    if (strncmp(text, with, sizeof with - 1) == 0) {
        return sizeof with - 1;
    }
    size_t length = sizeof without - 1;
    bool same = strncmp(text, without, length) == 0;
    return same && !isalnum((unsigned char)text[length]) && text[length] != '_' ? length : 0;
}

static void directory_of(const char *file, const char **start, int *length) {
    const char *slash = strrchr(file, '/');
    *start = slash != NULL ? file : ".";
    *length = slash == NULL ? 1 : slash == file ? 1 : (int)(slash - file);
}

/* One directory of a list, `$ORIGIN` replaced; malloc, or NULL when out of memory. */
static char *expand(const char *part, size_t length, const char *file) {
    const char *directory;
    int directory_length;
    directory_of(file, &directory, &directory_length);
    char *path = NULL;
    size_t skip = length >= 7 ? origin_length(part) : 0;
    int done = skip != 0 && skip <= length ? asprintf(&path, "%.*s%.*s", directory_length, directory,
                                                      (int)(length - skip), part + skip)
                                           : asprintf(&path, "%.*s", (int)length, part);
    return done >= 0 ? path : NULL;
}

char *atoll_clone_search_path(const char *list, const char *file) {
    char *all = strdup("");
    while (list != NULL && all != NULL) {
        size_t length = strcspn(list, ":");
        char *part = expand(list, length, file);
        char *more = NULL;
        if (part == NULL) {
            free(all);
            return NULL;
        }
        if (strchr(part, ':') == NULL && part[0] != '\0') {
            if (asprintf(&more, "%s%s%s", all, all[0] != '\0' ? ":" : "", part) < 0) {
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
    while (list != NULL && found == NULL) {
        size_t length = strcspn(list, ":");
        char *directory = expand(list, length, file);
        char *path = NULL;
        if (directory != NULL && strchr(directory, ':') != NULL &&
            asprintf(&path, "%s/%s", directory, name) >= 0) {
            found = atoll_dl_find(path, NULL, NULL);
            free(path);
        }
        free(directory);
        list = list[length] != '\0' ? list + length + 1 : NULL;
    }
    return found;
}

/* The path of a library that is loaded under this name, or NULL. */
static char *find_loaded(const char *name) {
    void *handle = atoll_dl_loaded(name);
    char *path = NULL;
    if (handle != NULL) {
        const char *at;
        (void)atoll_dl_base(handle, &at);
        path = at[0] == '/' ? strdup(at) : NULL;
        atoll_dl_close(handle);
    }
    return path;
}

/* Where the library is that `elf` needs under this name; malloc, or NULL: nowhere, or nobody knows. */
static char *find_library(const atoll_elf *elf, const char *name) {
    if (strchr(name, '/') != NULL) {
        char *path = expand(name, strlen(name), elf->path);
        char *found = path != NULL ? atoll_dl_find(path, NULL, NULL) : NULL;
        free(path);
        return found;
    }
    char *found = find_loaded(name);
    if (found != NULL) {
        return found;
    }
    const char *list = elf->runpath != NULL ? elf->runpath : elf->rpath;
    found = find_in_odd_directories(list, elf->path, name);
    char *directories = found == NULL && list != NULL ? atoll_clone_search_path(list, elf->path) : NULL;
    if (found == NULL) {
        bool given = directories != NULL && directories[0] != '\0';
        found = atoll_dl_find(name, given && elf->runpath == NULL ? directories : NULL,
                              given && elf->runpath != NULL ? directories : NULL);
    }
    free(directories);
    return found;
}

/* ---- the plan ---- */

static int out_of_memory(atoll_clone_plan *plan) {
    (void)snprintf(plan->why->text, sizeof plan->why->text, "out of memory");
    return FAILED;
}

static int pin_later(atoll_clone_plan *plan, const char *path) {
    for (size_t i = 0; i < plan->npinned; i++) {
        if (strcmp(plan->pinned[i], path) == 0) {
            return 0;
        }
    }
    if (plan->npinned == plan->pinned_room) {
        size_t room = plan->pinned_room * 2 + 8;
        char **pinned = realloc((void *)plan->pinned, room * sizeof *pinned);
        if (pinned == NULL) {
            return -1;
        }
        plan->pinned = pinned;
        plan->pinned_room = room;
    }
    char *own = strdup(path);
    if (own == NULL) {
        return -1;
    }
    plan->pinned[plan->npinned++] = own;
    return 0;
}

static void free_node(atoll_clone_node *node) {
    for (size_t i = 0; node->needed != NULL && i < node->elf.nneeded; i++) {
        free(node->needed[i]);
    }
    free((void *)node->needed);
    free(node->children);
    free(node->file);
    if (node->elf.tables != NULL) {
        atoll_elf_close(&node->elf);
    }
}

static long add_node(atoll_clone_plan *plan, const atoll_clone_node *node) {
    if (plan->count == plan->room) {
        size_t room = plan->room * 2 + 8;
        atoll_clone_node *nodes = realloc(plan->nodes, room * sizeof *nodes);
        if (nodes == NULL) {
            return OUT_OF_MEMORY;
        }
        plan->nodes = nodes;
        plan->room = room;
    }
    plan->nodes[plan->count] = *node;
    return (long)plan->count++;
}

static long find_node(const atoll_clone_plan *plan, const atoll_file_id *id) {
    for (size_t i = 0; i < plan->count; i++) {
        const atoll_clone_node *node = &plan->nodes[i];
        const atoll_file_id *own = node->existing != NULL ? &node->existing->id : atoll_elf_id(&node->elf);
        if (atoll_file_same(own, id)) {
            return (long)i;
        }
    }
    return PLAIN;
}

atoll_clone *atoll_clones_find(const atoll_clones *set, const atoll_file_id *id) {
    for (size_t i = 0; i < set->count; i++) {
        if (atoll_file_same(&set->items[i]->id, id)) {
            return set->items[i];
        }
    }
    return NULL;
}

/* The chain of files that are being looked at: what needs itself is not looked at again. */
typedef struct visit {
    const struct visit *outer;
    const atoll_file_id *id;
} visit;

static long visit_file(atoll_clone_plan *plan, const char *file, const visit *outer, bool library,
                       bool *calls_back);

/* Looks at one library that the node needs; its place, PLAIN or FAILED. */
static long visit_needed(atoll_clone_plan *plan, atoll_clone_node *node, size_t i, const visit *self,
                         bool *calls_back) {
    const char *name = node->elf.needed[i];
    *calls_back |= atoll_name_calls_back(name);
    char *path = find_library(&node->elf, name);
    if (path == NULL) {
        return PLAIN; /* the dynamic linker will say that it is missing, unless it knows better */
    }
    long place = atoll_name_is_system(name) ? PLAIN : visit_file(plan, path, self, true, calls_back);
    if (place == PLAIN) {
        node->needed[i] = path; /* to be pinned; one of the system's goes on being needed by its name */
        return PLAIN;
    }
    free(path);
    return place;
}

static long visit_open(atoll_clone_plan *plan, atoll_clone_node *node, const visit *self, bool *calls_back) {
    size_t n = node->elf.nneeded;
    node->needed = calloc(n + 1, sizeof *node->needed);
    node->children = calloc(n + 1, sizeof *node->children);
    if (node->needed == NULL || node->children == NULL) {
        return out_of_memory(plan);
    }
    bool wanted = !node->library || node->elf.imports_python || atoll_name_wants_clone(node->file);
    for (size_t i = 0; i < n; i++) {
        node->children[i] = visit_needed(plan, node, i, self, calls_back);
        if (node->children[i] == FAILED) {
            return FAILED;
        }
        wanted |= node->children[i] >= 0;
    }
    if (!wanted) {
        return PLAIN;
    }
    for (size_t i = 0; i < n; i++) {
        if (node->needed[i] != NULL && pin_later(plan, node->needed[i]) != 0) {
            return out_of_memory(plan);
        }
        if (node->needed[i] != NULL && atoll_name_is_system(node->elf.needed[i])) {
            free(node->needed[i]);
            node->needed[i] = NULL;
        }
    }
    long place = add_node(plan, node);
    return place >= 0 ? place : out_of_memory(plan);
}

static void cannot_read(atoll_clone_plan *plan, const char *file, const char *why) {
    (void)snprintf(plan->why->text, sizeof plan->why->text, "%s: %s", file, why);
}

static long visit_file(atoll_clone_plan *plan, const char *file, const visit *outer, bool library,
                       bool *calls_back) {
    atoll_file_id id;
    if (atoll_file_identify(file, &id) != 0) {
        char text[300];
        (void)snprintf(text, sizeof text, "cannot open shared object file: %s", strerror(errno));
        cannot_read(plan, file, text);
        return library ? PLAIN : FAILED;
    }
    long place = find_node(plan, &id);
    if (place >= 0) {
        return place;
    }
    atoll_clone_node node = {.library = library, .existing = atoll_clones_find(plan->set, &id)};
    if (node.existing != NULL) {
        place = add_node(plan, &node);
        return place >= 0 ? place : out_of_memory(plan);
    }
    const plain_file *plain = library ? find_plain(&id) : NULL;
    for (const visit *seen = outer; seen != NULL && plain == NULL; seen = seen->outer) {
        if (atoll_file_same(seen->id, &id)) {
            return PLAIN;
        }
    }
    if (plain != NULL) {
        *calls_back |= plain->calls_back;
        return PLAIN;
    }
    atoll_elf_error error;
    if (atoll_elf_open(&node.elf, file, &error) != 0) {
        cannot_read(plan, file, error.text);
        return library ? PLAIN : FAILED;
    }
    const visit self = {outer, &id};
    bool below = atoll_name_calls_back(file);
    node.file = strdup(file);
    place = node.file != NULL ? visit_open(plan, &node, &self, &below) : out_of_memory(plan);
    if (place < 0) {
        free_node(&node);
    }
    if (place == PLAIN) {
        remember_plain(&id, below);
    }
    *calls_back |= below;
    return place;
}

int atoll_clone_plan_make(atoll_clone_plan *plan, const atoll_clones *set, const char *file, bool library,
                          atoll_clone_error *why) {
    *plan = (atoll_clone_plan){.set = set, .why = why};
    why->text[0] = '\0';
    long place = visit_file(plan, file, NULL, library, &plan->calls_back);
    if (place == PLAIN) {
        return 1;
    }
    return place >= 0 ? 0 : -1;
}

void atoll_clone_plan_free(atoll_clone_plan *plan) {
    for (size_t i = 0; i < plan->count; i++) {
        free_node(&plan->nodes[i]);
    }
    free(plan->nodes);
    for (size_t i = 0; i < plan->npinned; i++) {
        free(plan->pinned[i]);
    }
    free((void *)plan->pinned);
}
