/* Pages of memory, without a name and with one.
 *
 * Memory with a name is a file of the memory file system that shm_open() uses.  Its pages are reserved when it is made: what
 * does not fit is an error then, and not a SIGBUS when a page is first touched.  Who makes it has the file's lock (flock) from before it has
 * a size until all pages are there, and who finds it waits for the lock.  Pages that other processes find through this process are few, and
 * are not reserved.
 */
#include "port/port.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static const size_t large = (size_t)2 * 1024 * 1024; /* a large page */

void *atoll_map_zeroed(size_t size) {
    size_t page = atoll_page_size();
    if (size > SIZE_MAX / 2) {
        return NULL;
    }
    bool is_large = size >= 2 * large;
    size_t whole = (size + page - 1) / page * page + (is_large ? large : 0);
    char *start = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) {
        return NULL;
    }
    if (!is_large) {
        return start;
    }
    /* Begins with a large page; what is before and behind goes back. */
    size_t before = (large - (uintptr_t)start % large) % large;
    if (before != 0) {
        (void)munmap(start, before);
    }
    (void)munmap(start + before + (whole - large), large - before);
    (void)madvise(start + before, whole - large, MADV_HUGEPAGE);
    return start + before;
}

/* ---- pages that other processes find ---- */

int atoll_page_make(const char *name, size_t size, atoll_page *out) {
    *out = (atoll_page){.size = size, .fd = atoll_fd_above_streams(memfd_create(name, MFD_CLOEXEC))};
    struct stat info;
    if (out->fd >= 0 && (ftruncate(out->fd, (off_t)size) != 0 || fstat(out->fd, &info) != 0)) {
        (void)close(out->fd);
        out->fd = -1;
    }
    if (out->fd >= 0) {
        out->id = (atoll_shm_id){(uint64_t)info.st_dev, (uint64_t)info.st_ino};
        out->data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, out->fd, 0);
        if (out->data != MAP_FAILED) {
            return 0;
        }
        (void)close(out->fd);
        out->fd = -1;
    }
    out->data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return out->data != MAP_FAILED ? 0 : -1;
}

void atoll_page_renew(const char *name, atoll_page *page, const atoll_page_part *parts, size_t count) {
    if (page->fd < 0) {
        return; /* it is the child's own already */
    }
    struct stat info;
    if (fstat(page->fd, &info) == 0 && (uint64_t)info.st_dev == page->id.device &&
        (uint64_t)info.st_ino == page->id.inode) {
        (void)close(page->fd); /* else the program has closed it, and has another file under its number */
    }
    page->fd = -1;
    atoll_page fresh;
    if (atoll_page_make(name, page->size, &fresh) < 0) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        memcpy((char *)fresh.data + parts[i].at, (const char *)page->data + parts[i].at, parts[i].size);
    }
    if (mremap(fresh.data, page->size, page->size, MREMAP_MAYMOVE | MREMAP_FIXED, page->data) == MAP_FAILED) {
        (void)munmap(fresh.data, page->size);
        (void)close(fresh.fd);
        return;
    }
    fresh.data = page->data;
    *page = fresh;
}

/* ---- names ---- */

enum { PATH = 272 };

static void path_of(char path[PATH], const char *name) { (void)snprintf(path, PATH, "/%s", name); }

/* In steps, between which signals come: many kernels let one undo what it interrupts, and a timer would do that for ever. */
static int reserve(int fd, size_t size) {
    const size_t step = (size_t)64 * 1024 * 1024;
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    int error = 0;
    for (size_t at = 0; error == 0 && at < size; at += step) {
        size_t part = size - at < step ? size - at : step;
        (void)pthread_sigmask(SIG_SETMASK, &all, &before);
        error = posix_fallocate(fd, (off_t)at, (off_t)part);
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    return error;
}

/* A system without such locks lets who finds the file see pages that are not reserved yet. */
static int lock(int fd, int how) {
    while (flock(fd, how) != 0) {
        if (errno == EWOULDBLOCK) {
            return EAGAIN;
        }
        if (errno != EINTR) {
            break;
        }
    }
    return 0;
}

/* Gives a file that was just made its size.  0 or an errno code. */
static int fill(int fd, size_t size) {
    struct statvfs room;
    if (fstatvfs(fd, &room) == 0 && room.f_blocks != 0 && size / room.f_frsize >= room.f_bavail) {
        return ENOSPC; /* else all that there is would be taken before that is found out */
    }
    return ftruncate(fd, (off_t)size) == 0 ? reserve(fd, size) : errno;
}

/* Maps all of it. */
static int map_whole(int fd, atoll_shm *out) {
    struct stat info;
    if (fstat(fd, &info) != 0) {
        return errno;
    }
    if (info.st_nlink == 0) {
        return ENOENT; /* removed since it was opened: it may have had no room */
    }
    if (info.st_size == 0) {
        return ENODATA;
    }
    out->size = (size_t)info.st_size;
    out->id = (atoll_shm_id){(uint64_t)info.st_dev, (uint64_t)info.st_ino};
    out->data = mmap(NULL, out->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return out->data == MAP_FAILED ? errno : 0;
}

static int make(const char *path, size_t size, atoll_shm *out) {
    int fd = shm_open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        return errno;
    }
    (void)lock(fd, LOCK_EX); /* who finds it holds it for a moment only */
    int error = fill(fd, size);
    if (error == 0) {
        error = map_whole(fd, out);
    }
    if (error != 0) {
        (void)shm_unlink(path);
    }
    /* A child that was forked meanwhile has the file as well, and would hold the lock on. */
    (void)lock(fd, LOCK_UN);
    (void)close(fd);
    return error;
}

static int find(const char *path, atoll_shm *out) {
    int fd = shm_open(path, O_RDWR | O_CLOEXEC, 0);
    if (fd < 0) {
        return errno;
    }
    int error = lock(fd, LOCK_SH | LOCK_NB);
    if (error == 0) {
        error = map_whole(fd, out);
        (void)lock(fd, LOCK_UN);
    }
    (void)close(fd);
    return error;
}

int atoll_shm_open(const char *name, atoll_shm_way way, size_t size, atoll_shm *out) {
    char path[PATH];
    path_of(path, name);
    for (;;) {
        out->made = false;
        if (way != ATOLL_SHM_FIND) {
            int error = make(path, size, out);
            out->made = error == 0;
            if (way == ATOLL_SHM_MAKE || error != EEXIST) {
                return error;
            }
        }
        int error = find(path, out);
        if (way == ATOLL_SHM_FIND || error != ENOENT) {
            return error;
        } /* else it was removed in between */
    }
}

int atoll_shm_remove(const char *name, const atoll_shm_id *id) {
    char path[PATH];
    path_of(path, name);
    int fd = shm_open(path, O_RDONLY | O_CLOEXEC, 0);
    struct stat info;
    if (fd < 0) {
        return errno;
    }
    int error = fstat(fd, &info) == 0 ? 0 : errno;
    (void)close(fd);
    if (error == 0 && ((uint64_t)info.st_dev != id->device || (uint64_t)info.st_ino != id->inode)) {
        error = ENOENT;
    }
    return error == 0 && shm_unlink(path) != 0 ? errno : error;
}
