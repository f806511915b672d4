/* Extension modules in interpreters with a GIL of their own: see loader.c. */
#ifndef ATOLL_PY_EXTENSION_LOADER_H
#define ATOLL_PY_EXTENSION_LOADER_H

#include "core/clone/clone.h"
#include "py/compat.h"
#include "py/extension/foreign.h"
#include "py/memory/memory.h"

#include <stdbool.h>

typedef enum { ATOLL_EXTENSIONS_ISOLATE, ATOLL_EXTENSIONS_STRICT, ATOLL_EXTENSIONS_SHARED } atoll_extensions;

/* One for each interpreter that is not strict.  It outlives its interpreter when clones stay mapped. */
typedef struct atoll_loader atoll_loader;

/* Where Atoll's own library was loaded from: the shim is beside it. */
void atoll_loader_set_home(const char *library);

/* The mode that create()'s argument means, an object or NULL; None and NULL: what ATOLL_EXTENSIONS says.  0, or -1 with
 * TypeError or ValueError. */
int atoll_extensions_from(PyObject *value, atoll_extensions *mode);

/* Makes the attached interpreter, a new one, load extension modules in this mode.  An exception: it does not, and is to be ended, with the
 * loader if there is one.  stats: where clones are counted; it outlives the interpreter. */
atoll_loader *atoll_loader_install(atoll_extensions mode, atoll_stats_interp *stats);

/* A list of (module or None, file, how, clone or None, bytes) of what `loader` has loaded.  Its interpreter is attached. */
PyObject *atoll_loader_list(atoll_loader *loader);
/* How many it has loaded. */
size_t atoll_loader_modules(const atoll_loader *loader);

/* A list of (file, clone, bytes, why) of what is mapped for interpreters that are gone. */
PyObject *atoll_loader_list_kept(void);

/* The id of the interpreter one of whose clones has this address, also when it has ended but they are not unloaded yet; -1: code
 * that stays.  Any thread. */
int64_t atoll_loaders_owner(const void *address);

/* loader_fork.c: holds the locks of loaders while the process is forked: those of all, and those of the attached interpreter's
 * own if that may fork.  In the child, after that, only this interpreter is left. */
void atoll_loaders_fork(atoll_fork_moment when);
void atoll_loaders_keep_only(const PyInterpreterState *interp);
/* Python has ended: what clones are left stay. */
void atoll_loaders_forget(void);

/* The end of its interpreter, in this order; NULL is no loader.  The first two and ending need its thread state. */
/* false: a foreign thread is inside and stays there for so many seconds */
bool atoll_loader_shut(atoll_loader *loader, double patience);
void atoll_loader_reopen(atoll_loader *loader);
void atoll_loader_ending(atoll_loader *loader);
/* The interpreter is gone, no thread state is attached; the loader (or NULL) is no longer the caller's.  Unloads the clones, and says who
 * may have kept objects of the interpreter. */
atoll_keepers atoll_loader_ended(atoll_loader *loader);

#endif
