/* Blocks of shared memory: content, counts, names. */
#include "core/shared/shared.h"
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static bool is_zero(const uint8_t *data, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (data[i] != 0) {
            return false;
        }
    }
    return true;
}

static void name_for(char *name, size_t size, const char *what) {
    (void)snprintf(name, size, "atoll-test-%s-%d", what, (int)getpid());
}

TEST(shared_blocks_of_every_size_are_zero_and_aligned) {
    const size_t sizes[] = {0, 1, 63, 64, 4096, 65535, 65536, 65537, 1 << 20, (4 << 20) + 1, 9 << 20};
    atoll_shared_figures before = atoll_shared_count();
    for (int round = 0; round < 2; round++) { /* memory that was given back dirty comes again */
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            atoll_shared *block = atoll_shared_new(sizes[i]);
            CHECK(block != NULL);
            CHECK_UINT(block->size, sizes[i]);
            CHECK_UINT((uintptr_t)block->data % 64, 0);
            CHECK(sizes[i] < ATOLL_SHARED_PAGES || (uintptr_t)block->data % 4096 == 0);
            CHECK(sizes[i] < (4 << 20) || (uintptr_t)block->data % (2 << 20) == 0);
            CHECK(is_zero(block->data, block->size));
            memset(block->data, 0xA5, block->size);
            CHECK_UINT(atoll_shared_count().blocks, before.blocks + 1);
            CHECK_UINT(atoll_shared_count().bytes, before.bytes + sizes[i]);
            atoll_shared_release(block);
        }
    }
    CHECK_UINT(atoll_shared_count().blocks, before.blocks);
    CHECK_UINT(atoll_shared_count().bytes, before.bytes);
}

TEST(shared_memory_that_cannot_be_had_is_null) {
    atoll_shared_figures before = atoll_shared_count();
    CHECK(atoll_shared_new(SIZE_MAX) == NULL);
    CHECK(atoll_shared_new(SIZE_MAX / 2) == NULL);
    CHECK(atoll_shared_new((size_t)1 << 60) == NULL);
    CHECK_UINT(atoll_shared_count().blocks, before.blocks);
}

enum { THREADS = 4, ROUNDS = 2000 };

static void *use(void *raw) {
    atoll_shared *block = raw;
    for (int i = 0; i < ROUNDS; i++) {
        atoll_message msg = {0};
        atoll_shared_retain(block);
        (void)atoll_message_attach(&msg, &atoll_shared_class, block);
        atoll_message_clear(&msg);
        atoll_shared *own = atoll_shared_new((size_t)(i % 3) * ATOLL_SHARED_PAGES);
        atoll_shared_release(own);
    }
    atoll_shared_release(block);
    return NULL;
}

TEST(shared_blocks_are_freed_once_by_whichever_thread_is_last) {
    uint64_t before = atoll_shared_count().blocks;
    for (int round = 0; round < 20; round++) {
        atoll_shared *block = atoll_shared_new(100);
        pthread_t threads[THREADS];
        for (int i = 0; i < THREADS; i++) {
            atoll_shared_retain(block);
            CHECK_INT(pthread_create(&threads[i], NULL, use, block), 0);
        }
        atoll_shared_release(block);
        for (int i = 0; i < THREADS; i++) {
            pthread_join(threads[i], NULL);
        }
    }
    CHECK_UINT(atoll_shared_count().blocks, before);
}

TEST(shared_names_lead_to_the_same_memory) {
    char name[64];
    name_for(name, sizeof name, "same");
    atoll_shared *made;
    atoll_shared *found;
    CHECK_INT(atoll_shared_named(name, ATOLL_SHM_FIND, 0, &found), ENOENT);
    CHECK_INT(atoll_shared_named(name, ATOLL_SHM_EITHER, 100, &made), 0);
    CHECK_INT(atoll_shared_named(name, ATOLL_SHM_MAKE, 100, &found), EEXIST);
    CHECK_INT(atoll_shared_named(name, ATOLL_SHM_EITHER, 7, &found), 0);
    CHECK_UINT(found->size, 100);
    CHECK(is_zero(made->data, 100));
    made->data[99] = 7;
    CHECK_INT(found->data[99], 7);
    CHECK(strcmp(atoll_shared_name(found), name) == 0);
    atoll_shared_release(made);
    CHECK_INT(found->data[99], 7);
    CHECK_INT(atoll_shared_named(name, ATOLL_SHM_FIND, 0, &made), 0); /* as long as the process has it */
    CHECK(made == found);
    atoll_shared_release(made);
    atoll_shared_release(found); /* and with it the name */
    CHECK_INT(atoll_shared_named(name, ATOLL_SHM_FIND, 0, &made), ENOENT);
}

enum { FINDERS = 4, TURNS = 500 };

static void *find_and_let_go(void *raw) {
    for (int i = 0; i < TURNS; i++) {
        atoll_shared *block;
        CHECK_INT(atoll_shared_named(raw, ATOLL_SHM_EITHER, 64, &block), 0);
        atomic_fetch_add((_Atomic(uint8_t) *)block->data, 1);
        atoll_shared_release(block);
    }
    return NULL;
}

TEST(shared_names_are_found_while_others_let_go) {
    char name[64];
    name_for(name, sizeof name, "race");
    atoll_shared_figures before = atoll_shared_count();
    pthread_t threads[FINDERS];
    for (int i = 0; i < FINDERS; i++) {
        CHECK(pthread_create(&threads[i], NULL, find_and_let_go, name) == 0);
    }
    for (int i = 0; i < FINDERS; i++) {
        pthread_join(threads[i], NULL);
    }
    CHECK_UINT(atoll_shared_count().blocks, before.blocks);
    atoll_shared *block;
    CHECK_INT(atoll_shared_named(name, ATOLL_SHM_FIND, 0, &block), ENOENT);
}

TEST(shared_names_of_others_are_left_alone) {
    char name[64];
    name_for(name, sizeof name, "other");
    atoll_shared *first;
    atoll_shared *second;
    atoll_shared *third;
    CHECK_INT(atoll_shared_named(name, ATOLL_SHM_MAKE, 10, &first), 0);
    CHECK_INT(atoll_shared_unlink(first), 0);
    CHECK_INT(atoll_shared_named(name, ATOLL_SHM_MAKE, 10, &second), 0);
    CHECK_INT(atoll_shared_unlink(first), ENOENT);
    atoll_shared_release(first); /* does not remove what has its name now */
    CHECK_INT(atoll_shared_named(name, ATOLL_SHM_FIND, 0, &third), 0);
    CHECK(third == second);
    atoll_shared_release(third);
    CHECK_INT(atoll_shared_named(name, ATOLL_SHM_FIND, 0, &third), 0);
    atoll_shared_release(second);
    atoll_shared_release(third);
    CHECK_INT(atoll_shared_named(name, ATOLL_SHM_FIND, 0, &third), ENOENT);
}

TEST(shared_memory_without_a_size_is_not_taken) {
    char name[64];
    char path[72];
    name_for(name, sizeof name, "empty");
    (void)snprintf(path, sizeof path, "/%s", name);
    int fd = shm_open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    CHECK(fd >= 0);
    atoll_shared *found;
    CHECK_INT(atoll_shared_named(name, ATOLL_SHM_EITHER, 10, &found), ENODATA);
    CHECK_INT(ftruncate(fd, 8192), 0);
    CHECK_INT(atoll_shared_named(name, ATOLL_SHM_EITHER, 10, &found), 0);
    CHECK_UINT(found->size, 8192);
    CHECK_INT(atoll_shared_unlink(found), 0);
    atoll_shared_release(found);
    close(fd);
}

TEST(shared_names_that_do_not_fit_leave_nothing) {
    char name[64];
    name_for(name, sizeof name, "huge");
    atoll_shared *block;
    CHECK(atoll_shared_named(name, ATOLL_SHM_MAKE, (size_t)1 << 62, &block) != 0);
    CHECK_INT(atoll_shared_named(name, ATOLL_SHM_FIND, 0, &block), ENOENT);
    CHECK(atoll_shared_name_is_good("a", 1));
    CHECK(!atoll_shared_name_is_good("", 0));
    CHECK(!atoll_shared_name_is_good("a/b", 3));
    CHECK(!atoll_shared_name_is_good("a\0b", 3));
    CHECK(!atoll_shared_name_is_good("..", 2));
    char longest[256];
    memset(longest, 'x', 255);
    longest[255] = '\0';
    CHECK(!atoll_shared_name_is_good(longest, 255));
    longest[254] = '\0';
    CHECK(atoll_shared_name_is_good(longest, 254));
    CHECK_INT(atoll_shared_named(longest, ATOLL_SHM_MAKE, 1, &block), 0);
    atoll_shared_release(block);
}

/* What memory with a name is reserved by, in the place of the C library's: as long as it is asked to, a signal comes each time, and if that is
 * handled meanwhile nothing is reserved. */
static _Atomic(bool) is_interrupting;
static _Atomic(int) signals;
static _Atomic(int) undone;
static _Atomic(int) full; /* 1: the next reservation finds no room, 2: it is about to */

static void on_signal(int number) {
    (void)number;
    atomic_fetch_add(&signals, 1);
}

int posix_fallocate(int fd, off_t at, off_t size) {
    int before = atomic_load(&signals);
    if (atomic_load(&is_interrupting) && pthread_kill(pthread_self(), SIGUSR2) == 0 &&
        atomic_load(&signals) != before) {
        atomic_fetch_add(&undone, 1);
        atomic_store(&is_interrupting, atomic_load(&undone) < 100);
        return EINTR;
    }
    int is_full = 1;
    if (atomic_compare_exchange_strong(&full, &is_full, 2)) {
        (void)usleep(100 * 1000); /* others look for the name */
        return ENOSPC;
    }
    return fallocate(fd, 0, at, size) == 0 ? 0 : errno;
}

static void *make_what_has_no_room(void *name) {
    atoll_shared *made;
    CHECK_INT(atoll_shared_named(name, ATOLL_SHM_MAKE, 100000, &made), ENOSPC);
    return NULL;
}

TEST(shared_memory_is_not_found_before_all_of_it_is_reserved) {
    char name[64];
    name_for(name, sizeof name, "full");
    atomic_store(&full, 1);
    pthread_t maker;
    CHECK_INT(pthread_create(&maker, NULL, make_what_has_no_room, name), 0);
    while (atomic_load(&full) == 1) {
        (void)usleep(1000);
    }
    atoll_shared *found;
    CHECK_INT(atoll_shared_named(name, ATOLL_SHM_FIND, 0, &found), ENOENT);
    CHECK_INT(pthread_join(maker, NULL), 0);
    CHECK_INT(atoll_shared_named(name, ATOLL_SHM_EITHER, 10, &found), 0); /* makes it anew */
    CHECK_UINT(found->size, 10);
    atoll_shared_release(found);
    atomic_store(&full, 0);
}

TEST(shared_names_are_reserved_whatever_signals_come) {
    const size_t size = (130 << 20) + 1;
    struct sigaction action = {.sa_handler = on_signal};
    struct sigaction before;
    char name[64];
    name_for(name, sizeof name, "signals");
    CHECK(sigaction(SIGUSR2, &action, &before) == 0);
    atomic_store(&is_interrupting, true);
    atoll_shared *made = NULL;
    CHECK_INT(atoll_shared_named(name, ATOLL_SHM_MAKE, size, &made), 0);
    atomic_store(&is_interrupting, false);
    CHECK_INT(atomic_load(&undone), 0);
    CHECK_INT(atomic_load(&signals), 3); /* once for each step: they come in between */
    CHECK(made != NULL && made->size == size);
    atoll_shared_release(made);
    CHECK(sigaction(SIGUSR2, &before, NULL) == 0);
}

TEST(shared_memory_in_a_forked_child) {
    char name[64];
    name_for(name, sizeof name, "fork");
    atoll_shared *plain = atoll_shared_new(100000);
    atoll_shared *named;
    CHECK_INT(atoll_shared_named(name, ATOLL_SHM_MAKE, 100, &named), 0);
    plain->data[5] = 1;
    atoll_shared_fork(ATOLL_FORK_BEFORE);
    pid_t child = fork();
    if (child == 0) {
        atoll_shared_fork(ATOLL_FORK_CHILD);
        int bad = plain->data[5] != 1;
        plain->data[5] = 2;
        named->data[5] = 3;
        atoll_shared_release(plain);
        atoll_shared_release(named); /* the name is the parent's */
        _exit(bad);
    }
    atoll_shared_fork(ATOLL_FORK_PARENT);
    int status;
    CHECK_INT(waitpid(child, &status, 0), child);
    CHECK_INT(status, 0);
    CHECK_INT(plain->data[5], 1);
    CHECK_INT(named->data[5], 3);
    atoll_shared *found;
    CHECK_INT(atoll_shared_named(name, ATOLL_SHM_FIND, 0, &found), 0);
    atoll_shared_release(found);
    atoll_shared_release(named);
    atoll_shared_release(plain);
}
