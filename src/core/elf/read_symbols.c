/* Reading the tables of symbols and of versions of a shared object (elf.h); part of atoll_elf_open().
 *
 * No field says how many symbols there are: the hash tables and the relocations are asked for the highest one that
 * they refer to.  Lists are followed only as far as the segment they lie in, and only for a bounded number of steps.
 */
#include "core/elf/internal.h"

#include <inttypes.h>

#if defined(__x86_64__)
#define IRELATIVE R_X86_64_IRELATIVE
#elif defined(__aarch64__)
#define IRELATIVE R_AARCH64_IRELATIVE
#elif defined(__riscv) && __riscv_xlen == 64
#define IRELATIVE 58
#endif

/* A symbol's version is a number of 15 bits.  More steps along lists, which may share parts, are an attack. */
#define MOST_VERSIONS 65536
#define VERSION_NUMBER 0x7fff

/* ---- symbols: how many there are is told only by what refers to them ---- */

static int count_by_hash(atoll_elf *elf, size_t *count, atoll_elf_error *why) {
    uint64_t addr;
    uint64_t offset;
    if (!atoll_elf_get(elf->tables, DT_HASH, &addr)) {
        return 0;
    }
    uint64_t head = atoll_elf_offset(elf->tables, addr, 8);
    if (head == ATOLL_ELF_NOWHERE) {
        return atoll_elf_fail(why, "its hash table does not lie in a loaded segment");
    }
    uint64_t buckets = atoll_load_u32(elf->bytes + head);
    uint64_t symbols = atoll_load_u32(elf->bytes + head + 4);
    *count = symbols;
    return atoll_elf_locate(elf, "hash table", addr, 8 + 4 * (buckets + symbols), &offset, why);
}

/* A GNU hash table has no count: the last symbol is the end of the chain that starts last.  The symbols before
 * `first` are in no chain. */
static int count_by_gnu_hash(atoll_elf *elf, size_t *count, atoll_elf_error *why) {
    const struct atoll_elf_tables *t = elf->tables;
    uint64_t addr;
    uint64_t offset;
    if (!atoll_elf_get(t, DT_GNU_HASH, &addr)) {
        return 0;
    }
    uint64_t head = atoll_elf_offset(t, addr, 16);
    if (head == ATOLL_ELF_NOWHERE) {
        return atoll_elf_fail(why, "its GNU hash table does not lie in a loaded segment");
    }
    uint64_t nbuckets = atoll_load_u32(elf->bytes + head);
    uint64_t first = atoll_load_u32(elf->bytes + head + 4);
    uint64_t bloom = atoll_load_u32(elf->bytes + head + 8);
    if (bloom == 0 || (bloom & (bloom - 1)) != 0) { /* which the dynamic linker takes for granted */
        return atoll_elf_fail(why, "its GNU hash table is damaged");
    }
    uint64_t fixed = 16 + 8 * bloom + 4 * nbuckets;
    if (atoll_elf_offset(t, addr, fixed) == ATOLL_ELF_NOWHERE) {
        return atoll_elf_fail(why, "its GNU hash table does not lie in a loaded segment");
    }
    const uint8_t *buckets = elf->bytes + head + 16 + 8 * bloom;
    uint64_t last = 0;
    for (uint64_t i = 0; i < nbuckets; i++) {
        uint64_t start = atoll_load_u32(buckets + 4 * i);
        if (start != 0 && start < first) {
            return atoll_elf_fail(why, "its GNU hash table is damaged");
        }
        last = start > last ? start : last;
    }
    uint64_t end = first;
    if (last != 0) {
        const uint8_t *chains = buckets + 4 * nbuckets;
        uint64_t room = 0; /* chain entries up to the segment's end */
        for (size_t i = 0; i < t->header.e_phnum; i++) {
            const Elf64_Phdr *s = &t->segments[i];
            if (s->p_type == PT_LOAD && addr >= s->p_vaddr && addr - s->p_vaddr < s->p_filesz) {
                room = (s->p_filesz - (addr - s->p_vaddr) - fixed) / 4;
                break;
            }
        }
        end = last;
        while (end - first < room && (atoll_load_u32(chains + 4 * (end - first)) & 1) == 0) {
            end++;
        }
        if (end - first >= room) {
            return atoll_elf_fail(why, "its GNU hash table has no end");
        }
        end++;
    }
    *count = end > *count ? end : *count;
    return atoll_elf_locate(elf, "GNU hash table", addr, fixed + 4 * (end - first), &offset, why);
}

typedef struct {
    Elf64_Sxword addr, size, entry;
    size_t entry_size;
    const char *name;
} relocations;

static int count_by_relocations(atoll_elf *elf, const relocations *r, bool skip_relative, size_t *count,
                                atoll_elf_error *why) {
    const struct atoll_elf_tables *t = elf->tables;
    uint64_t addr;
    uint64_t size;
    uint64_t entry;
    uint64_t offset;
    uint64_t first = 0;
    if (!atoll_elf_get(t, r->addr, &addr) || !atoll_elf_get(t, r->size, &size) || size == 0) {
        return 0;
    }
    if (r->entry != DT_NULL && atoll_elf_get(t, r->entry, &entry) && entry != r->entry_size) {
        return atoll_elf_fail(why, "its %s have %" PRIu64 " bytes each, not %zu", r->name, entry,
                              r->entry_size);
    }
    if (atoll_elf_locate(elf, r->name, addr, size, &offset, why) != 0) {
        return -1;
    }
    /* The dynamic linker takes so many at the start as relative, without a look at what they are. */
    if (skip_relative) {
        (void)atoll_elf_get(t, DT_RELACOUNT, &first);
    }
    for (uint64_t i = first; i < size / r->entry_size; i++) {
        uint64_t info = atoll_load_u64(elf->bytes + offset + i * r->entry_size + 8);
        size_t symbol = ELF64_R_SYM(info);
        *count = symbol >= *count ? symbol + 1 : *count;
#ifdef IRELATIVE
        elf->needs_whole |= ELF64_R_TYPE(info) == IRELATIVE;
#endif
    }
    return 0;
}

static int read_relocations(atoll_elf *elf, size_t *count, atoll_elf_error *why) {
    static const relocations rela = {DT_RELA, DT_RELASZ, DT_RELAENT, sizeof(Elf64_Rela),
                                     "relocations (DT_RELA)"};
    static const relocations rel = {DT_REL, DT_RELSZ, DT_RELENT, sizeof(Elf64_Rel), "relocations (DT_REL)"};
    relocations plt = {DT_JMPREL, DT_PLTRELSZ, DT_NULL, sizeof(Elf64_Rela), "relocations (DT_JMPREL)"};
    uint64_t value;
    uint64_t size;
    uint64_t offset;
    if (atoll_elf_get(elf->tables, DT_PLTREL, &value) && value == DT_REL) {
        plt.entry_size = sizeof(Elf64_Rel);
    }
    if (count_by_relocations(elf, &rela, true, count, why) != 0 ||
        count_by_relocations(elf, &rel, false, count, why) != 0 ||
        count_by_relocations(elf, &plt, false, count, why) != 0) {
        return -1;
    }
    if (atoll_elf_get(elf->tables, DT_RELR, &value) && atoll_elf_get(elf->tables, DT_RELRSZ, &size) &&
        size > 0) {
        return atoll_elf_locate(elf, "relocations (DT_RELR)", value, size, &offset, why);
    }
    return 0;
}

static bool is_python_name(const char *name) {
    if (strncmp(name, "_Py", 3) == 0) {
        return true;
    }
    return strncmp(name, "Py", 2) == 0 && strncmp(name, "PyInit_", 7) != 0 &&
           strncmp(name, "PyInitU_", 8) != 0 && strncmp(name, "PyModExport_", 12) != 0;
}

int atoll_elf_read_symbols(atoll_elf *elf, atoll_elf_error *why) {
    struct atoll_elf_tables *t = elf->tables;
    size_t count = 0;
    uint64_t addr;
    uint64_t entry;
    if (count_by_hash(elf, &count, why) != 0 || count_by_gnu_hash(elf, &count, why) != 0 ||
        read_relocations(elf, &count, why) != 0) {
        return -1;
    }
    if (!atoll_elf_get(t, DT_SYMTAB, &addr)) {
        return atoll_elf_fail(why, "it has no table of symbols (DT_SYMTAB)");
    }
    if (atoll_elf_get(t, DT_SYMENT, &entry) && entry != sizeof(Elf64_Sym)) {
        return atoll_elf_fail(why, "its symbols have %" PRIu64 " bytes each, not %zu", entry,
                              sizeof(Elf64_Sym));
    }
    if (atoll_elf_locate(elf, "table of symbols", addr, count * sizeof(Elf64_Sym), &t->symbols, why) != 0) {
        return -1;
    }
    t->versions = ATOLL_ELF_NOWHERE;
    if (atoll_elf_get(t, DT_VERSYM, &addr) &&
        atoll_elf_locate(elf, "table of symbol versions", addr, count * sizeof(Elf64_Half), &t->versions,
                         why) != 0) {
        return -1;
    }
    t->nsymbols = count;
    for (size_t i = 0; i < count; i++) {
        Elf64_Sym symbol = atoll_elf_symbol(elf, i);
        if (symbol.st_name >= t->nstrings) {
            return atoll_elf_fail(why, "the name of its symbol %zu lies outside its table of strings", i);
        }
        if (atoll_elf_is_import(&symbol)) {
            elf->imports_python |= is_python_name(t->strings + symbol.st_name);
        } else if (ELF64_ST_TYPE(symbol.st_info) == STT_GNU_IFUNC) {
            elf->needs_whole = true;
        }
    }
    return 0;
}

/* ---- versions ---- */

/* Both lists of versions have records that point to the next one (0: no more) and to a list of their own. */
typedef struct {
    Elf64_Sxword tag;
    const char *name;
    size_t size, first, next; /* of a record; where it has those offsets */
    size_t inner_size, inner_next;
    size_t file, inner_name;     /* places of names: strings; SIZE_MAX: it has none */
    size_t number, inner_number; /* of a version's number, 16 bits; one of them is SIZE_MAX */
} version_list;

/* The number that is there, if any, or `most` if that is more. */
static unsigned number_at(const atoll_elf *elf, uint64_t record, size_t field, unsigned most) {
    Elf64_Half number = 0;
    if (field != SIZE_MAX) {
        memcpy(&number, elf->bytes + record + field, sizeof number);
        number &= VERSION_NUMBER;
    }
    return number > most ? number : most;
}

static bool has_name(const atoll_elf *elf, uint64_t record, size_t field) {
    return field == SIZE_MAX || atoll_load_u32(elf->bytes + record + field) < elf->tables->nstrings;
}

static int bad_name(const version_list *list, atoll_elf_error *why) {
    return atoll_elf_fail(why, "a name in its %s lies outside its table of strings", list->name);
}

/* `most` becomes the highest number of a version. */
static int read_versions(atoll_elf *elf, const version_list *list, atoll_elf_range *range, unsigned *most,
                         atoll_elf_error *why) {
    struct atoll_elf_tables *t = elf->tables;
    uint64_t addr;
    *range = (atoll_elf_range){0, 0};
    if (!atoll_elf_get(t, list->tag, &addr)) {
        return 0;
    }
    uint64_t size = 0; /* what the records seen so far take */
    uint64_t record = 0;
    uint64_t next;
    unsigned steps = 0;
    do {
        uint64_t at = atoll_elf_offset(t, addr + record, list->size);
        if (at == ATOLL_ELF_NOWHERE) {
            return atoll_elf_fail(why, "its %s do not lie in a loaded segment", list->name);
        }
        if (!has_name(elf, at, list->file)) {
            return bad_name(list, why);
        }
        *most = number_at(elf, at, list->number, *most);
        size = record + list->size > size ? record + list->size : size;
        uint64_t inner = record + atoll_load_u32(elf->bytes + at + list->first);
        uint64_t more;
        do {
            uint64_t inner_at = atoll_elf_offset(t, addr + inner, list->inner_size);
            if (inner_at == ATOLL_ELF_NOWHERE) {
                return atoll_elf_fail(why, "its %s do not lie in a loaded segment", list->name);
            }
            if (!has_name(elf, inner_at, list->inner_name)) {
                return bad_name(list, why);
            }
            *most = number_at(elf, inner_at, list->inner_number, *most);
            size = inner + list->inner_size > size ? inner + list->inner_size : size;
            more = atoll_load_u32(elf->bytes + inner_at + list->inner_next);
            inner += more;
            if (++steps > MOST_VERSIONS) {
                return atoll_elf_fail(why, "its %s have no end", list->name);
            }
        } while (more != 0);
        next = atoll_load_u32(elf->bytes + at + list->next);
        record += next;
    } while (next != 0);
    if (atoll_elf_locate(elf, list->name, addr, size, &range->offset, why) != 0) {
        return -1;
    }
    range->size = size;
    return 0;
}

int atoll_elf_read_versions(atoll_elf *elf, atoll_elf_error *why) {
    static const version_list needs = {
        DT_VERNEED,
        "version needs",
        sizeof(Elf64_Verneed),
        offsetof(Elf64_Verneed, vn_aux),
        offsetof(Elf64_Verneed, vn_next),
        sizeof(Elf64_Vernaux),
        offsetof(Elf64_Vernaux, vna_next),
        offsetof(Elf64_Verneed, vn_file),
        offsetof(Elf64_Vernaux, vna_name),
        SIZE_MAX,
        offsetof(Elf64_Vernaux, vna_other),
    };
    static const version_list definitions = {
        DT_VERDEF,
        "version definitions",
        sizeof(Elf64_Verdef),
        offsetof(Elf64_Verdef, vd_aux),
        offsetof(Elf64_Verdef, vd_next),
        sizeof(Elf64_Verdaux),
        offsetof(Elf64_Verdaux, vda_next),
        SIZE_MAX,
        offsetof(Elf64_Verdaux, vda_name),
        offsetof(Elf64_Verdef, vd_ndx),
        SIZE_MAX,
    };
    const struct atoll_elf_tables *t = elf->tables;
    atoll_elf_range unused;
    unsigned most = VER_NDX_GLOBAL;
    if (read_versions(elf, &needs, &elf->tables->needs, &most, why) != 0 ||
        read_versions(elf, &definitions, &unused, &most, why) != 0) {
        return -1;
    }
    for (size_t i = 0; t->versions != ATOLL_ELF_NOWHERE && i < t->nsymbols; i++) {
        if (number_at(elf, t->versions + i * sizeof(Elf64_Half), 0, 0) > most) {
            return atoll_elf_fail(why, "its symbol %zu has a version that is not there", i);
        }
    }
    return 0;
}
