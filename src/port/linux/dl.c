/* The dynamic linker, as port.h wants it.
 *
 * What glibc has no call for is read from the dynamic sections of the libraries that are loaded: the list of a
 * library's dependencies.  That is done in dl_iterate_phdr(), whose lock keeps libraries from being unloaded
 * meanwhile.  No lock of Atoll's is held while the dynamic linker runs, because it runs constructors.
 *
 * Forks.  In a forked child the dynamic linker is as another thread left it: what it was changing is half changed, and the lock
 * of dl_iterate_phdr() stays taken.  So threads count themselves while they are inside, and a fork waits until
 * nobody is: others wait outside meanwhile, but a thread that is inside already may go on to call it from a
 * constructor.  A constructor may take long, or wait for what the forking thread has; so the fork waits for a moment only.
 */
#include "port/port.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <locale.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FORK_PATIENCE 1.0 /* seconds */
#define FORK_LOOK 0.0002  /* it looks so often */

static _Atomic(uint32_t) inside;  /* threads in the dynamic linker, or about to look whether they may */
static _Atomic(uint32_t) forking; /* threads that are going to fork */
static _Thread_local unsigned nested;

static void enter(void) {
    if (nested++ != 0) {
        return;
    }
    for (;;) {
        atomic_fetch_add(&inside, 1);
        uint32_t many = atomic_load(&forking);
        if (many == 0) {
            return;
        }
        atomic_fetch_sub(&inside, 1);
        (void)atoll_word_wait(&forking, many, 1e18);
    }
}

static void leave(void) {
    if (--nested == 0) {
        atomic_fetch_sub(&inside, 1);
    }
}

void atoll_dl_fork(atoll_fork_moment when) {
    uint32_t own = nested != 0;
    if (when == ATOLL_FORK_BEFORE) {
        atomic_fetch_add(&forking, 1);
        for (double until = atoll_clock() + FORK_PATIENCE;
             atomic_load(&inside) > own && atoll_clock() < until;) {
            atoll_sleep(FORK_LOOK);
        }
        return;
    }
    if (when == ATOLL_FORK_PARENT) {
        atomic_fetch_sub(&forking, 1);
        atoll_word_wake(&forking, INT32_MAX);
    } else {
        atomic_store(&forking, 0);
        atomic_store(&inside, own);
    }
}

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

int atoll_dl_flags_of(int native_flags) {
    int flags = (native_flags & RTLD_GLOBAL) != 0 ? ATOLL_DL_GLOBAL : 0;
    flags |= (native_flags & RTLD_NOLOAD) != 0 ? ATOLL_DL_LOADED : 0;
    flags |= (native_flags & RTLD_NODELETE) != 0 ? ATOLL_DL_PIN : 0;
    flags |= (native_flags & RTLD_NOW) == 0 ? ATOLL_DL_LAZY : 0;
#ifdef RTLD_DEEPBIND
    flags |= (native_flags & RTLD_DEEPBIND) != 0 ? ATOLL_DL_DEEPBIND : 0;
#endif
    return flags;
}

int atoll_dl_mode_now(int native_flags) { return native_flags | RTLD_NOW; }

void *atoll_dl_open(const char *path, int flags, char *why, size_t why_size) {
    int mode = ((flags & ATOLL_DL_LAZY) != 0 ? RTLD_LAZY : RTLD_NOW) | RTLD_LOCAL;
#ifdef RTLD_DEEPBIND
    mode |= (flags & ATOLL_DL_DEEPBIND) != 0 ? RTLD_DEEPBIND : 0;
#endif
    mode |= (flags & ATOLL_DL_PIN) != 0 ? RTLD_NODELETE : 0;
    return atoll_dl_open_as(path, mode, why, why_size);
}

void *atoll_dl_open_as(const char *path, int native_flags, char *why, size_t why_size) {
    enter();
    void *handle = dlopen(path, native_flags);
    leave();
    if (handle == NULL) {
        /* In English whatever the program's language: what it says is looked at.  The C locale is there without memory. */
        locale_t neutral = newlocale(LC_ALL_MASK, "C", (locale_t)0);
        locale_t before = neutral != (locale_t)0 ? uselocale(neutral) : (locale_t)0;
        const char *text = dlerror();
        (void)snprintf(why, why_size, "%s", text != NULL ? text : "the dynamic linker does not say why");
        if (neutral != (locale_t)0) {
            (void)uselocale(before);
            freelocale(neutral);
        }
    }
    return handle;
}

void atoll_dl_close(void *handle) {
    enter();
    (void)dlclose(handle);
    leave();
}

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

void *atoll_dl_loaded(const char *name) {
    enter();
    void *handle = dlopen(name, RTLD_LAZY | RTLD_LOCAL | RTLD_NOLOAD);
    leave();
    return handle;
}

static int has_path(struct dl_phdr_info *info, size_t size, void *path) {
    (void)size;
    return info->dlpi_name != NULL && strcmp(info->dlpi_name, path) == 0;
}

bool atoll_dl_is_loaded(const char *path) {
    enter();
    bool found = dl_iterate_phdr(has_path, (void *)(uintptr_t)path) != 0;
    leave();
    return found;
}

typedef struct {
    void (*visit)(const char *path, void *context);
    void *context;
} each_visit;

static int visit_path(struct dl_phdr_info *info, size_t size, void *raw) {
    (void)size;
    const each_visit *each = raw;
    if (info->dlpi_name != NULL && info->dlpi_name[0] != '\0') {
        each->visit(info->dlpi_name, each->context);
    }
    return 0;
}

void atoll_dl_each(void (*visit)(const char *path, void *context), void *context) {
    enter();
    (void)dl_iterate_phdr(visit_path, &(each_visit){visit, context});
    leave();
}

uintptr_t atoll_dl_base(void *handle, const char **path) {
    struct link_map *map = NULL;
    if (dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0 || map == NULL) {
        *path = "";
        return 0;
    }
    *path = map->l_name;
    return map->l_addr;
}

typedef struct {
    const struct link_map *map;
    uintptr_t low;
    uintptr_t high;
} extent_search;

static int find_extent(struct dl_phdr_info *info, size_t size, void *raw) {
    (void)size;
    extent_search *search = raw;
    if (info->dlpi_addr != search->map->l_addr || info->dlpi_name == NULL ||
        strcmp(info->dlpi_name, search->map->l_name) != 0) {
        return 0;
    }
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type == PT_LOAD) {
            uintptr_t start = info->dlpi_addr + header->p_vaddr;
            search->low = start < search->low ? start : search->low;
            search->high = start + header->p_memsz > search->high ? start + header->p_memsz : search->high;
        }
    }
    return 1;
}

bool atoll_dl_extent(void *handle, uintptr_t *low, uintptr_t *high) {
    struct link_map *map = NULL;
    if (dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0 || map == NULL) {
        return false;
    }
    extent_search search = {.map = map, .low = UINTPTR_MAX};
    enter();
    bool found = dl_iterate_phdr(find_extent, &search) != 0 && search.low < search.high;
    leave();
    *low = found ? search.low : 0;
    *high = found ? search.high : 0;
    return found;
}

/* The file that is mapped at an address, as the system tells it; malloc or NULL. */
static char *mapped_file(const void *address) {
    FILE *maps = fopen("/proc/self/maps", "re");
    char *line = NULL;
    char *file = NULL;
    size_t room = 0;
    while (maps != NULL && file == NULL && getline(&line, &room, maps) > 0) {
        char *after = NULL;
        uintptr_t low = strtoul(line, &after, 16);
        uintptr_t high = *after == '-' ? strtoul(after + 1, NULL, 16) : 0;
        if ((uintptr_t)address >= low && (uintptr_t)address < high) {
            char *path = strchr(line, '/');
            file = path != NULL ? strndup(path, strcspn(path, "\n")) : NULL;
            break;
        }
    }
    free(line);
    if (maps != NULL) {
        (void)fclose(maps);
        errno = ENOENT;
    }
    return file;
}

char *atoll_dl_file(void *handle) {
    struct link_map *map = NULL;
    errno = ENOENT;
    if (dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0 || map == NULL || map->l_name[0] == '\0') {
        return NULL;
    }
    return map->l_name[0] == '/' ? strdup(map->l_name) : mapped_file(map->l_ld);
}

/* ---- data ---- */

typedef struct {
    bool (*wants)(const char *path, void *context);
    atoll_data_search *look;
    void *context;
} data_search;

/* Part of a library's variables: a segment of its own, or the calling thread's copy of what is thread_local. */
typedef struct {
    const struct dl_phdr_info *info;
    const ElfW(Phdr) * header;
    const char *start;
} variables;

/* Whether the word is what the file of the library has there, so that nobody has written it. */
static bool is_as_in_file(const variables *part, const uintptr_t *word) {
    const char *name = part->info->dlpi_name;
    const char *path = name != NULL && name[0] != '\0' ? name : "/proc/self/exe";
    uint64_t offset = (uint64_t)((const char *)word - part->start);
    uintptr_t original;
    if (offset + sizeof original > part->header->p_filesz) {
        return false;
    }
    int file = open(path, O_RDONLY | O_CLOEXEC);
    bool same = file >= 0 &&
                pread(file, &original, sizeof original, (off_t)(part->header->p_offset + offset)) ==
                    (ssize_t)sizeof original &&
                original == *word;
    if (file >= 0) {
        (void)close(file);
    }
    return same;
}

static bool look_at(const variables *part, const char *start, const char *end, const data_search *search) {
    const uintptr_t *found = NULL;
    do {
        found = search->look(start, (size_t)(end - start), search->context);
        start = (const char *)(found + 1);
    } while (found != NULL && is_as_in_file(part, found));
    return found != NULL;
}

/* In those pages that can be read: a library may have guard pages among its variables, beside a stack say. */
static bool look_at_part(const struct dl_phdr_info *info, const ElfW(Phdr) * header, const char *start,
                         const data_search *search) {
    const variables part = {info, header, start};
    const char *end = start + header->p_memsz;
    uintptr_t page = (uintptr_t)atoll_page_size();
    for (const char *at = start; at < end;) {
        const char *from = at;
        while (at < end && atoll_data_is_readable(at)) {
            uintptr_t next = ((uintptr_t)at / page + 1) * page;
            at = next < (uintptr_t)end ? (const char *)next : end;
        }
        if (at > from && look_at(&part, from, at, search)) {
            return true;
        }
        at = at < end ? (const char *)(((uintptr_t)at / page + 1) * page) : end;
    }
    return false;
}

static int look_at_data(struct dl_phdr_info *info, size_t size, void *raw) {
    const data_search *search = raw;
    if (search->wants != NULL &&
        !search->wants(info->dlpi_name != NULL ? info->dlpi_name : "", search->context)) {
        return 0;
    }
    bool tells_locals = size >= offsetof(struct dl_phdr_info, dlpi_tls_data) + sizeof info->dlpi_tls_data;
    const char *locals = tells_locals ? info->dlpi_tls_data : NULL;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        const char *start = header->p_type == PT_LOAD && (header->p_flags & PF_W) != 0
                                ? (const char *)(info->dlpi_addr + header->p_vaddr)
                            : header->p_type == PT_TLS ? locals
                                                       : NULL;
        if (start != NULL && look_at_part(info, header, start, search)) {
            return 1;
        }
    }
    return 0;
}

bool atoll_dl_any_data(bool (*wants)(const char *path, void *context), atoll_data_search *look,
                       void *context) {
    enter();
    bool found = dl_iterate_phdr(look_at_data, &(data_search){wants, look, context}) != 0;
    leave();
    return found;
}
