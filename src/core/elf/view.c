/* What every file of the room asks of a file that was read: see internal.h. */
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
