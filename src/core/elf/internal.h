/* What the files of the room know of each other: view <- read_symbols <- elf (reading); view, edit <- symbols, sections <- write,
 * trim (writing).
 *
 * "Offset" is a place in the file, "address" one in the library as it is loaded, relative to where.  All
 * offsets, sizes and counts in here were checked against the file; strings end within it.
 */
#ifndef ATOLL_CORE_ELF_INTERNAL_H
#define ATOLL_CORE_ELF_INTERNAL_H

#include "core/base/base.h"
#include "core/elf/elf.h"
#include "port/port.h"

#include <elf.h>
#include <string.h>

#ifndef DT_RELR /* headers of before glibc 2.36, and musl's */
#define DT_RELRSZ 35
#define DT_RELR 36
#endif

typedef struct {
    uint64_t offset;
    uint64_t size;
} atoll_elf_range;

#define ATOLL_ELF_NOWHERE UINT64_MAX
#define ATOLL_ELF_TABLES 16

struct atoll_elf_tables {
    atoll_file_id id;
    Elf64_Ehdr header;
    Elf64_Phdr *segments; /* header.e_phnum */
    Elf64_Dyn *dynamic;   /* without the DT_NULL */
    size_t ndynamic;

    const char *strings; /* nstrings bytes, the last of them NUL */
    size_t nstrings;
    uint64_t strings_addr;
    uint64_t symbols; /* offset of nsymbols Elf64_Sym */
    size_t nsymbols;
    uint64_t versions;     /* offset of nsymbols Elf64_Half, or ATOLL_ELF_NOWHERE */
    atoll_elf_range needs; /* Elf64_Verneed and Elf64_Vernaux; size 0: none */

    atoll_elf_range tables[ATOLL_ELF_TABLES]; /* what the dynamic linker reads while it loads */
    size_t ntables;

    uint64_t bottom;         /* the page that the lowest segment to load begins in: an address */
    uint64_t top;            /* the end of the highest segment: an address */
    uint64_t code, code_end; /* what is executable lies between these addresses */
    uint64_t align;          /* the widest alignment of a segment, at least a page */

    uint64_t init, fini; /* addresses; 0: none */
    uint64_t init_array, fini_array;
    size_t init_count, fini_count;
};

/* Fills why; -1. */
__attribute__((format(printf, 2, 3))) int atoll_elf_fail(atoll_elf_error *why, const char *format, ...);
/* The same where memory is what was lacking. */
int atoll_elf_no_memory(atoll_elf_error *why);

/* The offset of `size` bytes that a segment loads to this address, or ATOLL_ELF_NOWHERE. */
uint64_t atoll_elf_offset(const struct atoll_elf_tables *tables, uint64_t addr, uint64_t size);

/* The value of the last entry of the dynamic section with this tag, as the dynamic linker sees it; false (and 0)
 * when there is none. */
bool atoll_elf_get(const struct atoll_elf_tables *tables, Elf64_Sxword tag, uint64_t *value);
/* A table at the address that an entry of the dynamic section names: its offset, noted as one to be kept. */
int atoll_elf_locate(atoll_elf *elf, const char *what, uint64_t addr, uint64_t size, uint64_t *offset,
                     atoll_elf_error *why);
/* The rest of atoll_elf_open(): symbols with what refers to them, then versions.  0 or -1 with why. */
int atoll_elf_read_symbols(atoll_elf *elf, atoll_elf_error *why);
int atoll_elf_read_versions(atoll_elf *elf, atoll_elf_error *why);

static inline Elf64_Sym atoll_elf_symbol(const atoll_elf *elf, size_t i) {
    Elf64_Sym symbol;
    memcpy(&symbol, elf->bytes + elf->tables->symbols + i * sizeof symbol, sizeof symbol);
    return symbol;
}

static inline const char *atoll_elf_string(const atoll_elf *elf, uint64_t at) {
    return at < elf->tables->nstrings ? elf->tables->strings + at : "";
}

/* Undefined, and looked for elsewhere. */
static inline bool atoll_elf_is_import(const Elf64_Sym *symbol) {
    return symbol->st_shndx == SHN_UNDEF && ELF64_ST_BIND(symbol->st_info) != STB_LOCAL &&
           symbol->st_name != 0;
}

static inline uint64_t atoll_elf_align(uint64_t value, uint64_t align) {
    return (value + align - 1) & ~(align - 1);
}

static inline bool atoll_elf_bit(const uint8_t *bits, uint64_t i) {
    return (bits[i / 8] & (1U << (i % 8))) != 0;
}

static inline void atoll_elf_set_bit(uint8_t *bits, uint64_t i) { bits[i / 8] |= (uint8_t)(1U << (i % 8)); }

/* The first page of the file behind those of a read-only segment that a clone may have from the original: the dynamic linker
 * zeroes what is behind a segment's bytes in their last page, which is then its own. */
static inline uint64_t atoll_elf_shared_end(const Elf64_Phdr *s, uint64_t page) {
    uint64_t end = s->p_offset + s->p_filesz;
    return s->p_memsz > s->p_filesz ? end / page : (end + page - 1) / page;
}

/* Whether a clone has page `index` of the file, which is one of this segment's, from the original. */
static inline bool atoll_elf_is_shared(const atoll_elf_clone *clone, const Elf64_Phdr *s, uint64_t index,
                                       uint64_t page) {
    return (s->p_flags & PF_W) == 0 && index < atoll_elf_shared_end(s, page) && index < clone->ndirty &&
           !atoll_elf_bit(clone->dirty, index);
}

/* A clone in the making. */
typedef struct {
    const atoll_elf *elf;
    const atoll_elf_edit *edit;
    atoll_elf_clone *clone;
    atoll_elf_error *why;
    int fd;
    uint64_t page;
    uint8_t *keep; /* one bit per page of the original: the clone's file has it */
    size_t npages;

    /* The new segment (clone->added): program headers, dynamic section, destructors, strings. */
    uint64_t dynamic, destructors, text; /* where they are in it */
    size_t dynamic_room;                 /* entries */
    atoll_buffer strings;
    uint64_t strings_base;  /* add to a place in `strings` for what a name is, relative to DT_STRTAB */
    bool copies_strings;    /* DT_STRTAB is `strings`, which begins with the original's; else it stays */
    uint64_t *needed_names; /* edit->needed[i].to as a name, or 0 as long as it is not in `strings` */

    Elf64_Sym *symbols; /* changed copies of tables, or NULL where nothing changed */
    Elf64_Half *versions;
    uint8_t *needs;
    Elf64_Shdr *sections;
    size_t nsections;
    Elf64_Ehdr header;
} atoll_elf_job;

/* Adds a string for the dynamic linker; its name, or 0 (with why) when there is no more room. */
uint64_t atoll_elf_add_string(atoll_elf_job *job, const char *text, const char *more);
/* The pages of a range of the original will be in the clone's file. */
void atoll_elf_keep(atoll_elf_job *job, uint64_t offset, uint64_t size);
/* Whether all of them will be. */
bool atoll_elf_keeps(const atoll_elf_job *job, uint64_t offset, uint64_t size);

/* Renames undefined symbols, makes unique ones weak.  0 or -1 with why. */
int atoll_elf_edit_symbols(atoll_elf_job *job);
/* Version needs name their libraries as DT_NEEDED does. */
int atoll_elf_edit_needs(atoll_elf_job *job);
/* What `from` is now, if it is one of those whose name changes; else 0, or 0 with *failed. */
uint64_t atoll_elf_renamed(atoll_elf_job *job, const char *from, bool *failed);
/* Decides about the section headers and fills job->header's and job->sections. */
int atoll_elf_edit_sections(atoll_elf_job *job);

#endif
