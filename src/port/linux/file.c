/* Files and mappings of port.h for Linux. */
#include "port/port.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#define AT_ONCE ((size_t)1 << 30) /* less than what one system call may move */

bool atoll_file_is_lack(int error) { return error == ENOMEM || error == EMFILE || error == ENFILE; }

bool atoll_file_same(const atoll_file_id *one, const atoll_file_id *other) {
    return one->device == other->device && one->inode == other->inode && one->size == other->size &&
           one->seconds == other->seconds && one->nanoseconds == other->nanoseconds;
}

int atoll_file_shortage(void) {
    int fd = open("/", O_PATH | O_CLOEXEC);
    if (fd >= 0) {
        (void)close(fd);
        return 0;
    }
    return errno == EMFILE || errno == ENFILE ? errno : 0;
}

int atoll_fd_above_streams(int fd) {
    if (fd < 0 || fd > STDERR_FILENO) {
        return fd;
    }
    int other = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    int failed = errno;
    (void)close(fd);
    errno = failed;
    return other;
}

static atoll_file_id id_of(const struct stat *info) {
    return (atoll_file_id){
        .device = info->st_dev,
        .inode = info->st_ino,
        .size = (uint64_t)info->st_size,
        .seconds = info->st_mtim.tv_sec,
        .nanoseconds = info->st_mtim.tv_nsec,
    };
}

bool atoll_file_is(int fd, const atoll_file_id *id) {
    struct stat info;
    return fstat(fd, &info) == 0 && info.st_dev == id->device && info.st_ino == id->inode;
}

int atoll_file_open(const char *path, atoll_file_id *id) {
    /* Not to hang on a FIFO that nobody writes to. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        return -1;
    }
    struct stat info;
    int failed = fstat(fd, &info) != 0 ? errno : 0;
    if (failed == 0 && !S_ISREG(info.st_mode)) {
        failed = S_ISDIR(info.st_mode) ? EISDIR : EINVAL;
    }
    if (failed != 0) {
        (void)close(fd);
        errno = failed;
        return -1;
    }
    *id = id_of(&info);
    return fd;
}

void atoll_file_close(int fd) { (void)close(fd); }

int atoll_file_identify(const char *path, atoll_file_id *id) {
    int fd = atoll_file_open(path, id);
    if (fd < 0) {
        return -1;
    }
    atoll_file_close(fd);
    return 0;
}

int atoll_directory_identify(const char *path, atoll_file_id *id) {
    struct stat info;
    if (stat(path, &info) != 0) {
        return -1;
    }
    if (!S_ISDIR(info.st_mode)) {
        errno = ENOTDIR;
        return -1;
    }
    *id = (atoll_file_id){.device = info.st_dev, .inode = info.st_ino};
    return 0;
}

char *atoll_file_absolute(const char *path) {
    char *here = path[0] != '/' ? getcwd(NULL, 0) : strdup("");
    char *absolute = NULL;
    if (here == NULL || asprintf(&absolute, "%s%s%s", here, path[0] != '/' ? "/" : "", path) < 0) {
        absolute = NULL;
    }
    free(here);
    return absolute;
}

int atoll_file_open_output(const char *path, atoll_file_id *id) {
    int fd = atoll_fd_above_streams(open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0666));
    if (fd < 0) {
        errno = errno == ENXIO ? EINVAL : errno; /* a FIFO */
        return -1;
    }
    struct stat info;
    int failed = fstat(fd, &info) != 0 ? errno : S_ISREG(info.st_mode) ? 0 : EINVAL;
    /* Where the file system knows no locks, there is none. */
    if (failed == 0 && flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        failed = EWOULDBLOCK;
    }
    if (failed != 0) {
        (void)close(fd);
        errno = failed;
        return -1;
    }
    *id = id_of(&info);
    return fd;
}

int atoll_file_cut(int fd, uint64_t size) { return ftruncate(fd, (off_t)size); }

int atoll_file_write(int fd, const void *bytes, size_t size, uint64_t offset) {
    const char *at = bytes;
    while (size > 0) {
        ssize_t n = pwrite(fd, at, size < AT_ONCE ? size : AT_ONCE, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            errno = n == 0 ? ENOSPC : errno;
            return -1;
        }
        at += n;
        size -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

/* Each step copies what is left with one kind of system call and says how far it came: the next kind goes on
 * there.  What fails in all of them fails in the last. */
static uint64_t copy_by_range(int from, int to, uint64_t done, uint64_t size) {
    while (done < size) {
        off_t in = (off_t)done;
        off_t out = (off_t)done;
        uint64_t left = size - done;
        ssize_t n = copy_file_range(from, &in, to, &out, left < AT_ONCE ? left : AT_ONCE, 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            break;
        }
        done += (uint64_t)n;
    }
    return done;
}

static uint64_t copy_by_sendfile(int from, int to, uint64_t done, uint64_t size) {
    if (lseek(to, (off_t)done, SEEK_SET) < 0) {
        return done;
    }
    while (done < size) {
        off_t in = (off_t)done;
        uint64_t left = size - done;
        ssize_t n = sendfile(to, from, &in, left < AT_ONCE ? left : AT_ONCE);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            break;
        }
        done += (uint64_t)n;
    }
    return done;
}

static int copy_by_reading(int from, int to, uint64_t done, uint64_t size) {
    char block[16384];
    while (done < size) {
        uint64_t left = size - done;
        ssize_t n = pread(from, block, left < sizeof block ? left : sizeof block, (off_t)done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            errno = n == 0 ? EIO : errno; /* shorter than it was */
            return -1;
        }
        if (atoll_file_write(to, block, (size_t)n, done) != 0) {
            return -1;
        }
        done += (uint64_t)n;
    }
    return 0;
}

int atoll_file_copy(int from, int to, uint64_t size) {
    uint64_t done = copy_by_range(from, to, 0, size);
    done = copy_by_sendfile(from, to, done, size);
    return copy_by_reading(from, to, done, size);
}

const void *atoll_map_fd(int fd, size_t size) {
    void *bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    return bytes != MAP_FAILED ? bytes : NULL;
}

const void *atoll_map_file(const char *path, size_t *size) {
    atoll_file_id id;
    int fd = atoll_file_open(path, &id);
    if (fd < 0) {
        return NULL;
    }
    const void *bytes = atoll_map_fd(fd, id.size); /* no bytes: EINVAL */
    int failed = errno;
    (void)close(fd);
    errno = failed;
    *size = id.size;
    return bytes;
}

void atoll_unmap(const void *bytes, size_t size) {
    if (bytes != NULL) {
        (void)munmap((void *)(uintptr_t)bytes, size);
    }
}

int atoll_map_over(void *address, size_t size, int fd, uint64_t offset, bool executable) {
    int protection = PROT_READ | (executable ? PROT_EXEC : 0);
    void *at = mmap(address, size, protection, MAP_PRIVATE | MAP_FIXED, fd, (off_t)offset);
    return at != MAP_FAILED ? 0 : -1;
}

size_t atoll_page_size(void) { return (size_t)sysconf(_SC_PAGESIZE); }

#define PRESENT (UINT64_C(1) << 63)
#define SWAPPED (UINT64_C(1) << 62)
#define OF_FILE (UINT64_C(1) << 61)

int atoll_pages_own(const void *address, size_t count, bool *own) {
    uint64_t entries[512];
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    int rc = fd >= 0 ? 0 : -1;
    off_t at = (off_t)((uintptr_t)address / atoll_page_size() * sizeof *entries);
    for (size_t done = 0; rc == 0 && done < count;) {
        size_t n = count - done < 512 ? count - done : 512;
        if (pread(fd, entries, n * sizeof *entries, at) != (ssize_t)(n * sizeof *entries)) {
            rc = -1;
        }
        for (size_t i = 0; rc == 0 && i < n; i++) {
            own[done + i] = (entries[i] & (PRESENT | SWAPPED)) != 0 && (entries[i] & OF_FILE) == 0;
        }
        done += n;
        at += (off_t)(n * sizeof *entries);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return rc;
}

void atoll_file_punch(int fd, uint64_t offset, uint64_t size) {
    (void)fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size);
}
