/* Clones (core/elf/elf.h): written, loaded, started and unloaded.
 *
 * The originals are lib_*.c.  What a test loads it unloads, so that the next finds none of them in the process.
 */
#include "harness.h"
#include "libraries.h"

#include <elf.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A clone that needs what its original needs, from where that is. */
static const atoll_elf_edit plain = {.soname = "lib-clone-plain", .search_path = ATOLL_TEST_LIBS};

static void *open_library(const char *path) {
    char why[400] = "";
    void *handle = atoll_dl_open(path, 0, why, sizeof why);
    if (handle == NULL) {
        test_failed(__FILE__, __LINE__, "%s", why);
    }
    return handle;
}

static bool is_loaded(const char *name) {
    void *handle = atoll_dl_loaded(name);
    if (handle != NULL) {
        atoll_dl_close(handle);
    }
    return handle != NULL;
}

/* Whether the page at an address is mapped from this file. */
static bool is_mapped_from(const void *address, const char *path) {
    char *real = realpath(path, NULL);
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[4400];
    bool found = false;
    while (real != NULL && maps != NULL && fgets(line, sizeof line, maps) != NULL) {
        char *end;
        uintptr_t start = strtoul(line, &end, 16);
        if (*end == '-' && (uintptr_t)address >= start && (uintptr_t)address < strtoul(end + 1, NULL, 16)) {
            const char *name = strchr(line, '/');
            found = name != NULL && strncmp(name, real, strlen(real)) == 0 && name[strlen(real)] == '\n';
            break;
        }
    }
    if (maps != NULL) {
        (void)fclose(maps);
    }
    free(real);
    return found;
}

TEST(clone_has_a_state_of_its_own) {
    loaded_clone c;
    void *original = open_library(LIB("lib_user"));
    bool loaded = clone_load(&c, LIB("lib_user"), &plain);
    if (original != NULL && loaded) {
        const char *log = atoll_dl_symbol(c.handle, "user_log");
        CHECK_STR(log, "");
        CHECK_STR(atoll_dl_symbol(original, "user_log"), "iab");
        CHECK(clone_start(&c));
        CHECK_STR(log, "iab");
        CHECK_STR(atoll_dl_symbol(original, "user_log"), "iab");
        CHECK_INT(*(int *)atoll_dl_symbol(c.handle, "user_argc"),
                  *(int *)atoll_dl_symbol(original, "user_argc"));
        CHECK(*(int *)atoll_dl_symbol(c.handle, "user_argc") >= 1);
        CHECK_INT(call_int(original, "user_count"), 1);
        CHECK_INT(call_int(original, "user_count"), 2);
        CHECK_INT(call_int(c.handle, "user_count"), 1);
        CHECK_INT(call_int(original, "user_thread_count"), 101);
        CHECK_INT(call_int(c.handle, "user_thread_count"), 101);
        CHECK(is_loaded("lib-clone-plain"));
        /* What it needs under an unchanged name is the same library for both. */
        CHECK_INT(call_int(original, "user_leaf"), 1);
        CHECK_INT(call_int(c.handle, "user_leaf"), 2);
        CHECK_INT(call_int(c.handle, "user_provided"), 1);
    }
    CHECK(loaded);
    clone_close(&c);
    CHECK(!is_loaded("lib-clone-plain"));
    if (original != NULL) {
        CHECK_INT(call_int(original, "user_count"), 3);
        atoll_dl_close(original);
    }
    CHECK(!is_loaded(LIB("lib_user")));
}

TEST(clone_shares_the_pages_of_its_original) {
    loaded_clone c;
    bool loaded = clone_load(&c, LIB("lib_user"), &plain);
    CHECK(loaded);
    if (loaded) {
        const unsigned char *table = atoll_dl_symbol(c.handle, "user_table");
        size_t half = (size_t)1024 * 1024; /* of the table: far more than the largest page */
        CHECK(!c.clone.whole);
        CHECK(c.clone.bytes < c.elf.size / 4);
        CHECK(is_mapped_from(table + half, c.path));
        CHECK_UINT(table[half], 0); /* a hole */
        CHECK(clone_start(&c));
        CHECK_UINT(table[0], 11);
        CHECK_UINT(table[half], 22);
        CHECK_UINT(table[2 * half - 1], 33);
        CHECK(is_mapped_from(table + half, LIB("lib_user")));
        CHECK(is_mapped_from(atoll_dl_symbol(c.handle, "user_count"), LIB("lib_user")));
        CHECK(is_mapped_from(atoll_dl_symbol(c.handle, "user_pointer"), c.path)); /* writable */
        /* The headers differ, so they are the clone's. */
        CHECK(is_mapped_from((const void *)c.base, c.path));
        CHECK(*(const char **)atoll_dl_symbol(c.handle, "user_pointer") ==
              atoll_dl_symbol(c.handle, "user_log"));
    }
    clone_close(&c);
}

/* ---- destructors ---- */

static char destroyed[16];

static void on_destructor(char what) {
    size_t n = strlen(destroyed);
    if (n + 1 < sizeof destroyed) {
        destroyed[n] = what;
        destroyed[n + 1] = '\0';
    }
}

static void set_hook(void *handle) {
    void (**hook)(char) = atoll_dl_symbol(handle, "user_hook");
    REQUIRE(hook != NULL);
    *hook = on_destructor;
    memset(destroyed, 0, sizeof destroyed);
}

TEST(clone_runs_destructors_as_its_original_does) {
    loaded_clone c;
    void *original = open_library(LIB("lib_user"));
    REQUIRE(original != NULL);
    set_hook(original);
    atoll_dl_close(original);
    CHECK_STR(destroyed, "baf");
    CHECK(clone_load(&c, LIB("lib_user"), &plain) && clone_start(&c));
    set_hook(c.handle);
    CHECK_STR(destroyed, "");
    clone_close(&c);
    CHECK_STR(destroyed, "baf");
}

TEST(clone_that_was_not_completed_runs_no_code) {
    loaded_clone c;
    CHECK(clone_load(&c, LIB("lib_user"), &plain));
    set_hook(c.handle);
    clone_close(&c); /* would crash in a hole, too */
    CHECK_STR(destroyed, "");
}

/* ---- what it needs ---- */

typedef struct {
    const char *wanted;
    unsigned times;
} visit;

static void on_dependency(const char *path, void *context) {
    visit *v = context;
    v->times += strcmp(path, v->wanted) == 0;
}

static unsigned times_needed(void *handle, const char *path) {
    visit v = {path, 0};
    each_dependency(handle, on_dependency, &v);
    return v.times;
}

TEST(clone_looks_for_renamed_symbols_elsewhere) {
    static const char *const symbols[] = {"absent", "provided", NULL};
    atoll_elf_edit edit = plain;
    loaded_clone c;
    edit.symbols = symbols;
    edit.prefix = "own_";
    edit.provider = LIB("lib_own");
    bool loaded = clone_load(&c, LIB("lib_user"), &edit);
    CHECK(loaded);
    if (loaded && clone_start(&c)) {
        CHECK_UINT(c.clone.renamed, 1);
        CHECK_INT(call_int(c.handle, "user_provided"), 2);
        CHECK_INT(call_int(c.handle, "user_leaf"), 1);
        CHECK_UINT(times_needed(c.handle, LIB("lib_own")), 1);
        CHECK_UINT(times_needed(c.handle, LIB("lib_provider")), 1);
    }
    clone_close(&c);
}

TEST(clone_needs_no_provider_when_nothing_is_renamed) {
    static const char *const symbols[] = {"absent", NULL};
    atoll_elf_edit edit = plain;
    loaded_clone c;
    edit.symbols = symbols;
    edit.prefix = "own_";
    edit.provider = LIB("lib_own");
    CHECK(clone_load(&c, LIB("lib_user"), &edit));
    CHECK_UINT(c.clone.renamed, 0);
    if (c.handle != NULL) {
        CHECK_UINT(times_needed(c.handle, LIB("lib_own")), 0);
    }
    clone_close(&c);
}

/* The name is looked for without its version, and there is none: the dynamic linker must say which. */
TEST(clone_is_refused_when_a_renamed_symbol_is_nowhere) {
    static const char *const symbols[] = {"leaf_next", NULL};
    atoll_elf_edit edit = plain;
    loaded_clone c;
    edit.symbols = symbols;
    edit.prefix = "own_";
    edit.provider = LIB("lib_own");
    CHECK(!clone_load(&c, LIB("lib_user"), &edit));
    CHECK_UINT(c.clone.renamed, 1);
    CHECK(strstr(c.dl_why, "own_leaf_next") != NULL);
    CHECK(strstr(c.dl_why, "version") == NULL);
    clone_close(&c);
    CHECK(!is_loaded(LIB("lib_own")));
}

TEST(clone_needs_other_clones) {
    loaded_clone leaf;
    loaded_clone user;
    atoll_elf_edit leaf_edit = {.soname = "lib-clone-leaf"};
    void *original = open_library(LIB("lib_user"));
    bool loaded = clone_load(&leaf, LIB("lib_leaf"), &leaf_edit) && clone_start(&leaf);
    CHECK(loaded);
    const atoll_elf_rename renames[] = {{"libabsent.so", "/nowhere"}, {"lib_leaf.so", leaf.path}};
    atoll_elf_edit edit = plain;
    edit.needed = renames;
    edit.nneeded = 2;
    loaded = clone_load(&user, LIB("lib_user"), &edit);
    CHECK(loaded);
    if (original != NULL && loaded && clone_start(&user)) {
        CHECK_INT(call_int(original, "user_leaf"), 1);
        CHECK_INT(call_int(original, "user_leaf"), 2);
        CHECK_INT(call_int(user.handle, "user_leaf"), 1);
        CHECK_INT(call_int(leaf.handle, "leaf_next"), 2);
        CHECK_INT(call_int(original, "user_leaf"), 3);
        CHECK_UINT(times_needed(user.handle, leaf.path), 1);
        CHECK_UINT(times_needed(user.handle, LIB("lib_leaf")), 0);
        CHECK_UINT(times_needed(original, LIB("lib_leaf")), 1);
    }
    clone_close(&user);
    clone_close(&leaf);
    if (original != NULL) {
        atoll_dl_close(original);
    }
}

TEST(clone_looks_where_its_search_path_says) {
    atoll_elf_edit edit = {.soname = "lib-clone-elsewhere"};
    loaded_clone c;
    CHECK(!clone_load(&c, LIB("lib_user"), &edit)); /* $ORIGIN is its own directory */
    CHECK(strstr(c.dl_why, "lib_leaf.so") != NULL);
    clone_close(&c);
    edit.search_path = ATOLL_TEST_LIBS;
    CHECK(clone_load(&c, LIB("lib_user"), &edit));
    clone_close(&c);
}

/* ---- other kinds ---- */

TEST(clone_lives_in_memory) {
    loaded_clone c;
    bool loaded = clone_load_in_memory(&c, LIB("lib_user"), &plain);
    CHECK(loaded);
    if (loaded && clone_start(&c)) {
        CHECK(strncmp(c.path, "/proc/", 6) == 0);
        CHECK_INT(call_int(c.handle, "user_count"), 1);
        CHECK_STR(atoll_dl_symbol(c.handle, "user_log"), "iab");
    }
    clone_close(&c);
}

TEST(clone_can_be_whole) {
    atoll_elf_edit edit = plain;
    atoll_elf_error why;
    atoll_elf again;
    loaded_clone c;
    edit.whole = true;
    bool loaded = clone_load(&c, LIB("lib_user"), &edit);
    CHECK(loaded);
    if (loaded) {
        CHECK(c.clone.whole);
        CHECK(c.clone.bytes > c.elf.size);
        CHECK_STR(atoll_dl_symbol(c.handle, "user_log"), ""); /* nothing has run */
        CHECK(clone_start(&c));
        CHECK_STR(atoll_dl_symbol(c.handle, "user_log"), "iab");
        CHECK(is_mapped_from(atoll_dl_symbol(c.handle, "user_count"), c.path));
        CHECK_INT(call_int(c.handle, "user_count"), 1);
        set_hook(c.handle);
    }
    if (loaded && atoll_elf_open(&again, c.path, &why) == 0) {
        CHECK_STR(again.soname, "lib-clone-plain");
        CHECK_STR(again.runpath, ATOLL_TEST_LIBS);
        CHECK_UINT(again.nneeded, c.elf.nneeded);
        CHECK(atoll_elf_defines(&again, "user_count"));
        atoll_elf_close(&again);
    } else {
        CHECK(!"a whole clone can be opened again");
    }
    clone_close(&c);
    CHECK_STR(destroyed, "baf");
}

TEST(clone_is_whole_when_code_runs_during_relocation) {
    static const atoll_elf_edit edit = {.soname = "lib-clone-ifunc"};
    loaded_clone c;
    bool loaded = clone_load(&c, LIB("lib_ifunc"), &edit);
    CHECK(loaded);
    if (loaded) {
        CHECK(c.elf.needs_whole);
        CHECK(c.clone.whole);
        CHECK(clone_start(&c));
        CHECK_INT(call_int(c.handle, "chosen"), 7);
    }
    clone_close(&c);
}

TEST(clone_has_unique_symbols_of_its_own) {
    static const atoll_elf_edit edit = {.soname = "lib-clone-unique"};
    loaded_clone c;
    void *original = open_library(LIB("lib_unique"));
    bool loaded = clone_load(&c, LIB("lib_unique"), &edit);
    CHECK(loaded);
    if (original != NULL && loaded && clone_start(&c)) {
        CHECK_INT(call_int(original, "unique_next"), 1);
        CHECK_INT(call_int(original, "unique_next"), 2);
        CHECK_INT(call_int(c.handle, "unique_next"), 1);
    }
    clone_close(&c);
    CHECK(!is_loaded("lib-clone-unique")); /* unique symbols pin a library */
    if (original != NULL) {
        atoll_dl_close(original);
    }
}

TEST(clone_many_at_once) {
    enum { MANY = 16 };
    loaded_clone clones[MANY];
    char names[MANY][32];
    for (int i = 0; i < MANY; i++) {
        atoll_elf_edit edit = plain;
        (void)snprintf(names[i], sizeof names[i], "lib-clone-%d", i);
        edit.soname = names[i];
        CHECK(clone_load(&clones[i], LIB("lib_user"), &edit) && clone_start(&clones[i]));
        for (int k = 0; k <= i && clones[i].handle != NULL; k++) {
            CHECK_INT(call_int(clones[k].handle, "user_count"), i - k + 1);
        }
    }
    for (int i = 0; i < MANY; i++) {
        clone_close(&clones[i]);
    }
}

static void *clone_repeatedly(void *arg) {
    atoll_elf_edit edit = plain;
    edit.soname = arg;
    for (int i = 0; i < 20; i++) {
        loaded_clone c;
        bool loaded = clone_load(&c, LIB("lib_user"), &edit) && clone_start(&c);
        CHECK(loaded);
        CHECK(loaded && call_int(c.handle, "user_count") == 1);
        clone_close(&c);
    }
    return NULL;
}

TEST(clone_from_several_threads) {
    enum { THREADS = 4 };
    static char names[THREADS][16] = {"lib-thread-a", "lib-thread-b", "lib-thread-c", "lib-thread-d"};
    pthread_t threads[THREADS];
    int started = 0;
    while (started < THREADS &&
           pthread_create(&threads[started], NULL, clone_repeatedly, names[started]) == 0) {
        started++;
    }
    CHECK_INT(started, THREADS);
    for (int i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
}

/* ---- what fails ---- */

/* The original of `c` at path is changed by `change`: nothing may be shared then. */
static void check_not_shared(void (*change)(const char *path), const char *text) {
    atoll_scratch scratch;
    loaded_clone c;
    size_t size;
    uint8_t *bytes = file_read(LIB("lib_user"), &size);
    REQUIRE(bytes != NULL && atoll_scratch_open(&scratch, 0) == 0);
    char *original = file_make(&scratch, "lib_original.so", bytes, size);
    if (original != NULL && clone_load(&c, original, &plain)) {
        set_hook(c.handle);
        change(original);
        CHECK_INT(atoll_elf_share(&c.elf, c.base, &c.clone, &c.why), -1);
        CHECK(strstr(c.why.text, text) != NULL);
        clone_close(&c);
        CHECK_STR(destroyed, "");
    } else {
        CHECK(!"a copy of a library can be cloned");
    }
    free(original);
    free(bytes);
    atoll_scratch_close(&scratch);
}

static void remove_it(const char *path) { CHECK_INT(unlink(path), 0); }

static void touch_it(const char *path) {
    const struct timespec times[2] = {{1, 0}, {1, 0}};
    CHECK_INT(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void replace_it(const char *path) {
    char other[4096];
    (void)snprintf(other, sizeof other, "%s.new", path);
    int fd = open(other, O_WRONLY | O_CREAT, 0600);
    CHECK(fd >= 0 && atoll_file_write(fd, "new", 3, 0) == 0);
    (void)close(fd);
    CHECK_INT(rename(other, path), 0);
}

TEST(clone_is_not_completed_from_another_file) {
    check_not_shared(remove_it, "opened again");
    check_not_shared(touch_it, "replaced or changed");
    check_not_shared(replace_it, "replaced or changed");
}

TEST(clone_that_cannot_be_written_says_why) {
    atoll_elf elf;
    atoll_elf_clone clone;
    atoll_elf_error why;
    REQUIRE(atoll_elf_open(&elf, LIB("lib_user"), &why) == 0);
    int fd = open(LIB("lib_user"), O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_INT(atoll_elf_write_clone(&elf, fd, &plain, &clone, &why), -1);
    CHECK(strstr(why.text, "cannot be written") != NULL);
    CHECK(clone.dirty == NULL);
    (void)close(fd);
    atoll_elf_close(&elf);
}

/* ---- for debuggers ---- */

/* The section of this type and, unless 0, these flags in a file; NULL: none. */
static const Elf64_Shdr *find_section(const uint8_t *bytes, unsigned type, uint64_t flags) {
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)bytes;
    const Elf64_Shdr *sections = (const Elf64_Shdr *)(bytes + header->e_shoff);
    for (unsigned i = 0; i < header->e_shnum; i++) {
        if (sections[i].sh_type == type && (sections[i].sh_flags & flags) == flags) {
            return &sections[i];
        }
    }
    return NULL;
}

static const Elf64_Phdr *find_segment(const uint8_t *bytes, unsigned type) {
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)bytes;
    const Elf64_Phdr *segments = (const Elf64_Phdr *)(bytes + header->e_phoff);
    for (unsigned i = 0; i < header->e_phnum; i++) {
        if (segments[i].p_type == type) {
            return &segments[i];
        }
    }
    return NULL;
}

static void check_sections(bool whole) {
    atoll_elf_edit edit = plain;
    loaded_clone c;
    size_t size;
    edit.whole = whole;
    CHECK(clone_load(&c, LIB("lib_user"), &edit));
    uint8_t *original = file_read(LIB("lib_user"), &size);
    uint8_t *bytes = file_read(c.path, &size);
    REQUIRE(original != NULL && bytes != NULL);
    CHECK_UINT(((Elf64_Ehdr *)bytes)->e_shnum, ((Elf64_Ehdr *)original)->e_shnum);
    CHECK_UINT(((Elf64_Ehdr *)bytes)->e_phnum, ((Elf64_Ehdr *)original)->e_phnum + 1);
    const Elf64_Shdr *dynamic = find_section(bytes, SHT_DYNAMIC, 0);
    const Elf64_Phdr *segment = find_segment(bytes, PT_DYNAMIC);
    REQUIRE(dynamic != NULL && segment != NULL);
    CHECK_UINT(dynamic->sh_addr, segment->p_vaddr);
    CHECK_UINT(dynamic->sh_offset, segment->p_offset);
    CHECK(find_section(original, SHT_NOBITS, SHF_EXECINSTR) == NULL);
    CHECK(find_section(original, SHT_PROGBITS, SHF_EXECINSTR) != NULL);
    CHECK((find_section(bytes, SHT_NOBITS, SHF_EXECINSTR) == NULL) == whole);
    CHECK((find_section(bytes, SHT_PROGBITS, SHF_EXECINSTR) != NULL) == whole);
    const Elf64_Shdr *symbols = find_section(bytes, SHT_SYMTAB, 0);
    const Elf64_Shdr *same = find_section(original, SHT_SYMTAB, 0);
    REQUIRE(symbols != NULL && same != NULL);
    CHECK(memcmp(bytes + symbols->sh_offset, original + same->sh_offset, same->sh_size) == 0);
    free(original);
    free(bytes);
    clone_close(&c);
}

TEST(clone_has_sections_for_debuggers) {
    check_sections(false);
    check_sections(true);
}
