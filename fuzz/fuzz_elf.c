/* A fuzzer for core/elf/elf.h (libFuzzer): any file may be opened, and what opens may be cloned with all kinds of edits.
 *
 * Files are in memory (memfd), so that nothing is written to a disk.  The linker puts the two functions below in
 * the place of atoll_map_fd() and atoll_unmap(): what is read is then a block of exactly the file's size, and
 * AddressSanitizer sees a read one byte behind it, which in a mapping is within the last page.
 *
 * Besides that nothing crashes, this must hold: a page of a clone that is not said to differ is the original's, or
 * a hole that the original's page will be mapped over, in which the dynamic linker has nothing to read before; and a whole clone, if it can be opened, has the names
 * that it was given.
 */
#include "core/elf/internal.h"
#include "port/port.h"

#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LARGEST_CLONE                                                                                        \
    ((size_t)1 << 22) /* that is looked at; the widest alignments make files of a gigabyte */

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const void *__wrap_atoll_map_fd(int fd, size_t size);
void __wrap_atoll_unmap(const void *bytes, size_t size);

static void require(bool condition, const char *what) {
    if (!condition) {
        (void)fprintf(stderr, "fuzz_elf: %s\n", what);
        abort();
    }
}

const void *__wrap_atoll_map_fd(int fd, size_t size) {
    uint8_t *bytes = size > 0 ? malloc(size) : NULL;
    errno = EINVAL;
    if (bytes != NULL) {
        require(pread(fd, bytes, size, 0) == (ssize_t)size, "a file in memory cannot be read");
    }
    return bytes;
}

void __wrap_atoll_unmap(const void *bytes, size_t size) {
    (void)size;
    free((void *)(uintptr_t)bytes);
}

/* ---- a file in memory, used again for each input ---- */

typedef struct {
    int fd;
    char path[64];
} memory_file;

static void reset(memory_file *file) {
    if (file->path[0] == '\0') {
        file->fd = memfd_create("fuzz", MFD_CLOEXEC);
        require(file->fd >= 0, "no file in memory");
        (void)snprintf(file->path, sizeof file->path, "/proc/self/fd/%d", file->fd);
    }
    require(ftruncate(file->fd, 0) == 0, "a file in memory cannot be emptied");
}

/* ---- what must hold of a clone ---- */

static bool has_bit(const uint8_t *bits, size_t i) { return (bits[i / 8] & (1U << (i % 8))) != 0; }

static bool is_zero(const uint8_t *bytes, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

static bool has_table(const atoll_elf *elf, size_t at, size_t size) {
    for (size_t i = 0; i < elf->tables->ntables; i++) {
        const atoll_elf_range *table = &elf->tables->tables[i];
        if (table->offset < at + size && at < table->offset + table->size) {
            return true;
        }
    }
    return false;
}

static void check_pages(const atoll_elf *elf, const memory_file *file, const atoll_elf_clone *clone) {
    size_t page = atoll_page_size();
    uint8_t *bytes = calloc(elf->size, 1);
    require(bytes != NULL && pread(file->fd, bytes, elf->size, 0) >= 0, "a clone cannot be read");
    require(clone->whole || clone->ndirty == (elf->size + page - 1) / page, "not one bit for each page");
    for (size_t i = 0; i < clone->ndirty; i++) {
        size_t at = i * page;
        size_t n = elf->size - at < page ? elf->size - at : page;
        if (has_bit(clone->dirty, i) || memcmp(bytes + at, elf->bytes + at, n) == 0) {
            continue;
        }
        require(is_zero(bytes + at, n), "a page differs and is not said to");
        require(!has_table(elf, at, n), "the dynamic linker reads a hole");
    }
    free(bytes);
}

static void check_whole(const memory_file *file, const atoll_elf_edit *edit) {
    atoll_elf elf;
    atoll_elf_error why;
    off_t size = lseek(file->fd, 0, SEEK_END);
    if (size < 0 || (size_t)size > LARGEST_CLONE) {
        return;
    }
    /* It may be refused: tables of the original that overlap spoil each other when one is changed. */
    if (atoll_elf_open(&elf, file->path, &why) == 0) {
        require(elf.soname != NULL && strcmp(elf.soname, edit->soname) == 0, "a clone has another name");
        require(elf.runpath == NULL || edit->search_path == NULL ||
                    strcmp(elf.runpath, edit->search_path) == 0,
                "a clone has another search path");
        atoll_elf_close(&elf);
    }
}

static void clone_it(const atoll_elf *elf, const atoll_elf_edit *edit) {
    static memory_file file;
    atoll_elf_clone clone;
    atoll_elf_error why;
    reset(&file);
    if (atoll_elf_write_clone(elf, file.fd, edit, &clone, &why) == 0) {
        require(clone.bytes > 0, "a clone has no bytes");
        check_pages(elf, &file, &clone);
        if (clone.whole) {
            check_whole(&file, edit);
        }
    } else {
        require(why.text[0] != '\0', "an error without a text");
    }
    free(clone.dirty);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static memory_file file;
    static const char *const symbols[] = {"leaf_next", "provided", "malloc", "PyLong_FromLong", NULL};
    atoll_elf elf;
    atoll_elf_error why = {.text = ""};
    reset(&file);
    require(atoll_file_write(file.fd, data, size, 0) == 0, "an input cannot be written");
    if (atoll_elf_open(&elf, file.path, &why) != 0) {
        require(why.text[0] != '\0', "an error without a text");
        return 0;
    }
    const char *any = atoll_elf_any_export(&elf);
    require(any == NULL || atoll_elf_defines(&elf, any), "an export is not defined");
    (void)atoll_elf_imports(&elf, "provided");
    (void)atoll_elf_has_pair(&elf, 1, UINT64_MAX, 2);

    atoll_elf_rename rename = {elf.nneeded > 0 ? elf.needed[0] : "libabsent.so", "/some/where/else/lib.so"};
    atoll_elf_edit edit = {.soname = "lib-fuzzed"};
    clone_it(&elf, &edit);
    edit.search_path = "/some/where";
    edit.needed = &rename;
    edit.nneeded = 1;
    edit.symbols = symbols;
    edit.prefix = "own_";
    edit.provider = "/some/where/libprovider.so";
    clone_it(&elf, &edit);
    edit.whole = true;
    clone_it(&elf, &edit);
    atoll_elf_close(&elf);
    return 0;
}

/* ---- mutations that know what is where ---- */

static unsigned next_random(unsigned *state) {
    *state = *state * 1664525U + 1013904223U;
    return *state >> 8;
}

/* A random word within one of the headers or of what they point to; `size` where there is none. */
static size_t pick_place(const uint8_t *data, size_t size, unsigned *state) {
    Elf64_Ehdr header;
    Elf64_Phdr segment;
    if (size < sizeof header) {
        return size;
    }
    memcpy(&header, data, sizeof header);
    unsigned kind = next_random(state) % 8;
    size_t start = 0;
    size_t length = sizeof header;
    if (kind > 0 && header.e_phoff < size) {
        start = header.e_phoff;
        length = header.e_phnum * sizeof segment;
        if (kind > 2 && length <= size - start && header.e_phnum > 0) {
            unsigned n = next_random(state) % header.e_phnum;
            for (unsigned i = 0; i < header.e_phnum; i++) {
                memcpy(&segment, data + start + i * sizeof segment, sizeof segment);
                if (kind > 5 ? i == n : segment.p_type == PT_DYNAMIC) {
                    break;
                }
            }
            if (segment.p_offset < size) {
                start = segment.p_offset;
                length = segment.p_filesz < 2048 ? segment.p_filesz : 2048;
            }
        }
    }
    length = length < size - start ? length : size - start;
    return length >= 8 ? start + next_random(state) % (length / 4 - 1) * 4 : size;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    static const uint64_t values[] = {
        0,      1,      7,       8,         16,         24,         0xfff,      0x1000,
        0x2000, 0xffff, 0x10000, INT32_MAX, UINT32_MAX, 1ULL << 47, UINT64_MAX,
    };
    unsigned state = seed;
    size_t at = next_random(&state) % 4 != 0 ? pick_place(data, size, &state) : size;
    if (at + 8 > size) {
        return LLVMFuzzerMutate(data, size, max_size);
    }
    uint64_t word;
    memcpy(&word, data + at, sizeof word);
    switch (next_random(&state) % 4) {
    case 0:
        word = values[next_random(&state) % (sizeof values / sizeof *values)];
        break;
    case 1:
        word += next_random(&state) % 65 - 32;
        break;
    case 2: { /* what stands elsewhere in the headers */
        size_t other = pick_place(data, size, &state);
        memcpy(&word, data + (other + 8 <= size ? other : at), sizeof word);
        break;
    }
    default:
        word ^= 1ULL << (next_random(&state) % 64);
        break;
    }
    memcpy(data + at, &word, next_random(&state) % 2 != 0 ? 4 : 8);
    return size;
}
