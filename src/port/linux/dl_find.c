/* Where the dynamic linker would find a library (atoll_dl_find of port.h).
 *
 * The order is ld.so's.  Directories for special processors ("glibc-hwcaps") are not looked into: the same
 * library is also there for every processor.
 *
 * LD_LIBRARY_PATH is that of the start: the dynamic linker has read it once, and a program that changes its environment means
 * the processes that it will start.  What the kernel gave the process it still tells, whatever has become of the environment;
 * it is read when Atoll is loaded, as a program may write its name over it later.
 *
 * What looks for a file returns NULL with errno: ENOENT, it is not there, so the next place is looked at; or what kept it from being
 * looked for, memory or descriptors, and then nobody knows.
 */
#include "port/port.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

/* Leaves errno alone, which older C libraries do not. */
static void free_only(void *memory) {
    int before = errno;
    free(memory);
    errno = before;
}

/* Whether it is a shared object for this machine; the dynamic linker, too, goes on looking when it is not.  False with errno. */
static bool fits(const char *path) {
    unsigned char head[20];
    atoll_file_id id;
    int fd = atoll_file_open(path, &id);
    if (fd < 0) {
        errno = atoll_file_is_lack(errno) ? errno : ENOENT;
        return false;
    }
    bool whole = read(fd, head, sizeof head) == (ssize_t)sizeof head;
    (void)close(fd);
    errno = ENOENT;
    if (!whole || memcmp(head, ELFMAG, SELFMAG) != 0 ||
        head[EI_CLASS] != (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32)) {
        return false;
    }
    unsigned machine = head[18] | (unsigned)head[19] << 8;
#if defined(__x86_64__)
    return machine == EM_X86_64;
#elif defined(__aarch64__)
    return machine == EM_AARCH64;
#elif defined(__riscv)
    return machine == EM_RISCV;
#else
    return machine != EM_NONE;
#endif
}

/* The length of `$NAME` or `${NAME}` at the start of text, or 0.  Without braces the name ends where no more of a name
 * can follow. */
static size_t token_length(const char *text, size_t length, const char *name) {
    size_t n = strlen(name);
    if (length >= n + 3 && text[0] == '$' && text[1] == '{' && memcmp(text + 2, name, n) == 0 &&
        text[n + 2] == '}') {
        return n + 3;
    }
    if (length < n + 1 || text[0] != '$' || memcmp(text + 1, name, n) != 0) {
        return 0;
    }
    char next = '\0';
    if (length > n + 1) {
        next = text[n + 1];
    }
    bool goes_on = (next >= 'A' && next <= 'Z') || (next >= 'a' && next <= 'z') ||
                   (next >= '0' && next <= '9') || next == '_';
    return goes_on ? 0 : n + 1;
}

/* Whether the dynamic linker would put something else in the place of a part of it; any other dollar is a dollar. */
static bool has_token(const char *text, size_t length) {
    for (size_t at = 0; at < length; at++) {
        if (token_length(text + at, length - at, "ORIGIN") > 0 ||
            token_length(text + at, length - at, "LIB") > 0 ||
            token_length(text + at, length - at, "PLATFORM") > 0) {
            return true;
        }
    }
    return false;
}

char *atoll_dl_expand(const char *text, size_t length, const char *file) {
    const char *slash = strrchr(file, '/');
    const char *directory = slash != NULL ? file : ".";
    size_t directory_length = slash == NULL || slash == file ? 1 : (size_t)(slash - file);
    char *made = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&made, &size);
    for (size_t at = 0; out != NULL && at < length;) {
        size_t skip = token_length(text + at, length - at, "ORIGIN");
        (void)(skip > 0 ? fwrite(directory, 1, directory_length, out) : fwrite(text + at, 1, 1, out));
        at += skip > 0 ? skip : 1;
    }
    if (out == NULL || fclose(out) != 0) {
        free(made);
        errno = ENOMEM;
        return NULL;
    }
    return made;
}

static char *try_in(const char *directory, size_t length, const char *name) {
    char *path = NULL;
    errno = ENOENT;
    if (has_token(directory, length)) { /* not expanded: means nothing here */
        return NULL;
    }
    if (length == 0) {
        directory = "."; /* an empty part of a list is the current directory */
        length = 1;
    }
    /* NOLINTNEXTLINE(clang-analyzer-security.ArrayBound): a part of a list ends within it */
    const char *slash = directory[length - 1] == '/' ? "" : "/";
    if (asprintf(&path, "%.*s%s%s", (int)length, directory, slash, name) < 0) {
        errno = ENOMEM;
        return NULL;
    }
    if (!fits(path)) {
        free_only(path);
        return NULL;
    }
    return path;
}

static char *find_in_list(const char *list, const char *separators, const char *name) {
    char *path = NULL;
    errno = ENOENT;
    if (list != NULL && list[0] == '\0') { /* no list, other than one of an empty part */
        return NULL;
    }
    while (list != NULL && path == NULL && errno == ENOENT) {
        const char *end = strpbrk(list, separators);
        path = try_in(list, end != NULL ? (size_t)(end - list) : strlen(list), name);
        list = end != NULL ? end + 1 : NULL;
    }
    return path;
}

#ifdef __GLIBC__

/* ---- /etc/ld.so.cache, the format that glibc writes since 2.2 ---- */

#define CACHE "/etc/ld.so.cache"
#define OLD_MAGIC "ld.so-1.7.0"
#define NEW_MAGIC "glibc-ld.so.cache1.1"
#define FOR_LIBC6 0x0003

typedef struct {
    char magic[20];
    uint32_t count;
    uint32_t strings;
    uint8_t flags;
    uint8_t padding[3];
    uint32_t extensions;
    uint32_t unused[3];
} cache_header;

typedef struct {
    int32_t flags;
    uint32_t name;
    uint32_t path; /* both are offsets from the header */
    uint32_t version;
    uint64_t processor; /* 0: for all of them */
} cache_entry;

static const char *cache_string(const uint8_t *cache, size_t size, uint32_t at) {
    return at < size && memchr(cache + at, '\0', size - at) != NULL ? (const char *)cache + at : NULL;
}

static char *find_in_new_cache(const uint8_t *cache, size_t size, const char *name) {
    cache_header header;
    errno = ENOENT;
    if (size < sizeof header) {
        return NULL;
    }
    memcpy(&header, cache, sizeof header);
    if (memcmp(header.magic, NEW_MAGIC, sizeof header.magic) != 0 ||
        header.count > (size - sizeof header) / sizeof(cache_entry)) {
        return NULL;
    }
    for (uint32_t i = 0; i < header.count && errno == ENOENT; i++) {
        cache_entry entry;
        memcpy(&entry, cache + sizeof header + i * sizeof entry, sizeof entry);
        const char *entry_name = cache_string(cache, size, entry.name);
        const char *path = cache_string(cache, size, entry.path);
        if (entry_name != NULL && path != NULL && (entry.flags & 0xff) == FOR_LIBC6 && entry.processor == 0 &&
            strcmp(entry_name, name) == 0 && fits(path)) {
            return strdup(path);
        }
    }
    return NULL;
}

static char *find_in_cache(const char *name) {
    size_t size;
    const uint8_t *cache = atoll_map_file(CACHE, &size);
    if (cache == NULL) {
        errno = atoll_file_is_lack(errno) ? errno : ENOENT;
        return NULL;
    }
    size_t start = 0;
    if (size >= 16 && memcmp(cache, OLD_MAGIC, sizeof OLD_MAGIC - 1) == 0) {
        uint32_t count; /* an older table of 12 bytes an entry comes first */
        memcpy(&count, cache + 12, sizeof count);
        start = (16 + 12 * (size_t)count + 7) / 8 * 8;
    }
    errno = ENOENT;
    char *path = start < size ? find_in_new_cache(cache + start, size - start, name) : NULL;
    atoll_unmap(cache, size);
    return path;
}

/* ---- what the dynamic linker knows for the program ---- */

/* The directories that it searches for the program: those of the program, LD_LIBRARY_PATH, the default ones. */
static char *find_in_defaults(const char *name) {
    Dl_serinfo sizes;
    char *path = NULL;
    int failed = ENOENT;
    void *program = dlopen(NULL, RTLD_LAZY | RTLD_NOLOAD);
    if (program != NULL && dlinfo(program, RTLD_DI_SERINFOSIZE, &sizes) == 0) {
        Dl_serinfo *info = malloc(sizes.dls_size);
        failed = ENOMEM;
        if (info != NULL && dlinfo(program, RTLD_DI_SERINFOSIZE, info) == 0 &&
            dlinfo(program, RTLD_DI_SERINFO, info) == 0) {
            failed = ENOENT;
            for (unsigned i = 0; path == NULL && failed == ENOENT && i < info->dls_cnt; i++) {
                path = try_in(info->dls_serpath[i].dls_name, strlen(info->dls_serpath[i].dls_name), name);
                failed = errno;
            }
        }
        free(info);
    }
    if (program != NULL) {
        (void)dlclose(program);
    }
    errno = failed;
    return path;
}

/* A list of directories with the program's in the place of $ORIGIN; malloc or NULL. */
static char *expand_program(const char *list) {
    char program[4096];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0) {
        errno = ENOENT;
        return NULL;
    }
    program[length] = '\0';
    return atoll_dl_expand(list, strlen(list), program);
}

/* The program's DT_RPATH holds for every library that has no DT_RUNPATH.  malloc; NULL with errno: none. */
static char *program_rpath(void) {
    struct link_map *map = NULL;
    const char *strings = NULL;
    const ElfW(Dyn) *rpath = NULL;
    void *program = dlopen(NULL, RTLD_LAZY | RTLD_NOLOAD);
    if (program != NULL && dlinfo(program, RTLD_DI_LINKMAP, &map) == 0 && map->l_ld != NULL) {
        for (const ElfW(Dyn) *d = map->l_ld; d->d_tag != DT_NULL; d++) {
            if (d->d_tag == DT_STRTAB) {
                uintptr_t at = d->d_un.d_ptr;
                strings = (const char *)(at < map->l_addr ? map->l_addr + at : at);
            } else if (d->d_tag == DT_RPATH) {
                rpath = d;
            } else if (d->d_tag == DT_RUNPATH) {
                rpath = NULL; /* which is for the program alone */
                break;
            }
        }
    }
    if (program != NULL) {
        (void)dlclose(program); /* the program is never unloaded */
    }
    errno = ENOENT;
    return rpath != NULL && strings != NULL ? expand_program(strings + rpath->d_un.d_val) : NULL;
}

static char *library_path; /* LD_LIBRARY_PATH, or NULL */

__attribute__((constructor)) static void remember_library_path(void) {
    static const char name[] = "LD_LIBRARY_PATH=";
    const char *now = getenv("LD_LIBRARY_PATH");
    FILE *file = fopen("/proc/self/environ", "re");
    char *entry = NULL;
    size_t room = 0;
    if (getauxval(AT_SECURE) != 0) { /* it does not count */
        now = NULL;
    } else if (file != NULL) {
        now = NULL;
        while (now == NULL && getdelim(&entry, &room, '\0', file) > 0) {
            now = strncmp(entry, name, sizeof name - 1) == 0 ? entry + sizeof name - 1 : NULL;
        }
    }
    library_path = now != NULL ? expand_program(now) : NULL;
    free(entry);
    if (file != NULL) {
        (void)fclose(file);
    }
}

#else

static const char *const library_path;
static char *find_in_cache(const char *name) {
    errno = ENOENT;
    return NULL;
}
static char *program_rpath(void) {
    errno = ENOENT;
    return NULL;
}
static char *find_in_defaults(const char *name) {
    return find_in_list("/lib:/usr/local/lib:/usr/lib", ":", name);
}

#endif

static char *find_in_program(const char *name) {
    char *list = program_rpath();
    char *path = list != NULL ? find_in_list(list, ":", name) : NULL;
    free_only(list);
    return path;
}

/* Nothing found yet, and nothing in the way. */
static bool goes_on(const char *path) { return path == NULL && errno == ENOENT; }

char *atoll_dl_find(const char *name, const char *rpath, const char *runpath) {
    errno = ENOENT;
    if (strchr(name, '/') != NULL) {
        return fits(name) ? strdup(name) : NULL;
    }
    char *path = runpath == NULL ? find_in_list(rpath, ":", name) : NULL;
    path = goes_on(path) && runpath == NULL ? find_in_program(name) : path;
    path = goes_on(path) ? find_in_list(library_path, ":;", name) : path;
    path = goes_on(path) ? find_in_list(runpath, ":", name) : path;
    path = goes_on(path) ? find_in_cache(name) : path;
    return goes_on(path) ? find_in_defaults(name) : path;
}
