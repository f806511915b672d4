/* Questions about a shared object's content that its loader has: see elf.h. */
#include "core/elf/internal.h"

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
