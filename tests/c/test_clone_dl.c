/* The dynamic linker of port.h: loading, and what it would find. */
#include "harness.h"
#include "libraries.h"

#include "core/clone/clones.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

TEST(dl_opens_and_closes) {
    char why[400] = "";
    CHECK(atoll_dl_loaded(LIB("lib_leaf")) == NULL);
    void *handle = atoll_dl_open(LIB("lib_leaf"), 0, why, sizeof why);
    REQUIRE(handle != NULL);
    CHECK_STR(why, "");
    CHECK_INT(call_int(handle, "leaf_next"), 1);
    CHECK(atoll_dl_symbol(handle, "leaf_previous") == NULL);
    const char *path;
    CHECK(atoll_dl_base(handle, &path) != 0);
    CHECK_STR(path, LIB("lib_leaf"));
    uintptr_t low = 0;
    uintptr_t high = 0;
    CHECK(atoll_dl_extent(handle, &low, &high));
    uintptr_t function = (uintptr_t)atoll_dl_symbol(handle, "leaf_next");
    CHECK(low <= function && function < high);
    void *again = atoll_dl_loaded("lib_leaf.so"); /* its SONAME */
    CHECK(again == handle);
    if (again != NULL) {
        atoll_dl_close(again);
    }
    atoll_dl_close(handle);
    CHECK(atoll_dl_loaded(LIB("lib_leaf")) == NULL);
}

TEST(dl_says_why_not) {
    char why[400] = "";
    CHECK(atoll_dl_open(ATOLL_TEST_LIBS "/absent.so", 0, why, sizeof why) == NULL);
    CHECK(strstr(why, "absent.so") != NULL);
    char little[8] = "";
    CHECK(atoll_dl_open(ATOLL_TEST_LIBS "/absent.so", 0, little, sizeof little) == NULL);
    CHECK_UINT(strlen(little), sizeof little - 1);
}

TEST(dl_base_of_the_program) {
    void *program = dlopen(NULL, RTLD_LAZY);
    REQUIRE(program != NULL);
    const char *path = NULL;
    (void)atoll_dl_base(program, &path);
    CHECK_STR(path, "");
    (void)dlclose(program);
}

/* Whoever looks has the word itself only inverted, so that it is nowhere else.  It reads what lies between variables. */
enum { SOUGHT = 0x1357bdf0 };
__attribute__((no_sanitize("address"))) static const uintptr_t *look_for(const void *start, size_t size,
                                                                         void *inverted) {
    const char *end = (const char *)start + size;
    for (const volatile uintptr_t *word = start; (const char *)(word + 1) <= end; word++) {
        if (*word == ~*(uintptr_t *)inverted) {
            return (const uintptr_t *)word;
        }
    }
    return NULL;
}

static bool wants_none(const char *path, void *context) {
    (void)path;
    (void)context;
    return false;
}

TEST(dl_data_that_was_written) {
    static volatile uintptr_t constants[3] = {1, (uintptr_t)SOUGHT, (uintptr_t)SOUGHT};
    static volatile uintptr_t zeros[2];
    uintptr_t inverted = ~(uintptr_t)SOUGHT;
    CHECK(!atoll_dl_any_data(NULL, look_for, &inverted)); /* as the file has it */
    CHECK_UINT(constants[1], SOUGHT);
    constants[0] = (uintptr_t)SOUGHT;
    CHECK(atoll_dl_any_data(NULL, look_for, &inverted));
    constants[0] = 1;
    CHECK(!atoll_dl_any_data(NULL, look_for, &inverted));
    zeros[1] = (uintptr_t)SOUGHT;
    CHECK(atoll_dl_any_data(NULL, look_for, &inverted));
    CHECK(!atoll_dl_any_data(wants_none, look_for, &inverted));
    zeros[1] = zeros[0];
    CHECK(!atoll_dl_any_data(NULL, look_for, &inverted));
}

TEST(dl_data_of_the_thread) {
    static _Thread_local volatile uintptr_t local;
    uintptr_t inverted = ~(uintptr_t)SOUGHT;
    CHECK(!atoll_dl_any_data(NULL, look_for, &inverted));
    local = (uintptr_t)SOUGHT;
    CHECK(atoll_dl_any_data(NULL, look_for, &inverted));
    CHECK_UINT(local, SOUGHT);
    local = 0;
    CHECK(!atoll_dl_any_data(NULL, look_for, &inverted));
}

enum { GUARD = 1 << 16 };

TEST(dl_data_beside_what_cannot_be_read) {
    static char area[3 * GUARD] __attribute__((aligned(GUARD)));
    volatile uintptr_t *words = (volatile uintptr_t *)(void *)area;
    const size_t places[] = {0, GUARD / sizeof *words - 1, 2 * GUARD / sizeof *words};
    uintptr_t inverted = ~(uintptr_t)SOUGHT;
    REQUIRE(mprotect(area + GUARD, GUARD, PROT_NONE) == 0);
    CHECK(!atoll_data_is_readable(area + GUARD) && !atoll_data_is_readable(area + 2 * GUARD - 1));
    CHECK(atoll_data_is_readable(area + GUARD - 1) && atoll_data_is_readable(area + 2 * GUARD));
    CHECK(!atoll_dl_any_data(NULL, look_for, &inverted));
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        words[places[i]] = (uintptr_t)SOUGHT;
        CHECK(atoll_dl_any_data(NULL, look_for, &inverted));
        words[places[i]] = 0;
    }
    (void)mprotect(area + GUARD, GUARD, PROT_READ | PROT_WRITE);
}

/* It stays for all tests after this one, of which none asks whether this library is loaded. */
TEST(dl_pins_a_library) {
    char why[400] = "";
    void *handle = atoll_dl_open(LIB("lib_ifunc"), ATOLL_DL_PIN, why, sizeof why);
    REQUIRE(handle != NULL);
    int (*function)(void) = (int (*)(void))(uintptr_t)atoll_dl_symbol(handle, "chosen");
    atoll_dl_close(handle);
    handle = atoll_dl_loaded(LIB("lib_ifunc"));
    REQUIRE(handle != NULL && function != NULL);
    CHECK_INT(function(), 7);
    atoll_dl_close(handle);
}

#ifndef ATOLL_TEST_SANITIZED
TEST(dl_binds_deeply) {
    char why[400] = "";
    void *handle = atoll_dl_open(LIB("lib_provider"), ATOLL_DL_DEEPBIND, why, sizeof why);
    CHECK_STR(why, "");
    REQUIRE(handle != NULL);
    CHECK_INT(call_int(handle, "provided"), 1);
    atoll_dl_close(handle);
}
#endif

/* ---- constructors ---- */

static int seen_argc;
static char **seen_argv;
static char **seen_environment;

static void constructor(int argc, char **argv, char **environment) {
    seen_argc = argc;
    seen_argv = argv;
    seen_environment = environment;
}

TEST(dl_constructs_with_the_arguments_of_main) {
    atoll_dl_construct((void (*)(void))constructor);
    CHECK(seen_argc >= 1);
    REQUIRE(seen_argv != NULL && seen_argv[0] != NULL);
    CHECK_STR(seen_argv[0], program_invocation_name);
    CHECK(seen_argv[seen_argc] == NULL);
    CHECK(seen_environment == environ);
}

/* ---- dependencies ---- */

typedef struct {
    char *paths[32];
    int count;
} path_list;

static void add_path(const char *path, void *context) {
    path_list *list = context;
    if (list->count < 32) {
        list->paths[list->count++] = strdup(path);
    }
}

static int times_in(const path_list *list, const char *path) {
    int times = 0;
    for (int i = 0; i < list->count; i++) {
        times += strcmp(list->paths[i], path) == 0;
    }
    return times;
}

static const char *ending_with(const path_list *list, const char *name) {
    for (int i = 0; i < list->count; i++) {
        const char *slash = strrchr(list->paths[i], '/');
        if (strcmp(slash != NULL ? slash + 1 : list->paths[i], name) == 0) {
            return list->paths[i];
        }
    }
    return NULL;
}

static bool same_file(const char *one, const char *other) {
    struct stat a;
    struct stat b;
    return one != NULL && other != NULL && stat(one, &a) == 0 && stat(other, &b) == 0 &&
           a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* What the dynamic linker has loaded for a library is what is found for the names that it needs. */
TEST(dl_finds_what_the_dynamic_linker_loads) {
    char why[400] = "";
    path_list list = {.count = 0};
    void *handle = atoll_dl_open(LIB("lib_user"), 0, why, sizeof why);
    REQUIRE(handle != NULL);
    each_dependency(handle, add_path, &list);
    CHECK(list.count >= 3);
    CHECK_INT(times_in(&list, LIB("lib_leaf")), 1);
    CHECK_INT(times_in(&list, LIB("lib_provider")), 1);
    CHECK_INT(times_in(&list, LIB("lib_user")), 0);
    CHECK_INT(times_in(&list, LIB("lib_own")), 0);
    CHECK(ending_with(&list, "libc.so.6") != NULL);
    for (int i = 0; i < list.count; i++) {
        const char *slash = strrchr(list.paths[i], '/');
        char *found = atoll_dl_find(slash != NULL ? slash + 1 : list.paths[i], NULL, ATOLL_TEST_LIBS);
        if (!same_file(found, list.paths[i])) {
            test_failed(__FILE__, __LINE__, "found %s, loaded is %s", found != NULL ? found : "nothing",
                        list.paths[i]);
        }
        free(found);
        CHECK_INT(times_in(&list, list.paths[i]), 1);
    }
    for (int i = 0; i < list.count; i++) {
        free(list.paths[i]);
    }
    atoll_dl_close(handle);
}

TEST(dl_finds_libraries_of_the_system) {
    static const char *const names[] = {"libc.so.6", "libm.so.6"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        char why[400] = "";
        void *handle = atoll_dl_open(names[i], 0, why, sizeof why);
        REQUIRE(handle != NULL);
        const char *loaded;
        (void)atoll_dl_base(handle, &loaded);
        char *found = atoll_dl_find(names[i], NULL, NULL);
        CHECK(same_file(found, loaded));
        free(found);
        atoll_dl_close(handle);
    }
}

/* ---- where it is looked for ---- */

/* What is found, which must be `expected` or, when that is NULL, nothing. */
static void check_found(int line, const char *name, const char *rpath, const char *runpath,
                        const char *expected) {
    char *found = atoll_dl_find(name, rpath, runpath);
    test_check_str(__FILE__, line, name, found, expected);
    free(found);
}

#define FOUND(name, rpath, runpath, expected) check_found(__LINE__, name, rpath, runpath, expected)

TEST(dl_finds_by_lists_of_directories) {
    FOUND("lib_leaf.so", NULL, NULL, NULL);
    FOUND("lib_leaf.so", "", "", NULL);
    FOUND("lib_leaf.so", ATOLL_TEST_LIBS, NULL, LIB("lib_leaf"));
    FOUND("lib_leaf.so", NULL, ATOLL_TEST_LIBS, LIB("lib_leaf"));
    FOUND("lib_leaf.so", ATOLL_TEST_LIBS, "/nowhere", NULL); /* DT_RPATH does not count beside DT_RUNPATH */
    FOUND("lib_leaf.so", "/nowhere:" ATOLL_TEST_LIBS "/:", NULL, LIB("lib_leaf"));
    FOUND("lib_leaf.so", "$ORIGIN:" ATOLL_TEST_LIBS "/$LIB", NULL, NULL);
    FOUND("lib_leaf.so", "$ORIGIN:" ATOLL_TEST_LIBS, NULL, LIB("lib_leaf"));
    FOUND("lib_absent.so", ATOLL_TEST_LIBS, ATOLL_TEST_LIBS, NULL);
    FOUND(LIB("lib_leaf"), "/nowhere", NULL, LIB("lib_leaf"));
    FOUND(LIB("lib_absent"), ATOLL_TEST_LIBS, NULL, NULL);
    FOUND(ATOLL_TEST_LIBS, NULL, NULL, NULL);
}

/* A dollar that stands for nothing is part of a directory's name. */
TEST(dl_finds_by_a_directory_with_a_dollar) {
    char directory[] = "/tmp/a$b-XXXXXX";
    char path[64];
    REQUIRE(mkdtemp(directory) != NULL);
    (void)snprintf(path, sizeof path, "%s/lib_leaf.so", directory);
    REQUIRE(symlink(LIB("lib_leaf"), path) == 0);
    FOUND("lib_leaf.so", directory, NULL, path);
    FOUND("lib_leaf.so", NULL, directory, path);
    CHECK_INT(unlink(path), 0);
    CHECK_INT(rmdir(directory), 0);
}

/* What is not found because nothing can be opened may be there. */
TEST(dl_says_that_it_could_not_look) {
    struct rlimit before;
    REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK(atoll_dl_find("lib_absent.so", ATOLL_TEST_LIBS, NULL) == NULL && errno == ENOENT);
    REQUIRE(setrlimit(RLIMIT_NOFILE, &(struct rlimit){0, before.rlim_max}) == 0);
    static const char *const names[] = {"lib_leaf.so", LIB("lib_leaf"), "lib_absent.so"};
    for (size_t i = 0; i < 3; i++) {
        CHECK(atoll_dl_find(names[i], ATOLL_TEST_LIBS, NULL) == NULL && errno == EMFILE);
        CHECK(atoll_dl_find(names[i], NULL, ATOLL_TEST_LIBS) == NULL && errno == EMFILE);
    }
    CHECK(atoll_dl_find("lib_absent.so", NULL, NULL) == NULL && errno == EMFILE); /* the system's cache */
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &before), 0);
}

TEST(dl_finds_in_the_current_directory) {
    char before[4096];
    REQUIRE(getcwd(before, sizeof before) != NULL && chdir(ATOLL_TEST_LIBS) == 0);
    FOUND("lib_leaf.so", "/nowhere::/nowhere", NULL, "./lib_leaf.so");
    FOUND("lib_leaf.so", "/nowhere", NULL, NULL);
    FOUND("lib_leaf.so", "", NULL, NULL); /* no list, other than one of an empty part */
    FOUND("lib_leaf.so", NULL, "", NULL);
    CHECK_INT(chdir(before), 0);
}

/* The program of these tests has a DT_RPATH of $ORIGIN/program (tools/ctests). */
TEST(dl_finds_where_the_program_says) {
    atoll_scratch place;
    size_t size;
    uint8_t *bytes = file_read(LIB("lib_leaf"), &size);
    REQUIRE(bytes != NULL && atoll_scratch_open(&place, 0) == 0 && place.directory != NULL);
    char *path = file_make(&place, "lib_program.so", bytes, size);
    REQUIRE(path != NULL);
    char *of_program = realpath(ATOLL_TEST_LIBS "/../program/lib_program.so", NULL);
    REQUIRE(of_program != NULL);
    FOUND("lib_program.so", NULL, NULL, of_program);
    FOUND("lib_program.so", place.directory, NULL, path);
    FOUND("lib_program.so", NULL, place.directory, path); /* no DT_RPATH counts beside DT_RUNPATH */
    char why[400] = "";
    void *handle = atoll_dl_open("lib_program.so", 0, why, sizeof why);
    REQUIRE(handle != NULL);
    const char *loaded;
    (void)atoll_dl_base(handle, &loaded);
    CHECK(same_file(loaded, of_program));
    atoll_dl_close(handle);
    free(of_program);
    free(path);
    free(bytes);
    atoll_scratch_close(&place);
}

/* The same library in three places, and things that only have its name. */
TEST(dl_finds_in_the_order_of_the_dynamic_linker) {
    atoll_scratch places[2];
    size_t size;
    uint8_t *bytes = file_read(LIB("lib_leaf"), &size);
    REQUIRE(bytes != NULL && atoll_scratch_open(&places[0], 0) == 0 &&
            atoll_scratch_open(&places[1], 1) == 0);
    REQUIRE(places[0].directory != NULL && places[1].directory != NULL);
    char *first = file_make(&places[0], "lib_leaf.so", bytes, size);
    char *second = file_make(&places[1], "lib_leaf.so", bytes, size);
    REQUIRE(first != NULL && second != NULL);
    /* Not a library: looked for elsewhere. */
    char list[8192];
    (void)snprintf(list, sizeof list, "%s:%s", places[0].directory, places[1].directory);
    FOUND("lib_leaf.so", list, NULL, first);
    CHECK_INT(truncate(first, 10), 0);
    FOUND("lib_leaf.so", list, NULL, second);
    CHECK_INT(truncate(first, 0), 0);
    FOUND("lib_leaf.so", list, NULL, second);
    CHECK(unlink(first) == 0 && mkdir(first, 0700) == 0);
    FOUND("lib_leaf.so", list, NULL, second);
    CHECK(rmdir(first) == 0 && mkfifo(first, 0600) == 0);
    FOUND("lib_leaf.so", list, NULL, second);
    CHECK_INT(unlink(first), 0);
    bytes[18] ^= 0xff; /* for another machine */
    free(first);
    first = file_make(&places[0], "lib_leaf.so", bytes, size);
    FOUND("lib_leaf.so", list, NULL, second);
    free(first);
    free(second);
    free(bytes);
    atoll_scratch_close(&places[0]);
    atoll_scratch_close(&places[1]);
}

/* A process of its own, that was started with LD_LIBRARY_PATH: a directory, one that does not exist, the current one. */
static void check_library_path(const char *directory) {
    char first[4096], own[4096];
    (void)snprintf(first, sizeof first, "%s/lib_leaf.so", directory);
    (void)snprintf(own, sizeof own, "%s/lib_program.so", directory);
    for (int changed = 0; changed < 2; changed++) {
        FOUND("lib_leaf.so", NULL, NULL, first);
        FOUND("lib_leaf.so", ATOLL_TEST_LIBS, NULL, LIB("lib_leaf")); /* before it */
        FOUND("lib_leaf.so", NULL, ATOLL_TEST_LIBS, first);           /* behind it */
        char *found = atoll_dl_find("lib_program.so", NULL, NULL);    /* the program's own DT_RPATH */
        CHECK(found != NULL && strcmp(found, own) != 0);
        free(found);
        REQUIRE(chdir(ATOLL_TEST_LIBS) == 0);
        FOUND("lib_holder.so", NULL, NULL, "./lib_holder.so");
        /* For the processes that it starts itself: the dynamic linker has read it. */
        (void)setenv("LD_LIBRARY_PATH", ATOLL_TEST_LIBS, 1);
    }
}

TEST(dl_finds_by_the_library_path_of_the_start) {
    const char *directory = getenv("ATOLL_TEST_LIBRARY_PATH");
    if (directory != NULL) {
        check_library_path(directory);
        return;
    }
    atoll_scratch place;
    size_t size;
    uint8_t *bytes = file_read(LIB("lib_leaf"), &size);
    REQUIRE(bytes != NULL && atoll_scratch_open(&place, 0) == 0 && place.directory != NULL);
    char *leaf = file_make(&place, "lib_leaf.so", bytes, size);
    char *program = file_make(&place, "lib_program.so", bytes, size);
    char exe[4096], command[16384];
    ssize_t length = readlink("/proc/self/exe", exe, sizeof exe - 1);
    REQUIRE(leaf != NULL && program != NULL && length > 0);
    exe[length] = '\0';
    (void)snprintf(command, sizeof command,
                   "ATOLL_TEST_LIBRARY_PATH='%s' LD_LIBRARY_PATH='%s;/nowhere::' '%s' "
                   "dl_finds_by_the_library_path_of_the_start >&2",
                   place.directory, place.directory, exe);
    CHECK_INT(system(command), 0); /* NOLINT(bugprone-command-processor,cert-env33-c): the tests' own words */
    free(leaf);
    free(program);
    free(bytes);
    atoll_scratch_close(&place);
}

static _Atomic(int) opened;

static void *opening_thread(void *arg) {
    char why[400];
    void *handle = atoll_dl_open(LIB("lib_leaf"), 0, why, sizeof why);
    atomic_store(&opened, handle != NULL ? 1 : -1);
    if (handle != NULL) {
        atoll_dl_close(handle);
    }
    return arg;
}

/* Two threads fork; when one has done so, others stay outside for the other one. */
TEST(dl_is_left_alone_until_the_last_has_forked) {
    pthread_t thread;
    atoll_dl_fork(ATOLL_FORK_BEFORE);
    atoll_dl_fork(ATOLL_FORK_BEFORE);
    atoll_dl_fork(ATOLL_FORK_PARENT);
    REQUIRE(pthread_create(&thread, NULL, opening_thread, NULL) == 0);
    atoll_sleep(0.05); /* what is wrong shows sooner */
    CHECK_INT(atomic_load(&opened), 0);
    atoll_dl_fork(ATOLL_FORK_PARENT);
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK_INT(atomic_load(&opened), 1);
}

/* By a path that meant it in another directory. */
TEST(dl_knows_the_file_of_what_was_loaded_by_a_relative_path) {
    char why[400];
    atoll_file_id id;
    atoll_file_id expected;
    int here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK_INT(atoll_file_identify(LIB("lib_leaf"), &expected), 0);
    REQUIRE(here >= 0 && chdir(ATOLL_TEST_LIBS) == 0);
    void *handle = atoll_dl_open("./lib_leaf.so", 0, why, sizeof why);
    CHECK_INT(fchdir(here), 0);
    (void)close(here);
    REQUIRE(handle != NULL);
    char *file = atoll_dl_file(handle);
    REQUIRE(file != NULL);
    CHECK(file[0] == '/');
    CHECK_INT(atoll_file_identify(file, &id), 0);
    CHECK(atoll_file_same(&id, &expected));
    char *needed = atoll_clone_find_loaded("lib_leaf.so"); /* by what needs it */
    CHECK_STR(needed != NULL ? needed : "nowhere", file);
    free(needed);
    free(file);
    atoll_dl_close(handle);
    void *program = dlopen(NULL, RTLD_LAZY);
    CHECK(program != NULL && atoll_dl_file(program) == NULL);
}

TEST(clone_names_that_register) {
    const char *name;
    unsigned number = 0;
    for (; (name = atoll_name_registering(number)) != NULL; number++) {
        CHECK_UINT(atoll_name_registers(name), UINT64_C(1) << number);
    }
    CHECK(number > 32); /* as many have a bit each */
    CHECK_UINT(atoll_name_registers("sqlite3_open"), 0);
}
