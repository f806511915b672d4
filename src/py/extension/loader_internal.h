/* What loader.c and loader_module.c share. */
#ifndef ATOLL_PY_EXTENSION_LOADER_INTERNAL_H
#define ATOLL_PY_EXTENSION_LOADER_INTERNAL_H

#include "py/extension/loader.h"

/* A module that was loaded. */
typedef struct {
    char *name;
    char *file;
    const char *how;
    const atoll_clone *clone; /* NULL: it has none */
} atoll_loaded;

struct atoll_loader {
    atoll_extensions mode;
    pthread_mutex_t loading; /* recursive; see loader.c */
    bool halfway;            /* in a forked child: a thread that is not there was loading clones */
    atoll_clones clones;
    atoll_foreign foreign;
    atoll_loaded *modules; /* changed with the interpreter's GIL held */
    size_t count;
    size_t room;
    atoll_stats_interp *stats;
    _Atomic(bool) knows; /* what stays mapped after the interpreter may know objects of it */
};

void atoll_loader_init_lock(atoll_loader *loader);
/* Holds the lock of the verdicts while the process is forked. */
void atoll_verdicts_fork(atoll_fork_moment when);

/* What a spec says about an extension module. */
typedef struct {
    PyObject *name;      /* str */
    PyObject *origin;    /* str */
    PyObject *path;      /* bytes: origin as the file system has it */
    const char *file;    /* in path */
    const char *full;    /* in name, as UTF-8 */
    PyObject *bytes;     /* the last part of the name as it is in the names of C functions */
    const char *encoded; /* in bytes */
    bool ascii;          /* that is as it was; else it is in punycode */
} atoll_module_info;

/* Fills in what follows from `name`.  0 or -1 with an exception; the caller owns `bytes` in any case. */
int atoll_extension_info_encode(atoll_module_info *info);
/* The directory that the module is imported from, with its package: an entry of sys.path.  malloc, or NULL: none. */
char *atoll_extension_import_root(const atoll_module_info *info);

/* Which library a module is initialised from. */
typedef enum {
    ATOLL_FROM_ORIGINAL, /* only a module that declares support for a GIL per interpreter */
    ATOLL_FROM_CLONE
} atoll_init_source;

typedef enum { ATOLL_INIT_DONE, ATOLL_INIT_FAILED, ATOLL_INIT_OTHER } atoll_init_result;

/* Initialises the module in the attached interpreter from a library that is loaded.  `singles` is the dict of what
 * single-phase modules left to be found when they are imported once more.  DONE with *module, a new reference; FAILED
 * with an exception; OTHER: it declares what it must not for this source, and there is no module. */
atoll_init_result atoll_extension_init(atoll_loader *loader, const atoll_module_info *info, PyObject *spec,
                                       void *library, atoll_init_source source, PyObject *singles,
                                       PyObject **module);
/* The same for a module with single-phase initialisation that was loaded here before: 1 with *module, 0 when it was
 * not, -1 with an exception. */
int atoll_extension_again(const atoll_module_info *info, PyObject *singles, PyObject **module);
/* Whether a module is one of the standard library's own. */
bool atoll_extension_is_standard(const atoll_module_info *info);
/* Whether a module that CPython has made from a definition declared support. */
bool atoll_extension_declared(PyObject *module);
/* Whether a file might declare it: whether its data have what looks like that slot, and it can have slots. */
bool atoll_verdict_file_may_declare(const atoll_elf *elf, const atoll_module_info *info);
/* Whether one of the standard library's has to be cloned although it does. */
bool atoll_verdict_file_must_clone(const atoll_elf *elf);

/* ---- loader_verdict.c ---- */

/* Atoll's own library; the string is kept. */
void atoll_verdict_file_set_own(const char *library);
/* The path that it was loaded from when this file is it, else NULL. */
const char *atoll_verdict_file_own(const char *file);
/* Has it loaded as it is whoever asks for it.  0, or -1: out of memory. */
int atoll_verdict_file_keep_own(atoll_clones *clones);
/* Whether a module is to be initialised from its file; else it is from a clone. */
bool atoll_extension_from_file(const atoll_module_info *info);
bool atoll_extension_may_declare(const atoll_module_info *info);

/* ---- loader_library.c ---- */

/* Takes and gives `loading`; waits with the GIL given back. */
void atoll_loader_lock(atoll_loader *loader);
void atoll_loader_unlock(atoll_loader *loader);
/* Whether nobody holds `loading`, now or within so many seconds. */
bool atoll_loader_settles(atoll_loader *loader, double seconds);
/* Notes the directories that the attached interpreter, whose loader it is, imports from. */
void atoll_loader_note_path(atoll_loader *loader);
/* With `loading` held: shows how many clones there are, and how large. */
void atoll_loader_show(atoll_loader *loader);
/* Sets what the shim calls for dlopen() and its kin. */
void atoll_loader_offer_libraries(atoll_loader *loader);
/* _ctypes.dlopen() and dlclose(); self as in loader.c. */
PyObject *atoll_ctypes_open(PyObject *self, PyObject *args);
PyObject *atoll_ctypes_close(PyObject *self, PyObject *args);

/* ---- loader_builtin.c ---- */

/* _imp.create_builtin(spec) in an interpreter that isolates; self as in loader.c.  *name: the module's, or NULL. */
PyObject *atoll_create_builtin(PyObject *self, PyObject *args, PyObject **name);
/* Changes a module that was just made, if it is one of those that need that.  0 or -1 with an exception. */
int atoll_quirks_apply(PyObject *name, PyObject *module);

#endif
