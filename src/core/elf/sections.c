/* A clone's section headers.  Nothing that loads the clone reads them; debuggers and profilers do, and they must not
 * take holes for code.
 *
 * A whole clone keeps them all.  In a sparse one, sections whose bytes are not in the file become SHT_NOBITS ("of
 * this size, but not here"), which is what a file of separate debug information looks like; a table of symbols is kept
 * when it is small.  Where that is not possible, or something is unusual, the clone has no section headers.
 */
#include "core/elf/internal.h"

#include <stdlib.h>

#define MOST_SECTIONS 4096            /* each is compared with all others */
#define MOST_KEPT (UINT64_C(1) << 20) /* bytes of symbols, names and section headers */

static bool in_file(const atoll_elf *elf, uint64_t offset, uint64_t size) {
    return offset <= elf->size && size <= elf->size - offset;
}

/* Whether they overlap something that the dynamic linker reads; they are changed. */
static bool is_read(const atoll_elf *elf, uint64_t offset, uint64_t size) {
    const struct atoll_elf_tables *t = elf->tables;
    for (size_t i = 0; i < t->ntables; i++) {
        if (offset < t->tables[i].offset + t->tables[i].size && t->tables[i].offset < offset + size) {
            return true;
        }
    }
    return offset < sizeof(Elf64_Ehdr);
}

static int read_sections(atoll_elf_job *job) {
    const Elf64_Ehdr *h = &job->elf->tables->header;
    uint64_t size = (uint64_t)h->e_shnum * sizeof(Elf64_Shdr);
    if (h->e_shoff == 0 || h->e_shentsize != sizeof(Elf64_Shdr) || h->e_shnum == 0 ||
        h->e_shnum > MOST_SECTIONS || h->e_shstrndx >= h->e_shnum || !in_file(job->elf, h->e_shoff, size) ||
        is_read(job->elf, h->e_shoff, size)) {
        return 0;
    }
    job->sections = malloc(size);
    if (job->sections == NULL) {
        return atoll_elf_no_memory(job->why);
    }
    memcpy(job->sections, job->elf->bytes + h->e_shoff, size);
    job->nsections = h->e_shnum;
    return 0;
}

/* The names of the sections, the symbols that are not loaded, and their names. */
static bool is_symbols(const atoll_elf_job *job, size_t i) {
    const Elf64_Shdr *s = &job->sections[i];
    if ((s->sh_flags & SHF_ALLOC) != 0) {
        return false;
    }
    if (s->sh_type == SHT_SYMTAB || i == job->elf->tables->header.e_shstrndx) {
        return true;
    }
    for (size_t k = 0; s->sh_type == SHT_STRTAB && k < job->nsections; k++) {
        if (job->sections[k].sh_type == SHT_SYMTAB && job->sections[k].sh_link == i) {
            return true;
        }
    }
    return false;
}

/* Marks what is kept besides what is loaded; false when that is too much. */
static bool keep_symbols(atoll_elf_job *job) {
    uint64_t offset = job->elf->tables->header.e_shoff;
    uint64_t total = job->nsections * sizeof(Elf64_Shdr);
    for (size_t i = 0; i < job->nsections; i++) {
        const Elf64_Shdr *s = &job->sections[i];
        if (is_symbols(job, i)) {
            if (!in_file(job->elf, s->sh_offset, s->sh_size)) {
                return false;
            }
            total += s->sh_size;
        }
        if (total > MOST_KEPT) {
            return false;
        }
    }
    atoll_elf_keep(job, offset, job->nsections * sizeof(Elf64_Shdr));
    for (size_t i = 0; i < job->nsections; i++) {
        if (is_symbols(job, i)) {
            atoll_elf_keep(job, job->sections[i].sh_offset, job->sections[i].sh_size);
        }
    }
    return true;
}

static bool stays(const atoll_elf_job *job, size_t i) {
    const Elf64_Shdr *s = &job->sections[i];
    switch (s->sh_type) {
    case SHT_NULL:
    case SHT_NOBITS:
    case SHT_DYNAMIC:
        return true;
    case SHT_NOTE:
    case SHT_PROGBITS:
    case SHT_INIT_ARRAY:
    case SHT_FINI_ARRAY:
        return (s->sh_flags & SHF_ALLOC) != 0 && in_file(job->elf, s->sh_offset, s->sh_size) &&
               atoll_elf_keeps(job, s->sh_offset, s->sh_size);
    default:
        return is_symbols(job, i);
    }
}

static void drop(atoll_elf_job *job) {
    free(job->sections);
    job->sections = NULL;
    job->nsections = 0;
    job->header.e_shoff = 0;
    job->header.e_shnum = 0;
    job->header.e_shstrndx = SHN_UNDEF;
}

int atoll_elf_edit_sections(atoll_elf_job *job) {
    const struct atoll_elf_tables *t = job->elf->tables;
    if (read_sections(job) != 0) {
        return -1;
    }
    if (job->sections == NULL || (!job->clone->whole && !keep_symbols(job))) {
        drop(job);
        return 0;
    }
    for (size_t i = 0; i < job->nsections; i++) {
        Elf64_Shdr *s = &job->sections[i];
        if (s->sh_type == SHT_DYNAMIC) {
            /* A debugger compares this address with the loaded library's, and takes another for a wrong file. */
            s->sh_addr = job->clone->added + job->dynamic;
            s->sh_offset = job->clone->added_offset + job->dynamic;
            s->sh_size = job->dynamic_room * sizeof(Elf64_Dyn);
            s->sh_flags |= SHF_WRITE;
        } else if (job->copies_strings && s->sh_type == SHT_STRTAB && (s->sh_flags & SHF_ALLOC) != 0 &&
                   s->sh_addr == t->strings_addr) {
            s->sh_addr = job->clone->added + job->text;
            s->sh_offset = job->clone->added_offset + job->text;
            s->sh_size = job->strings.len;
        }
    }
    for (size_t i = 0; !job->clone->whole && i < job->nsections; i++) {
        if (!stays(job, i)) {
            job->sections[i].sh_type = SHT_NOBITS;
        }
    }
    return 0;
}
