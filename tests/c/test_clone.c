/* What is cloned for an extension, loading it, and what is left: core/clone/clones.h. */
#include "harness.h"
#include "libraries.h"

#include "core/clone/clones.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- plans ---- */

static int is_initialized(void *owner) { return *(const int *)owner; }

static long processors(void *owner) {
    (void)owner;
    return 12345;
}

static atoll_natives *natives_of_sets[8]; /* by the owner's number */

static int thread_create(void *owner, pthread_t *thread, const pthread_attr_t *attributes,
                         void *(*run)(void *), void *arg) {
    return atoll_natives_thread(natives_of_sets[*(const int *)owner], thread, attributes, run, arg);
}

static const int owners[8] = {0, 1, 2, 3, 4, 5, 6, 7};
static atoll_shim shims[8];

static bool open_set(atoll_clones *set, int owner) {
    shims[owner] = (atoll_shim){
        .owner = (void *)(uintptr_t)&owners[owner],
        .is_initialized = is_initialized,
        .processors = processors,
        .thread_create = thread_create,
        .wait_begins = atoll_natives_wait_begins,
        .wait_ends = atoll_natives_wait_ends,
        .signals_changed = atoll_natives_signals_changed,
    };
    if (atoll_clones_init(set, owner, LIB("lib_shim"), &shims[owner], false) != 0) {
        test_failed(__FILE__, __LINE__, "out of memory");
        return false;
    }
    natives_of_sets[owner] = set->natives;
    return true;
}

static const char *base_name(const char *path) { return strrchr(path, '/') + 1; }

TEST(clones_plan_of_a_module) {
    atoll_clones set;
    REQUIRE(open_set(&set, 1));
    atoll_clone_error why;
    atoll_clone_plan plan;
    CHECK_INT(atoll_clone_plan_make(&plan, &set, LIB("lib_uses_python"), false, &why), 0);
    CHECK_STR(why.text, "");
    CHECK_UINT(plan.count, 2);
    if (plan.count == 2) {
        CHECK_STR(base_name(plan.nodes[0].file), "lib_holder.so");
        CHECK(plan.nodes[0].library);
        CHECK_STR(base_name(plan.nodes[1].file), "lib_uses_python.so");
        CHECK(!plan.nodes[1].library);
        CHECK_STR(plan.nodes[1].elf.needed[0], "lib_holder.so");
        CHECK_INT(plan.nodes[1].children[0], 0);
        CHECK(plan.nodes[1].needed[0] == NULL);
        CHECK_STR(plan.nodes[1].elf.needed[1], "lib_plain.so");
        CHECK(plan.nodes[1].children[1] < 0);
        CHECK_STR(plan.nodes[1].needed[1] != NULL ? base_name(plan.nodes[1].needed[1]) : NULL,
                  "lib_plain.so");
    }
    bool plain_is_pinned = false;
    for (size_t i = 0; i < plan.npinned; i++) {
        plain_is_pinned |= strcmp(base_name(plan.pinned[i].path), "lib_plain.so") == 0;
        CHECK(strcmp(base_name(plan.pinned[i].path), "lib_holder.so") != 0);
    }
    CHECK(plain_is_pinned);
    CHECK(!plan.calls_back);
    atoll_clone_plan_free(&plan);
    CHECK(atoll_clones_unload(&set));
}

/* A library without Python needs no clone; as the module that was asked for it gets one all the same. */
TEST(clones_plan_without_python) {
    atoll_clones set;
    REQUIRE(open_set(&set, 1));
    atoll_clone_error why;
    atoll_clone_plan plan;
    for (int i = 0; i < 2; i++) { /* read, then remembered */
        CHECK_INT(atoll_clone_plan_make(&plan, &set, LIB("lib_user"), true, &why), 1);
        CHECK_UINT(plan.count, 0);
        atoll_clone_plan_free(&plan);
    }
    CHECK_INT(atoll_clone_plan_make(&plan, &set, LIB("lib_user"), false, &why), 0);
    CHECK_UINT(plan.count, 1);
    CHECK(plan.npinned >= 2);
    atoll_clone_plan_free(&plan);
    CHECK_INT(atoll_clone_plan_make(&plan, &set, LIB("lib_holder"), true, &why), 0);
    CHECK_UINT(plan.count, 1);
    atoll_clone_plan_free(&plan);
    CHECK(atoll_clones_unload(&set));
}

TEST(clones_plan_knows_who_calls_back) {
    atoll_clones set;
    atoll_scratch scratch = {.directory = NULL};
    REQUIRE(open_set(&set, 1));
    size_t size;
    uint8_t *bytes = file_read(LIB("lib_leaf"), &size);
    REQUIRE(bytes != NULL && atoll_scratch_open(&scratch, 4711) == 0);
    if (scratch.directory != NULL) {
        char *path = file_make(&scratch, "libglib-2.0.so.0", bytes, size);
        atoll_clone_error why;
        atoll_clone_plan plan;
        for (int i = 0; path != NULL && i < 2; i++) { /* read, then remembered */
            CHECK_INT(atoll_clone_plan_make(&plan, &set, path, true, &why), 1);
            CHECK(plan.calls_back);
            atoll_clone_plan_free(&plan);
        }
        free(path);
    }
    atoll_scratch_close(&scratch);
    free(bytes);
    CHECK(atoll_clones_unload(&set));
}

/* What comes with the package is cloned: below the directory that is imported from, or among a wheel's own libraries. */
TEST(clones_plan_of_a_package) {
    static const struct {
        const char *root;
        size_t count;
    } cases[] = {
        {ATOLL_TEST_LIBS, 3},
        {ATOLL_TEST_LIBS "/../lib", 2},
        {ATOLL_TEST_LIBS "/li", 2},
        {ATOLL_TEST_LIBS "/x", 2},
        {"", 2},
        {NULL, 2},
        {ATOLL_TEST_LIBS, 3}, /* that it needs no clone elsewhere is remembered by now */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        atoll_clones set;
        REQUIRE(open_set(&set, 1));
        set.root = cases[i].root;
        atoll_clone_error why;
        atoll_clone_plan plan;
        CHECK_INT(atoll_clone_plan_make(&plan, &set, LIB("lib_uses_python"), false, &why), 0);
        CHECK_UINT(plan.count, cases[i].count);
        CHECK_STR(base_name(plan.nodes[plan.count - 1].file), "lib_uses_python.so");
        atoll_clone_plan_free(&plan);
        CHECK(atoll_clones_unload(&set));
    }
}

/* That a library was left as it is for the sake of one that is for the process says nothing about who needs it next. */
TEST(clones_plan_of_what_the_process_needs) {
    static const char *const files[][2] = {{"lib_leaf.so", LIB("lib_leaf")},
                                           {"lib_provider.so", LIB("lib_provider")},
                                           {"libopenblas-test.so", LIB("lib_user")},
                                           {"module.so", LIB("lib_user")}};
    char *paths[4] = {NULL};
    atoll_scratch scratch = {.directory = NULL};
    REQUIRE(atoll_scratch_open(&scratch, 4714) == 0 && scratch.directory != NULL);
    for (size_t i = 0; i < 4; i++) {
        size_t size;
        uint8_t *bytes = file_read(files[i][1], &size);
        REQUIRE(bytes != NULL && (paths[i] = file_make(&scratch, files[i][0], bytes, size)) != NULL);
        free(bytes);
    }
    for (int i = 0; i < 2; i++) {
        atoll_clones set;
        atoll_clone_error why;
        atoll_clone_plan plan;
        REQUIRE(open_set(&set, 1));
        set.root = scratch.directory;
        CHECK_INT(atoll_clone_plan_make(&plan, &set, paths[2], true, &why), 1);
        atoll_clone_plan_free(&plan);
        CHECK_INT(atoll_clone_plan_make(&plan, &set, paths[3], false, &why), 0);
        CHECK_UINT(plan.count, 3); /* with both that it needs */
        atoll_clone_plan_free(&plan);
        CHECK(atoll_clones_unload(&set));
    }
    for (size_t i = 0; i < 4; i++) {
        free(paths[i]);
    }
    atoll_scratch_close(&scratch);
}

/* Two libraries that need each other are both cloned when one of them has to be, whichever comes first. */
TEST(clones_of_a_circle) {
    for (int turn = 0; turn < 2; turn++) {
        for (int owner = 1; owner <= 3; owner++) {
            atoll_clones set;
            atoll_clone *clone = NULL;
            atoll_clone_error why;
            REQUIRE(open_set(&set, owner));
            const char *file = turn == 0 ? LIB("lib_circle_b") : LIB("lib_circle_a");
            CHECK_INT(atoll_clones_load_library(&set, file, 0, &clone, &why), 1);
            REQUIRE(clone != NULL);
            CHECK_UINT(set.count, 2);
            CHECK_INT(call_int(clone->handle, "circle_a_next"), 101);
            CHECK_INT(call_int(clone->handle, "circle_a_next"), 202);
            CHECK_INT(call_int(clone->handle, "circle_b_initialized"), owner);
            CHECK(atoll_clones_unload(&set));
        }
    }
}

TEST(clones_plan_fails) {
    atoll_clones set;
    REQUIRE(open_set(&set, 1));
    atoll_clone_error why;
    atoll_clone_plan plan;
    static const char *const files[] = {ATOLL_TEST_LIBS "/absent.so", ATOLL_TEST_LIBS, "/dev/null"};
    for (size_t i = 0; i < 3; i++) {
        CHECK_INT(atoll_clone_plan_make(&plan, &set, files[i], false, &why), -1);
        CHECK(strstr(why.text, files[i]) == why.text);
        CHECK(strlen(why.text) > strlen(files[i]) + 2);
        atoll_clone_plan_free(&plan);
    }
    CHECK(atoll_clones_unload(&set));
}

/* ---- loading ---- */

static int count_entries(const char *directory) {
    DIR *opened = opendir(directory);
    int count = 0;
    while (opened != NULL && readdir(opened) != NULL) {
        count++;
    }
    if (opened == NULL || closedir(opened) != 0) {
        test_failed(__FILE__, __LINE__, "%s cannot be read", directory);
    }
    return count;
}

/* How many mappings have this text in their path. */
static int count_mappings(const char *text) {
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[1024];
    int count = 0;
    while (maps != NULL && fgets(line, sizeof line, maps) != NULL) {
        count += strstr(line, text) != NULL;
    }
    if (maps == NULL || fclose(maps) != 0) {
        test_failed(__FILE__, __LINE__, "/proc/self/maps cannot be read");
    }
    return count;
}

/* Clones are made in a directory of the test's own, or in memory; what is there and open besides the clones is looked
 * at before and after. */
typedef struct {
    char directory[64];
    int entries;
    int descriptors;
} surroundings;

static bool look_around(surroundings *s, bool memory) {
    (void)snprintf(s->directory, sizeof s->directory, "/tmp/atoll-test-XXXXXX");
    if (mkdtemp(s->directory) == NULL) {
        test_failed(__FILE__, __LINE__, "no directory can be made");
        return false;
    }
    (void)setenv("ATOLL_CLONE_DIR", memory ? "memory" : s->directory, 1);
    /* What is loaded for good by the first clone, and descriptors of the C library's. */
    atoll_clones set;
    atoll_clone_error why;
    if (!open_set(&set, 0) || atoll_clones_load(&set, LIB("lib_uses_python"), 0, &why) == NULL) {
        test_failed(__FILE__, __LINE__, "%s", why.text);
        return false;
    }
    CHECK(atoll_clones_unload(&set));
    s->entries = count_entries(s->directory);
    s->descriptors = count_entries("/proc/self/fd");
    return true;
}

static void check_surroundings(const surroundings *s) {
    CHECK_INT(count_entries(s->directory), s->entries);
    CHECK_INT(count_entries("/proc/self/fd"), s->descriptors);
}

static void go_away(const surroundings *s) {
    (void)unsetenv("ATOLL_CLONE_DIR");
    CHECK_INT(rmdir(s->directory), 0);
}

static void check_module(const atoll_clone *clone, int owner, int holder) {
    CHECK_INT(call_int(clone->handle, "module_constructed"), 1);
    CHECK_INT(call_int(clone->handle, "module_holder"), holder);
    CHECK_INT(call_int(clone->handle, "module_initialized"), owner);
    CHECK_INT(call_int(clone->handle, "module_holder_initialized"), owner);
    CHECK_INT(call_int(clone->handle, "module_processors"), 12345);
}

static void check_load(bool memory) {
    surroundings s;
    REQUIRE(look_around(&s, memory));
    atoll_clones sets[2];
    atoll_clone *clones[2];
    atoll_clone_error why;
    int last = -1;
    for (int i = 0; i < 2; i++) {
        REQUIRE(open_set(&sets[i], i + 1));
        clones[i] = atoll_clones_load(&sets[i], LIB("lib_uses_python"), 0, &why);
        CHECK_STR(clones[i] != NULL ? "" : why.text, "");
        REQUIRE(clones[i] != NULL);
        check_module(clones[i], i + 1, 1);
        int next = call_int(clones[i]->handle, "module_plain"); /* counts for all */
        CHECK(last < 0 || next == last + 1);
        last = next;
        CHECK_UINT(sets[i].count, 2);
        CHECK_STR(sets[i].items[0]->name, i == 0 ? "lib_holder.atoll1.so" : "lib_holder.atoll2.so");
        CHECK_STR(clones[i]->name, i == 0 ? "lib_uses_python.atoll1.so" : "lib_uses_python.atoll2.so");
        CHECK_STR(clones[i]->file, LIB("lib_uses_python"));
        CHECK(clones[i]->bytes > 0);
        CHECK_INT(atoll_clones_owner(atoll_dl_symbol(clones[i]->handle, "module_plain")), i + 1);
    }
    for (int i = 0; i < 2; i++) {
        CHECK(atoll_clones_load(&sets[i], LIB("lib_uses_python"), 0, &why) == clones[i]);
        check_module(clones[i], i + 1, 2);
        atoll_clone *library;
        CHECK_INT(atoll_clones_load_library(&sets[i], LIB("lib_holder"), 0, &library, &why), 1);
        CHECK(library == sets[i].items[0]);
        CHECK_INT(atoll_clones_load_library(&sets[i], LIB("lib_plain"), 0, &library, &why), 0);
        CHECK(library == NULL);
        CHECK_INT(atoll_clones_load_library(&sets[i], ATOLL_TEST_LIBS "/absent.so", 0, &library, &why), 0);
        CHECK_UINT(sets[i].count, 2);
    }
    CHECK(count_mappings(".atoll1.so") > 0);
    CHECK(atoll_clones_unload(&sets[0]));
    CHECK_INT(atoll_clones_owner(&s), -1);
    CHECK_INT(count_mappings(".atoll1.so"), 0);
    check_module(clones[1], 2, 3);
    CHECK(atoll_clones_unload(&sets[1]));
    CHECK_INT(count_mappings(".atoll2.so"), 0);
    check_surroundings(&s);
    go_away(&s);
}

TEST(clones_load_and_unload) { check_load(false); }

TEST(clones_load_and_unload_in_memory) { check_load(true); }

/* The same file, and the same content under another name. */
TEST(clones_have_names_of_their_own) {
    atoll_clones set;
    atoll_clone_error why;
    atoll_scratch scratch = {.directory = NULL};
    REQUIRE(open_set(&set, 3));
    size_t size;
    uint8_t *bytes = file_read(LIB("lib_leaf"), &size);
    REQUIRE(bytes != NULL && atoll_scratch_open(&scratch, 4712) == 0);
    char *paths[3] = {NULL};
    static const char *const names[] = {"a.b.so", "a.c.so", ""};
    static const char *const expected[] = {"a.atoll3.so", "a.atoll3-2.so"};
    for (size_t i = 0; scratch.directory != NULL && i < 2; i++) {
        paths[i] = file_make(&scratch, names[i], bytes, size);
        atoll_clone *clone = paths[i] != NULL ? atoll_clones_load(&set, paths[i], 0, &why) : NULL;
        REQUIRE(clone != NULL);
        CHECK_STR(clone->name, expected[i]);
        CHECK_INT(call_int(clone->handle, "leaf_next"), 1);
    }
    CHECK(atoll_clones_unload(&set));
    atoll_scratch_close(&scratch);
    free(paths[0]);
    free(paths[1]);
    free(bytes);
}

/* A name that is longer than a file's may be, with what is added to it. */
TEST(clones_of_a_long_name) {
    atoll_clones set;
    atoll_clone_error why;
    atoll_scratch scratch = {.directory = NULL};
    REQUIRE(open_set(&set, 3));
    size_t size;
    uint8_t *bytes = file_read(LIB("lib_leaf"), &size);
    REQUIRE(bytes != NULL && atoll_scratch_open(&scratch, 4713) == 0);
    char name[251];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    char *path = scratch.directory != NULL ? file_make(&scratch, name, bytes, size) : NULL;
    if (path != NULL) {
        atoll_clone *clone = atoll_clones_load(&set, path, 0, &why);
        CHECK(clone != NULL && strlen(clone->name) < 200);
        CHECK(clone == NULL || call_int(clone->handle, "leaf_next") == 1);
    }
    CHECK(atoll_clones_unload(&set));
    atoll_scratch_close(&scratch);
    free(path);
    free(bytes);
}

static void check_failing_load(bool memory) {
    surroundings s;
    REQUIRE(look_around(&s, memory));
    atoll_clones set;
    atoll_clone_error why;
    REQUIRE(open_set(&set, 4));
    for (int i = 0; i < 5; i++) {
        why.text[0] = '\0';
        CHECK(atoll_clones_load(&set, LIB("lib_undefined"), 0, &why) == NULL);
        CHECK(strstr(why.text, "nowhere_to_be_found") != NULL);
        CHECK(strstr(why.text, LIB("lib_undefined")) != NULL); /* not the clone, which is gone */
        CHECK(strstr(why.text, ".atoll4") == NULL);
        CHECK_UINT(set.count, 0);
        CHECK_INT(count_mappings("lib_undefined"), 0);
        CHECK_INT(count_mappings("lib_holder.atoll4"), 0);
        CHECK_INT(count_entries(s.directory), s.entries);
    }
    /* The set can be used all the same. */
    atoll_clone *clone = atoll_clones_load(&set, LIB("lib_uses_python"), 0, &why);
    REQUIRE(clone != NULL);
    check_module(clone, 4, 1);
    CHECK(atoll_clones_load(&set, LIB("lib_undefined"), 0, &why) == NULL);
    check_module(clone, 4, 2); /* the library that both need is still there */
    CHECK_UINT(set.count, 2);
    CHECK(atoll_clones_unload(&set));
    check_surroundings(&s);
    go_away(&s);
}

TEST(clones_leave_nothing_when_a_load_fails) { check_failing_load(false); }

TEST(clones_leave_nothing_in_memory_when_a_load_fails) { check_failing_load(true); }

/* One of two cannot be completed, because its file has changed meanwhile: of the other one, which could, nothing has run. */
TEST(clones_that_are_not_completed_run_no_destructor) {
    atoll_clones set;
    atoll_clone_error why;
    REQUIRE(open_set(&set, 4));
    (void)setenv("ATOLL_TEST_TOUCH", LIB("lib_unfinished"), 1);
    (void)unsetenv("ATOLL_TEST_DESTROYED");
    CHECK(atoll_clones_load(&set, LIB("lib_unfinished"), 0, &why) == NULL);
    CHECK(strstr(why.text, "replaced or changed") != NULL);
    CHECK(strstr(why.text, LIB("lib_unfinished")) != NULL);
    CHECK_UINT(set.count, 0);
    CHECK_INT(count_mappings("lib_closes.atoll4"), 0);
    CHECK_STR(getenv("ATOLL_TEST_DESTROYED") != NULL ? "a destructor has run" : "", "");
    (void)unsetenv("ATOLL_TEST_TOUCH");
    /* The library that touched it is loaded by now. */
    atoll_clone *clone = atoll_clones_load(&set, LIB("lib_unfinished"), 0, &why);
    REQUIRE(clone != NULL);
    CHECK_INT(call_int(clone->handle, "unfinished_initialized"), 4);
    CHECK(atoll_clones_unload(&set));
    CHECK_STR(getenv("ATOLL_TEST_DESTROYED"), "constructed");
    (void)unsetenv("ATOLL_TEST_DESTROYED");
}

/* Wherever the first segment wants to be, and whoever has that place already. */
TEST(clones_know_where_they_are) {
    atoll_clones sets[2];
    atoll_clone_error why;
    for (int i = 0; i < 2; i++) {
        REQUIRE(open_set(&sets[i], i + 1));
        atoll_clone *clone = atoll_clones_load(&sets[i], LIB("lib_image"), 0, &why);
        CHECK_STR(clone != NULL ? "" : why.text, "");
        REQUIRE(clone != NULL);
        uintptr_t code = (uintptr_t)atoll_dl_symbol(clone->handle, "image_next");
        CHECK(clone->low <= code && code < clone->high);
        CHECK(clone->high - clone->low < (uintptr_t)1 << 24);
        CHECK(atoll_clones_at(&sets[i], (const void *)code) == clone);
        CHECK(atoll_clones_at(&sets[i], NULL) == NULL);
        CHECK(atoll_clones_at(&sets[i], &why) == NULL);
        CHECK(atoll_clones_at(&sets[i], (const void *)(uintptr_t)count_mappings) == NULL);
        CHECK_INT(call_int(clone->handle, "image_next"), 1);
    }
    CHECK(atoll_clones_unload(&sets[0]));
    CHECK(atoll_clones_unload(&sets[1]));
}

TEST(clones_cannot_load_without_a_shim) {
    atoll_clones set;
    atoll_clone_error why;
    shims[5] = (atoll_shim){.owner = NULL};
    REQUIRE(atoll_clones_init(&set, 5, ATOLL_TEST_LIBS "/absent.so", &shims[5], false) == 0);
    CHECK(atoll_clones_load(&set, LIB("lib_uses_python"), 0, &why) == NULL);
    CHECK(strstr(why.text, "absent.so") != NULL);
    CHECK_UINT(set.count, 0);
    CHECK(atoll_clones_unload(&set));
    REQUIRE(atoll_clones_init(&set, 5, LIB("lib_leaf"), &shims[5], false) == 0);
    CHECK(atoll_clones_load(&set, LIB("lib_uses_python"), 0, &why) == NULL);
    CHECK(strstr(why.text, "lib_leaf.so") != NULL);
    CHECK(atoll_clones_load(&set, LIB("lib_uses_python"), 0, &why) ==
          NULL); /* and not at the second attempt */
    CHECK_UINT(set.count, 0);
    CHECK(atoll_clones_unload(&set));
}

/* Clones stay where a thread of theirs does, and are on the list. */
TEST(clones_stay_for_a_thread) {
    static atoll_clones set; /* kept for good, as its clones are */
    atoll_clone_error why;
    int ends[2];
    REQUIRE(open_set(&set, 6));
    REQUIRE(pipe(ends) == 0);
    atoll_clone *clone = atoll_clones_load(&set, LIB("lib_uses_python"), 0, &why);
    REQUIRE(clone != NULL);
    int (*start)(int) = (int (*)(int))(uintptr_t)atoll_dl_symbol(clone->handle, "module_start");
    REQUIRE(start != NULL && start(ends[0]) == 0);
    const atoll_kept_clone *before = atoll_clones_kept();
    CHECK(!atoll_clones_unload(&set));
    check_module(clone, 6, 1);
    const char *const expected[] = {LIB("lib_uses_python"), LIB("lib_holder")};
    const atoll_kept_clone *kept = atoll_clones_kept();
    for (size_t i = 0; i < 2; i++) {
        REQUIRE(kept != NULL && kept != before);
        CHECK_STR(kept->file, expected[i]);
        CHECK(strstr(kept->path, ".atoll6") != NULL);
        CHECK(strstr(kept->why, "threads") != NULL);
        CHECK(kept->bytes > 0);
        kept = kept->next;
    }
    CHECK(kept == before);
    (void)close(ends[1]);
    while (atomic_load(&set.natives->threads) != 0) {
        atoll_yield();
    }
    (void)close(ends[0]);
    check_module(clone, 6, 2);
}
