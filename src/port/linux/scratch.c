/* Places for files that are loaded and then removed (port.h).
 *
 * A directory is tried by doing what it is for: a page of a file in it is mapped executable.  That catches what a
 * mount's flags do not tell.  The result is remembered for each directory, so that it is done once.  Whether there is room
 * is known only when a file has been written: then its owner moves on to the next place.
 *
 * A file in memory is loaded through its descriptor, which is closed after that: the dynamic linker then knows what it has loaded
 * by a path with a number that will be another file's.  It compares paths as text, so each file gets one that no
 * other one has had: "." and "/" in an order that spells a number.
 */
#include "port/port.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

#define REMEMBERED 16

static atoll_mutex verdicts_lock = ATOLL_MUTEX_INIT; /* a leaf */
static struct {
    char *directory;
    bool good;
} verdicts[REMEMBERED];
static size_t nverdicts;

void atoll_scratch_fork(atoll_fork_moment when) { atoll_mutex_fork(&verdicts_lock, when); }

/* 1, 0, or -1: not tried yet. */
static int remembered(const char *directory) {
    int verdict = -1;
    atoll_mutex_lock(&verdicts_lock);
    for (size_t i = 0; i < nverdicts; i++) {
        if (strcmp(verdicts[i].directory, directory) == 0) {
            verdict = verdicts[i].good;
            break;
        }
    }
    atoll_mutex_unlock(&verdicts_lock);
    return verdict;
}

static void remember(const char *directory, bool good) {
    char *own = strdup(directory);
    atoll_mutex_lock(&verdicts_lock);
    if (own != NULL && nverdicts < REMEMBERED) {
        verdicts[nverdicts].directory = own;
        verdicts[nverdicts++].good = good;
        own = NULL;
    }
    atoll_mutex_unlock(&verdicts_lock);
    free(own);
}

static bool can_execute(int fd) {
    long page = sysconf(_SC_PAGESIZE);
    if (ftruncate(fd, page) != 0) {
        return false;
    }
    void *at = mmap(NULL, (size_t)page, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    return at != MAP_FAILED && munmap(at, (size_t)page) == 0;
}

static char *join(const char *directory, const char *name) {
    char *path = NULL;
    return asprintf(&path, "%s/%s", directory, name) >= 0 ? path : NULL;
}

static int create(const char *path) {
    return atoll_fd_above_streams(open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, S_IRWXU));
}

/* Tries a new directory of ours.  1, 0, or -1: no file can be made there, now at least. */
static int try_execution(const char *directory) {
    char *path = join(directory, "test");
    int good = -1;
    int fd = path != NULL ? create(path) : -1;
    if (fd >= 0) {
        good = can_execute(fd);
        (void)close(fd);
        (void)unlink(path);
    }
    free(path);
    return good;
}

/* A directory of our own in `parent`, or NULL when that is of no use. */
static char *make_in(const char *parent, unsigned serial) {
    struct statvfs info;
    char *path = NULL;
    if (parent == NULL || parent[0] != '/' || remembered(parent) == 0) {
        return NULL;
    }
#ifdef ST_NOEXEC
    if (statvfs(parent, &info) != 0 || (info.f_flag & (ST_NOEXEC | ST_RDONLY)) != 0) {
        return NULL;
    }
#endif
    if (asprintf(&path, "%s/atoll-%ld-%u-XXXXXX", parent, (long)getpid(), serial) < 0) {
        return NULL;
    }
    if (mkdtemp(path) == NULL) {
        free(path);
        return NULL;
    }
    if (remembered(parent) < 0) {
        int good = try_execution(path);
        if (good >= 0) {
            remember(parent, good);
        }
        if (good <= 0) {
            (void)rmdir(path);
            free(path);
            return NULL;
        }
    }
    return path;
}

#define PLACES 7 /* directories; memory is one more */

/* The first place from `first` on that will do. */
static void open_from(atoll_scratch *scratch, unsigned first, unsigned serial) {
    const char *wanted = getenv("ATOLL_CLONE_DIR");
    const char *home = getenv("HOME");
    char *cache = home != NULL && home[0] != '\0' ? join(home, ".cache") : NULL;
    /* Memory first: a file that lives for a millisecond has no business on a disk. */
    const char *parents[PLACES] = {
        wanted, "/dev/shm", getenv("XDG_RUNTIME_DIR"), getenv("TMPDIR"), "/tmp", "/var/tmp", cache,
    };
    bool in_memory = wanted != NULL && strcmp(wanted, "memory") == 0;
    *scratch = (atoll_scratch){.place = in_memory ? PLACES : first};
    while (scratch->place < PLACES &&
           (scratch->directory = make_in(parents[scratch->place], serial)) == NULL) {
        scratch->place++;
    }
    free(cache);
}

int atoll_scratch_open(atoll_scratch *scratch, unsigned serial) {
    open_from(scratch, 0, serial);
    return 0;
}

int atoll_scratch_move(atoll_scratch *scratch, unsigned serial) {
    unsigned next = scratch->place + 1;
    atoll_scratch_close(scratch);
    if (next > PLACES) {
        return -1;
    }
    open_from(scratch, next, serial);
    return 0;
}

static int create_in_memory(const char *name) {
    /* Systems may be set up so that only files made with this flag can be executed; older ones do not know it. */
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_EXEC);
    return atoll_fd_above_streams(fd < 0 && errno == EINVAL ? memfd_create(name, MFD_CLOEXEC) : fd);
}

/* malloc, or NULL: out of memory, or there is no /proc here. */
static char *path_in_memory(int fd) {
    static _Atomic(unsigned) serial;
    char spelled[3 * 8 * sizeof(unsigned) + 1];
    size_t length = 0;
    for (unsigned bits = atomic_fetch_add(&serial, 1); bits != 0; bits >>= 1) {
        const char *digit = (bits & 1) != 0 ? ".//" : "./";
        memcpy(spelled + length, digit, strlen(digit));
        length += strlen(digit);
    }
    char *path = NULL;
    if (asprintf(&path, "/proc/self/fd/%.*s%d", (int)length, spelled, fd) < 0) {
        return NULL;
    }
    if (access(path, R_OK) != 0) {
        free(path);
        return NULL;
    }
    return path;
}

/* The path of a file that was made in a directory. */
typedef struct atoll_scratch_name {
    struct atoll_scratch_name *next;
    char path[];
} name_made;

/* Makes a file in the directory, and remembers it; its path, or NULL. */
static char *create_in_directory(atoll_scratch *scratch, const char *name, int *fd) {
    char *path = join(scratch->directory, name);
    size_t size = path != NULL ? strlen(path) + 1 : 0;
    name_made *made = path != NULL ? malloc(sizeof *made + size) : NULL;
    *fd = made != NULL ? create(path) : -1;
    if (*fd < 0) {
        int failed = made != NULL ? errno : ENOMEM;
        free(made);
        free(path);
        errno = failed;
        return NULL;
    }
    memcpy(made->path, path, size);
    made->next = scratch->made;
    scratch->made = made;
    return path;
}

char *atoll_scratch_file(atoll_scratch *scratch, const char *name, int *fd) {
    char *path = NULL;
    *fd = -1;
    if (strchr(name, '/') != NULL || name[0] == '\0') {
        errno = EINVAL;
        return NULL;
    }
    if (scratch->directory != NULL) {
        path = create_in_directory(scratch, name, fd);
    } else {
        *fd = create_in_memory(name);
        path = *fd >= 0 ? path_in_memory(*fd) : NULL;
    }
    if (path == NULL || *fd < 0) {
        int failed = errno;
        if (*fd >= 0) {
            (void)close(*fd);
            *fd = -1;
        }
        free(path);
        errno = failed;
        return NULL;
    }
    return path;
}

void atoll_scratch_close(atoll_scratch *scratch) {
    while (scratch->made != NULL) {
        name_made *next = scratch->made->next;
        (void)unlink(scratch->made->path);
        free(scratch->made);
        scratch->made = next;
    }
    if (scratch->directory != NULL) {
        (void)rmdir(scratch->directory);
        free(scratch->directory);
        scratch->directory = NULL;
    }
}
