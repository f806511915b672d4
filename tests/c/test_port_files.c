/* Files, mappings and scratch directories of port.h. */
#include "harness.h"
#include "libraries.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static atoll_scratch scratch_of(unsigned serial) {
    atoll_scratch scratch = {.directory = NULL};
    CHECK_INT(atoll_scratch_open(&scratch, serial), 0);
    return scratch;
}

/* Opens for reading; -1 with errno. */
static int open_file(const char *path, atoll_file_id *id) {
    errno = 0;
    return atoll_file_open(path, id);
}

TEST(file_open_takes_regular_files_only) {
    atoll_scratch scratch = scratch_of(0);
    atoll_file_id id = {0};
    char *path = file_make(&scratch, "regular", "12345", 5);
    REQUIRE(path != NULL && scratch.directory != NULL);
    int fd = open_file(path, &id);
    CHECK(fd >= 0);
    CHECK_UINT(id.size, 5);
    CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    atoll_file_close(fd);
    CHECK(open_file(scratch.directory, &id) == -1 && errno == EISDIR);
    CHECK(unlink(path) == 0 && open_file(path, &id) == -1 && errno == ENOENT);
    CHECK(mkfifo(path, 0600) == 0 && open_file(path, &id) == -1 && errno == EINVAL); /* without waiting */
    free(path);
    atoll_scratch_close(&scratch);
}

TEST(file_is_another_after_a_change) {
    const struct timespec times[2] = {{1, 0}, {1, 1}};
    atoll_scratch scratch = scratch_of(0);
    atoll_file_id ids[4];
    char *path = file_make(&scratch, "one", "12345", 5);
    char *other = file_make(&scratch, "two", "12345", 5);
    REQUIRE(path != NULL && other != NULL);
    int fds[4];
    fds[0] = open_file(path, &ids[0]);
    fds[1] = open_file(path, &ids[1]);
    CHECK(atoll_file_same(&ids[0], &ids[1]));
    fds[2] = open_file(other, &ids[2]);
    CHECK(!atoll_file_same(&ids[0], &ids[2]));
    CHECK_INT(utimensat(AT_FDCWD, path, times, 0), 0);
    fds[3] = open_file(path, &ids[3]);
    CHECK(!atoll_file_same(&ids[0], &ids[3]));
    for (int i = 0; i < 4; i++) {
        CHECK(fds[i] >= 0);
        atoll_file_close(fds[i]);
    }
    free(path);
    free(other);
    atoll_scratch_close(&scratch);
}

TEST(file_write_leaves_holes) {
    atoll_scratch scratch = scratch_of(0);
    int fd;
    char *path = atoll_scratch_file(&scratch, "sparse", &fd);
    REQUIRE(path != NULL);
    CHECK_INT(atoll_file_write(fd, "end", 3, 100000), 0);
    CHECK_INT(atoll_file_write(fd, "start", 5, 0), 0);
    CHECK_INT(atoll_file_write(fd, "", 0, 200000), 0);
    atoll_file_close(fd);
    size_t size;
    const char *bytes = atoll_map_file(path, &size);
    REQUIRE(bytes != NULL);
    CHECK_UINT(size, 100003);
    CHECK(memcmp(bytes, "start", 6) == 0);
    CHECK(memcmp(bytes + 99999, "\0end", 4) == 0);
    atoll_unmap(bytes, size);
    fd = open(path, O_RDONLY);
    CHECK(fd >= 0 && atoll_file_write(fd, "x", 1, 0) == -1 && errno == EBADF);
    atoll_file_close(fd);
    free(path);
    atoll_scratch_close(&scratch);
}

static void check_copied(int from, int to, const uint8_t *bytes, size_t size) {
    CHECK_INT(atoll_file_copy(from, to, size), 0);
    const uint8_t *copy = atoll_map_fd(to, size);
    CHECK(copy != NULL && memcmp(copy, bytes, size) == 0);
    atoll_unmap(copy, size);
    struct stat info;
    CHECK(fstat(to, &info) == 0 && (size_t)info.st_size == size);
}

/* To the same file system and to another: the system has different calls for them. */
TEST(file_copy_copies_as_much_as_was_said) {
    atoll_scratch scratch = scratch_of(0);
    atoll_scratch memory = {.directory = NULL};
    size_t size;
    int fds[3];
    atoll_file_id id;
    uint8_t *bytes = file_read(LIB("lib_user"), &size);
    char *paths[3] = {
        atoll_scratch_file(&scratch, "all", &fds[0]),
        atoll_scratch_file(&scratch, "part", &fds[1]),
        atoll_scratch_file(&memory, "memory", &fds[2]),
    };
    int from = open_file(LIB("lib_user"), &id);
    REQUIRE(bytes != NULL && paths[0] != NULL && paths[1] != NULL && paths[2] != NULL && from >= 0);
    check_copied(from, fds[0], bytes, size);
    check_copied(from, fds[1], bytes, 12345);
    check_copied(from, fds[2], bytes, size);
    check_copied(fds[2], fds[1], bytes, size);
    CHECK(atoll_file_copy(from, fds[0], size + 1) == -1 && errno == EIO);
    CHECK(atoll_file_copy(fds[0], from, size) == -1 && errno == EBADF);
    CHECK_INT(atoll_file_copy(from, fds[0], 0), 0);
    for (int i = 0; i < 3; i++) {
        atoll_file_close(fds[i]);
        free(paths[i]);
    }
    atoll_file_close(from);
    free(bytes);
    atoll_scratch_close(&scratch);
}

/* ---- mappings ---- */

TEST(map_of_an_empty_file_is_none) {
    atoll_scratch scratch = scratch_of(0);
    char *path = file_make(&scratch, "empty", "", 0);
    size_t size = 1;
    REQUIRE(path != NULL);
    errno = 0;
    CHECK(atoll_map_file(path, &size) == NULL && errno == EINVAL);
    CHECK(unlink(path) == 0 && atoll_map_file(path, &size) == NULL && errno == ENOENT);
    atoll_unmap(NULL, 0);
    free(path);
    atoll_scratch_close(&scratch);
}

TEST(map_over_replaces_only_its_pages) {
    size_t page = atoll_page_size();
    CHECK_UINT(page & (page - 1), 0);
    atoll_scratch memory = {.directory = NULL};
    int fd;
    char *path = atoll_scratch_file(&memory, "pages", &fd);
    REQUIRE(path != NULL);
    CHECK_INT(atoll_file_write(fd, "first", 5, 0), 0);
    CHECK_INT(atoll_file_write(fd, "second", 6, page), 0);
    char *pages = mmap(NULL, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(pages != MAP_FAILED);
    for (int i = 0; i < 3; i++) {
        pages[i * page] = 'x';
    }
    CHECK_INT(atoll_map_over(pages + page, page, fd, page, true), 0);
    CHECK(pages[0] == 'x' && pages[2 * page] == 'x');
    CHECK_STR(pages + page, "second");
    CHECK_INT(atoll_map_over(pages + page, page, fd, 0, false), 0);
    CHECK_STR(pages + page, "first");
    CHECK(atoll_map_over(pages + page + 1, page, fd, 0, false) == -1 && errno == EINVAL);
    CHECK_STR(pages + page, "first");
    atoll_unmap(pages, 3 * page);
    atoll_file_close(fd);
    free(path);
}

/* ---- scratch directories ---- */

static bool starts_with(const char *text, const char *start) {
    return strncmp(text, start, strlen(start)) == 0;
}

TEST(scratch_is_a_directory_of_its_own) {
    atoll_scratch one = scratch_of(7);
    atoll_scratch other = scratch_of(7);
    struct stat info;
    REQUIRE(one.directory != NULL && other.directory != NULL);
    CHECK(strcmp(one.directory, other.directory) != 0);
    CHECK(stat(one.directory, &info) == 0 && S_ISDIR(info.st_mode) && (info.st_mode & 0777) == 0700);
    int fd;
    char *path = atoll_scratch_file(&one, "file", &fd);
    REQUIRE(path != NULL);
    CHECK(starts_with(path, one.directory));
    CHECK(fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && (info.st_mode & 077) == 0);
    atoll_file_close(fd);
    CHECK(atoll_scratch_file(&one, "file", &fd) == NULL && errno == EEXIST && fd == -1);
    CHECK(atoll_scratch_file(&one, "a/b", &fd) == NULL && errno == EINVAL && fd == -1);
    CHECK(atoll_scratch_file(&one, "", &fd) == NULL && errno == EINVAL);
    char *directory = strdup(one.directory);
    atoll_scratch_close(&one);
    CHECK(one.directory == NULL);
    CHECK(stat(path, &info) != 0 && errno == ENOENT);
    CHECK(directory != NULL && stat(directory, &info) != 0 && errno == ENOENT);
    CHECK_INT(stat(other.directory, &info), 0);
    atoll_scratch_close(&other);
    atoll_scratch_close(&other); /* nothing */
    free(directory);
    free(path);
}

/* Removing it takes no descriptor: there may be none. */
TEST(scratch_goes_without_descriptors) {
    atoll_scratch scratch = scratch_of(8);
    struct rlimit before;
    int fd;
    REQUIRE(scratch.directory != NULL && getrlimit(RLIMIT_NOFILE, &before) == 0);
    char *directory = strdup(scratch.directory);
    for (unsigned i = 0; i < 3; i++) {
        char *path = atoll_scratch_file(&scratch, (const char *[]){"one", "two", "three"}[i], &fd);
        CHECK(path != NULL);
        free(path);
        atoll_file_close(fd);
    }
    REQUIRE(setrlimit(RLIMIT_NOFILE, &(struct rlimit){0, before.rlim_max}) == 0);
    atoll_scratch_close(&scratch);
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &before), 0);
    CHECK(directory != NULL && access(directory, F_OK) != 0 && errno == ENOENT);
    free(directory);
}

TEST(scratch_is_where_the_user_wants_it) {
    atoll_scratch outer = scratch_of(1);
    REQUIRE(outer.directory != NULL);
    const char *before = getenv("ATOLL_CLONE_DIR");
    char *saved = before != NULL ? strdup(before) : NULL;
    (void)setenv("ATOLL_CLONE_DIR", outer.directory, 1);
    atoll_scratch inner = scratch_of(2);
    CHECK(inner.directory != NULL && starts_with(inner.directory, outer.directory));
    atoll_scratch_close(&inner);
    (void)setenv("ATOLL_CLONE_DIR", "memory", 1);
    inner = scratch_of(3);
    CHECK(inner.directory == NULL);
    atoll_scratch_close(&inner);
    /* What is of no use is not used. */
    (void)setenv("ATOLL_CLONE_DIR", "/proc/self", 1);
    inner = scratch_of(4);
    CHECK(inner.directory != NULL && !starts_with(inner.directory, "/proc"));
    atoll_scratch_close(&inner);
    (void)setenv("ATOLL_CLONE_DIR", "relative", 1);
    inner = scratch_of(5);
    CHECK(inner.directory != NULL && inner.directory[0] == '/');
    atoll_scratch_close(&inner);
    if (saved != NULL) {
        (void)setenv("ATOLL_CLONE_DIR", saved, 1);
    } else {
        (void)unsetenv("ATOLL_CLONE_DIR");
    }
    free(saved);
    atoll_scratch_close(&outer);
}

TEST(files_are_not_under_the_numbers_of_streams) {
    atoll_scratch scratch = scratch_of(0);
    atoll_scratch memory = {.directory = NULL};
    char *output = file_make(&scratch, "output", "", 0);
    int saved = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 100);
    REQUIRE(output != NULL && saved >= 0 && close(STDIN_FILENO) == 0);
    atoll_page page;
    char *paths[2];
    int fds[5] = {-1, -1, -1, -1, -1};
    paths[0] = atoll_scratch_file(&scratch, "in_a_directory", &fds[0]);
    paths[1] = atoll_scratch_file(&memory, "in_memory", &fds[1]);
    fds[2] = atoll_event_new();
    atoll_file_id id;
    fds[3] = atoll_file_open_output(output, &id);
    CHECK(atoll_file_is(fds[3], &id) && atoll_file_write(fds[3], "more", 4, 0) == 0 &&
          atoll_file_is(fds[3], &id));
    CHECK(!atoll_file_is(fds[0], &id) && !atoll_file_is(-1, &id));
    fds[4] = atoll_page_make("test", 4096, &page) == 0 ? page.fd : -1;
    for (int i = 0; i < 5; i++) {
        CHECK(fds[i] > STDERR_FILENO && (fcntl(fds[i], F_GETFD) & FD_CLOEXEC) != 0);
        (void)close(fds[i]);
    }
    CHECK(fcntl(STDIN_FILENO, F_GETFD) == -1); /* it is as closed as before */
    CHECK_INT(dup2(saved, STDIN_FILENO), STDIN_FILENO);
    (void)close(saved);
    atoll_unmap(page.data, page.size);
    CHECK_INT(atoll_fd_above_streams(-1), -1);
    free(paths[0]);
    free(paths[1]);
    free(output);
    atoll_scratch_close(&scratch);
}

TEST(scratch_in_memory_has_paths) {
    atoll_scratch memory = {.directory = NULL};
    atoll_file_id id;
    int fds[2];
    char *paths[2];
    for (int i = 0; i < 2; i++) {
        paths[i] = atoll_scratch_file(&memory, "same", &fds[i]);
        REQUIRE(paths[i] != NULL);
        CHECK((fcntl(fds[i], F_GETFD) & FD_CLOEXEC) != 0);
        CHECK_INT(atoll_file_write(fds[i], "123", (size_t)i + 1, 0), 0);
    }
    CHECK(strcmp(paths[0], paths[1]) != 0);
    for (int i = 0; i < 2; i++) {
        int fd = open_file(paths[i], &id);
        CHECK(fd >= 0);
        CHECK_UINT(id.size, (uint64_t)i + 1);
        atoll_file_close(fd);
    }
    atoll_file_close(fds[1]);
    int again;
    char *other = atoll_scratch_file(&memory, "same", &again); /* with that number */
    CHECK_INT(again, fds[1]);
    CHECK(other != NULL && strcmp(other, paths[1]) != 0);
    free(other);
    atoll_file_close(again);
    atoll_file_close(fds[0]);
    free(paths[0]);
    free(paths[1]);
    CHECK(atoll_scratch_file(&memory, "a/b", &fds[0]) == NULL && errno == EINVAL);
}
