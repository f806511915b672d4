/* What is asked of a file that was read, by the files of the room (internal.h) and by who loads it (elf.h). */
#include "core/elf/internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

int atoll_elf_fail(atoll_elf_error *why, const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)vsnprintf(why->text, sizeof why->text, format, args);
    va_end(args);
    return -1;
}

int atoll_elf_no_memory(atoll_elf_error *why) {
    why->lack = true;
    return atoll_elf_fail(why, "out of memory");
}

uint64_t atoll_elf_offset(const struct atoll_elf_tables *tables, uint64_t addr, uint64_t size) {
    for (size_t i = 0; i < tables->header.e_phnum; i++) {
        const Elf64_Phdr *s = &tables->segments[i];
        /* One that has nothing in the file was not checked, and its offset may be any number. */
        if (s->p_type == PT_LOAD && s->p_filesz > 0 && addr >= s->p_vaddr &&
            addr - s->p_vaddr <= s->p_filesz && size <= s->p_filesz - (addr - s->p_vaddr)) {
            return s->p_offset + (addr - s->p_vaddr);
        }
    }
    return ATOLL_ELF_NOWHERE;
}

bool atoll_elf_get(const struct atoll_elf_tables *t, Elf64_Sxword tag, uint64_t *value) {
    for (size_t i = t->ndynamic; i-- > 0;) {
        if (t->dynamic[i].d_tag == tag) {
            *value = t->dynamic[i].d_un.d_val;
            return true;
        }
    }
    *value = 0;
    return false;
}

int atoll_elf_locate(atoll_elf *elf, const char *what, uint64_t addr, uint64_t size, uint64_t *offset,
                     atoll_elf_error *why) {
    struct atoll_elf_tables *t = elf->tables;
    *offset = atoll_elf_offset(t, addr, size);
    if (*offset == ATOLL_ELF_NOWHERE) {
        return atoll_elf_fail(why,
                              "its %s (0x%" PRIx64 ", 0x%" PRIx64 " bytes) does not lie in a loaded segment",
                              what, addr, size);
    }
    if (t->ntables == ATOLL_ELF_TABLES) {
        return atoll_elf_fail(why, "it has too many tables");
    }
    t->tables[t->ntables++] = (atoll_elf_range){*offset, size};
    return 0;
}

/* ---- who loads it ---- */

const atoll_file_id *atoll_elf_id(const atoll_elf *elf) { return &elf->tables->id; }

static bool segment_has_pair(const uint8_t *bytes, uint64_t size, uint64_t first, uint64_t mask,
                             uint64_t second) {
    for (uint64_t at = 0; at + 16 <= size; at += 8) {
        if ((atoll_load_u64(bytes + at) & mask) == first && atoll_load_u64(bytes + at + 8) == second) {
            return true;
        }
    }
    return false;
}

bool atoll_elf_has_pair(const atoll_elf *elf, uint64_t first, uint64_t mask, uint64_t second) {
    const struct atoll_elf_tables *t = elf->tables;
    for (unsigned i = 0; i < t->header.e_phnum; i++) {
        const Elf64_Phdr *s = &t->segments[i];
        uint64_t skip = -s->p_vaddr & 7; /* numbers lie at multiples of eight */
        if (s->p_type == PT_LOAD && (s->p_flags & PF_W) != 0 && s->p_filesz > skip &&
            segment_has_pair(elf->bytes + s->p_offset + skip, s->p_filesz - skip, first, mask, second)) {
            return true;
        }
    }
    return false;
}

bool atoll_elf_mentions(const atoll_elf *elf, const char *text) {
    return memmem(elf->bytes, elf->size, text, strlen(text)) != NULL;
}
