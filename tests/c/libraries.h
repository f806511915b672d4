/* What the tests of shared objects have in common: files made of bytes, and clones that are loaded.
 *
 * The libraries are tests/c/lib_*.c, which tools/ctests compiles into the directory ATOLL_TEST_LIBS.
 */
#ifndef ATOLL_TEST_LIBRARIES_H
#define ATOLL_TEST_LIBRARIES_H

#include "core/elf/elf.h"
#include "port/port.h"

#define LIB(name) ATOLL_TEST_LIBS "/" name ".so"

/* ThreadSanitizer and AddressSanitizer refuse RTLD_DEEPBIND: it would hide their own malloc. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ATOLL_TEST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define ATOLL_TEST_SANITIZED 1
#endif
#endif

/* A file's content; malloc.  NULL (and a failed test) when it cannot be read. */
uint8_t *file_read(const char *path, size_t *size);
/* A new file of `scratch` with this content; its path (malloc), or NULL (and a failed test). */
char *file_make(atoll_scratch *scratch, const char *name, const void *bytes, size_t size);

typedef struct {
    atoll_elf elf;
    atoll_elf_clone clone;
    atoll_elf_error why;
    char dl_why[400];
    atoll_scratch scratch;
    char *path;
    int fd;
    void *handle; /* NULL: it was not loaded, see dl_why */
    uintptr_t base;
} loaded_clone;

/* Writes a clone of the library at `path` and loads it; none of its code runs.  False when it could not be written
 * (and the test failed) or not loaded.  To be closed in any case. */
bool clone_load(loaded_clone *c, const char *path, const atoll_elf_edit *edit);
/* The same with the clone in memory. */
bool clone_load_in_memory(loaded_clone *c, const char *path, const atoll_elf_edit *edit);
/* Shares its pages and runs its constructors; false, and the test failed. */
bool clone_start(loaded_clone *c);
void clone_close(loaded_clone *c);

/* Calls a function of a library that takes nothing; fails the test when there is none. */
int call_int(void *handle, const char *name);

/* Calls visit(path, context) for each library that this one brought along (its whole list of dependencies). */
void each_dependency(void *handle, void (*visit)(const char *path, void *context), void *context);

#endif
