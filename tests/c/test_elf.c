/* Reading shared objects (core/elf/elf.h): good ones, and files that lie.
 *
 * The lying ones are lib_user with some bytes changed.
 */
#include "harness.h"
#include "libraries.h"

#include "core/elf/internal.h"

#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TEST(elf_reads_a_library) {
    atoll_elf elf;
    atoll_elf_error why;
    REQUIRE(atoll_elf_open(&elf, LIB("lib_user"), &why) == 0);
    CHECK_STR(elf.path, LIB("lib_user"));
    CHECK_STR(elf.soname, "lib_user.so");
    CHECK_STR(elf.runpath, "$ORIGIN");
    CHECK(elf.rpath == NULL);
    CHECK(elf.nneeded >= 3);
    CHECK_STR(elf.needed[0], "lib_leaf.so");
    CHECK_STR(elf.needed[1], "lib_provider.so");
    CHECK(!elf.needs_whole && !elf.imports_python);
    CHECK(atoll_elf_imports(&elf, "provided"));
    CHECK(!atoll_elf_imports(&elf, "provide"));
    CHECK(!atoll_elf_imports(&elf, "user_count"));
    CHECK(!atoll_elf_imports(&elf, ""));
    CHECK(atoll_elf_defines(&elf, "user_count"));
    CHECK(atoll_elf_defines(&elf, "user_table"));
    CHECK(!atoll_elf_defines(&elf, "provided"));
    CHECK(!atoll_elf_defines(&elf, "count")); /* static */
    const char *any = atoll_elf_any_export(&elf);
    CHECK(any != NULL && atoll_elf_defines(&elf, any));
    atoll_elf_close(&elf);
    CHECK(elf.bytes == NULL && elf.path == NULL);
    atoll_elf_close(&elf); /* nothing */
}

TEST(elf_reads_the_system_library) {
    atoll_elf elf;
    atoll_elf_error why;
    char *path = atoll_dl_find("libc.so.6", NULL, NULL);
    REQUIRE(path != NULL);
    CHECK_INT(atoll_elf_open(&elf, path, &why), 0);
    CHECK_STR(why.text, "");
    free(path);
    REQUIRE(elf.bytes != NULL);
    CHECK_STR(elf.soname, "libc.so.6");
    CHECK(atoll_elf_defines(&elf, "malloc") && atoll_elf_defines(&elf, "environ"));
    CHECK(!elf.imports_python);
    CHECK(atoll_elf_any_export(&elf) != NULL);
    atoll_elf_close(&elf);
}

TEST(elf_names_what_is_wrong_with_a_path) {
    atoll_elf elf;
    atoll_elf_error why;
    CHECK_INT(atoll_elf_open(&elf, ATOLL_TEST_LIBS "/absent.so", &why), -1);
    CHECK(strstr(why.text, "cannot be opened") != NULL);
    CHECK_INT(atoll_elf_open(&elf, ATOLL_TEST_LIBS, &why), -1);
    CHECK(strstr(why.text, "directory") != NULL);
    CHECK_INT(atoll_elf_open(&elf, "/dev/null", &why), -1);
    CHECK_STR(why.text, "it is not a regular file");
    CHECK(elf.path == NULL && elf.tables == NULL);
}

/* ---- changed files ---- */

#define EXTRA 65536

static uint8_t *bytes; /* lib_user's; malloc */
static size_t size;

static Elf64_Ehdr *header(void) { return (Elf64_Ehdr *)bytes; }

static bool read_user(void) {
    free(bytes);
    bytes = file_read(LIB("lib_user"), &size);
    return bytes != NULL;
}

/* The n-th program header of a type. */
static Elf64_Phdr *segment(unsigned type, unsigned n) {
    Elf64_Phdr *segments = (Elf64_Phdr *)(bytes + header()->e_phoff);
    for (unsigned i = 0; i < header()->e_phnum; i++) {
        if (segments[i].p_type == type && n-- == 0) {
            return &segments[i];
        }
    }
    test_failed(__FILE__, __LINE__, "there is no segment of type %u", type);
    abort();
}

/* Where the file has what is loaded to an address. */
static uint8_t *at_address(uint64_t addr) {
    for (unsigned n = 0;; n++) {
        const Elf64_Phdr *s = segment(PT_LOAD, n);
        if (addr >= s->p_vaddr && addr - s->p_vaddr < s->p_filesz) {
            return bytes + s->p_offset + (addr - s->p_vaddr);
        }
    }
}

/* The first entry of the dynamic section with a tag; DT_NULL is its end. */
static Elf64_Dyn *entry(Elf64_Sxword tag) {
    Elf64_Dyn *d = (Elf64_Dyn *)(bytes + segment(PT_DYNAMIC, 0)->p_offset);
    while (d->d_tag != tag && d->d_tag != DT_NULL) {
        d++;
    }
    if (d->d_tag != tag) {
        test_failed(__FILE__, __LINE__, "there is no entry with tag %ld in the dynamic section", (long)tag);
        abort();
    }
    return d;
}

static void set_entry(Elf64_Sxword instead_of, Elf64_Sxword tag, uint64_t value) {
    Elf64_Dyn *d = entry(instead_of);
    d->d_tag = tag;
    d->d_un.d_val = value;
}

static uint8_t *table(Elf64_Sxword tag) { return at_address(entry(tag)->d_un.d_ptr); }

/* Opens the bytes as a file; the file is gone when the elf is closed. */
static int open_bytes(atoll_elf *elf, atoll_elf_error *why) {
    atoll_scratch memory = {0};
    int fd;
    char *path = atoll_scratch_file(&memory, "changed", &fd);
    int rc = -1;
    *elf = (atoll_elf){0};
    if (path == NULL || atoll_file_write(fd, bytes, size, 0) != 0) {
        test_failed(__FILE__, __LINE__, "the changed library cannot be written");
    } else {
        rc = atoll_elf_open(elf, path, why);
    }
    if (fd >= 0) {
        atoll_file_close(fd);
    }
    free(path);
    return rc;
}

static void check_refused(int line, const char *text) {
    atoll_elf elf;
    atoll_elf_error why = {.text = ""};
    if (open_bytes(&elf, &why) == 0) {
        test_failed(__FILE__, line, "the library was accepted");
        atoll_elf_close(&elf);
    } else if (strstr(why.text, text) == NULL) {
        test_failed(__FILE__, line, "\"%s\" does not hold \"%s\"", why.text, text);
    }
}

/* With this change to a good library, opening it fails with a text that holds this one. */
#define REFUSED(change, text)                                                                                \
    do {                                                                                                     \
        REQUIRE(read_user());                                                                                \
        change;                                                                                              \
        check_refused(__LINE__, text);                                                                       \
    } while (0)

TEST(elf_refuses_what_is_not_elf) {
    REFUSED(size = 0, "it is empty");
    REFUSED(size = 3, "not an ELF file");
    REFUSED(bytes[1] = 'e', "not an ELF file");
    REFUSED(size = sizeof(Elf64_Ehdr) - 1, "cut off within its ELF header");
    REFUSED(bytes[EI_CLASS] = ELFCLASS32, "not a 64-bit little-endian");
    REFUSED(bytes[EI_DATA] = ELFDATA2MSB, "not a 64-bit little-endian");
    REFUSED(bytes[EI_VERSION] = 9, "ELF version");
    REFUSED(header()->e_version = 2, "ELF version is 2");
    REFUSED(header()->e_type = ET_EXEC, "not a shared object");
    REFUSED(header()->e_machine = EM_S390, "another machine");
}

static void load_nothing(void) {
    Elf64_Phdr *segments = (Elf64_Phdr *)(bytes + header()->e_phoff);
    for (unsigned i = 0; i < header()->e_phnum; i++) {
        segments[i].p_type = segments[i].p_type == PT_LOAD ? PT_NOTE : segments[i].p_type;
    }
}

TEST(elf_refuses_bad_program_headers) {
    REFUSED(header()->e_phentsize = 55, "55 bytes each");
    REFUSED(header()->e_phnum = 0, "0 program headers");
    REFUSED(header()->e_phnum = PN_XNUM, "65535 program headers");
    REFUSED(header()->e_phoff = size - 8, "beyond the end");
    REFUSED(header()->e_phoff = UINT64_MAX - 8, "beyond the end");
    REFUSED(segment(PT_LOAD, 0)->p_filesz = 1 << 20, "larger in the file than in memory");
    REFUSED(size = size / 2, "is the file cut off?");
    REFUSED(segment(PT_LOAD, 1)->p_offset = UINT64_MAX - 0xfff, "beyond the end of the file");
    REFUSED(segment(PT_LOAD, 1)->p_vaddr = UINT64_MAX - 0xfff, "impossible address");
    REFUSED(segment(PT_LOAD, 3)->p_memsz = UINT64_MAX, "impossible address");
    REFUSED(segment(PT_LOAD, 1)->p_align = 0x1001, "impossible alignment");
    REFUSED(segment(PT_LOAD, 1)->p_align = UINT64_C(1) << 40, "impossible alignment");
    REFUSED(segment(PT_LOAD, 1)->p_offset += 8, "cannot be mapped");
    REFUSED(segment(PT_LOAD, 1)->p_vaddr = 0, "overlaps");
    REFUSED(segment(PT_LOAD, 0)->p_memsz = segment(PT_LOAD, 1)->p_vaddr + 1, "overlaps");
    REFUSED(load_nothing(), "no segment to load");
    REFUSED(segment(PT_NOTE, 0)->p_type = PT_DYNAMIC, "two dynamic sections");
    REFUSED(segment(PT_DYNAMIC, 0)->p_type = PT_NOTE, "no dynamic section");
    REFUSED(segment(PT_GNU_RELRO, 0)->p_vaddr = UINT64_C(1) << 40, "is not loaded");
    REFUSED(segment(PT_GNU_RELRO, 0)->p_memsz = UINT64_C(1) << 40, "is not loaded");
    REFUSED(segment(PT_TLS, 0)->p_vaddr = UINT64_C(1) << 40, "are not loaded");
    REFUSED(segment(PT_TLS, 0)->p_type = PT_GNU_PROPERTY;
            segment(PT_GNU_PROPERTY, 0)->p_filesz = 1 << 20, "are not loaded");
}

TEST(elf_refuses_a_bad_dynamic_section) {
    REFUSED(segment(PT_DYNAMIC, 0)->p_vaddr = UINT64_C(1) << 40, "in no segment");
    REFUSED(segment(PT_DYNAMIC, 0)->p_filesz = UINT64_MAX, "in no segment");
    REFUSED(segment(PT_DYNAMIC, 0)->p_filesz = 64, "no end");
    REFUSED(segment(PT_DYNAMIC, 0)->p_filesz = 0, "no end");
    REFUSED(entry(DT_STRTAB)->d_tag = DT_DEBUG, "no table of strings");
    REFUSED(entry(DT_STRSZ)->d_un.d_val = 0, "no table of strings");
    REFUSED(entry(DT_STRSZ)->d_un.d_val = UINT64_MAX, "table of strings");
    REFUSED(entry(DT_STRTAB)->d_un.d_ptr = UINT64_MAX, "table of strings");
    REFUSED(table(DT_STRTAB)[entry(DT_STRSZ)->d_un.d_val - 1] = 'x', "table of strings has no end");
    REFUSED(entry(DT_NEEDED)->d_un.d_val = entry(DT_STRSZ)->d_un.d_val, "outside its table of strings");
    REFUSED(entry(DT_SONAME)->d_un.d_val = UINT64_MAX, "outside its table of strings");
    REFUSED(entry(DT_RUNPATH)->d_un.d_val = UINT32_MAX, "outside its table of strings");
    REFUSED(set_entry(DT_RUNPATH, DT_FILTER, UINT32_MAX), "outside its table of strings");
    REFUSED(set_entry(DT_RUNPATH, DT_AUXILIARY, UINT32_MAX), "outside its table of strings");
    REFUSED(entry(DT_INIT_ARRAY)->d_un.d_ptr = UINT64_C(1) << 40, "list of constructors");
    REFUSED(entry(DT_INIT_ARRAY)->d_un.d_ptr += 1, "list of constructors");
    REFUSED(entry(DT_INIT_ARRAYSZ)->d_un.d_val = 1 << 20, "list of constructors");
    REFUSED(entry(DT_FINI_ARRAYSZ)->d_un.d_val = UINT64_MAX - 7, "list of destructors");
    REFUSED(entry(DT_INIT)->d_un.d_ptr = UINT64_MAX, "DT_INIT or DT_FINI");
    REFUSED(entry(DT_FINI)->d_un.d_ptr = UINT64_C(1) << 40, "DT_INIT or DT_FINI");
    REFUSED(entry(DT_RUNPATH)->d_tag = DT_FLAGS_1;
            entry(DT_FLAGS_1)->d_un.d_val = DF_1_PIE, "it is a program");
}

TEST(elf_refuses_bad_tables) {
    REFUSED(entry(DT_SYMTAB)->d_tag = DT_DEBUG, "no table of symbols");
    REFUSED(entry(DT_SYMTAB)->d_un.d_ptr = UINT64_C(1) << 40, "table of symbols");
    REFUSED(entry(DT_SYMENT)->d_un.d_val = 16, "16 bytes each");
    REFUSED(((Elf64_Sym *)table(DT_SYMTAB))[2].st_name = UINT32_MAX, "name of its symbol 2");
    REFUSED(entry(DT_VERSYM)->d_un.d_ptr = UINT64_MAX - 1, "table of symbol versions");
    REFUSED(entry(DT_HASH)->d_un.d_ptr = UINT64_MAX - 7, "hash table");
    REFUSED(((uint32_t *)table(DT_HASH))[0] = UINT32_MAX, "hash table");
    REFUSED(((uint32_t *)table(DT_HASH))[1] = UINT32_MAX, "hash table");
    REFUSED(entry(DT_GNU_HASH)->d_un.d_ptr = UINT64_MAX - 15, "GNU hash table");
    REFUSED(((uint32_t *)table(DT_GNU_HASH))[0] = UINT32_MAX, "GNU hash table");
    REFUSED(((uint32_t *)table(DT_GNU_HASH))[2] = UINT32_MAX, "GNU hash table");
    REFUSED(((uint32_t *)table(DT_GNU_HASH))[1] = UINT32_MAX, "GNU hash table is damaged");
    REFUSED(((uint32_t *)table(DT_GNU_HASH))[4 + 2 * ((uint32_t *)table(DT_GNU_HASH))[2]] = UINT32_MAX,
            "has no end");
    REFUSED(entry(DT_RELAENT)->d_un.d_val = 16, "relocations (DT_RELA) have 16 bytes each");
    REFUSED(entry(DT_RELASZ)->d_un.d_val = UINT64_C(1) << 60, "relocations (DT_RELA)");
    REFUSED(entry(DT_JMPREL)->d_un.d_ptr = UINT64_MAX, "relocations (DT_JMPREL)");
    /* A symbol that only a relocation refers to makes the table of symbols longer. */
    REFUSED(((Elf64_Rela *)table(DT_JMPREL))->r_info |= UINT64_C(0xffffff) << 32, "table of symbols");
    REFUSED(entry(DT_VERNEED)->d_un.d_ptr = UINT64_MAX, "version needs");
    REFUSED(((Elf64_Verneed *)table(DT_VERNEED))->vn_next = UINT32_MAX, "version needs");
    REFUSED(((Elf64_Verneed *)table(DT_VERNEED))->vn_aux = UINT32_MAX, "version needs");
    REFUSED(((Elf64_Verneed *)table(DT_VERNEED))->vn_file = UINT32_MAX, "a name in its version needs");
    REFUSED(((Elf64_Vernaux *)(table(DT_VERNEED) + sizeof(Elf64_Verneed)))->vna_name = UINT32_MAX,
            "a name in its version needs");
    REFUSED(((Elf64_Half *)table(DT_VERSYM))[2] = 0x7fff, "its symbol 2 has a version");
    REFUSED(entry(DT_VERNEED)->d_tag = DT_DEBUG, "has a version that is not there");
    /* What a clone has changed must be nothing else. */
    REFUSED(set_entry(DT_RUNPATH, DT_RELR, entry(DT_VERSYM)->d_un.d_ptr);
            set_entry(DT_RELACOUNT, DT_RELRSZ, 8), "overlap");
    REFUSED(set_entry(DT_RUNPATH, DT_RELR, 0); set_entry(DT_RELACOUNT, DT_RELRSZ, 8), "overlap");
}

/* The first address behind all segments. */
static uint64_t top(void) { return segment(PT_LOAD, 3)->p_vaddr + segment(PT_LOAD, 3)->p_memsz; }

/* One more segment, of EXTRA bytes, at an address behind all others; it takes the place of a header that only
 * debuggers read. */
static void add_segment(uint64_t addr) {
    uint64_t page = 65536; /* a multiple of any machine's */
    uint64_t offset = (size + page - 1) / page * page + addr % page;
    uint8_t *larger = realloc(bytes, offset + EXTRA);
    if (larger == NULL) {
        abort();
    }
    memset(larger + size, 0, offset + EXTRA - size);
    bytes = larger;
    size = offset + EXTRA;
    *segment(PT_GNU_EH_FRAME, 0) = (Elf64_Phdr){
        .p_type = PT_LOAD,
        .p_flags = PF_R,
        .p_offset = offset,
        .p_vaddr = addr,
        .p_filesz = EXTRA,
        .p_memsz = EXTRA,
        .p_align = 4096,
    };
}

/* Records that all have the same list of their own make few bytes a long way. */
static void add_versions(unsigned records, unsigned versions) {
    uint64_t addr = (top() + 65535) / 65536 * 65536;
    add_segment(addr);
    entry(DT_VERNEED)->d_un.d_ptr = addr;
    uint8_t *list = at_address(addr);
    unsigned both = records + versions;
    for (unsigned i = 0; i < both; i++) {
        Elf64_Verneed record = {.vn_version = 1, .vn_cnt = 1, .vn_next = i + 1 < records ? sizeof record : 0};
        Elf64_Vernaux version = {.vna_other = 9, .vna_next = i + 1 < both ? sizeof version : 0};
        record.vn_aux = (records - i) * sizeof record;
        memcpy(list + i * sizeof record, i < records ? (void *)&record : (void *)&version, sizeof record);
    }
}

TEST(elf_refuses_endless_versions) {
    atoll_elf elf;
    atoll_elf_error why = {.text = ""};
    REFUSED(add_versions(1000, 1000), "version needs have no end");
    REQUIRE(read_user());
    add_versions(100, 100);
    CHECK_INT(open_bytes(&elf, &why), 0);
    CHECK_STR(why.text, "");
    atoll_elf_close(&elf);
}

/* ---- what is read from the bytes ---- */

/* With this change, opening works and this holds. */
#define ACCEPTED(change, condition)                                                                          \
    do {                                                                                                     \
        atoll_elf elf;                                                                                       \
        atoll_elf_error why = {.text = ""};                                                                  \
        REQUIRE(read_user());                                                                                \
        change;                                                                                              \
        if (open_bytes(&elf, &why) == 0) {                                                                   \
            CHECK(condition);                                                                                \
            atoll_elf_close(&elf);                                                                           \
        } else {                                                                                             \
            test_failed(__FILE__, __LINE__, "%s", why.text);                                                 \
        }                                                                                                    \
    } while (0)

/* Another name, of the same length, for what lib_user calls leaf_next. */
static void rename_import(const char *name) {
    char *strings = (char *)table(DT_STRTAB);
    for (size_t i = 0; i < entry(DT_STRSZ)->d_un.d_val; i += strlen(strings + i) + 1) {
        if (strcmp(strings + i, "leaf_next") == 0) {
            memcpy(strings + i, name, strlen("leaf_next"));
            return;
        }
    }
    test_failed(__FILE__, __LINE__, "the name leaf_next is not in the table of strings");
}

TEST(elf_knows_names_of_python) {
    ACCEPTED(rename_import("PyLong_xy"), elf.imports_python && atoll_elf_imports(&elf, "PyLong_xy"));
    ACCEPTED(rename_import("_Py_Think"), elf.imports_python);
    ACCEPTED(rename_import("PyInit_ab"), !elf.imports_python && atoll_elf_imports(&elf, "PyInit_ab"));
    ACCEPTED(rename_import("PyInitU_a"), !elf.imports_python);
    ACCEPTED(rename_import("PyModExpo"), elf.imports_python);
    ACCEPTED(rename_import("py_long_x"), !elf.imports_python);
}

TEST(elf_reads_flags) {
    ACCEPTED(set_entry(DT_RELACOUNT, DT_FLAGS, DF_STATIC_TLS), !elf.needs_whole);
    ACCEPTED(set_entry(DT_RELACOUNT, DT_FLAGS, DF_TEXTREL), elf.needs_whole);
    ACCEPTED(set_entry(DT_RELACOUNT, DT_TEXTREL, 0), elf.needs_whole);
    ACCEPTED(entry(DT_RUNPATH)->d_tag = DT_RPATH,
             elf.runpath == NULL && elf.rpath != NULL && strcmp(elf.rpath, "$ORIGIN") == 0);
    ACCEPTED(entry(DT_SONAME)->d_tag = DT_DEBUG, elf.soname == NULL);
}

/* Two segments in one page cannot be shared one without the other. */
TEST(elf_is_needed_whole_when_segments_share_a_page) {
    ACCEPTED(add_segment((top() + 65535) / 65536 * 65536), !elf.needs_whole);
    ACCEPTED(add_segment((top() + 15) / 16 * 16), elf.needs_whole);
}

/* Segments without bytes may have any offset, which nothing must be read from. */
TEST(elf_reads_nothing_from_an_empty_segment) {
    REQUIRE(read_user());
    Elf64_Phdr *s = segment(PT_GNU_EH_FRAME, 0);
    *s = (Elf64_Phdr){.p_type = PT_LOAD, .p_offset = UINT64_MAX - 4095, .p_vaddr = UINT64_C(1) << 40};
    segment(PT_DYNAMIC, 0)->p_vaddr = s->p_vaddr;
    segment(PT_DYNAMIC, 0)->p_filesz = 0;
    check_refused(__LINE__, "in no segment");
}

TEST(elf_counts_symbols_by_what_refers_to_them) {
    ACCEPTED(entry(DT_HASH)->d_tag = DT_DEBUG,
             atoll_elf_defines(&elf, "user_count") && atoll_elf_imports(&elf, "provided"));
    ACCEPTED(entry(DT_GNU_HASH)->d_tag = DT_DEBUG,
             atoll_elf_defines(&elf, "user_count") && atoll_elf_imports(&elf, "provided"));
    ACCEPTED(entry(DT_HASH)->d_tag = DT_DEBUG;
             entry(DT_GNU_HASH)->d_tag = DT_DEBUG,
             atoll_elf_imports(&elf, "provided") && atoll_elf_imports(&elf, "leaf_next"));
}

/* ---- anything at all ---- */

/* What opens can be cloned, or it is said why not. */
static void try_to_clone(unsigned *opened, unsigned *written) {
    static const atoll_elf_rename needed[] = {{"lib_leaf.so", "/elsewhere"}};
    static const char *const symbols[] = {"leaf_next", NULL};
    const atoll_elf_edit edit = {
        .soname = "lib-of-lies",
        .search_path = "/nowhere",
        .needed = needed,
        .nneeded = 1,
        .symbols = symbols,
        .prefix = "own_",
        .provider = "/provider",
    };
    atoll_scratch memory = {0};
    atoll_elf elf;
    atoll_elf_error why = {.text = ""};
    atoll_elf_clone clone;
    int fd;
    if (open_bytes(&elf, &why) != 0) {
        CHECK(why.text[0] != '\0');
        return;
    }
    ++*opened;
    char *path = atoll_scratch_file(&memory, "clone", &fd);
    REQUIRE(path != NULL);
    if (atoll_elf_write_clone(&elf, fd, &edit, &clone, &why) == 0) {
        ++*written;
        CHECK(clone.bytes > 0 && why.text[0] == '\0');
        /* Whatever overlaps in the original: what is loaded is the clone's segment, not the original's. */
        Elf64_Ehdr own;
        CHECK(pread(fd, &own, sizeof own, 0) == (ssize_t)sizeof own);
        CHECK(own.e_phoff >= elf.size);
        CHECK(own.e_phnum == elf.tables->header.e_phnum + 1);
    } else {
        CHECK(why.text[0] != '\0');
    }
    free(clone.dirty);
    free(path);
    atoll_file_close(fd);
    atoll_elf_close(&elf);
}

/* Each word of a part of the file, replaced by values that are likely to be trouble. */
static void try_words(uint64_t offset, uint64_t length, unsigned *opened, unsigned *written) {
    static const uint32_t values[] = {0, 1, 7, 0x1000, 0x40000, 0x7fffffff, 0x80000000, 0xffffffff};
    for (uint64_t at = offset; at + 4 <= offset + length; at += 4) {
        uint32_t good;
        memcpy(&good, bytes + at, sizeof good);
        for (unsigned i = 0; i < sizeof values / sizeof *values; i++) {
            memcpy(bytes + at, &values[i], sizeof good);
            try_to_clone(opened, written);
        }
        memcpy(bytes + at, &good, sizeof good);
    }
}

TEST(elf_survives_any_header) {
    unsigned opened = 0;
    unsigned written = 0;
    REQUIRE(read_user());
    try_words(0, sizeof(Elf64_Ehdr), &opened, &written);
    try_words(header()->e_phoff, header()->e_phnum * sizeof(Elf64_Phdr), &opened, &written);
    const Elf64_Phdr *dynamic = segment(PT_DYNAMIC, 0);
    try_words(dynamic->p_offset, dynamic->p_filesz, &opened, &written);
    CHECK(opened > 100);
    CHECK(written > 100);
    free(bytes);
    bytes = NULL;
}

TEST(elf_survives_any_table) {
    static const Elf64_Sxword tables[] = {DT_HASH, DT_GNU_HASH, DT_SYMTAB, DT_VERSYM, DT_VERNEED, DT_RELA};
    unsigned opened = 0;
    unsigned written = 0;
    REQUIRE(read_user());
    for (unsigned i = 0; i < sizeof tables / sizeof *tables; i++) {
        try_words((uint64_t)(table(tables[i]) - bytes), 160, &opened, &written);
    }
    try_words(header()->e_shoff, 8 * sizeof(Elf64_Shdr), &opened, &written);
    CHECK(opened > 100);
    CHECK(written > 100);
    free(bytes);
    bytes = NULL;
}
