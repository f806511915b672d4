/* Making and loading clones: see clones.h. */
#include "core/clone/clones.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const renamed_always[] = {ATOLL_SHIM_SYMBOLS, NULL};
static const char *const renamed_with_threads[] = {ATOLL_SHIM_SYMBOLS, ATOLL_SHIM_PROCESSORS, NULL};

static _Atomic(unsigned) scratch_serial;

static int fail(atoll_clone_error *why, const char *what, const char *reason) {
    (void)snprintf(why->text, sizeof why->text, "%s: %s", what, reason);
    return -1;
}

/* One load: what is made is the set's only when all of it has come to its end. */
typedef struct {
    atoll_clones *set;
    atoll_clone_plan plan;
    atoll_scratch *scratch; /* the set's, or: */
    atoll_scratch own_scratch;
    atoll_clone **made;      /* for each node: new, or NULL where the set has it */
    atoll_elf_clone *clones; /* for each node */
    int flags;               /* atoll_dl_flags */
    bool whole;
    bool sets_handlers;
    bool hands_out;
    bool is_for_good;
    bool no_room; /* the failure is this place's: another one may do */
    atoll_clone_error *why;
} loading;

/* ---- files ---- */

/* A place for files, for one load or, when files stay, for the life of the set. */
static int open_scratch(loading *l) {
    l->scratch = l->set->whole ? &l->set->scratch : &l->own_scratch;
    if (l->set->have_scratch) {
        return 0;
    }
    l->set->have_scratch = l->set->whole;
    return atoll_scratch_open(l->scratch, atomic_fetch_add(&scratch_serial, 1));
}

static void close_scratch(loading *l) {
    if (!l->set->have_scratch) {
        atoll_scratch_close(l->scratch);
    }
}

/* The stem of the original's name, the interpreter, and a number where that has been used: unique in the process. */
static char *make_name(const atoll_clones *set, atoll_clone *const *others, size_t nothers,
                       const char *file) {
    const char *base = atoll_name_last_part(file);
    int length = (int)strcspn(base, ".");
    length = length > 150 ? 150 : length;
    for (unsigned turn = 1;; turn++) {
        char *name = NULL;
        int done = turn == 1 ? asprintf(&name, "%.*s.atoll%" PRId64 ".so", length, base, set->owner)
                             : asprintf(&name, "%.*s.atoll%" PRId64 "-%u.so", length, base, set->owner, turn);
        if (done < 0) {
            return NULL;
        }
        bool used = false;
        for (size_t i = 0; !used && i < set->count; i++) {
            used = strcmp(set->items[i]->name, name) == 0;
        }
        for (size_t i = 0; !used && i < nothers; i++) {
            used = others[i] != NULL && others[i]->name != NULL && strcmp(others[i]->name, name) == 0;
        }
        if (!used) {
            return name;
        }
        free(name);
    }
}

/* ---- writing ---- */

/* Whether the dynamic linker could not map a file or read it, so that it says nothing against what is in it. */
static bool cannot_map(const atoll_clone_error *why) {
    return strstr(why->text, "failed to map segment") != NULL ||
           strstr(why->text, "cannot read file data") != NULL;
}

static const atoll_clone *clone_of(const loading *l, long node) {
    return l->made[node] != NULL ? l->made[node] : l->plan.nodes[node].existing;
}

static int no_memory(loading *l) {
    (void)snprintf(l->why->text, sizeof l->why->text, "out of memory");
    return -1;
}

static int load_shim(loading *l) {
    atoll_clones *set = l->set;
    atoll_clone_error *why = l->why;
    char name[64];
    atoll_file_id id;
    if (set->shim_handle != NULL) {
        return 0;
    }
    (void)snprintf(name, sizeof name, "shim.atoll%" PRId64 ".so", set->owner);
    int from = atoll_file_open(set->shim_file, &id);
    if (from < 0) {
        return fail(why, set->shim_file, strerror(errno));
    }
    int fd = -1;
    char *path = atoll_scratch_file(l->scratch, name, &fd);
    int rc = path != NULL ? atoll_file_copy(from, fd, id.size) : -1;
    int failed = errno;
    atoll_file_close(from);
    if (rc != 0) {
        l->no_room = !atoll_file_is_lack(failed);
        (void)fail(why, set->shim_file, strerror(failed));
    } else {
        set->shim_handle = atoll_dl_open(path, 0, why->text, sizeof why->text);
        l->no_room |= set->shim_handle == NULL && cannot_map(why);
    }
    if (fd >= 0) {
        atoll_file_close(fd);
    }
    if (set->shim_handle == NULL) {
        free(path);
        return -1;
    }
    set->shim_path = path;
    (void)atoll_dl_extent(set->shim_handle, &set->shim_low, &set->shim_high);
    void (*bind)(const atoll_shim *) = NULL;
    void *symbol = atoll_dl_symbol(set->shim_handle, ATOLL_SHIM_BIND);
    if (symbol == NULL) {
        return fail(why, set->shim_file, "it is not Atoll's");
    }
    memcpy(&bind, &symbol, sizeof bind);
    bind(set->shim);
    return 0;
}

/* An empty file; all have one before any is written, as they may need each other in a circle. */
static int make_clone(loading *l, size_t i) {
    const atoll_clone_node *node = &l->plan.nodes[i];
    atoll_clone *clone = calloc(1, sizeof *clone);
    if (clone == NULL) {
        return no_memory(l);
    }
    l->made[i] = clone;
    clone->fd = -1;
    clone->library = node->library;
    clone->packaged = !node->strong;
    clone->id = *atoll_elf_id(&node->elf);
    clone->file = strdup(node->file);
    clone->soname = node->elf.soname != NULL ? strdup(node->elf.soname) : NULL;
    const char *symbol = atoll_elf_any_export(&node->elf);
    clone->symbol = symbol != NULL ? strdup(symbol) : NULL;
    clone->name = make_name(l->set, l->made, l->plan.count, node->file);
    if (clone->file == NULL || clone->name == NULL || (node->elf.soname != NULL && clone->soname == NULL) ||
        (symbol != NULL && clone->symbol == NULL)) {
        return no_memory(l);
    }
    clone->path = atoll_scratch_file(l->scratch, clone->name, &clone->fd);
    if (clone->path == NULL) {
        char text[200];
        l->no_room = !atoll_file_is_lack(errno);
        (void)snprintf(text, sizeof text, "no file for its clone can be made: %s", strerror(errno));
        return fail(l->why, node->file, text);
    }
    return 0;
}

/* The paths of those whose symbols what is loaded now has to find: NULL-terminated; NULL: out of memory. */
static const char **paths_of_globals(const atoll_clones *set) {
    const char **paths = malloc((set->count + 1) * sizeof *paths);
    size_t n = 0;
    for (size_t i = 0; paths != NULL && i < set->count; i++) {
        if (set->items[i]->global) {
            paths[n++] = set->items[i]->path;
        }
    }
    if (paths != NULL) {
        paths[n] = NULL;
    }
    return paths;
}

/* What a clone imports that says what becomes of it. */
typedef struct {
    uint64_t registers;
    bool replaces;
} imports;

static bool is_hook(const char *name, void *raw) {
    imports *found = raw;
    found->registers |= atoll_name_registers(name);
    found->replaces |= atoll_name_replaces(name);
    return atoll_name_is_hook(name);
}

static int write_clone(loading *l, size_t i) {
    atoll_clone_node *node = &l->plan.nodes[i];
    atoll_clone *clone = l->made[i];
    atoll_elf_rename *renames = calloc(node->elf.nneeded + 1, sizeof *renames);
    const char **globals = i == l->plan.count - 1 ? paths_of_globals(l->set) : NULL;
    const char *list = node->elf.runpath != NULL ? node->elf.runpath : node->elf.rpath;
    char *search_path = list != NULL ? atoll_clone_search_path(list, node->file) : NULL;
    size_t n = 0;
    for (size_t k = 0; renames != NULL && k < node->elf.nneeded; k++) {
        const char *to = node->children[k] >= 0 ? clone_of(l, node->children[k])->path : node->needed[k];
        if (to != NULL) {
            renames[n++] = (atoll_elf_rename){node->elf.needed[k], to};
        }
    }
    imports found = {0};
    l->plan.calls_back |= atoll_elf_any_import(&node->elf, is_hook, &found) ? ATOLL_CALLS_BACK : 0;
    clone->registers = found.registers;
    l->hands_out |= found.replaces;
    l->is_for_good |= node->elf.is_for_good;
    l->sets_handlers |= atoll_elf_imports(&node->elf, "_ZSt15set_new_handlerPFvvE") ||
                        atoll_elf_imports(&node->elf, "_ZSt13set_terminatePFvvE");
    bool threads = atoll_elf_imports(&node->elf, "pthread_create") ||
                   atoll_elf_imports(&node->elf, ATOLL_SHIM_STD_THREAD);
    const atoll_elf_edit edit = {
        .soname = clone->name,
        .search_path = search_path,
        .needed = renames,
        .nneeded = n,
        .also_needed = globals,
        .symbols = threads ? renamed_with_threads : renamed_always,
        .prefix = ATOLL_SHIM_PREFIX,
        .provider = l->set->shim_path,
        .whole = l->whole,
    };
    atoll_elf_error error;
    bool lacking = renames == NULL || (list != NULL && search_path == NULL) ||
                   (globals == NULL && i == l->plan.count - 1);
    int rc = lacking ? no_memory(l) : 0;
    if (rc == 0 && atoll_elf_write_clone(&node->elf, clone->fd, &edit, &l->clones[i], &error) != 0) {
        l->no_room |= error.no_room;
        rc = fail(l->why, node->file, error.text);
    }
    clone->bytes = l->clones[i].bytes;
    free(renames);
    free((void *)globals);
    free(search_path);
    return rc;
}

/* ---- loading ---- */

/* One of the system's is there once, whoever finds another file under its name: what the first who needs it finds counts, as for the
 * dynamic linker. */
static void pin_one(loading *l, const char *path) {
    char ignored[200];
    const char *name = atoll_name_last_part(path);
    void *there = atoll_name_is_system(path) ? atoll_dl_loaded(name) : NULL;
    void *handle = atoll_dl_open(there != NULL ? name : path, ATOLL_DL_PIN, ignored, sizeof ignored);
    /* Alone it may miss what the extension has: then it is loaded with it, and must find code in all of it. */
    l->whole |= handle == NULL;
    if (handle != NULL) {
        atoll_dl_close(handle); /* it stays */
    }
    if (there != NULL) {
        atoll_dl_close(there);
    }
}

static void pin(loading *l) {
    for (size_t i = 0; i < l->plan.npinned; i++) {
        pin_one(l, l->plan.pinned[i].path);
    }
}

/* Replaces the clones' paths in the dynamic linker's text by the originals'. */
static void name_originals(const loading *l) {
    char *text = l->why->text;
    for (size_t i = 0; i < l->plan.count; i++) {
        const atoll_clone *clone = l->made[i];
        char *at = clone != NULL && clone->path != NULL ? strstr(text, clone->path) : NULL;
        if (at != NULL) {
            char *rest = strdup(at + strlen(clone->path));
            size_t room = sizeof l->why->text - (size_t)(at - text);
            (void)snprintf(at, room, "%s%s", clone->file, rest != NULL ? rest : "");
            free(rest);
        }
    }
}

/* Whether libraries that everybody in the process sees have the symbols of one that is going to be loaded, or of one that it has to
 * find. */
static bool is_global(const loading *l) {
    bool found = false;
    for (size_t i = 0; i < l->plan.count && !found; i++) {
        const char *name = l->made[i] != NULL ? atoll_elf_any_export(&l->plan.nodes[i].elf) : NULL;
        found = name != NULL && atoll_dl_symbol(NULL, name) != NULL;
    }
    for (size_t i = 0; i < l->set->count && !found; i++) {
        const atoll_clone *other = l->set->items[i];
        found = other->global && other->symbol != NULL && atoll_dl_symbol(NULL, other->symbol) != NULL;
    }
    return found;
}

static int share(loading *l, size_t i) {
    atoll_clone *clone = l->made[i];
    const char *path;
    atoll_elf_error error;
    clone->base = atoll_dl_base(clone->handle, &path);
    clone->low = clone->base + l->clones[i].start;
    clone->high = clone->base + l->clones[i].end;
    clone->code = clone->base + l->clones[i].code;
    clone->code_end = clone->base + l->clones[i].code_end;
    if (atoll_elf_share(&l->plan.nodes[i].elf, clone->base, &l->clones[i], &error) != 0) {
        return fail(l->why, clone->file, error.text);
    }
    return 0;
}

static void construct(const loading *l, size_t i) {
    const atoll_elf_clone *c = &l->clones[i];
    uintptr_t base = l->made[i]->base;
    l->made[i]->destructors = atoll_elf_show_destructors(&l->plan.nodes[i].elf, base, c);
    if (c->init != 0) {
        atoll_dl_construct((void (*)(void))(base + c->init));
    }
    for (size_t k = 0; k < c->init_count; k++) {
        uintptr_t function;
        memcpy(&function, (const void *)(base + c->init_array + k * sizeof function), sizeof function);
        if (function != 0 && function != UINTPTR_MAX) { /* both mean nothing */
            atoll_dl_construct((void (*)(void))function);
        }
    }
}

/* Says what can be done about a limit that a process on its own hardly meets. */
static void explain(atoll_clone_error *why) {
    size_t length = strlen(why->text);
    if (strstr(why->text, "static TLS block") != NULL) {
        (void)snprintf(
            why->text + length, sizeof why->text - length,
            " (each interpreter's copy takes some of it, and a process has little: more with "
            "GLIBC_TUNABLES=glibc.rtld.optional_static_tls=65536 in its environment at the start)");
    }
}

static int open_all(loading *l) {
    atoll_clone *wanted = l->made[l->plan.count - 1];
    if (wanted == NULL) { /* it is never one that the set has */
        return no_memory(l);
    }
    int flags =
        (is_global(l) ? ATOLL_DL_DEEPBIND : l->flags & ATOLL_DL_DEEPBIND) | (l->flags & ATOLL_DL_LAZY);
    wanted->handle = atoll_dl_open(wanted->path, flags, l->why->text, sizeof l->why->text);
    if (wanted->handle == NULL) {
        l->no_room |= cannot_map(l->why);
        name_originals(l);
        explain(l->why);
        return -1;
    }
    for (size_t i = 0; i + 1 < l->plan.count; i++) {
        if (l->made[i] != NULL) {
            l->made[i]->handle = atoll_dl_loaded(l->made[i]->path);
            if (l->made[i]->handle == NULL) {
                return fail(l->why, l->made[i]->file, "the dynamic linker does not know its clone");
            }
        }
    }
    return 0;
}

/* Room for what is being loaded in the set's list. */
static int reserve(loading *l) {
    atoll_clones *set = l->set;
    if (set->count + l->plan.count > set->room) {
        size_t room = (set->count + l->plan.count) * 2;
        atoll_mutex_lock(&set->lock);
        atoll_clone **items = realloc(set->items, room * sizeof *items);
        set->items = items != NULL ? items : set->items;
        set->room = items != NULL ? room : set->room;
        atoll_mutex_unlock(&set->lock);
        if (items == NULL) {
            return no_memory(l);
        }
    }
    return 0;
}

static void adopt(loading *l) {
    atoll_mutex_lock(&l->set->lock);
    for (size_t i = 0; i < l->plan.count; i++) {
        if (l->made[i] != NULL) {
            l->set->items[l->set->count++] = l->made[i];
        }
    }
    atoll_mutex_unlock(&l->set->lock);
    l->set->calls_back |= l->plan.calls_back;
    l->set->uses_plain |= l->plan.uses_plain;
    l->set->sets_handlers |= l->sets_handlers;
    l->set->hands_out |= l->hands_out || l->plan.uses_plain;
    l->set->is_for_good |= l->is_for_good;
}

static int write_and_open(loading *l) {
    int rc = load_shim(l);
    for (size_t i = 0; rc == 0 && i < l->plan.count; i++) {
        rc = l->plan.nodes[i].existing == NULL ? make_clone(l, i) : 0;
    }
    for (size_t i = 0; rc == 0 && i < l->plan.count; i++) {
        rc = l->made[i] != NULL ? write_clone(l, i) : 0;
    }
    return rc == 0 && reserve(l) == 0 ? open_all(l) : -1;
}

/* Nothing of what was written is loaded: forgets it, and goes on to the next place.  False: there is none. */
static bool move_on(loading *l) {
    for (size_t i = 0; i < l->plan.count; i++) {
        if (l->made[i] != NULL) {
            atoll_clone_free(l->made[i]);
            l->made[i] = NULL;
        }
        free(l->clones[i].dirty);
        l->clones[i] = (atoll_elf_clone){0};
    }
    bool moved = atoll_scratch_move(l->scratch, atomic_fetch_add(&scratch_serial, 1)) == 0;
    l->no_room = !moved;
    return moved;
}

static int load_planned(loading *l) {
    if (open_scratch(l) != 0) {
        return fail(l->why, "no place for clones", strerror(errno));
    }
    pin(l);
    for (size_t i = 0; i < l->plan.count; i++) {
        l->whole |= l->plan.nodes[i].existing == NULL && l->plan.nodes[i].elf.needs_whole;
    }
    int rc = write_and_open(l);
    while (rc != 0 && l->no_room && move_on(l)) {
        rc = write_and_open(l);
    }
    if (rc != 0 && l->no_room) {
        size_t length = strlen(l->why->text);
        (void)snprintf(l->why->text + length, sizeof l->why->text - length,
                       " (nor in any other place: ATOLL_CLONE_DIR may name a directory that has room)");
    }
    for (size_t i = 0; rc == 0 && i < l->plan.count; i++) {
        rc = l->made[i] != NULL ? share(l, i) : 0;
    }
    /* Before the constructors, which may load more: from here on nothing is undone. */
    if (rc == 0) {
        adopt(l);
    }
    for (size_t i = 0; i < l->plan.count; i++) {
        if (l->made[i] != NULL && l->made[i]->fd >= 0) {
            if (rc == 0) {
                atoll_elf_trim(&l->plan.nodes[i].elf, l->made[i]->base, &l->clones[i], l->made[i]->fd);
            }
            atoll_file_close(l->made[i]->fd);
            l->made[i]->fd = -1;
        }
    }
    close_scratch(l);
    for (size_t i = 0; rc == 0 && i < l->plan.count; i++) {
        if (l->made[i] != NULL) {
            construct(l, i);
        }
    }
    return rc;
}

/* The clone of what was planned last; NULL with why. */
static atoll_clone *load_plan(atoll_clones *set, loading *l) {
    size_t n = l->plan.count;
    if (l->plan.nodes[n - 1].existing != NULL) {
        return l->plan.nodes[n - 1].existing;
    }
    l->set = set;
    l->whole = set->whole;
    l->made = calloc(n, sizeof *l->made);
    l->clones = calloc(n, sizeof *l->clones);
    int rc = l->made != NULL && l->clones != NULL ? load_planned(l) : no_memory(l);
    atoll_clone *clone = rc == 0 ? l->made[n - 1] : NULL;
    for (size_t i = n; rc != 0 && l->made != NULL && i-- > 0;) {
        if (l->made[i] != NULL) {
            if (l->made[i]->handle != NULL) {
                atoll_dl_close(l->made[i]->handle);
            }
            atoll_clone_free(l->made[i]);
        }
    }
    for (size_t i = 0; l->clones != NULL && i < n; i++) {
        free(l->clones[i].dirty);
    }
    free(l->clones);
    free(l->made);
    return clone;
}

/* What the flags ask for beside loading it. */
static void set_flags(atoll_clones *set, atoll_clone *clone, int flags) {
    if (clone != NULL && (flags & ATOLL_DL_GLOBAL) != 0) {
        atoll_mutex_lock(&set->lock);
        clone->global = true;
        atoll_mutex_unlock(&set->lock);
    }
}

atoll_clone *atoll_clones_load(atoll_clones *set, const char *file, int flags, atoll_clone_error *why) {
    loading l = {.why = why, .flags = flags};
    atoll_clone *clone = NULL;
    if (atoll_clone_plan_make(&l.plan, set, file, false, why) == 0) {
        clone = load_plan(set, &l);
    }
    atoll_clone_plan_free(&l.plan);
    set_flags(set, clone, flags);
    return clone;
}

int atoll_clones_load_library(atoll_clones *set, const char *file, int flags, atoll_clone **clone,
                              atoll_clone_error *why) {
    *clone = atoll_clones_named(set, file);
    if (*clone != NULL) {
        set_flags(set, *clone, flags);
        return 1;
    }
    loading l = {.why = why, .flags = flags};
    int rc = atoll_clone_plan_make(&l.plan, set, file, true, why);
    bool loaded = rc == 0 && l.plan.nodes[l.plan.count - 1].existing != NULL;
    if (rc == 0 && ((flags & ATOLL_DL_LOADED) == 0 || loaded)) {
        *clone = load_plan(set, &l);
        set_flags(set, *clone, flags);
    } else if (rc == 1) {
        set->calls_back |= l.plan.calls_back;
    }
    atoll_clone_plan_free(&l.plan);
    return rc == 0 && *clone != NULL ? 1 : rc == 1 ? 0 : -1;
}
