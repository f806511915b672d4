/* Reading shared objects: see elf.h.
 *
 * Everything that a later step relies on is checked once, in atoll_elf_open(), and kept in the tables as offsets and
 * counts that fit the file.  Structures are copied out, so that none needs to be aligned.  What is not checked is what
 * only the dynamic linker reads: a file that deceives it would do so without Atoll too.
 *
 * The bytes are a mapping of the file.  When somebody writes to the file in place, they change; the copied
 * numbers do not, so that reading stays within the mapping.  When somebody truncates it, reading is SIGBUS, as it is
 * for every program that has the library loaded.
 */
#include "core/elf/internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#if defined(__x86_64__)
#define MACHINE EM_X86_64
#elif defined(__aarch64__)
#define MACHINE EM_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#define MACHINE EM_RISCV
#endif

#define HIGHEST_ADDRESS (UINT64_C(1) << 47)
#define WIDEST_ALIGNMENT (UINT64_C(1) << 30)
#define MOST_SEGMENTS 1024 /* they are searched one after the other, for each address */
#define MOST_DYNAMIC 65536
#define MOST_FUNCTIONS 1000000

/* Whether a segment has this memory, from the file or zeroed. */
static bool in_memory(const struct atoll_elf_tables *tables, uint64_t addr, uint64_t size) {
    for (size_t i = 0; i < tables->header.e_phnum; i++) {
        const Elf64_Phdr *s = &tables->segments[i];
        if (s->p_type == PT_LOAD && addr >= s->p_vaddr && addr - s->p_vaddr < s->p_memsz &&
            size <= s->p_memsz - (addr - s->p_vaddr)) {
            return true;
        }
    }
    return false;
}

/* ---- headers ---- */

static int read_header(atoll_elf *elf, atoll_elf_error *why) {
    Elf64_Ehdr *h = &elf->tables->header;
    if (elf->size < SELFMAG || memcmp(elf->bytes, ELFMAG, SELFMAG) != 0) {
        return atoll_elf_fail(why, "it is not an ELF file");
    }
    if (elf->size < sizeof *h) {
        return atoll_elf_fail(why, "it is cut off within its ELF header (%zu bytes)", elf->size);
    }
    memcpy(h, elf->bytes, sizeof *h);
    if (h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_ident[EI_DATA] != ELFDATA2LSB) {
        return atoll_elf_fail(why, "it is not a 64-bit little-endian ELF file (class %d, data %d)",
                              h->e_ident[EI_CLASS], h->e_ident[EI_DATA]);
    }
    if (h->e_ident[EI_VERSION] != EV_CURRENT || h->e_version != EV_CURRENT) {
        return atoll_elf_fail(why, "its ELF version is %" PRIu32 ", not 1", h->e_version);
    }
    if (h->e_type != ET_DYN) {
        return atoll_elf_fail(why, "it is not a shared object (ELF type %d)", h->e_type);
    }
#ifdef MACHINE
    if (h->e_machine != MACHINE) {
        return atoll_elf_fail(why, "it was built for another machine (ELF machine %d, this one's is %d)",
                              h->e_machine, MACHINE);
    }
#endif
    if (h->e_phentsize != sizeof(Elf64_Phdr)) {
        return atoll_elf_fail(why, "its program headers have %d bytes each, not %zu", h->e_phentsize,
                              sizeof(Elf64_Phdr));
    }
    if (h->e_phnum == 0 || h->e_phnum > MOST_SEGMENTS) {
        return atoll_elf_fail(why, "it has %d program headers", h->e_phnum);
    }
    uint64_t size = h->e_phnum * sizeof(Elf64_Phdr);
    if (h->e_phoff > elf->size || size > elf->size - h->e_phoff) {
        return atoll_elf_fail(why, "its program headers lie beyond the end of the file");
    }
    elf->tables->segments = malloc(size);
    if (elf->tables->segments == NULL) {
        return atoll_elf_no_memory(why);
    }
    memcpy(elf->tables->segments, elf->bytes + h->e_phoff, size);
    return 0;
}

/* One PT_LOAD; `top` is the end of those before it. */
static int check_segment(atoll_elf *elf, unsigned number, const Elf64_Phdr *s, uint64_t top,
                         atoll_elf_error *why) {
    uint64_t page = atoll_page_size();
    if (s->p_filesz > s->p_memsz) {
        return atoll_elf_fail(why, "segment %u is larger in the file than in memory", number);
    }
    if (s->p_filesz > 0 && (s->p_offset > elf->size || s->p_filesz > elf->size - s->p_offset)) {
        return atoll_elf_fail(why, "segment %u lies beyond the end of the file (is the file cut off?)",
                              number);
    }
    if (s->p_vaddr > HIGHEST_ADDRESS || s->p_memsz > HIGHEST_ADDRESS - s->p_vaddr) {
        return atoll_elf_fail(why, "segment %u has the impossible address 0x%" PRIx64 ", size 0x%" PRIx64,
                              number, s->p_vaddr, s->p_memsz);
    }
    if (s->p_align > WIDEST_ALIGNMENT || (s->p_align & (s->p_align - 1)) != 0) {
        return atoll_elf_fail(why, "segment %u has the impossible alignment 0x%" PRIx64, number, s->p_align);
    }
    if (((s->p_vaddr - s->p_offset) & (page - 1)) != 0) {
        return atoll_elf_fail(
            why, "segment %u cannot be mapped: its address and offset differ within a page of %" PRIu64,
            number, page);
    }
    if (s->p_vaddr < top) {
        return atoll_elf_fail(why, "segment %u overlaps the one before it, or they are out of order", number);
    }
    /* Two segments in one page: what is mapped for one would destroy the other. */
    if (top > 0 && (s->p_vaddr & ~(page - 1)) < atoll_elf_align(top, page)) {
        elf->needs_whole = true;
    }
    return 0;
}

/* Whether a PT_GNU_RELRO lies in what is loaded, up to the end of a page: the dynamic linker makes it read-only unseen. */
static bool fits_relro(const struct atoll_elf_tables *t, const Elf64_Phdr *relro) {
    for (unsigned i = 0; i < t->header.e_phnum; i++) {
        const Elf64_Phdr *s = &t->segments[i];
        uint64_t end = atoll_elf_align(s->p_vaddr + s->p_memsz, t->align);
        if (s->p_type == PT_LOAD && s->p_memsz > 0 && relro->p_vaddr >= s->p_vaddr && relro->p_vaddr <= end &&
            relro->p_memsz <= end - relro->p_vaddr) {
            return true;
        }
    }
    return relro->p_memsz == 0;
}

/* The segment that is the dynamic section; NULL, with why, when one of them is bad. */
static const Elf64_Phdr *read_segments(atoll_elf *elf, atoll_elf_error *why) {
    struct atoll_elf_tables *t = elf->tables;
    const Elf64_Phdr *dynamic = NULL;
    t->align = atoll_page_size();
    for (unsigned i = 0; i < t->header.e_phnum; i++) {
        const Elf64_Phdr *s = &t->segments[i];
        if (s->p_type == PT_LOAD && (s->p_memsz > 0 || s->p_filesz > 0)) {
            if (check_segment(elf, i, s, t->top, why) != 0) {
                return NULL;
            }
            t->bottom = t->top == 0 ? s->p_vaddr & ~((uint64_t)atoll_page_size() - 1) : t->bottom;
            t->top = s->p_vaddr + s->p_memsz;
            if ((s->p_flags & PF_X) != 0) {
                t->code = t->code_end == 0 ? s->p_vaddr : t->code;
                t->code_end = t->top;
            }
            t->align = s->p_align > t->align ? s->p_align : t->align;
        } else if (s->p_type == PT_DYNAMIC) {
            if (dynamic != NULL) {
                (void)atoll_elf_fail(why, "it has two dynamic sections");
                return NULL;
            }
            dynamic = s;
        }
    }
    if (t->top == 0) {
        (void)atoll_elf_fail(why, "it has no segment to load");
        return NULL;
    }
    for (unsigned i = 0; i < t->header.e_phnum; i++) {
        const Elf64_Phdr *s = &t->segments[i];
        if (s->p_type == PT_GNU_RELRO && !fits_relro(t, s)) {
            (void)atoll_elf_fail(why, "what is to be read-only after relocation (segment %u) is not loaded",
                                 i);
            return NULL;
        }
        if ((s->p_type == PT_GNU_PROPERTY || s->p_type == PT_TLS) && s->p_filesz > 0 &&
            atoll_elf_offset(t, s->p_vaddr, s->p_filesz) == ATOLL_ELF_NOWHERE) {
            (void)atoll_elf_fail(why, "its properties or thread-local variables (segment %u) are not loaded",
                                 i);
            return NULL;
        }
    }
    if (dynamic == NULL) {
        (void)atoll_elf_fail(why, "it has no dynamic section");
    }
    return dynamic;
}

/* ---- the dynamic section ---- */

static int read_dynamic(atoll_elf *elf, const Elf64_Phdr *s, atoll_elf_error *why) {
    struct atoll_elf_tables *t = elf->tables;
    /* The dynamic linker takes the address, and the offset for true only as far as the file is mapped so. */
    uint64_t offset = atoll_elf_offset(t, s->p_vaddr, s->p_filesz);
    if (offset == ATOLL_ELF_NOWHERE) {
        return atoll_elf_fail(why, "its dynamic section is in no segment that is loaded");
    }
    size_t room = s->p_filesz / sizeof(Elf64_Dyn);
    if (room > MOST_DYNAMIC) {
        return atoll_elf_fail(why, "its dynamic section has %zu entries", room);
    }
    t->dynamic = malloc((room + 1) * sizeof(Elf64_Dyn));
    if (t->dynamic == NULL) {
        return atoll_elf_no_memory(why);
    }
    memcpy(t->dynamic, elf->bytes + offset, room * sizeof(Elf64_Dyn));
    while (t->ndynamic < room && t->dynamic[t->ndynamic].d_tag != DT_NULL) {
        t->ndynamic++;
    }
    if (t->ndynamic == room) {
        return atoll_elf_fail(why, "its dynamic section has no end");
    }
    return 0;
}

static int read_strings(atoll_elf *elf, atoll_elf_error *why) {
    struct atoll_elf_tables *t = elf->tables;
    uint64_t size;
    uint64_t offset;
    if (!atoll_elf_get(t, DT_STRTAB, &t->strings_addr) || !atoll_elf_get(t, DT_STRSZ, &size) || size == 0) {
        return atoll_elf_fail(why, "it has no table of strings (DT_STRTAB, DT_STRSZ)");
    }
    if (atoll_elf_locate(elf, "table of strings", t->strings_addr, size, &offset, why) != 0) {
        return -1;
    }
    t->strings = (const char *)elf->bytes + offset;
    t->nstrings = size;
    if (t->strings[size - 1] != '\0') {
        return atoll_elf_fail(why, "its table of strings has no end");
    }
    return 0;
}

/* Entries whose value is a name.  What lies outside of the strings is a hole in a clone, and would be the name of the program. */
static bool is_name(Elf64_Sxword tag) {
    static const Elf64_Sxword tags[] = {DT_NEEDED,    DT_SONAME, DT_RPATH,    DT_RUNPATH, DT_FILTER,
                                        DT_AUXILIARY, DT_AUDIT,  DT_DEPAUDIT, DT_CONFIG};
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
        if (tags[i] == tag) {
            return true;
        }
    }
    return false;
}

/* Those of libraries that the dynamic linker loads with this one.  Where another one has the functions (filters), its are taken before its
 * own: that is loaded in the same way. */
static bool is_need(Elf64_Sxword tag) { return tag == DT_NEEDED || tag == DT_FILTER || tag == DT_AUXILIARY; }

static int read_names(atoll_elf *elf, atoll_elf_error *why) {
    struct atoll_elf_tables *t = elf->tables;
    size_t count = 0;
    for (size_t i = 0; i < t->ndynamic; i++) {
        count += is_need(t->dynamic[i].d_tag);
    }
    elf->needed = calloc(count + 1, sizeof *elf->needed);
    if (elf->needed == NULL) {
        return atoll_elf_no_memory(why);
    }
    for (size_t i = 0; i < t->ndynamic; i++) {
        const Elf64_Dyn *d = &t->dynamic[i];
        if (!is_name(d->d_tag)) {
            continue;
        }
        if (d->d_un.d_val >= t->nstrings) {
            return atoll_elf_fail(
                why, "a name in its dynamic section (tag %" PRId64 ") lies outside its table of strings",
                (int64_t)d->d_tag);
        }
        const char *text = t->strings + d->d_un.d_val;
        if (is_need(d->d_tag)) {
            elf->needed[elf->nneeded++] = text;
        } else if (d->d_tag == DT_SONAME) {
            elf->soname = text;
        } else if (d->d_tag == DT_RPATH) {
            elf->rpath = text;
        } else if (d->d_tag == DT_RUNPATH) {
            elf->runpath = text;
        }
    }
    return 0;
}

static int read_flags(atoll_elf *elf, atoll_elf_error *why) {
    struct atoll_elf_tables *t = elf->tables;
    uint64_t flags;
    uint64_t value;
    (void)atoll_elf_get(t, DT_FLAGS, &flags);
    if ((flags & DF_TEXTREL) != 0 || atoll_elf_get(t, DT_TEXTREL, &value)) {
        elf->needs_whole = true;
    }
    elf->stays = (flags & DF_STATIC_TLS) != 0;
    (void)atoll_elf_get(t, DT_FLAGS_1, &flags);
    elf->is_for_good = (flags & DF_1_NODELETE) != 0;
    elf->stays |= elf->is_for_good;
    if ((flags & DF_1_PIE) != 0) {
        return atoll_elf_fail(why, "it is a program, not a library");
    }
    return 0;
}

/* An array of functions; count 0 when there is none. */
static int read_functions(atoll_elf *elf, Elf64_Sxword tag, Elf64_Sxword size_tag, uint64_t *array,
                          size_t *count, atoll_elf_error *why) {
    struct atoll_elf_tables *t = elf->tables;
    uint64_t size;
    *count = 0;
    if (!atoll_elf_get(t, tag, array) || !atoll_elf_get(t, size_tag, &size) || size < sizeof(uint64_t)) {
        *array = 0;
        return 0;
    }
    if (*array % sizeof(uint64_t) != 0 || size / sizeof(uint64_t) > MOST_FUNCTIONS ||
        !in_memory(t, *array, size)) {
        return atoll_elf_fail(why, "its list of %s does not lie in a loaded segment",
                              tag == DT_INIT_ARRAY ? "constructors" : "destructors");
    }
    *count = size / sizeof(uint64_t);
    return 0;
}

static int read_constructors(atoll_elf *elf, atoll_elf_error *why) {
    struct atoll_elf_tables *t = elf->tables;
    if (read_functions(elf, DT_INIT_ARRAY, DT_INIT_ARRAYSZ, &t->init_array, &t->init_count, why) != 0 ||
        read_functions(elf, DT_FINI_ARRAY, DT_FINI_ARRAYSZ, &t->fini_array, &t->fini_count, why) != 0) {
        return -1;
    }
    if ((atoll_elf_get(t, DT_INIT, &t->init) && !in_memory(t, t->init, 1)) ||
        (atoll_elf_get(t, DT_FINI, &t->fini) && !in_memory(t, t->fini, 1))) {
        return atoll_elf_fail(why, "its DT_INIT or DT_FINI does not lie in a loaded segment");
    }
    return 0;
}

static bool overlap(const atoll_elf_range *one, const atoll_elf_range *other) {
    return one->offset < other->offset + other->size && other->offset < one->offset + one->size;
}

/* What a clone has changed, the header and some tables, must be nothing else as well: the dynamic linker would read what nobody has
 * checked. */
static int check_tables(const atoll_elf *elf, atoll_elf_error *why) {
    const struct atoll_elf_tables *t = elf->tables;
    const atoll_elf_range changed[] = {
        {0, sizeof(Elf64_Ehdr)},
        {t->symbols, t->nsymbols * sizeof(Elf64_Sym)},
        {t->versions, t->versions != ATOLL_ELF_NOWHERE ? t->nsymbols * sizeof(Elf64_Half) : 0},
        t->needs,
    };
    for (size_t i = 0; i < sizeof changed / sizeof *changed; i++) {
        for (size_t k = 0; changed[i].size > 0 && k < t->ntables; k++) {
            const atoll_elf_range *table = &t->tables[k];
            bool same = table->offset == changed[i].offset && table->size == changed[i].size;
            if (!same && overlap(&changed[i], table)) {
                return atoll_elf_fail(why, "two of its tables overlap, or one its ELF header");
            }
        }
    }
    return 0;
}

/* ---- */

static int map(atoll_elf *elf, const char *path, atoll_elf_error *why) {
    elf->tables = calloc(1, sizeof *elf->tables);
    elf->path = strdup(path);
    if (elf->tables == NULL || elf->path == NULL) {
        return atoll_elf_no_memory(why);
    }
    int fd = atoll_file_open(path, &elf->tables->id);
    if (fd < 0) {
        why->lack = atoll_file_is_lack(errno);
        return errno == EINVAL ? atoll_elf_fail(why, "it is not a regular file")
                               : atoll_elf_fail(why, "it cannot be opened: %s", strerror(errno));
    }
    if (elf->tables->id.size == 0) {
        atoll_file_close(fd);
        return atoll_elf_fail(why, "it is empty");
    }
    elf->bytes = atoll_map_fd(fd, elf->tables->id.size);
    int failed = errno;
    atoll_file_close(fd);
    if (elf->bytes == NULL) {
        why->lack = atoll_file_is_lack(failed);
        return atoll_elf_fail(why, "it cannot be mapped: %s", strerror(failed));
    }
    elf->size = elf->tables->id.size;
    return 0;
}

int atoll_elf_open(atoll_elf *elf, const char *path, atoll_elf_error *why) {
    const Elf64_Phdr *dynamic = NULL;
    *elf = (atoll_elf){0};
    *why = (atoll_elf_error){.text = ""};
#if !defined(__GLIBC__) || !defined(MACHINE)
    (void)dynamic;
    (void)path;
    return atoll_elf_fail(why, "cloning needs glibc on a 64-bit x86, ARM or RISC-V machine");
#endif
    if (map(elf, path, why) != 0 || read_header(elf, why) != 0 ||
        (dynamic = read_segments(elf, why)) == NULL || read_dynamic(elf, dynamic, why) != 0 ||
        read_strings(elf, why) != 0 || read_names(elf, why) != 0 || read_flags(elf, why) != 0 ||
        read_constructors(elf, why) != 0 || atoll_elf_read_symbols(elf, why) != 0 ||
        atoll_elf_read_versions(elf, why) != 0 || check_tables(elf, why) != 0) {
        atoll_elf_close(elf);
        return -1;
    }
    return 0;
}

void atoll_elf_close(atoll_elf *elf) {
    atoll_unmap(elf->bytes, elf->size);
    if (elf->tables != NULL) {
        free(elf->tables->segments);
        free(elf->tables->dynamic);
        free(elf->tables);
    }
    free(elf->needed);
    free(elf->path);
    *elf = (atoll_elf){0};
}

bool atoll_elf_imports(const atoll_elf *elf, const char *symbol) {
    for (size_t i = 1; i < elf->tables->nsymbols; i++) {
        Elf64_Sym s = atoll_elf_symbol(elf, i);
        if (atoll_elf_is_import(&s) && strcmp(atoll_elf_string(elf, s.st_name), symbol) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_export(const Elf64_Sym *symbol) {
    unsigned visibility = ELF64_ST_VISIBILITY(symbol->st_other);
    return symbol->st_shndx != SHN_UNDEF && ELF64_ST_BIND(symbol->st_info) != STB_LOCAL &&
           symbol->st_name != 0 && (visibility == STV_DEFAULT || visibility == STV_PROTECTED);
}

bool atoll_elf_defines(const atoll_elf *elf, const char *symbol) {
    for (size_t i = 1; i < elf->tables->nsymbols; i++) {
        Elf64_Sym s = atoll_elf_symbol(elf, i);
        if (is_export(&s) && strcmp(atoll_elf_string(elf, s.st_name), symbol) == 0) {
            return true;
        }
    }
    return false;
}

bool atoll_elf_any_import(const atoll_elf *elf, bool (*is)(const char *name, void *context), void *context) {
    for (size_t i = 1; i < elf->tables->nsymbols; i++) {
        Elf64_Sym s = atoll_elf_symbol(elf, i);
        if (atoll_elf_is_import(&s) && is(atoll_elf_string(elf, s.st_name), context)) {
            return true;
        }
    }
    return false;
}

const char *atoll_elf_any_export(const atoll_elf *elf) {
    for (size_t i = 1; i < elf->tables->nsymbols; i++) {
        Elf64_Sym s = atoll_elf_symbol(elf, i);
        unsigned type = ELF64_ST_TYPE(s.st_info);
        /* A name of a version is an absolute symbol. */
        if (is_export(&s) && s.st_value != 0 && s.st_shndx != SHN_ABS &&
            (type == STT_NOTYPE || type == STT_OBJECT || type == STT_FUNC)) {
            return atoll_elf_string(elf, s.st_name);
        }
    }
    return NULL;
}
