/* core/pool/inner.c: the threads of libraries while workers work. */
#include "harness.h"
#include "libraries.h"

#include "core/pool/pool.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct {
    void *handle;
    int (*get)(void);
    void (*set)(int count);
    char path[300];
} loaded;

/* The library under another name: what it is called says what it is. */
static bool load(loaded *lib, const char *name, const char *get, const char *set) {
    size_t size = 0;
    uint8_t *bytes = file_read(LIB("lib_numbers"), &size);
    (void)snprintf(lib->path, sizeof lib->path, "%s/%s_%d.so", ATOLL_TEST_LIBS, name, (int)getpid());
    FILE *file = fopen(lib->path, "wb");
    bool written = file != NULL && bytes != NULL && fwrite(bytes, 1, size, file) == size;
    written = file != NULL && fclose(file) == 0 && written;
    free(bytes);
    lib->handle = written ? dlopen(lib->path, RTLD_NOW | RTLD_LOCAL) : NULL;
    if (lib->handle == NULL) {
        return false;
    }
    lib->get = (int (*)(void))(uintptr_t)dlsym(lib->handle, get);
    lib->set = (void (*)(int))(uintptr_t)dlsym(lib->handle, set);
    return lib->get != NULL && lib->set != NULL;
}

static bool load_blas(loaded *lib) {
    return load(lib, "libopenblas", "openblas_get_num_threads", "openblas_set_num_threads");
}

/* Whether nobody else has it open. */
static bool unload(loaded *lib) {
    (void)dlclose(lib->handle);
    void *still = dlopen(lib->path, RTLD_NOW | RTLD_NOLOAD);
    (void)unlink(lib->path);
    return still == NULL;
}

TEST(inner_threads_are_the_smallest_share_and_come_back) {
    loaded lib;
    REQUIRE(load_blas(&lib));
    atoll_inner one;
    atoll_inner other;
    atoll_inner_begin(&one, 4);
    CHECK_INT(lib.get(), 4);
    atoll_inner_begin(&other, 2);
    CHECK_INT(lib.get(), 2);
    atoll_inner_end(&other);
    CHECK_INT(lib.get(), 4);
    atoll_inner_end(&one);
    CHECK_INT(lib.get(), 8);
    CHECK(unload(&lib));
}

TEST(inner_threads_are_never_more_than_there_were) {
    loaded lib;
    REQUIRE(load_blas(&lib));
    lib.set(3);
    atoll_inner inner;
    atoll_inner_begin(&inner, 16);
    CHECK_INT(lib.get(), 3);
    atoll_inner_end(&inner);
    CHECK_INT(lib.get(), 3);
    CHECK(unload(&lib));
}

TEST(inner_threads_of_what_is_loaded_later) {
    loaded lib;
    atoll_inner inner;
    atoll_inner_begin(&inner, 2);
    REQUIRE(load_blas(&lib));
    CHECK_INT(lib.get(), 8);
    atoll_inner_look(&inner);
    CHECK_INT(lib.get(), 2);
    atoll_inner_look(&inner);
    atoll_inner_end(&inner);
    CHECK_INT(lib.get(), 8);
    CHECK(unload(&lib));
}

static void *get_here(void *lib) { return (void *)(intptr_t)((loaded *)lib)->get(); }

TEST(inner_threads_of_one_thread_only) {
    loaded lib;
    REQUIRE(load(&lib, "libgomp", "omp_get_max_threads", "omp_set_num_threads"));
    atoll_inner inner;
    atoll_inner_begin(&inner, 2);
    CHECK_INT(lib.get(), 2);
    pthread_t thread;
    void *there = NULL;
    REQUIRE(pthread_create(&thread, NULL, get_here, &lib) == 0);
    (void)pthread_join(thread, &there);
    CHECK_INT((intptr_t)there, 8);
    atoll_inner_end(&inner);
    CHECK(unload(&lib));
}

TEST(inner_threads_in_a_forked_child) {
    loaded lib;
    REQUIRE(load_blas(&lib));
    atoll_inner inner;
    atoll_inner_begin(&inner, 2);
    atoll_inner_fork(ATOLL_FORK_BEFORE);
    pid_t child = fork();
    if (child == 0) {
        atoll_inner_fork(ATOLL_FORK_CHILD);
        atoll_inner own;
        atoll_inner_begin(&own, 1);
        int during = lib.get();
        atoll_inner_end(&own);
        _exit(during == 1 && lib.get() == 2 ? 0 : 1);
    }
    atoll_inner_fork(ATOLL_FORK_PARENT);
    int status = -1;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK_INT(status, 0);
    atoll_inner_end(&inner);
    CHECK_INT(lib.get(), 8);
    CHECK(unload(&lib));
}
