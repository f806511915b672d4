/* See libraries.h. */
#include "libraries.h"

#include "harness.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

/* Held while the dynamic linker loads or unloads.  It has a lock of its own, but ThreadSanitizer does not see that: it
 * would take a library that is loaded where another one was for the same memory. */
static atoll_mutex linker = ATOLL_MUTEX_INIT;

uint8_t *file_read(const char *path, size_t *size) {
    const void *bytes = atoll_map_file(path, size);
    uint8_t *copy = bytes != NULL ? malloc(*size) : NULL;
    if (copy == NULL) {
        test_failed(__FILE__, __LINE__, "%s cannot be read: %s", path, strerror(errno));
    } else {
        memcpy(copy, bytes, *size);
    }
    atoll_unmap(bytes, *size);
    return copy;
}

char *file_make(atoll_scratch *scratch, const char *name, const void *bytes, size_t size) {
    int fd;
    char *path = atoll_scratch_file(scratch, name, &fd);
    if (path == NULL || atoll_file_write(fd, bytes, size, 0) != 0) {
        test_failed(__FILE__, __LINE__, "%s cannot be written: %s", name, strerror(errno));
        free(path);
        path = NULL;
    }
    if (fd >= 0) {
        atoll_file_close(fd);
    }
    return path;
}

static bool load(loaded_clone *c, const char *path, const atoll_elf_edit *edit) {
    c->fd = -1;
    if (atoll_elf_open(&c->elf, path, &c->why) != 0) {
        test_failed(__FILE__, __LINE__, "%s: %s", path, c->why.text);
        return false;
    }
    c->path = atoll_scratch_file(&c->scratch, edit->soname, &c->fd);
    if (c->path == NULL) {
        test_failed(__FILE__, __LINE__, "%s: %s", edit->soname, strerror(errno));
        return false;
    }
    if (atoll_elf_write_clone(&c->elf, c->fd, edit, &c->clone, &c->why) != 0) {
        test_failed(__FILE__, __LINE__, "%s: %s", path, c->why.text);
        return false;
    }
    atoll_mutex_lock(&linker);
    c->handle = atoll_dl_open(c->path, 0, c->dl_why, sizeof c->dl_why);
    atoll_mutex_unlock(&linker);
    if (c->handle == NULL) {
        return false;
    }
    const char *name;
    c->base = atoll_dl_base(c->handle, &name);
    return true;
}

bool clone_load(loaded_clone *c, const char *path, const atoll_elf_edit *edit) {
    static atomic_uint serial;
    *c = (loaded_clone){.fd = -1};
    if (atoll_scratch_open(&c->scratch, atomic_fetch_add(&serial, 1)) != 0) {
        test_failed(__FILE__, __LINE__, "no place for files: %s", strerror(errno));
        return false;
    }
    return load(c, path, edit);
}

bool clone_load_in_memory(loaded_clone *c, const char *path, const atoll_elf_edit *edit) {
    *c = (loaded_clone){.fd = -1};
    return load(c, path, edit);
}

bool clone_start(loaded_clone *c) {
    if (atoll_elf_share(&c->elf, c->base, &c->clone, &c->why) != 0) {
        test_failed(__FILE__, __LINE__, "%s: %s", c->path, c->why.text);
        return false;
    }
    (void)atoll_elf_show_destructors(&c->elf, c->base, &c->clone);
    if (c->clone.init != 0) {
        atoll_dl_construct((void (*)(void))(c->base + c->clone.init));
    }
    for (size_t i = 0; i < c->clone.init_count; i++) {
        atoll_dl_construct(((void (**)(void))(c->base + c->clone.init_array))[i]);
    }
    return true;
}

void clone_close(loaded_clone *c) {
    if (c->handle != NULL) {
        atoll_mutex_lock(&linker);
        atoll_dl_close(c->handle);
        atoll_mutex_unlock(&linker);
    }
    if (c->fd >= 0) {
        atoll_file_close(c->fd);
    }
    free(c->clone.dirty);
    free(c->path);
    atoll_scratch_close(&c->scratch);
    if (c->elf.path != NULL) {
        atoll_elf_close(&c->elf);
    }
    *c = (loaded_clone){.fd = -1};
}

int call_int(void *handle, const char *name) {
    int (*function)(void) = (int (*)(void))(uintptr_t)atoll_dl_symbol(handle, name);
    if (function == NULL) {
        test_failed(__FILE__, __LINE__, "there is no function %s", name);
        return -1;
    }
    return function();
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

void each_dependency(void *handle, void (*visit)(const char *path, void *context), void *context) {
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
