/* What the clone of a file is to have: strings that are added, parts of the original that are kept.  See internal.h. */
#include "core/elf/internal.h"

uint64_t atoll_elf_add_string(atoll_elf_job *job, const char *text, const char *more) {
    uint64_t name = job->strings_base + job->strings.len;
    atoll_put_bytes(&job->strings, text, strlen(text));
    atoll_put_bytes(&job->strings, more, strlen(more) + 1);
    if (job->strings.failed) {
        atoll_elf_no_memory(job->why);
        return 0;
    }
    if (name > UINT32_MAX) {
        atoll_elf_fail(job->why, "its table of strings is too large");
        return 0;
    }
    return name;
}

void atoll_elf_keep(atoll_elf_job *job, uint64_t offset, uint64_t size) {
    if (size == 0 || job->clone->whole) {
        return;
    }
    for (uint64_t i = offset / job->page; i <= (offset + size - 1) / job->page; i++) {
        atoll_elf_set_bit(job->keep, i);
    }
}

bool atoll_elf_keeps(const atoll_elf_job *job, uint64_t offset, uint64_t size) {
    if (size == 0 || job->clone->whole) {
        return true;
    }
    for (uint64_t i = offset / job->page; i <= (offset + size - 1) / job->page; i++) {
        if (!atoll_elf_bit(job->keep, i)) {
            return false;
        }
    }
    return true;
}
