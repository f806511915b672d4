/* Static types of a built-in module, shared by interpreters as CPython shares its own: see static_types.c. */
#ifndef ATOLL_PY_EXTENSION_STATIC_TYPES_H
#define ATOLL_PY_EXTENSION_STATIC_TYPES_H

#include "py/compat.h"

#include <stdbool.h>

#if ATOLL_DATETIME_IS_STATIC

/* Main is attached and holds the lifecycle lock.  Puts the types into the table of every interpreter that there is, with what they
 * have in main.  `types` lasts.  False without an exception: it cannot be done, and nothing has happened. */
bool atoll_static_types_adopt(PyTypeObject *const *types, size_t count);

/* Gives the attached interpreter, not main, dicts of its own for the types that were adopted.  Where main's dict has a class
 * method that `replaced` names, in replaced_in, it gets that one.  0, or -1 with an exception. */
int atoll_static_types_provide(PyTypeObject *replaced_in, PyMethodDef *replaced);

#endif

/* Main is attached, about to be finalized: the types are as they were before, if no other interpreter is left. */
void atoll_static_types_release(void);
/* Python has ended. */
void atoll_static_types_forget(void);

#endif
