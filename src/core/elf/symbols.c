/* Changes to the tables of symbols and of versions of a clone: made in copies, written by elf/write.c. */
#include "core/elf/internal.h"

#include <stdlib.h>

/* The tables are copied when the first change is made. */
static int copy_tables(atoll_elf_job *job) {
    const struct atoll_elf_tables *t = job->elf->tables;
    if (job->symbols != NULL) {
        return 0;
    }
    size_t size = t->nsymbols * sizeof(Elf64_Sym);
    job->symbols = malloc(size);
    if (job->symbols == NULL) {
        return atoll_elf_no_memory(job->why);
    }
    memcpy(job->symbols, job->elf->bytes + t->symbols, size);
    if (t->versions != ATOLL_ELF_NOWHERE) {
        size = t->nsymbols * sizeof(Elf64_Half);
        job->versions = malloc(size);
        if (job->versions == NULL) {
            return atoll_elf_no_memory(job->why);
        }
        memcpy(job->versions, job->elf->bytes + t->versions, size);
    }
    return 0;
}

/* The place of a symbol's name in edit->symbols, or -1. */
static long find_symbol(const atoll_elf_edit *edit, const char *name) {
    for (long i = 0; edit->symbols != NULL && edit->symbols[i] != NULL; i++) {
        if (strcmp(edit->symbols[i], name) == 0) {
            return i;
        }
    }
    return -1;
}

static size_t count_symbols(const atoll_elf_edit *edit) {
    size_t n = 0;
    while (edit->symbols != NULL && edit->symbols[n] != NULL) {
        n++;
    }
    return n;
}

int atoll_elf_edit_symbols(atoll_elf_job *job) {
    const atoll_elf *elf = job->elf;
    /* A symbol may be there more than once, with different versions. */
    uint64_t *names = calloc(count_symbols(job->edit) + 1, sizeof *names);
    int rc = 0;
    if (names == NULL) {
        return atoll_elf_no_memory(job->why);
    }
    for (size_t i = 1; rc == 0 && i < elf->tables->nsymbols; i++) {
        Elf64_Sym symbol = atoll_elf_symbol(elf, i);
        if (atoll_elf_is_import(&symbol)) {
            const char *name = atoll_elf_string(elf, symbol.st_name);
            long at = find_symbol(job->edit, name);
            if (at < 0) {
                continue;
            }
            if (names[at] == 0) {
                names[at] = atoll_elf_add_string(job, job->edit->prefix, name);
            }
            rc = names[at] != 0 ? copy_tables(job) : -1;
            if (rc == 0) {
                job->symbols[i].st_name = (Elf64_Word)names[at];
                if (job->versions != NULL) {
                    job->versions[i] = VER_NDX_GLOBAL;
                }
                job->clone->renamed++;
            }
        } else if (symbol.st_shndx != SHN_UNDEF && ELF64_ST_BIND(symbol.st_info) == STB_GNU_UNIQUE) {
            rc = copy_tables(job);
            if (rc == 0) {
                job->symbols[i].st_info = ELF64_ST_INFO(STB_WEAK, ELF64_ST_TYPE(symbol.st_info));
            }
        }
    }
    free(names);
    return rc;
}

uint64_t atoll_elf_renamed(atoll_elf_job *job, const char *from, bool *failed) {
    for (size_t i = 0; i < job->edit->nneeded; i++) {
        if (strcmp(job->edit->needed[i].from, from) == 0) {
            if (job->needed_names[i] == 0) {
                job->needed_names[i] = atoll_elf_add_string(job, job->edit->needed[i].to, "");
                *failed |= job->needed_names[i] == 0;
            }
            return job->needed_names[i];
        }
    }
    return 0;
}

int atoll_elf_edit_needs(atoll_elf_job *job) {
    const atoll_elf *elf = job->elf;
    atoll_elf_range range = elf->tables->needs;
    if (range.size == 0 || job->edit->nneeded == 0) {
        return 0;
    }
    job->needs = malloc(range.size);
    if (job->needs == NULL) {
        return atoll_elf_no_memory(job->why);
    }
    memcpy(job->needs, elf->bytes + range.offset, range.size);
    bool failed = false;
    uint64_t next = 1;
    /* The list was checked in the file, which may have changed since: this copy is checked again. */
    for (uint64_t at = 0; next != 0 && at + sizeof(Elf64_Verneed) <= range.size; at += next) {
        Elf64_Verneed record;
        memcpy(&record, job->needs + at, sizeof record);
        uint64_t name = atoll_elf_renamed(job, atoll_elf_string(elf, record.vn_file), &failed);
        if (name != 0) {
            record.vn_file = (Elf64_Word)name;
            memcpy(job->needs + at, &record, sizeof record);
        }
        next = record.vn_next;
    }
    return failed ? -1 : 0;
}
