/* Giving back what a loaded clone's file holds twice: see elf.h.
 *
 * The file is on no disk: its pages are memory.  Most of them are not needed once the clone is loaded: those that only the
 * dynamic linker read were replaced by the original's, and those that were written to, by relocations, have a private
 * copy.  They are punched out of the file.  A page of a writable segment that was not written to yet gets its private copy
 * now, so that it exists once either way.  What stays are read-only pages that differ from the original's.
 *
 * The kernel tells which pages have private copies (port.h).  Where it does not, the file is left as it is.
 */
#include "core/elf/internal.h"

#include <stdlib.h>

typedef struct {
    uintptr_t base;
    const struct atoll_elf_tables *tables;
    const atoll_elf_clone *clone;
    uint8_t *needed; /* one byte per page of the file */
    uint64_t npages;
    uint64_t page;
} trimming;

static bool is_protected(const trimming *t, uint64_t addr) {
    for (unsigned i = 0; i < t->tables->header.e_phnum; i++) {
        const Elf64_Phdr *s = &t->tables->segments[i];
        if (s->p_type == PT_GNU_RELRO && addr + t->page > s->p_vaddr && addr < s->p_vaddr + s->p_memsz) {
            return true;
        }
    }
    return false;
}

/* Marks the pages of the file that the process still sees through this segment.  0, or -1: nobody knows. */
static int look_at(trimming *t, const Elf64_Phdr *s) {
    uint64_t start = s->p_vaddr & ~(t->page - 1);
    uint64_t first = (s->p_offset & ~(t->page - 1)) / t->page;
    uint64_t count = (atoll_elf_align(s->p_offset + s->p_filesz, t->page) / t->page) - first;
    bool *own = calloc(count + 1, sizeof *own);
    int rc = own != NULL ? atoll_pages_own((const void *)(t->base + start), count, own) : -1;
    for (uint64_t i = 0; rc == 0 && i < count && first + i < t->npages; i++) {
        uint64_t addr = start + i * t->page;
        if (own[i] || atoll_elf_is_shared(t->clone, s, first + i, t->page)) {
            continue;
        }
        if ((s->p_flags & PF_W) != 0 && !is_protected(t, addr)) {
            volatile uint8_t *at = (volatile uint8_t *)(t->base + addr);
            *at = *at; /* the kernel makes the copy */
            continue;
        }
        t->needed[first + i] = 1;
    }
    free(own);
    return rc;
}

void atoll_elf_trim(const atoll_elf *elf, uintptr_t base, const atoll_elf_clone *clone, int fd) {
    const struct atoll_elf_tables *tables = elf->tables;
    trimming t = {.base = base, .tables = tables, .clone = clone, .page = atoll_page_size()};
    Elf64_Phdr added = {
        .p_flags = PF_R | PF_W,
        .p_offset = clone->added_offset,
        .p_vaddr = clone->added,
    };
    added.p_filesz = added.p_memsz = clone->end - added.p_vaddr;
    t.npages = (added.p_offset + added.p_filesz + t.page - 1) / t.page;
    t.needed = clone->whole ? NULL : calloc(t.npages + 1, 1);
    int rc = t.needed != NULL ? look_at(&t, &added) : -1;
    for (unsigned i = 0; rc == 0 && i < tables->header.e_phnum; i++) {
        if (tables->segments[i].p_type == PT_LOAD && tables->segments[i].p_filesz > 0) {
            rc = look_at(&t, &tables->segments[i]);
        }
    }
    for (uint64_t i = 0; rc == 0 && i < t.npages;) {
        uint64_t first = i;
        while (i < t.npages && !t.needed[i]) {
            i++;
        }
        if (i > first) {
            atoll_file_punch(fd, first * t.page, (i - first) * t.page);
        }
        i++;
    }
    free(t.needed);
}
