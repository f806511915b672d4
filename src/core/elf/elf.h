/* Shared objects: reading them, and writing clones of them.
 *
 * A clone is a file that the dynamic linker takes for another library than its original, although it is the same
 * code: it has a name (SONAME), dependencies (NEEDED) and some undefined symbols of its own.  Nothing that is loaded
 * moves and no instruction is changed, so the same code serves every machine.  What differs goes into a segment of
 * its own at the end: a string table, a dynamic section and a program header table, to which the ELF
 * header then points.
 *
 * A clone's file is sparse.  It holds what the dynamic linker reads (the dynamic section's tables, notes) and the
 * writable segments.  All other read-only pages, the code above all, are holes: once the clone is
 * loaded, atoll_elf_share() maps those pages of the original over them, so that every clone and
 * the original share them in memory, and a library of a gigabyte is cloned in a millisecond.  That is why the
 * dynamic linker must not run the clone's constructors: the clone's dynamic section does not name them, and the
 * caller runs them (atoll_elf_clone.init_*) after the pages are there.  A whole clone has no holes; its constructors are the caller's as well,
 * as they may ask whose code they are.  Its destructors are the dynamic linker's,
 * for when the process ends, but only once atoll_elf_show_destructors() has made them known: a clone that could not
 * be completed can be unloaded, and the process may end at any time.  atoll_elf_destroy() runs them before that.
 *
 * Files are not trusted: every offset, count and string of a header is checked against the file's size before
 * use, and what does not add up is an error with a text that says what.  64-bit little-endian files of this
 * machine's architecture are read, nothing else.
 *
 * Nothing here locks; an atoll_elf belongs to one thread at a time.
 */
#ifndef ATOLL_CORE_ELF_H
#define ATOLL_CORE_ELF_H

#include "port/port.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Why something failed: a sentence without the file's name, for an exception. */
typedef struct {
    char text[400];
    bool no_room; /* a clone's file could not be written where it is */
    bool lack;    /* of memory or descriptors: it says nothing about the file */
} atoll_elf_error;

/* A shared object, mapped read-only. */
typedef struct {
    char *path;           /* as given */
    const uint8_t *bytes; /* the file */
    size_t size;
    const char *soname; /* NULL: none.  All strings point into the file. */
    const char *rpath;  /* DT_RPATH and DT_RUNPATH, as they are; NULL: none */
    const char *runpath;
    const char **needed; /* DT_NEEDED, DT_FILTER and DT_AUXILIARY, in order */
    size_t nneeded;
    bool
        imports_python; /* an undefined symbol is Py*, _Py* (or another name of CPython's: PyInit_ and such do not
                            count) */
    bool
        needs_whole; /* code runs or is changed during relocation (IFUNC, text relocations): no holes possible */
    bool is_for_good; /* marked as never to be unloaded */
    bool
        stays; /* a second copy is not to be had, or not to be unloaded: part of the static block of thread-local
                    storage, or marked so */
    struct atoll_elf_tables *tables; /* elf/internal.h */
} atoll_elf;

/* 0, or -1 with why.  Owns the mapping until close. */
int atoll_elf_open(atoll_elf *elf, const char *path, atoll_elf_error *why);
void atoll_elf_close(atoll_elf *elf);

/* Whether it has an undefined dynamic symbol of this name; whether it defines (exports) one. */
bool atoll_elf_imports(const atoll_elf *elf, const char *symbol);
bool atoll_elf_defines(const atoll_elf *elf, const char *symbol);
/* The first symbol that it defines, of any kind with a value, and exports; NULL: none. */
const char *atoll_elf_any_export(const atoll_elf *elf);

/* Whether is(name, context) is true for any of its undefined symbols. */
bool atoll_elf_any_import(const atoll_elf *elf, bool (*is)(const char *name, void *context), void *context);

/* Which file it was opened from. */
const atoll_file_id *atoll_elf_id(const atoll_elf *elf);
/* Whether its writable data, as it is in the file, has two 64-bit numbers in a row of which the first, as far as `mask`
 * goes, and the second are these. */
bool atoll_elf_has_pair(const atoll_elf *elf, uint64_t first, uint64_t mask, uint64_t second);

/* Whether this text is anywhere in the file, as a string or in one. */
bool atoll_elf_mentions(const atoll_elf *elf, const char *text);

/* What a clone has of its own. */
typedef struct {
    const char *from; /* a NEEDED entry of the original */
    const char *to;   /* what the clone needs instead: the path of another clone */
} atoll_elf_rename;

typedef struct {
    const char *soname;             /* the clone's; unique in the process */
    const char *search_path;        /* replaces RPATH or RUNPATH, whichever there is (`$ORIGIN` expanded) */
    const atoll_elf_rename *needed; /* NEEDED entries that change; version needs (vn_file) follow */
    size_t nneeded;
    const char *const *also_needed; /* paths of more, which come before: NULL-terminated, or NULL */
    const char *const
        *symbols;         /* undefined symbols that are renamed, NULL-terminated; they lose their version */
    const char *prefix;   /* put before their names */
    const char *provider; /* the path of the library that has them: NEEDED when one was renamed */
    bool whole;           /* no holes: for debuggers */
} atoll_elf_edit;

/* A clone that was written: what its loader needs to know. */
typedef struct {
    uint64_t bytes;   /* written to the file */
    unsigned renamed; /* undefined symbols */
    uint64_t
        start; /* where the part of the address space that it takes begins, relative to its load address, */
    uint64_t end;          /* and where it ends */
    uint64_t code;         /* likewise, where what is executable begins, */
    uint64_t code_end;     /* and ends */
    uint64_t added;        /* the segment behind those of the original: its address, */
    uint64_t added_offset; /* and where it is in the file */
    bool whole;            /* nothing to share */
    uint64_t init;         /* DT_INIT, DT_INIT_ARRAY: addresses relative to the load address; 0: none */
    uint64_t init_array;
    size_t init_count;
    uint8_t *dirty; /* one bit per page of the original's file that differs in the clone; owned, free() */
    size_t ndirty;  /* bits */
    /* The list of destructors and its size in the dynamic section: addresses; 0: none. */
    uint64_t fini_array;
    uint64_t fini_size;
} atoll_elf_clone;

/* Writes a clone of elf to fd, an empty file open for writing.  0, or -1 with why (the file is then garbage). */
int atoll_elf_write_clone(const atoll_elf *elf, int fd, const atoll_elf_edit *edit, atoll_elf_clone *clone,
                          atoll_elf_error *why);

/* The clone is loaded at `base` (its link map's l_addr) and none of its code has run: maps the original's
 * unchanged read-only pages over the clone's.  Fails when the original is no longer the file that was opened.  0, or
 * -1 with why: the clone must then be unloaded, which runs none of its code.  Nothing is done for a whole clone. */
int atoll_elf_share(const atoll_elf *elf, uintptr_t base, const atoll_elf_clone *clone, atoll_elf_error *why);

/* Where the dynamic linker finds a clone's destructors; NULL: it has none. */
typedef struct {
    uint64_t *list;
    uint64_t *size; /* in bytes */
} atoll_elf_destructors;

/* The clone is complete, and its constructors are about to run: lets the dynamic linker see its destructors, which it calls
 * when the clone is unloaded or the process ends. */
atoll_elf_destructors atoll_elf_show_destructors(const atoll_elf *elf, uintptr_t base,
                                                 const atoll_elf_clone *clone);
/* Calls them, if that has not been done, in the dynamic linker's order.  It will not any more. */
void atoll_elf_destroy(const atoll_elf_destructors *destructors);

/* After atoll_elf_share(): gives back the memory of those parts of the clone's file, open for writing, that nobody reads any
 * more.  Before any of the clone's code has run.  Does nothing for a whole clone, or where the system cannot. */
void atoll_elf_trim(const atoll_elf *elf, uintptr_t base, const atoll_elf_clone *clone, int fd);

#endif
