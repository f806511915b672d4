/* The clones that one interpreter has: of extension modules, and of the libraries that hold state for them.
 *
 * Loading an extension goes through these steps; the first three touch nothing but files.
 *
 *   plan      (clone/plan.c) reads the extension and what it needs, and decides which libraries are cloned with it: those
 *             that call Python, those known to keep state for one interpreter (clone/names.c), those that come with the
 *             package, and those that need another one that is cloned.  Which libraries need no clone is remembered
 *             for the whole process.
 *   write     the clones, into a directory that exists only meanwhile, or into memory
 *   pin       what is not cloned but needed is loaded for itself and for good: for itself, so that nothing of it is
 *             bound to one interpreter's clone; for good, because threads and exit functions may point into it
 *   load      with one call of the dynamic linker, so that the scopes are those of the originals
 *   share     maps the pages that all clones have in common
 *   construct shows the dynamic linker the destructors and runs the constructors, dependencies first
 *
 * When a step fails, everything is undone, and the text says what, with the original's path.
 *
 * clone/unload.c unloads them all together, once the interpreter is gone, or keeps them all.
 *
 * Ownership: a set is used by one thread at a time; its owner sees to that.  A clone belongs to its set and lives as
 * long.  The process-wide lists have a lock, a leaf.
 */
#ifndef ATOLL_CORE_CLONE_CLONES_H
#define ATOLL_CORE_CLONE_CLONES_H

#include "core/clone/natives.h"
#include "core/clone/shim.h"
#include "core/elf/elf.h"
#include "port/port.h"

#include <string.h>

typedef struct {
    char *file;       /* the original */
    char *soname;     /* the original's, or NULL */
    char *symbol;     /* one that it exports, or NULL */
    char *path;       /* what it was loaded from */
    char *name;       /* the last part of that, or what a file in memory is called: unique in the process */
    atoll_file_id id; /* the original's */
    void *handle;     /* the dynamic linker's */
    uintptr_t base;   /* what its addresses are relative to */
    uintptr_t low;    /* where it is loaded, up to high */
    uintptr_t high;
    uintptr_t code; /* what is executable of that, up to code_end */
    uintptr_t code_end;
    atoll_elf_destructors destructors;
    uint64_t bytes;     /* that it does not share with the original */
    int fd;             /* while it is being loaded, or -1 */
    bool library;       /* not an extension module */
    bool packaged;      /* cloned only because it comes with a package */
    bool global;        /* opened so that what is loaded later finds its symbols */
    uint64_t registers; /* what it imports of what libraries register things with: atoll_name_registers() */
} atoll_clone;

/* A file that the interpreter has loaded as it is; or a directory. */
typedef struct {
    char *file;
    atoll_file_id id;
} atoll_original;

typedef struct atoll_clones {
    struct atoll_clones *next; /* of all sets, under their lock: see set.c */
    int64_t owner;             /* the interpreter's id */
    const char *shim_file;
    const atoll_shim *shim;
    /* Before a clone is unloaded, with the memory it is in: whether Python knows nothing in it any more. */
    bool (*forget)(uintptr_t low, uintptr_t high);
    bool whole; /* for debuggers: whole files, which stay until the set ends */
    const char
        *root; /* while something is loaded: the directory that its package is imported from, or NULL */
    atoll_natives *natives;

    char *shim_path; /* NULL until the first clone is made */
    void *shim_handle;
    uintptr_t shim_low; /* where that is loaded, up to shim_high */
    uintptr_t shim_high;
    atoll_scratch scratch; /* where whole files stay */
    bool have_scratch;
    atoll_mutex lock;    /* guards the list against who looks at it while something is loaded; a leaf */
    atoll_clone **items; /* in the order of loading */
    size_t count;
    size_t room;
    atoll_original *originals;
    size_t noriginals;
    atoll_original *roots; /* directories that modules are imported from: roots.c */
    size_t nroots;
    size_t root_next;      /* where the next directory of the same path is */
    _Atomic(bool) is_kept; /* a signal handler of theirs may be known to anybody */
    uint8_t
        calls_back; /* how something that one of them needs is known to do so later: ATOLL_CALLS_BACK... */
    bool sets_handlers; /* one of them may, of C++'s */
    bool
        hands_out; /* one of them may give others a function to call, who may have it from a clone of others' */
    bool is_for_good; /* one of them is never to be unloaded */
    bool uses_plain;  /* one of them needs a library that is not cloned and may keep what it is given */
} atoll_clones;

typedef struct {
    char text[2048]; /* a sentence, as the dynamic linker would say it */
} atoll_clone_error;

/* The set's clone of an extension module's file; made and loaded when it has none yet.  NULL with why.  `flags` are
 * those of atoll_dl_flags that mean something for a clone: all but PIN. */
atoll_clone *atoll_clones_load(atoll_clones *set, const char *file, int flags, atoll_clone_error *why);
/* The same for a library, if it is one of those that are cloned.  1, or 0 when it is not, or -1 with why, of
 * which there is no text when it is only not loaded (ATOLL_DL_LOADED). */
int atoll_clones_load_library(atoll_clones *set, const char *file, int flags, atoll_clone **clone,
                              atoll_clone_error *why);

/* ---- clone/set.c ---- */

/* `shim_file` and `shim` are borrowed; `forget` is the caller's to set.  0, or -1: out of memory. */
int atoll_clones_init(atoll_clones *set, int64_t owner, const char *shim_file, const atoll_shim *shim,
                      bool whole);

/* From here on this file is not cloned, whoever asks for it or needs it: the interpreter has a module from the file itself.
 * 0, or -1: out of memory. */
int atoll_clones_add_original(atoll_clones *set, const char *file, const atoll_file_id *id);
/* Whether that has been said of a file. */
bool atoll_clones_is_original(const atoll_clones *set, const char *file, const atoll_file_id *id);

/* The clone of a file, or NULL. */
atoll_clone *atoll_clones_find(const atoll_clones *set, const atoll_file_id *id);
/* Whether one of them was opened so that what is loaded later finds its symbols. */
bool atoll_clones_have_globals(const atoll_clones *set);
/* The clone of what the dynamic linker would know as loaded under this name: a SONAME, or a path; NULL: none. */
atoll_clone *atoll_clones_named(const atoll_clones *set, const char *name);
/* The clone that has this handle, or NULL. */
const atoll_clone *atoll_clones_of_handle(atoll_clones *set, const void *handle);

/* The clone that has this address, or NULL.  Any thread may ask that runs code of a clone. */
const atoll_clone *atoll_clones_at(atoll_clones *set, const void *address);
/* The owner of the clone, or shim, of any set, that has this address and may be unloaded; -1: there is none.  Any thread. */
int64_t atoll_clones_owner(const void *address);
/* Takes a set off the list of those that are asked.  It need not be there. */
void atoll_clones_unlist(atoll_clones *set);
/* Only this set, or none (NULL), is unloaded from here on. */
void atoll_clones_keep_only(atoll_clones *set);
/* Holds the lock of that list while the process is forked; taken before any set's. */
void atoll_clones_fork(atoll_fork_moment when);
/* The handle of a clone that was loaded with a library that has this symbol: if possible the one whose code this is. */
void *atoll_clones_scope(atoll_clones *set, const void *code, const char *symbol);

/* Frees the struct, and closes the file. */
void atoll_clone_free(atoll_clone *clone);
/* Frees what a set has whose clones are gone. */
void atoll_clones_free(atoll_clones *set);

/* ---- clone/roots.c ---- */

/* Modules are imported from this directory, as sys.path has it.  What is none, or cannot be kept, is left out. */
void atoll_clones_add_root(atoll_clones *set, const char *directory);
/* The part of a file's path, which is absolute, that is the innermost such directory of which it is in a package: malloc, or NULL. */
char *atoll_clones_root_of(const atoll_clones *set, const char *file);
/* Whether a file comes with the package of what is loaded. */
bool atoll_clones_is_packaged(const atoll_clones *set, const char *file);

/* ---- clone/signals.c ---- */

/* As sigaction(), for code of a clone.  From a signal handler, too, where that installs itself again. */
int atoll_clone_signal_action(atoll_clones *set, int number, const struct sigaction *action,
                              struct sigaction *old);
/* Whether the process would end by a signal that one of their handlers is for. */
bool atoll_clone_signals_matter(const atoll_clones *set);
/* Takes away what handlers the clones have installed.  false: one runs, and does not come to its end. */
bool atoll_clone_signals_end(const atoll_clones *set);
/* Holds the lock of the table of handlers while the process is forked. */
void atoll_clone_signals_fork(atoll_fork_moment when);

/* ---- clone/cpp.c ---- */

/* Whether one of C++'s own streams, cout say, leads into a clone. */
bool atoll_clone_cpp_streams_lead_into(atoll_clones *set);
/* Takes away what handlers the clones have set in C++'s runtime library. */
void atoll_clone_cpp_reset_handlers(atoll_clones *set);

/* ---- clone/unload.c ---- */

/* The interpreter is gone, no thread state attached, and nothing is being loaded or will be.  true: all is unloaded, and the set freed.  false: something
 * stays mapped, so the set and the shim's functions have to stay as well. */
bool atoll_clones_unload(atoll_clones *set);
/* In place of that when somebody goes on loading: all stay.  false. */
bool atoll_clones_keep(atoll_clones *set, const char *why);

/* A clone that is mapped for an interpreter that is gone; never freed. */
typedef struct atoll_kept_clone {
    struct atoll_kept_clone *next;
    const char *file;
    const char *path;
    const char *why;
    uint64_t bytes;
} atoll_kept_clone;

/* The list of all of them, the newest first. */
const atoll_kept_clone *atoll_clones_kept(void);

/* ---- clone/names.c ---- */

static inline const char *atoll_name_last_part(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

/* By the name that others need them by, or a file's. */
bool atoll_name_is_system(const char *name);   /* of the C and C++ libraries and their like: never cloned */
bool atoll_name_wants_clone(const char *name); /* without calling Python */
/* Whether a library calls back later, or on threads of its own: how, or 0. */
enum {
    ATOLL_CALLS_BACK = 1,
    ATOLL_CALLS_BACK_FROM_DRIVER = 2, /* only if a graphics driver was found, which is loaded then */
};
uint8_t atoll_name_calls_back(const char *name);
bool atoll_name_is_process_wide(const char *name); /* not cloned because it comes with a package */
bool atoll_name_keeps_nothing(const char *name);   /* of what it is given: is_system, and others */
/* Of a function: whether what is hooked in with it stays, as there is no way to take it back. */
bool atoll_name_is_hook(const char *symbol);
/* The same for those of libraries that may be cloned themselves: a bit, or 0; and the function with this number, or NULL. */
uint64_t atoll_name_registers(const char *symbol);
const char *atoll_name_registering(unsigned number);
/* Whether a clone that has this function may give others one of its own to call, in place of one that they have: of C++'s
 * or CPython's. */
bool atoll_name_replaces(const char *symbol);

/* ---- clone/plan.c ---- */

/* A file that is looked at, and then one that will be cloned. */
typedef struct {
    atoll_file_id id;
    atoll_elf elf;         /* open */
    atoll_clone *existing; /* the set has it already: nothing else is set but needed by others */
    char **needed;         /* for each entry of elf.needed: a path (owned) to need instead, or NULL */
    long *children;        /* for each: the place of the node that is needed, or -1 */
    char *file;            /* owned */
    const char *name;      /* what the first who needs it calls it; NULL: it was asked for */
    long loader;           /* the place of that one, or -1 */
    bool library;
    bool packaged;      /* it comes with the package */
    bool known;         /* to need no clone: nothing else is set but calls_back */
    uint8_t calls_back; /* it, or what it needs */
    bool strong;        /* has to be cloned, wherever it comes from */
    bool of_process;    /* it is the process's, */
    bool anchored;      /* or what is needs it: it does not have to be */
    bool wanted;        /* will be cloned */
    size_t order;       /* dependencies before what needs them, where they do not need each other */
    size_t was;         /* its place before that of all others were left out; before: a mark */
} atoll_clone_node;

/* A library that is loaded before, for itself. */
typedef struct {
    char *path;
    const char *name; /* by which it is needed: valid while the plan is made, as is */
    long place;       /* its node's, or -1 */
} atoll_clone_pin;

typedef struct {
    atoll_clones *set;
    atoll_clone_node *nodes; /* dependencies before what needs them: the last is the one asked for */
    size_t count;
    size_t room;
    size_t visited;
    atoll_clone_pin *pinned; /* in their order */
    size_t npinned;
    size_t pinned_room;
    uint8_t calls_back;
    bool uses_plain;
    atoll_clone_error *why;
} atoll_clone_plan;

/* Holds the lock of what is known of plain libraries while the process is forked. */
void atoll_plain_files_fork(atoll_fork_moment when);

/* 0; 1 when a library needs no clone; -1 with why.  The plan is to be freed in any case. */
int atoll_clone_plan_make(atoll_clone_plan *plan, atoll_clones *set, const char *file, bool library,
                          atoll_clone_error *why);
void atoll_clone_plan_free(atoll_clone_plan *plan);
/* ---- clone/find.c: paths are malloc, or NULL with errno: ENOENT, it is nowhere, else it could not be looked for ---- */

/* The path of a library that is loaded under this name, in whichever interpreter. */
char *atoll_clone_find_loaded(const char *name);
/* The path of what this node of a plan needs under this name: loaded under it, or where the dynamic linker would find it. */
char *atoll_clone_find_needed(const atoll_clone_plan *plan, long node, const char *name);
/* The path of the library that would be loaded if code of this file asked for it by a name that nothing is loaded under, or
 * by a path with `$ORIGIN`.  NULL as a file: code of none. */
char *atoll_clone_find_library(const char *file, const char *name);
/* `$ORIGIN` in a list of directories replaced by the file's directory; directories that cannot be in a list left out.
 * malloc, or NULL when out of memory. */
char *atoll_clone_search_path(const char *list, const char *file);

#endif
