/* The dynamic linker, as port.h wants it.
 *
 * What glibc has no call for is read from the dynamic sections of the libraries that are loaded: the list of a
 * library's dependencies.  That is done in dl_iterate_phdr(), whose lock keeps libraries from being unloaded
 * meanwhile.  No lock of Atoll's is held while the dynamic linker runs, because it runs constructors.
 */
#include "port/port.h"

#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int program_argc;
static char *no_arguments[] = {NULL};
static char **program_argv = no_arguments;

#ifdef __GLIBC__
/* glibc calls constructors with what main() gets; others call them with nothing. */
__attribute__((constructor)) static void remember_arguments(int argc, char **argv) {
    if (argv != NULL) {
        program_argc = argc;
        program_argv = argv;
    }
}
#endif

void atoll_dl_construct(void (*function)(void)) {
    ((void (*)(int, char **, char **))function)(program_argc, program_argv, environ);
}

void *atoll_dl_open(const char *path, int flags, char *why, size_t why_size) {
    int mode = RTLD_NOW | RTLD_LOCAL;
#ifdef RTLD_DEEPBIND
    mode |= (flags & ATOLL_DL_DEEPBIND) != 0 ? RTLD_DEEPBIND : 0;
#endif
    mode |= (flags & ATOLL_DL_PIN) != 0 ? RTLD_NODELETE : 0;
    return atoll_dl_open_as(path, mode, why, why_size);
}

void *atoll_dl_open_as(const char *path, int native_flags, char *why, size_t why_size) {
    void *handle = dlopen(path, native_flags);
    if (handle == NULL) {
        const char *text = dlerror();
        (void)snprintf(why, why_size, "%s", text != NULL ? text : "the dynamic linker does not say why");
    }
    return handle;
}

void atoll_dl_close(void *handle) { (void)dlclose(handle); }

void *atoll_dl_symbol(void *handle, const char *name) { return dlsym(handle, name); }

size_t atoll_dl_symbol_size(const void *address) {
#ifdef __GLIBC__
    Dl_info info;
    void *found = NULL;
    if (dladdr1(address, &info, &found, RTLD_DL_SYMENT) != 0 && found != NULL && info.dli_saddr == address) {
        return ((const ElfW(Sym) *)found)->st_size;
    }
#endif
    (void)address;
    return 0;
}

void *atoll_dl_loaded(const char *name) { return dlopen(name, RTLD_LAZY | RTLD_LOCAL | RTLD_NOLOAD); }

uintptr_t atoll_dl_base(void *handle, const char **path) {
    struct link_map *map = NULL;
    if (dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0 || map == NULL) {
        *path = "";
        return 0;
    }
    *path = map->l_name;
    return map->l_addr;
}

/* ---- dependencies ---- */

typedef struct {
    char *path;
    char *name;    /* what others need it by */
    char **needed; /* nneeded */
    size_t nneeded;
    uintptr_t base;
    bool seen;
} library;

typedef struct {
    library *items;
    size_t count;
    size_t room;
    bool failed;
} library_list;

static const char *last_part(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static char *copy(const char *text, bool *failed) {
    char *made = strdup(text);
    *failed |= made == NULL;
    return made;
}

/* The dynamic linker replaces addresses in a dynamic section by where they are in memory; not on every machine, and
 * not in the kernel's own library. */
static const char *loaded_strings(const ElfW(Dyn) * dynamic, uintptr_t base) {
    for (; dynamic->d_tag != DT_NULL; dynamic++) {
        if (dynamic->d_tag == DT_STRTAB) {
            uintptr_t at = dynamic->d_un.d_ptr;
            return (const char *)(at < base ? base + at : at);
        }
    }
    return NULL;
}

static bool read_library(library *lib, const ElfW(Dyn) * dynamic, const char *strings) {
    bool failed = false;
    size_t count = 0;
    const char *name = last_part(lib->path);
    for (const ElfW(Dyn) *d = dynamic; d->d_tag != DT_NULL; d++) {
        count += d->d_tag == DT_NEEDED;
        name = d->d_tag == DT_SONAME ? strings + d->d_un.d_val : name;
    }
    lib->name = copy(name, &failed);
    lib->needed = calloc(count + 1, sizeof *lib->needed);
    if (lib->needed == NULL) {
        return false;
    }
    for (const ElfW(Dyn) *d = dynamic; d->d_tag != DT_NULL; d++) {
        if (d->d_tag == DT_NEEDED) {
            lib->needed[lib->nneeded++] = copy(strings + d->d_un.d_val, &failed);
        }
    }
    return !failed;
}

static int add_library(struct dl_phdr_info *info, size_t size, void *context) {
    library_list *list = context;
    const ElfW(Dyn) *dynamic = NULL;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC) {
            dynamic = (const ElfW(Dyn) *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
        }
    }
    const char *strings = dynamic != NULL ? loaded_strings(dynamic, info->dlpi_addr) : NULL;
    if (strings == NULL) {
        return 0;
    }
    if (list->count == list->room) {
        size_t room = list->room * 2 + 64;
        library *items = realloc(list->items, room * sizeof *items);
        if (items == NULL) {
            list->failed = true;
            return 1;
        }
        list->items = items;
        list->room = room;
    }
    library *lib = &list->items[list->count++];
    *lib = (library){.base = info->dlpi_addr};
    lib->path = copy(info->dlpi_name, &list->failed);
    list->failed |= lib->path == NULL || !read_library(lib, dynamic, strings);
    (void)size;
    return list->failed;
}

static void free_libraries(library_list *list) {
    for (size_t i = 0; i < list->count; i++) {
        library *lib = &list->items[i];
        for (size_t k = 0; k < lib->nneeded; k++) {
            free(lib->needed[k]);
        }
        free((void *)lib->needed);
        free(lib->name);
        free(lib->path);
    }
    free(list->items);
}

/* The first library in the order of loading that has the name, as the dynamic linker looks for it. */
static library *find_library(library_list *list, const char *name) {
    bool is_path = strchr(name, '/') != NULL;
    for (size_t i = 0; i < list->count; i++) {
        library *lib = &list->items[i];
        if (strcmp(is_path ? lib->path : lib->name, name) == 0) {
            return lib;
        }
    }
    return NULL;
}

void atoll_dl_dependencies(void *handle, void (*visit)(const char *path, void *context), void *context) {
    library_list list = {0};
    const char *path;
    uintptr_t base = atoll_dl_base(handle, &path);
    (void)dl_iterate_phdr(add_library, &list);
    library **queue = !list.failed ? calloc(list.count + 1, sizeof *queue) : NULL;
    size_t waiting = 0;
    for (size_t i = 0; queue != NULL && i < list.count; i++) {
        if (list.items[i].base == base && strcmp(list.items[i].path, path) == 0) {
            list.items[i].seen = true;
            queue[waiting++] = &list.items[i];
            break;
        }
    }
    for (size_t at = 0; at < waiting; at++) {
        for (size_t i = 0; i < queue[at]->nneeded; i++) {
            library *lib = find_library(&list, queue[at]->needed[i]);
            if (lib != NULL && !lib->seen) {
                lib->seen = true;
                queue[waiting++] = lib;
                visit(lib->path, context);
            }
        }
    }
    free((void *)queue);
    free_libraries(&list);
}

/* ---- data ---- */

typedef struct {
    bool (*look)(const void *start, size_t size, void *context);
    void *context;
} data_search;

static int look_at_data(struct dl_phdr_info *info, size_t size, void *raw) {
    (void)size;
    const data_search *search = raw;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type == PT_LOAD && (header->p_flags & PF_W) != 0 &&
            search->look((const void *)(info->dlpi_addr + header->p_vaddr), header->p_memsz,
                         search->context)) {
            return 1;
        }
    }
    return 0;
}

bool atoll_dl_any_data(bool (*look)(const void *start, size_t size, void *context), void *context) {
    return dl_iterate_phdr(look_at_data, &(data_search){look, context}) != 0;
}
