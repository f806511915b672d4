/* Writing clones: see elf.h.
 *
 * The file of a clone has everything of the original at the same offset, or a hole there, and behind that one more
 * segment, at an address above all others:
 *
 *     program headers | dynamic section | room for destructors' addresses | strings
 *
 * The ELF header points to the new program headers, in memory as in the file, which point to the new dynamic section.  The dynamic linker writes
 * into that, so the segment is writable.  Nothing else moves.
 *
 * A sparse clone leaves DT_STRTAB where it is: the table of strings can be as large as the code, and read-only pages
 * are shared.  New strings are named by their distance from it, of which the dynamic linker knows no limit.  A whole
 * clone has a copy with the new strings behind it, as its section headers must describe it for a debugger.
 *
 * First all changes are prepared in memory; then the file is written, the original's bytes before the changes.
 */
#include "core/elf/internal.h"

#include <errno.h>
#include <stdlib.h>

#define LARGEST_GAP (UINT64_C(1) << 30) /* bytes */

/* ---- preparing ---- */

/* Behind all of the file and of what is loaded, as far from the beginning in the one as in the other: code that looks at its own ELF
 * header (`__ehdr_start`, as clang's profiles do) finds the program headers by their place in the file.  Where the widest alignment is not
 * the first segment's, that cannot be; and no file is made to seem as large as variables that take more than LARGEST_GAP. */
static void place_segment(atoll_elf_job *job) {
    const struct atoll_elf_tables *t = job->elf->tables;
    uint64_t loaded = t->top - t->bottom;
    uint64_t longer = loaded > job->elf->size ? loaded : job->elf->size;
    bool fits = t->bottom % t->align == 0 && longer - job->elf->size <= LARGEST_GAP;
    job->clone->added_offset = atoll_elf_align(fits ? longer : job->elf->size, t->align);
    job->clone->added = fits ? t->bottom + job->clone->added_offset : atoll_elf_align(t->top, t->align);
}

/* Where everything goes. */
static int plan(atoll_elf_job *job) {
    const atoll_elf *elf = job->elf;
    const struct atoll_elf_tables *t = elf->tables;
    job->page = atoll_page_size();
    job->npages = (elf->size + job->page - 1) / job->page;
    job->keep = calloc(job->npages / 8 + 1, 1);
    job->clone->dirty = calloc(job->npages / 8 + 1, 1);
    job->needed_names = calloc(job->edit->nneeded + 1, sizeof *job->needed_names);
    if (job->keep == NULL || job->clone->dirty == NULL || job->needed_names == NULL) {
        return atoll_elf_no_memory(job->why);
    }
    job->clone->ndirty = job->npages;
    place_segment(job);

    job->dynamic = atoll_elf_align((t->header.e_phnum + 1) * sizeof(Elf64_Phdr), 16);
    job->dynamic_room = t->ndynamic + 5; /* a name, a provider, two for destructors, the end */
    for (const char *const *more = job->edit->also_needed; more != NULL && *more != NULL; more++) {
        job->dynamic_room++;
    }
    job->destructors = job->dynamic + job->dynamic_room * sizeof(Elf64_Dyn);
    job->text = job->destructors + (t->fini_count + 1) * sizeof(uint64_t);
    uint64_t distance = job->clone->added + job->text - t->strings_addr;
    job->copies_strings = job->clone->whole || distance > UINT32_MAX / 2;
    if (job->copies_strings) {
        atoll_put_bytes(&job->strings, t->strings, t->nstrings);
    } else {
        job->strings_base = distance;
    }
    job->header = t->header;
    job->header.e_phoff = job->clone->added_offset;
    job->header.e_phnum++;
    return 0;
}

/* What the dynamic linker reads, and what the library may write to. */
static void keep_loaded(atoll_elf_job *job) {
    const struct atoll_elf_tables *t = job->elf->tables;
    atoll_elf_keep(job, 0, sizeof(Elf64_Ehdr));
    for (size_t i = 0; i < t->ntables; i++) {
        atoll_elf_keep(job, t->tables[i].offset, t->tables[i].size);
    }
    for (size_t i = 0; i < t->header.e_phnum; i++) {
        const Elf64_Phdr *s = &t->segments[i];
        uint64_t offset;
        switch (s->p_type) {
        case PT_LOAD:
            if ((s->p_flags & PF_W) != 0) {
                atoll_elf_keep(job, s->p_offset, s->p_filesz);
            } else if (atoll_elf_shared_end(s, job->page) * job->page < s->p_offset + s->p_filesz) {
                atoll_elf_keep(job, s->p_offset + s->p_filesz - 1, 1);
            }
            break;
        case PT_NOTE:
        case PT_GNU_PROPERTY:
        case PT_TLS:
            offset = atoll_elf_offset(t, s->p_vaddr, s->p_filesz);
            if (offset != ATOLL_ELF_NOWHERE) {
                atoll_elf_keep(job, offset, s->p_filesz);
            }
            break;
        default:
            break;
        }
    }
}

/* ---- the dynamic section ---- */

typedef struct {
    atoll_elf_job *job;
    Elf64_Dyn *entries;
    size_t count;
    bool failed;
} dynamic_section;

static void put(dynamic_section *section, Elf64_Sxword tag, uint64_t value) {
    section->entries[section->count++] = (Elf64_Dyn){.d_tag = tag, .d_un.d_val = value};
}

static void put_string(dynamic_section *section, Elf64_Sxword tag, const char *text) {
    uint64_t name = atoll_elf_add_string(section->job, text, "");
    section->failed |= name == 0;
    put(section, tag, name);
}

/* An entry of the original, changed where the clone differs. */
static void put_entry(dynamic_section *section, const Elf64_Dyn *entry) {
    atoll_elf_job *job = section->job;
    uint64_t value = entry->d_un.d_val;
    switch (entry->d_tag) {
    case DT_SONAME:
        return;
    case DT_INIT:
    case DT_INIT_ARRAY:
    case DT_INIT_ARRAYSZ:
    case DT_FINI:
    case DT_FINI_ARRAY:
    case DT_FINI_ARRAYSZ:
        return;
    case DT_NEEDED:
    case DT_FILTER:
    case DT_AUXILIARY: {
        uint64_t name = atoll_elf_renamed(job, atoll_elf_string(job->elf, value), &section->failed);
        value = name != 0 ? name : value;
        break;
    }
    case DT_RPATH:
    case DT_RUNPATH:
        if (job->edit->search_path != NULL) {
            put_string(section, entry->d_tag, job->edit->search_path);
            return;
        }
        break;
    case DT_STRTAB:
        value = job->copies_strings ? job->clone->added + job->text : value;
        break;
    default:
        break;
    }
    put(section, entry->d_tag, value);
}

/* Into `entries`, which has job->dynamic_room zeroed ones. */
static int build_dynamic(atoll_elf_job *job, Elf64_Dyn *entries) {
    const struct atoll_elf_tables *t = job->elf->tables;
    dynamic_section section = {.job = job, .entries = entries};
    for (const char *const *more = job->edit->also_needed; more != NULL && *more != NULL; more++) {
        put_string(&section, DT_NEEDED, *more);
    }
    for (size_t i = 0; i < t->ndynamic; i++) {
        put_entry(&section, &t->dynamic[i]);
    }
    put_string(&section, DT_SONAME, job->edit->soname);
    if (job->clone->renamed > 0 && job->edit->provider != NULL) {
        put_string(&section, DT_NEEDED, job->edit->provider);
    }
    if (t->fini != 0 || t->fini_count > 0) {
        /* Empty until atoll_elf_show_destructors() fills it. */
        job->clone->fini_array = job->clone->added + job->destructors;
        put(&section, DT_FINI_ARRAY, job->clone->fini_array);
        put(&section, DT_FINI_ARRAYSZ, 0);
        job->clone->fini_size =
            job->clone->added + job->dynamic +
            (uint64_t)((uint8_t *)&entries[section.count - 1].d_un.d_val - (uint8_t *)entries);
    }
    for (size_t i = 0; i < section.count; i++) {
        if (entries[i].d_tag == DT_STRSZ) {
            entries[i].d_un.d_val = job->strings_base + job->strings.len;
        }
    }
    return section.failed ? -1 : 0;
}

static void report_constructors(atoll_elf_job *job) {
    const struct atoll_elf_tables *t = job->elf->tables;
    job->clone->init = t->init;
    job->clone->init_array = t->init_array;
    job->clone->init_count = t->init_count;
}

/* ---- writing ---- */

static int put_out(atoll_elf_job *job, const void *bytes, uint64_t size, uint64_t offset) {
    if (atoll_file_write(job->fd, bytes, size, offset) != 0) {
        job->why->no_room = true;
        return atoll_elf_fail(job->why, "its clone cannot be written: %s", strerror(errno));
    }
    return 0;
}

/* The original as it was opened; -1 with why when it is another by now. */
static int open_again(const atoll_elf *elf, atoll_elf_error *why) {
    atoll_file_id id;
    int fd = atoll_file_open(elf->path, &id);
    if (fd < 0) {
        return atoll_elf_fail(why, "it cannot be opened again: %s", strerror(errno));
    }
    if (!atoll_file_same(&id, &elf->tables->id)) {
        atoll_file_close(fd);
        return atoll_elf_fail(why, "the file was replaced or changed after it was first read");
    }
    return fd;
}

static int write_whole(atoll_elf_job *job) {
    int from = open_again(job->elf, job->why);
    if (from < 0) {
        return -1;
    }
    int rc = atoll_file_copy(from, job->fd, job->elf->size);
    int failed = errno;
    atoll_file_close(from);
    job->clone->bytes += job->elf->size;
    job->why->no_room = rc != 0;
    return rc == 0 ? 0 : atoll_elf_fail(job->why, "it cannot be copied: %s", strerror(failed));
}

static int write_kept(atoll_elf_job *job) {
    for (uint64_t i = 0; i < job->npages; i++) {
        uint64_t first = i;
        while (i < job->npages && atoll_elf_bit(job->keep, i)) {
            i++;
        }
        if (i > first) {
            uint64_t offset = first * job->page;
            uint64_t end = i * job->page < job->elf->size ? i * job->page : job->elf->size;
            if (put_out(job, job->elf->bytes + offset, end - offset, offset) != 0) {
                return -1;
            }
            job->clone->bytes += end - offset;
        }
    }
    return 0;
}

/* Writes what the clone has at an offset instead of the original's bytes, and notes which pages differ. */
static int patch(atoll_elf_job *job, uint64_t offset, const void *bytes, uint64_t size) {
    const uint8_t *from = bytes;
    uint64_t n;
    for (; size > 0; offset += n, from += n, size -= n) {
        n = job->page - offset % job->page;
        n = n < size ? n : size;
        if (memcmp(job->elf->bytes + offset, from, n) == 0) {
            continue;
        }
        atoll_elf_set_bit(job->clone->dirty, offset / job->page);
        if (put_out(job, from, n, offset) != 0) {
            return -1;
        }
    }
    return 0;
}

static int write_patches(atoll_elf_job *job) {
    const struct atoll_elf_tables *t = job->elf->tables;
    int rc = 0;
    if (job->symbols != NULL) {
        rc = patch(job, t->symbols, job->symbols, t->nsymbols * sizeof(Elf64_Sym));
    }
    if (rc == 0 && job->versions != NULL) {
        rc = patch(job, t->versions, job->versions, t->nsymbols * sizeof(Elf64_Half));
    }
    if (rc == 0 && job->needs != NULL) {
        rc = patch(job, t->needs.offset, job->needs, t->needs.size);
    }
    if (rc == 0 && job->sections != NULL) {
        rc = patch(job, t->header.e_shoff, job->sections, job->nsections * sizeof(Elf64_Shdr));
    }
    /* Last: a table that overlaps it would make the clone its original again, with constructors in holes. */
    return rc == 0 ? patch(job, 0, &job->header, sizeof job->header) : rc;
}

static void build_headers(const atoll_elf_job *job, uint64_t size, Elf64_Phdr *out) {
    const struct atoll_elf_tables *t = job->elf->tables;
    unsigned last = 0;
    for (unsigned i = 0; i < t->header.e_phnum; i++) {
        last = t->segments[i].p_type == PT_LOAD ? i : last;
    }
    for (unsigned i = 0; i < t->header.e_phnum; i++) {
        Elf64_Phdr *s = out++;
        *s = t->segments[i];
        if (s->p_type == PT_PHDR) {
            s->p_offset = job->clone->added_offset;
            s->p_vaddr = s->p_paddr = job->clone->added;
            s->p_filesz = s->p_memsz = job->header.e_phnum * sizeof(Elf64_Phdr);
        } else if (s->p_type == PT_DYNAMIC) {
            s->p_offset = job->clone->added_offset + job->dynamic;
            s->p_vaddr = s->p_paddr = job->clone->added + job->dynamic;
            s->p_filesz = s->p_memsz = job->dynamic_room * sizeof(Elf64_Dyn);
            s->p_flags = PF_R | PF_W;
        }
        if (i == last) { /* segments to load are in the order of their addresses */
            *out++ = (Elf64_Phdr){
                .p_type = PT_LOAD,
                .p_flags = PF_R | PF_W,
                .p_offset = job->clone->added_offset,
                .p_vaddr = job->clone->added,
                .p_paddr = job->clone->added,
                .p_filesz = size,
                .p_memsz = size,
                .p_align = t->align,
            };
        }
    }
}

static int write_segment(atoll_elf_job *job, const Elf64_Dyn *dynamic) {
    uint64_t size = job->text + job->strings.len;
    uint8_t *bytes = calloc(size, 1);
    Elf64_Phdr *headers = calloc(job->header.e_phnum, sizeof *headers);
    int rc = -1;
    if (bytes == NULL || headers == NULL) {
        (void)atoll_elf_no_memory(job->why);
    } else {
        build_headers(job, size, headers);
        memcpy(bytes, headers, job->header.e_phnum * sizeof *headers);
        memcpy(bytes + job->dynamic, dynamic, job->dynamic_room * sizeof *dynamic);
        memcpy(bytes + job->text, job->strings.data, job->strings.len);
        job->clone->bytes += size;
        job->clone->start = job->elf->tables->bottom;
        job->clone->end = job->clone->added + size;
        job->clone->code = job->elf->tables->code;
        job->clone->code_end = job->elf->tables->code_end;
        rc = put_out(job, bytes, size, job->clone->added_offset);
    }
    free(headers);
    free(bytes);
    return rc;
}

static int write_file(atoll_elf_job *job) {
    Elf64_Dyn *dynamic = calloc(job->dynamic_room, sizeof *dynamic);
    int rc = -1;
    if (dynamic == NULL) {
        return atoll_elf_no_memory(job->why);
    }
    if (build_dynamic(job, dynamic) == 0 && atoll_elf_edit_sections(job) == 0 &&
        (job->clone->whole ? write_whole(job) : write_kept(job)) == 0 && write_patches(job) == 0) {
        rc = write_segment(job, dynamic);
    }
    free(dynamic);
    return rc;
}

int atoll_elf_write_clone(const atoll_elf *elf, int fd, const atoll_elf_edit *edit, atoll_elf_clone *clone,
                          atoll_elf_error *why) {
    *clone = (atoll_elf_clone){.whole = edit->whole || elf->needs_whole};
    *why = (atoll_elf_error){.text = ""};
    atoll_elf_job job = {.elf = elf, .edit = edit, .clone = clone, .why = why, .fd = fd};
    int rc = plan(&job);
    if (rc == 0) {
        keep_loaded(&job);
        report_constructors(&job);
        rc = atoll_elf_edit_symbols(&job) == 0 && atoll_elf_edit_needs(&job) == 0 ? write_file(&job) : -1;
    }
    if (rc != 0 || clone->whole) {
        free(clone->dirty);
        clone->dirty = NULL;
        clone->ndirty = 0;
    }
    free(job.keep);
    free(job.needed_names);
    free(job.symbols);
    free(job.versions);
    free(job.needs);
    free(job.sections);
    atoll_buffer_free(&job.strings);
    return rc;
}

/* ---- sharing ---- */

/* The pages of one segment that the clone has from the original's file unchanged, in as few mappings as possible. */
static int share_segment(const Elf64_Phdr *s, uintptr_t base, const atoll_elf_clone *clone, int fd,
                         atoll_elf_error *why) {
    uint64_t page = atoll_page_size();
    uint64_t first = s->p_offset / page;
    uint64_t end = atoll_elf_shared_end(s, page);
    uintptr_t start = base + (uintptr_t)(s->p_vaddr & ~(page - 1));
    for (uint64_t i = first; i < end; i++) {
        uint64_t run = i;
        while (i < end && atoll_elf_is_shared(clone, s, i, page)) {
            i++;
        }
        if (i > run && atoll_map_over((void *)(start + (run - first) * page), (i - run) * page, fd,
                                      run * page, (s->p_flags & PF_X) != 0) != 0) {
            return atoll_elf_fail(why, "its pages cannot be shared: %s", strerror(errno));
        }
    }
    return 0;
}

int atoll_elf_share(const atoll_elf *elf, uintptr_t base, const atoll_elf_clone *clone,
                    atoll_elf_error *why) {
    const struct atoll_elf_tables *t = elf->tables;
    *why = (atoll_elf_error){.text = ""};
    if (clone->whole) {
        return 0;
    }
    int fd = open_again(elf, why);
    if (fd < 0) {
        return -1;
    }
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < t->header.e_phnum; i++) {
        const Elf64_Phdr *s = &t->segments[i];
        /* Code that may be executed but not read is a hole, too. */
        if (s->p_type == PT_LOAD && (s->p_flags & PF_W) == 0 && s->p_filesz > 0) {
            rc = share_segment(s, base, clone, fd, why);
        }
    }
    atoll_file_close(fd);
    return rc;
}

/* ---- destructors ---- */

/* The dynamic linker calls the list from its end to its start, and DT_FINI after that. */
atoll_elf_destructors atoll_elf_show_destructors(const atoll_elf *elf, uintptr_t base,
                                                 const atoll_elf_clone *clone) {
    const struct atoll_elf_tables *t = elf->tables;
    if (clone->fini_array == 0) {
        return (atoll_elf_destructors){NULL, NULL};
    }
    atoll_elf_destructors shown = {(uint64_t *)(base + clone->fini_array),
                                   (uint64_t *)(base + clone->fini_size)};
    uint64_t n = 0;
    if (t->fini != 0) {
        shown.list[n++] = base + t->fini;
    }
    if (t->fini_count > 0) {
        memcpy(shown.list + n, (const void *)(base + t->fini_array), t->fini_count * sizeof *shown.list);
        n += t->fini_count;
    }
    /* Last: the process may be about to end, and another thread about to call the list. */
    __atomic_store_n(shown.size, n * sizeof *shown.list, __ATOMIC_RELEASE);
    return shown;
}

void atoll_elf_destroy(const atoll_elf_destructors *destructors) {
    if (destructors->size == NULL) {
        return;
    }
    uint64_t n = __atomic_exchange_n(destructors->size, 0, __ATOMIC_ACQ_REL) / sizeof *destructors->list;
    while (n-- > 0) {
        uintptr_t function = destructors->list[n];
        if (function != 0 && function != UINTPTR_MAX) { /* both mean nothing */
            ((void (*)(void))function)();
        }
    }
}
