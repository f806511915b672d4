/* Planning: which files are cloned for an extension (clones.h).
 *
 * Files are looked at in the order in which the dynamic linker loads them: first all that one needs, then what these need.  A
 * library is the one that it would take: that which has the name by which it is needed among the interpreter's
 * clones, then among those that are about to be loaded with it, then the one that clone/find.c finds.
 * What is found is needed by its path from then on, so that the clone, which lies elsewhere, needs the same file.
 *
 * A library is cloned when one of these holds:
 *
 *   it calls Python, or is known to keep state for one interpreter (clone/names.c)
 *   it comes with the package         it lies below the directory that the extension is imported from (roots.c), or in one
 *                                     such as wheels have for them (NAME.libs): made for the extension, and as likely to keep what it was given (a callback, an object whose
 *                                     class is in the extension).  But not one that is known to be for the process, has
 *                                     a part in the static block of thread-local storage, of which a process has few,
 *                                     or asks never to be unloaded
 *   it needs one that is cloned       or its own would be the original's; also when it is not linked with it, but finds its
 *                                     symbols because it was opened for all (RTLD_GLOBAL)
 *
 * What a library that is for the process needs itself is left to that as well, unless it calls Python.
 *
 * First all files are looked at, each once, although they may need each other in a circle; then the rules are applied
 * until nothing changes; then what is left needs no clone.  A library that could not be looked at, because there was no memory or no
 * descriptor, might have to be cloned: then nothing is loaded.
 *
 * That a library needs no clone is a fact about the file and those that it needs.  It is remembered by its file
 * identity, so that a large library is read once in a process and not once for each extension that needs it.
 */
#include "core/clone/clones.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NONE = -1, UNREADABLE = -2, FAILED = -3 }; /* instead of a node's place */

/* ---- what is known of files ---- */

typedef struct plain_file {
    struct plain_file *next;
    atoll_file_id id;
    uint8_t calls_back;
    bool packaged; /* even where it comes with a package */
} plain_file;

static atoll_mutex plain_lock = ATOLL_MUTEX_INIT;
static plain_file *plain_files;

void atoll_plain_files_fork(atoll_fork_moment when) { atoll_mutex_fork(&plain_lock, when); }

static const plain_file *find_plain(const atoll_file_id *id, bool packaged) {
    atoll_mutex_lock(&plain_lock);
    const plain_file *known = plain_files;
    while (known != NULL && (!atoll_file_same(&known->id, id) || (packaged && !known->packaged))) {
        known = known->next;
    }
    atoll_mutex_unlock(&plain_lock);
    return known; /* never freed */
}

static void remember_plain(const atoll_file_id *id, bool packaged, uint8_t calls_back) {
    plain_file *known = malloc(sizeof *known);
    if (known != NULL) {
        *known = (plain_file){.id = *id, .calls_back = calls_back, .packaged = packaged};
        atoll_mutex_lock(&plain_lock);
        known->next = plain_files;
        plain_files = known;
        atoll_mutex_unlock(&plain_lock);
    }
}

/* ---- the plan ---- */

static int out_of_memory(atoll_clone_plan *plan) {
    (void)snprintf(plan->why->text, sizeof plan->why->text, "out of memory");
    return FAILED;
}

/* What the node at this place (or NONE) needs under this name is to be loaded for itself. */
static int pin_later(atoll_clone_plan *plan, const char *path, const char *name, long place) {
    for (size_t i = 0; i < plan->npinned; i++) {
        if (strcmp(plan->pinned[i].path, path) == 0) {
            return 0;
        }
    }
    if (plan->npinned == plan->pinned_room) {
        size_t room = plan->pinned_room * 2 + 8;
        atoll_clone_pin *pinned = realloc(plan->pinned, room * sizeof *pinned);
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
    plan->pinned[plan->npinned++] = (atoll_clone_pin){own, name, place};
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

/* The place of a file, or -1. */
static long find_node(const atoll_clone_plan *plan, const atoll_file_id *id) {
    for (size_t i = 0; i < plan->count; i++) {
        if (atoll_file_same(&plan->nodes[i].id, id)) {
            return (long)i;
        }
    }
    return -1;
}

/* Whether a symbol is one of the set's clones'. */
static bool is_of_clone(const char *symbol, void *context) {
    atoll_clones *set = context;
    for (size_t i = 0; i < set->count; i++) {
        const void *found = set->items[i]->global ? atoll_dl_symbol(set->items[i]->handle, symbol) : NULL;
        if (found != NULL && atoll_clones_at(set, found) != NULL) {
            return true;
        }
    }
    return false;
}

/* A new node, which takes over what `node` has; FAILED with its own parts freed. */
static long add_node(atoll_clone_plan *plan, atoll_clone_node *node) {
    if (plan->count == plan->room) {
        size_t room = plan->room * 2 + 8;
        atoll_clone_node *nodes = realloc(plan->nodes, room * sizeof *nodes);
        if (nodes == NULL) {
            free_node(node);
            return out_of_memory(plan);
        }
        plan->nodes = nodes;
        plan->room = room;
    }
    plan->nodes[plan->count] = *node;
    return (long)plan->count++;
}

/* UNREADABLE, or FAILED where that says nothing about the file. */
static long cannot_read(atoll_clone_plan *plan, const char *file, const char *why, bool lack) {
    (void)snprintf(plan->why->text, sizeof plan->why->text, "%s: %s", file, why);
    return lack ? FAILED : UNREADABLE;
}

static long cannot_open(atoll_clone_plan *plan, const char *file) {
    char text[300];
    bool lack = atoll_file_is_lack(errno);
    (void)snprintf(text, sizeof text, "cannot open shared object file: %s", strerror(errno));
    return cannot_read(plan, file, text, lack);
}

/* Fills a node whose file has to be read.  0, UNREADABLE or FAILED. */
static long read_node(atoll_clone_plan *plan, atoll_clone_node *node, bool has_globals) {
    atoll_elf_error error;
    if (atoll_elf_open(&node->elf, node->file, &error) != 0) {
        return cannot_read(plan, node->file, error.text, error.lack);
    }
    node->calls_back = atoll_name_calls_back(node->file);
    node->strong = !node->library || node->elf.imports_python || atoll_name_wants_clone(node->file) ||
                   (has_globals && atoll_elf_any_import(&node->elf, is_of_clone, plan->set));
    node->of_process = node->calls_back != 0 || node->elf.stays || atoll_name_is_process_wide(node->file);
    node->anchored = node->of_process;
    node->needed = calloc(node->elf.nneeded + 1, sizeof *node->needed);
    node->children = malloc((node->elf.nneeded + 1) * sizeof *node->children);
    if (node->needed == NULL || node->children == NULL) {
        return out_of_memory(plan);
    }
    for (size_t i = 0; i <= node->elf.nneeded; i++) {
        node->children[i] = NONE;
    }
    return 0;
}

/* The set's clone, as a node. */
static void fill_existing(atoll_clone_node *node, atoll_clone *clone) {
    node->id = clone->id;
    node->existing = clone;
    node->wanted = true;
    node->strong = !clone->packaged;
}

/* Fills a node of a file that nobody has looked at for this plan.  0, UNREADABLE or FAILED. */
static long fill_node(atoll_clone_plan *plan, atoll_clone_node *node) {
    atoll_clone *existing = atoll_clones_find(plan->set, &node->id);
    if (node->library && atoll_clones_is_original(plan->set, node->file, &node->id)) {
        node->known = true;
        return 0;
    }
    if (existing != NULL) {
        fill_existing(node, existing);
        return 0;
    }
    node->packaged = node->library && atoll_clones_is_packaged(plan->set, node->file);
    bool has_globals = atoll_clones_have_globals(plan->set);
    const plain_file *plain = node->library && !has_globals ? find_plain(&node->id, node->packaged) : NULL;
    if (plain != NULL) {
        node->known = true;
        node->calls_back = plain->calls_back;
        return 0;
    }
    return read_node(plan, node, has_globals);
}

/* The place of a file that may or may not be cloned, and that `loader` (or nobody, NONE) needs under a name; UNREADABLE (a library:
 * then it is the dynamic linker's matter) or FAILED, with why. */
static long visit_file(atoll_clone_plan *plan, const char *file, const char *name, long loader,
                       bool library) {
    atoll_clone_node node = {.name = name, .loader = loader, .library = library};
    if (atoll_file_identify(file, &node.id) != 0) {
        return cannot_open(plan, file);
    }
    long place = find_node(plan, &node.id);
    if (place >= 0) {
        return place;
    }
    node.file = strdup(file);
    long rc = node.file != NULL ? fill_node(plan, &node) : out_of_memory(plan);
    if (rc != 0) {
        free_node(&node);
        return rc;
    }
    return add_node(plan, &node);
}

/* The place of what has this name in the interpreter, or will have: of one of its clones, or of what is about to be loaded; NONE: nothing.
 * FAILED: out of memory. */
static long visit_named(atoll_clone_plan *plan, const char *name, long loader) {
    atoll_clone *clone = atoll_clones_named(plan->set, name);
    for (size_t i = 0; i < plan->count; i++) {
        const atoll_clone_node *node = &plan->nodes[i];
        bool has = (node->name != NULL && strcmp(node->name, name) == 0) ||
                   (node->elf.soname != NULL && strcmp(node->elf.soname, name) == 0);
        if (clone != NULL ? node->existing == clone : has) {
            return (long)i;
        }
    }
    if (clone == NULL) {
        return NONE;
    }
    atoll_clone_node node = {.name = name, .loader = loader, .library = true, .file = strdup(clone->file)};
    fill_existing(&node, clone);
    return node.file != NULL ? add_node(plan, &node) : out_of_memory(plan);
}

/* What the node needs as number i, which is at this path (taken over; NULL: out of memory), has this place. */
static long set_needed(atoll_clone_plan *plan, size_t at, size_t i, char *path, long place) {
    atoll_clone_node *node = &plan->nodes[at];
    node->needed[i] = path;
    node->children[i] = place >= 0 ? place : NONE;
    return path == NULL ? out_of_memory(plan) : place == FAILED ? FAILED : 0;
}

/* Looks at what the node needs as number i.  0 or FAILED. */
static long visit_one(atoll_clone_plan *plan, size_t at, size_t i) {
    const atoll_clone_node *node =
        &plan->nodes[at]; /* until something is visited: then nodes may have moved */
    const char *name = node->elf.needed[i];
    bool of_system = atoll_name_is_system(name);
    /* A library that needs no clone is loaded for itself, and finds what it would find then. */
    bool is_alone = node->library && !node->packaged && !node->strong;
    bool is_path = strchr(name, '/') != NULL;
    long place = !of_system && !is_alone && !is_path ? visit_named(plan, name, (long)at) : NONE;
    char *path = place == NONE ? atoll_clone_find_needed(plan, (long)at, name) : NULL;
    if (place == NONE && path == NULL) {
        if (errno != ENOENT) {
            (void)cannot_open(plan, name);
            return FAILED;
        }
        place = is_alone && !is_path ? visit_named(plan, name, (long)at) : NONE;
        if (place == NONE) {
            return 0; /* the dynamic linker will say that it is missing, unless it knows better */
        }
    }
    if (path == NULL) {
        return place >= 0 ? set_needed(plan, at, i, strdup(plan->nodes[place].file), place) : FAILED;
    }
    return set_needed(plan, at, i, path, of_system ? NONE : visit_file(plan, path, name, (long)at, true));
}

/* Looks at what the node needs.  0 or FAILED. */
static long visit_needed(atoll_clone_plan *plan, size_t at) {
    long rc = 0;
    for (size_t i = 0; rc == 0 && i < plan->nodes[at].elf.nneeded; i++) {
        plan->nodes[at].calls_back |= atoll_name_calls_back(plan->nodes[at].elf.needed[i]);
        rc = visit_one(plan, at, i);
    }
    return rc;
}

/* Numbers the node and what it needs, that first. */
static void put_in_order(atoll_clone_plan *plan, size_t at) {
    atoll_clone_node *node = &plan->nodes[at];
    node->order = SIZE_MAX; /* being numbered, should it come round to itself */
    for (size_t i = 0; i < node->elf.nneeded; i++) {
        if (node->children[i] >= 0 && plan->nodes[node->children[i]].order == 0) {
            put_in_order(plan, (size_t)node->children[i]);
        }
    }
    node->order = ++plan->visited;
}

/* One rule for a node and one that it needs; true when that changed something. */
typedef bool rule(atoll_clone_node *node, atoll_clone_node *child);

static bool set(bool *flag, bool value) {
    bool changed = value && !*flag;
    *flag |= value;
    return changed;
}

/* Whoever needs what calls Python, or calls back, is like that itself. */
static bool is_strong(atoll_clone_node *node, atoll_clone_node *child) {
    bool changed = set(&node->strong, child->strong);
    uint8_t before = node->calls_back;
    node->calls_back |= child->calls_back;
    return changed || node->calls_back != before;
}

static bool is_anchored(atoll_clone_node *node, atoll_clone_node *child) {
    return set(&child->anchored, node->anchored && !node->strong && !child->strong);
}

static bool is_wanted(atoll_clone_node *node, atoll_clone_node *child) {
    return set(&node->wanted, child->wanted && (!node->anchored || node->strong));
}

static void apply(atoll_clone_plan *plan, rule *each) {
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < plan->count; i++) {
            atoll_clone_node *node = &plan->nodes[i];
            for (size_t k = 0; k < node->elf.nneeded; k++) {
                if (node->children[k] >= 0) {
                    changed |= each(node, &plan->nodes[node->children[k]]);
                }
            }
        }
    }
}

static void decide(atoll_clone_plan *plan) {
    apply(plan, is_strong);
    apply(plan, is_anchored);
    for (size_t i = 0; i < plan->count; i++) {
        atoll_clone_node *node = &plan->nodes[i];
        node->wanted |= node->strong || (node->packaged && !node->known && !node->anchored);
    }
    apply(plan, is_wanted);
}

/* What is needed but not cloned is pinned, and needed by its path; one of the system's goes on being needed by its name.
 * 0 or -1 with why. */
static int settle_needs(atoll_clone_plan *plan, atoll_clone_node *node) {
    for (size_t i = 0; i < node->elf.nneeded; i++) {
        bool cloned = node->children[i] >= 0 && plan->nodes[node->children[i]].wanted;
        plan->uses_plain |= !cloned && !atoll_name_keeps_nothing(node->elf.needed[i]);
        if (node->needed[i] == NULL) {
            continue;
        }
        if (!cloned && pin_later(plan, node->needed[i], node->elf.needed[i], node->children[i]) != 0) {
            (void)out_of_memory(plan);
            return -1;
        }
        if (cloned || atoll_name_is_system(node->elf.needed[i])) {
            free(node->needed[i]);
            node->needed[i] = NULL;
        }
        node->children[i] = cloned ? node->children[i] : NONE;
    }
    return 0;
}

/* Whether the node at this place, or what it needs, needs something under this name.  `turn` is another one each time. */
static bool needs_name(atoll_clone_plan *plan, long place, const char *name, size_t turn) {
    atoll_clone_node *node = place >= 0 ? &plan->nodes[place] : NULL;
    if (node == NULL || node->was == turn) {
        return false;
    }
    node->was = turn; /* it has been looked at */
    for (size_t i = 0; i < node->elf.nneeded; i++) {
        if (strcmp(node->elf.needed[i], name) == 0 || needs_name(plan, node->children[i], name, turn)) {
            return true;
        }
    }
    return false;
}

/* Each is loaded before others that need the same name, and might find another file under it: for the dynamic linker, the first who needs
 * a name decides, and here that is what is about to be cloned. */
static void order_pins(atoll_clone_plan *plan) {
    size_t turn = 0;
    for (size_t i = 0; i < plan->npinned; i++) {
        size_t first = i;
        bool free_of_others = false;
        for (size_t k = i; k < plan->npinned && !free_of_others; k++) {
            free_of_others = true;
            for (size_t other = i; other < plan->npinned && free_of_others; other++) {
                free_of_others =
                    other == k || !needs_name(plan, plan->pinned[k].place, plan->pinned[other].name, ++turn);
            }
            first = free_of_others ? k : first;
        }
        atoll_clone_pin pin = plan->pinned[first]; /* or, in a circle, the one whose turn it is */
        memmove(&plan->pinned[i + 1], &plan->pinned[i], (first - i) * sizeof pin);
        plan->pinned[i] = pin;
    }
}

static int by_order(const void *one, const void *other) {
    const atoll_clone_node *a = one, *b = other;
    return a->order < b->order ? -1 : a->order > b->order;
}

/* Leaves what is cloned, dependencies first.  0 or -1 with why. */
static int select_wanted(atoll_clone_plan *plan) {
    size_t *places = calloc(plan->count + 1, sizeof *places);
    if (places == NULL) {
        (void)out_of_memory(plan);
        return -1;
    }
    size_t count = 0;
    for (size_t i = 0; i < plan->count; i++) {
        atoll_clone_node *node = &plan->nodes[i];
        if (!node->wanted) {
            /* Left as it is only because of what needs it, it may be cloned for another one. */
            bool is_so_itself = node->of_process || !node->anchored;
            if (!node->known && is_so_itself && !atoll_clones_have_globals(plan->set)) {
                remember_plain(&node->id, node->packaged, node->calls_back);
            }
            free_node(node);
            continue;
        }
        node->was = i;
        plan->nodes[count++] = *node;
    }
    plan->count = count;
    qsort(plan->nodes, count, sizeof *plan->nodes, by_order);
    for (size_t i = 0; i < count; i++) {
        places[plan->nodes[i].was] = i;
    }
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < plan->nodes[i].elf.nneeded; k++) {
            long *child = &plan->nodes[i].children[k];
            *child = *child >= 0 ? (long)places[*child] : NONE;
        }
    }
    free(places);
    return 0;
}

int atoll_clone_plan_make(atoll_clone_plan *plan, atoll_clones *set, const char *file, bool library,
                          atoll_clone_error *why) {
    *plan = (atoll_clone_plan){.set = set, .why = why};
    why->text[0] = '\0';
    long place = visit_file(plan, file, NULL, NONE, library);
    if (place < 0) {
        return place == UNREADABLE && library ? 1 : -1;
    }
    for (size_t i = 0; i < plan->count; i++) { /* which becomes longer meanwhile */
        if (visit_needed(plan, i) != 0) {
            return -1;
        }
    }
    put_in_order(plan, (size_t)place);
    why->text[0] = '\0'; /* of libraries that could not be read */
    decide(plan);
    plan->calls_back = plan->nodes[place].calls_back;
    bool wanted = plan->nodes[place].wanted;
    for (size_t i = 0; i < plan->count; i++) {
        if (plan->nodes[i].wanted && settle_needs(plan, &plan->nodes[i]) != 0) {
            return -1;
        }
    }
    order_pins(plan);
    return select_wanted(plan) != 0 ? -1 : wanted ? 0 : 1;
}

void atoll_clone_plan_free(atoll_clone_plan *plan) {
    for (size_t i = 0; i < plan->count; i++) {
        free_node(&plan->nodes[i]);
    }
    free(plan->nodes);
    for (size_t i = 0; i < plan->npinned; i++) {
        free(plan->pinned[i].path);
    }
    free(plan->pinned);
}
